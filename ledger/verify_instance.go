package ledger

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

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
		page, err := v.readEntries(ctx, t.size, min(t.size-t.size%tileWidth+maxEntries, size))
		if err != nil {
			return nil, err
		}
		if !v.addEntries(t, page, told) {
			return nil, nil
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

// maxEntries is how many entries are read at once.
const maxEntries = 2048

// entryPage is a range of the instance's list of blocks.
type entryPage struct {
	to      int64                  // where it ends
	entries []entry                // those that are there, in order
	tiles   map[tileID][]tlog.Hash // of the lowest level: what the stored tree says of them
	gone    map[int64]bool         // those whose block is not there
}

// readEntries reads the entries from one index up to another, which is not among them.
func (v *verification) readEntries(ctx context.Context, from, to int64) (page entryPage, err error) {
	err = v.viewList(ctx, func(tx *store.Tx) (err error) {
		page = entryPage{to: to, gone: make(map[int64]bool)}
		err = tx.Each(ctx, func(scan func(...any) error) error {
			var e entry
			err := e.scan(scan)
			page.entries = append(page.entries, e)
			return err
		}, `SELECT `+entryColumns+` FROM ledger_entries WHERE organization = $1 AND log_index >= $2 AND log_index < $3 ORDER BY log_index`,
			access.InstanceOrganization, from, to)
		if err != nil {
			return err
		}
		var ids []tileID
		for n := from / tileWidth; n*tileWidth < to; n++ {
			ids = append(ids, tileID{0, n})
		}
		if page.tiles, err = readTiles(ctx, tx, instanceLog(), ids); err != nil || v.options.All || v.options.Organization != access.InstanceOrganization {
			return err
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var index int64
			err := scan(&index)
			page.gone[index] = true
			return err
		}, `SELECT e.log_index FROM ledger_entries e LEFT JOIN ledger_blocks b ON b.organization = e.log_organization AND b.class = e.log_class AND b.number = e.number
			WHERE e.organization = $1 AND e.log_index >= $2 AND e.log_index < $3 AND b.number IS NULL ORDER BY e.log_index`,
			access.InstanceOrganization, from, to)
	})
	return page, err
}

// addEntries appends a page to the tree, a missing entry by what the stored tree says of it.
// It reports false where that says nothing, and notes in told where an entry is not what was sealed.
func (v *verification) addEntries(t *tree, page entryPage, told map[tileID]bool) bool {
	id, entries := instanceLog(), page.entries
	for i := t.size; i < page.to; i++ {
		tile := tileID{0, i / tileWidth}
		stored := page.tiles[tile]
		known := int64(len(stored)) > i%tileWidth
		if len(entries) == 0 || entries[0].index != i {
			v.listed(EntryAltered, id, -1, "entry %d is missing from the list of blocks: a log was deleted with what names it", i)
			if !known {
				return false
			}
			t.append(stored[i%tileWidth])
			continue
		}
		e := &entries[0]
		entries = entries[1:]
		leaf := e.leaf()
		if known && stored[i%tileWidth] != leaf {
			told[tile] = true
			v.listed(EntryAltered, id, -1, "entry %d of the list of blocks (block %d of %s/%s) is not what was sealed", i, e.number, forLine(e.log.organization), forLine(e.log.class))
		}
		if page.gone[i] {
			v.listed(BlockMissing, e.log, e.number, "block %d of %s/%s was sealed and is not there", e.number, forLine(e.log.organization), forLine(e.log.class))
		}
		t.append(leaf)
	}
	return true
}
