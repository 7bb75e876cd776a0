package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// savedCheckpoint is one that was kept elsewhere.
type savedCheckpoint struct {
	Checkpoint
	id logID
}

// readSaved reads the saved checkpoints and checks their signatures.
func (v *verification) readSaved(ctx context.Context) error {
	for i, signed := range v.options.Checkpoints {
		c, err := parseCheckpoint(noteText(signed))
		if err != nil || c.Removed {
			return fmt.Errorf("%w: number %d of the file", ErrForeign, i+1)
		}
		s := savedCheckpoint{Checkpoint: c}
		s.id.organization, s.id.class = c.Log()
		if c.Origin != v.ledger.origin(s.id) {
			return fmt.Errorf("%w: number %d of the file is of %s", ErrForeign, i+1, forLine(c.Origin))
		}
		_, err = v.open(ctx, signed)
		var unknown *note.UnverifiedNoteError
		switch {
		case errors.As(err, &unknown):
			v.ofLog(Rewritten, s.id, c.Block, "a saved checkpoint of %d events is signed by a key that this database does not have: it is another database, or was written anew", c.Size)
		case err != nil:
			return fmt.Errorf("number %d of the file of checkpoints is damaged: its signature does not hold", i+1)
		default:
			v.saved = append(v.saved, s)
		}
	}
	return nil
}

// forLine makes text safe to stand in a line of an error.
func forLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, store.Text(text, 200))
}

// compareSaved holds the saved checkpoints to the logs of today: each must be of a
// past that today's tree goes on from.
func (v *verification) compareSaved(ctx context.Context) error {
	for _, s := range v.saved {
		if s.id != instanceLog() && !v.named && s.id.organization != v.options.Organization {
			continue // which the caller may not look at
		}
		err := v.ledger.db.View(ctx, s.id.organization, func(tx *store.Tx) error {
			h, err := readHead(ctx, tx, s.id)
			if errors.Is(err, store.ErrNotFound) {
				v.ofLog(LogMissing, s.id, -1, "a saved checkpoint of %d events names this log, and it is not there", s.Size)
				return nil
			}
			if err != nil {
				return err
			}
			what := "events"
			if s.id == instanceLog() {
				what = "blocks"
			}
			if s.Size > h.size {
				v.ofLog(RolledBack, s.id, s.Block, "it has %d %s, and a saved checkpoint of %s knows %d: this is an older database, or its end was cut off", h.size, what, s.SealedAt.Format(checkpointTime), s.Size)
				return nil
			}
			t, err := readTree(ctx, tx, s.id, s.Size)
			if errors.Is(err, errNoTile) || err == nil && t.root() != s.Root {
				v.ofLog(Rewritten, s.id, s.Block, "its first %d %s are not those of a saved checkpoint of %s", s.Size, what, s.SealedAt.Format(checkpointTime))
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// instance checks the instance's own log: that its list of blocks is whole and as
// it was signed. Where only the reserved organization is verified, it also looks
// whether each block is there; [verification.log] does it where all are, and where
// it is another organization.
func (v *verification) instance(ctx context.Context) error {
	id := instanceLog()
	var h head
	var beyond int64
	exists := true
	err := v.ledger.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) (err error) {
		h, err = readHead(ctx, tx, id)
		if errors.Is(err, store.ErrNotFound) {
			exists, err = false, nil
		}
		if err != nil {
			return err
		}
		return tx.Row(ctx, `SELECT count(*) FROM ledger_entries WHERE organization = $1 AND (log_index >= $2 OR log_index < 0)`, access.InstanceOrganization, h.size).Scan(&beyond)
	})
	if err != nil {
		return err
	}
	if !exists {
		if beyond > 0 || len(v.keys)+len(v.badKeys) > 0 {
			v.ofLog(LogMissing, id, -1, "the instance's own log is gone, which began with the first signing key; %d blocks are on its list", beyond)
		}
		return nil
	}
	if beyond > 0 {
		v.ofLog(EntryAltered, id, -1, "%d entries stand behind its end", beyond)
	}
	c, err := v.open(ctx, h.checkpoint)
	signed := err == nil && c.Origin == v.ledger.origin(id) && !c.Removed
	switch {
	case !signed:
		v.ofLog(SignatureInvalid, id, -1, "the checkpoint of the instance's own log is not signed by a key of this instance")
	case c.Size != h.size || noteHash(h.checkpoint) != h.blockHash:
		v.ofLog(LogAltered, id, -1, "its head says %d blocks and its checkpoint %d", h.size, c.Size)
	}
	t, err := v.entries(ctx, h.size)
	if err != nil {
		return err
	}
	if signed && t != nil && t.size == c.Size && t.root() != c.Root {
		v.ofLog(EntryAltered, id, -1, "the list of blocks is not what was signed")
	}
	if v.options.Organization == access.InstanceOrganization {
		v.report.Logs = append(v.report.Logs, LogReport{Organization: id.organization, Class: id.class, Size: h.size})
	}
	return nil
}

// listed finds something about an entry of the instance's list of blocks. Whoever may
// not know the other organizations is told once, and without their names.
func (v *verification) listed(kind Kind, id logID, block int64, format string, args ...any) {
	if v.named {
		v.ofLog(kind, id, block, format, args...)
		return
	}
	if !v.listTold {
		v.listTold = true
		v.ofLog(EntryAltered, instanceLog(), -1, "the instance's list of blocks, which vouches for these logs too, was altered: what was sealed may be missing")
	}
}

// viewList runs fn with the sight of the instance's list, and of every organization's
// blocks where those are looked for.
func (v *verification) viewList(ctx context.Context, fn func(*store.Tx) error) error {
	if v.options.Organization == access.InstanceOrganization {
		return v.ledger.db.ViewAcross(ctx, fn)
	}
	return v.ledger.db.View(ctx, access.InstanceOrganization, fn)
}

// entryPage is how many entries are read at once.
const entryPage = 2048

// entries reads the first size entries into a tree, and names those that are
// missing or are not what the stored tree says. It gives nil where no tree can be
// made.
func (v *verification) entries(ctx context.Context, size int64) (*tree, error) {
	id := instanceLog()
	t := &tree{}
	var full []fullTile
	t.full = func(id tileID, hashes []tlog.Hash) {
		full = append(full, fullTile{id, slices.Clone(hashes)})
	}
	told := make(map[tileID]bool) // of the lowest level, by what an entry is not
	compare := func() error {
		defer func() { full = full[:0] }()
		return v.differ(ctx, id, full, func(t tileID) {
			if !told[t] {
				v.listed(TreeAltered, id, -1, "the stored tree's row %d of level %d is not that of the list of blocks: nothing can be sealed on it", t.number, t.level)
			}
		})
	}
	for t.size < size {
		to := min(t.size-t.size%tileWidth+entryPage, size)
		var page []entry
		var tiles map[tileID][]tlog.Hash
		gone := make(map[int64]bool)
		err := v.viewList(ctx, func(tx *store.Tx) (err error) {
			page = nil
			clear(gone)
			err = tx.Each(ctx, func(scan func(...any) error) error {
				var e entry
				err := e.scan(scan)
				page = append(page, e)
				return err
			}, `SELECT `+entryColumns+` FROM ledger_entries WHERE organization = $1 AND log_index >= $2 AND log_index < $3 ORDER BY log_index`,
				access.InstanceOrganization, t.size, to)
			if err != nil {
				return err
			}
			var ids []tileID
			for n := t.size / tileWidth; n*tileWidth < to; n++ {
				ids = append(ids, tileID{0, n})
			}
			if tiles, err = readTiles(ctx, tx, id, ids); err != nil || v.options.All || v.options.Organization != access.InstanceOrganization {
				return err
			}
			return tx.Each(ctx, func(scan func(...any) error) error {
				var index int64
				err := scan(&index)
				gone[index] = true
				return err
			}, `SELECT e.log_index FROM ledger_entries e LEFT JOIN ledger_blocks b ON b.organization = e.log_organization AND b.class = e.log_class AND b.number = e.number
				WHERE e.organization = $1 AND e.log_index >= $2 AND e.log_index < $3 AND b.number IS NULL ORDER BY e.log_index`,
				access.InstanceOrganization, t.size, to)
		})
		if err != nil {
			return nil, err
		}
		next := 0
		for i := t.size; i < to; i++ {
			stored := tiles[tileID{0, i / tileWidth}]
			known := int64(len(stored)) > i%tileWidth
			if next < len(page) && page[next].index == i {
				e := &page[next]
				next++
				leaf := e.leaf()
				if known && stored[i%tileWidth] != leaf {
					told[tileID{0, i / tileWidth}] = true
					v.listed(EntryAltered, id, -1, "entry %d of the list of blocks (block %d of %s/%s) is not what was sealed", i, e.number, forLine(e.log.organization), forLine(e.log.class))
				}
				if gone[i] {
					v.listed(BlockMissing, e.log, e.number, "block %d of %s/%s was sealed and is not there", e.number, forLine(e.log.organization), forLine(e.log.class))
				}
				t.append(leaf)
				continue
			}
			v.listed(EntryAltered, id, -1, "entry %d is missing from the list of blocks: a log was deleted with what names it", i)
			if !known {
				return nil, nil
			}
			t.append(stored[i%tileWidth])
		}
		if err := compare(); err != nil {
			return nil, err
		}
	}
	ids, counts := edges(t.size)
	for i, edge := range ids {
		t.full(edge, t.edge[edge.level][:counts[i]])
	}
	return t, compare()
}
