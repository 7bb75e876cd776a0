package ledger

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// mark is what a block says of the tree after it.
type mark struct {
	block, first, size int64
	root               tlog.Hash
}

// logState is what verification reads of a log at once, from one state of the
// database.
type logState struct {
	head    head
	listed  bool // it has a head
	blocks  int64
	prefix  Prefix
	from    int64     // the block from which on events are hashed
	strange []Finding // events that claim places behind its end
}

// log verifies one log.
func (v *verification) log(ctx context.Context, id logID) error {
	// What is listed now has its blocks in every later state.
	var listed int64
	err := v.ledger.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT coalesce(max(number) + 1, 0) FROM ledger_entries WHERE organization = $1 AND log_organization = $2 AND log_class = $3`,
			access.InstanceOrganization, id.organization, id.class).Scan(&listed)
	})
	if err != nil {
		return err
	}
	s, err := v.state(ctx, id)
	if err != nil {
		return err
	}
	report := LogReport{Organization: id.organization, Class: id.class, Size: s.head.size, Blocks: s.blocks}
	switch {
	case !s.listed && s.blocks == 0 && listed > 0:
		v.ofLog(LogMissing, id, 0, "the whole log is gone: %d blocks were sealed", listed)
	case !s.listed:
		v.ofLog(LogMissing, id, -1, "it is not in the list of logs, and has %d blocks", s.blocks)
	}
	marks, err := v.blocks(ctx, id, &s, listed)
	if err != nil {
		return err
	}
	if err := v.held(ctx, id); err != nil {
		return err
	}
	if err := v.checkPrefix(ctx, id, &s); err != nil {
		return err
	}
	for _, f := range s.strange {
		v.find(f)
	}
	if len(marks) > 0 {
		if err := v.events(ctx, id, &s, marks, &report); err != nil {
			v.report.Logs = append(v.report.Logs, report)
			return err
		}
	}
	v.report.Logs = append(v.report.Logs, report)
	return nil
}

// state reads the log's head, its retention record and what stands outside of it.
func (v *verification) state(ctx context.Context, id logID) (s logState, err error) {
	err = v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) error {
		s = logState{listed: true}
		var err error
		s.head, err = readHead(ctx, tx, id)
		if errors.Is(err, store.ErrNotFound) {
			s.listed, err = false, nil
		}
		if err != nil {
			return err
		}
		if s.prefix, err = readPrefix(ctx, tx, id); err != nil {
			return err
		}
		err = tx.Row(ctx, `SELECT coalesce(max(number) + 1, 0) FROM ledger_blocks WHERE organization = $1 AND class = $2`, id.organization, id.class).Scan(&s.blocks)
		if err != nil {
			return err
		}
		if !v.options.Since.IsZero() {
			err = tx.Row(ctx, `SELECT coalesce(min(number), $4) FROM ledger_blocks WHERE organization = $1 AND class = $2 AND sealed_at >= $3`,
				id.organization, id.class, store.At(v.options.Since), s.blocks).Scan(&s.from)
			if err != nil {
				return err
			}
		}
		size := s.head.size
		if !s.listed {
			return nil
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			f := Finding{Kind: EventAdded, Organization: id.organization, Class: id.class, Block: -1, Detail: "it claims a place behind the end of the log"}
			err := scan(&f.Event, &f.Index)
			s.strange = append(s.strange, f)
			return err
		}, `SELECT id, log_index FROM events WHERE organization = $1 AND class = $2 AND (log_index < 0 OR log_index >= $3) ORDER BY log_index LIMIT 20`,
			id.organization, id.class, size)
	})
	return s, err
}

// blockPage is how many blocks are read at once.
const blockPage = 1000

// blocks reads the chain of blocks, from the one before s.from on, and gives what
// they say of the tree, as far as they can be believed.
func (v *verification) blocks(ctx context.Context, id logID, s *logState, listed int64) (marks []mark, err error) {
	next := max(s.from-1, 0)
	last, lastHash, size := block{number: -1}, tlog.Hash{}, int64(-1)
	if next == 0 {
		lastHash, size = emptyRoot, 0
	}
	whole := true // as far as it was read
	for {
		page, entries, err := v.blockPage(ctx, id, next)
		if err != nil {
			return nil, err
		}
		for i := range page {
			b := &page[i]
			if b.number >= s.blocks { // sealed meanwhile
				break
			}
			if b.number > next {
				v.ofLog(BlockMissing, id, next, "blocks %d to %d are missing, with the events from place %d on", next, b.number-1, max(size, 0))
				whole, size = false, -1
			}
			next = b.number + 1
			c, good := v.block(ctx, id, b, entries, size, lastHash, whole)
			last, lastHash, whole = *b, noteHash(b.note), good
			if !good {
				size = -1
				continue
			}
			size = c.Size
			marks = append(marks, mark{b.number, c.First, c.Size, c.Root})
		}
		if len(page) < blockPage || next >= s.blocks {
			break
		}
	}
	if missing := max(listed, s.head.blocks); next < missing {
		v.ofLog(BlockMissing, id, next, "blocks %d to %d are missing from its end, with the events from place %d on", next, missing-1, max(size, 0))
	}
	if last.number < 0 {
		return nil, nil
	}
	if s.listed && (last.number+1 != s.head.blocks || size >= 0 && size != s.head.size || lastHash != s.head.blockHash) {
		v.ofLog(LogAltered, id, last.number, "the list of logs says %d events in %d blocks, and its last block is number %d with %d", s.head.size, s.head.blocks, last.number, size)
	}
	if c, err := v.open(ctx, last.note); err != nil || c.Origin != v.ledger.origin(id) {
		return marks, v.firstUnsigned(ctx, id)
	}
	return marks, nil
}

// blockPage reads blocks from a number on, and the entries of the instance's own log for
// them.
func (v *verification) blockPage(ctx context.Context, id logID, from int64) (page []block, entries map[int64]tlog.Hash, err error) {
	err = v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) error {
		page = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var b block
			err := b.scan(scan)
			page = append(page, b)
			return err
		}, `SELECT `+blockColumns+` FROM ledger_blocks WHERE organization = $1 AND class = $2 AND number >= $3 ORDER BY number LIMIT $4`,
			id.organization, id.class, from, blockPage)
	})
	if err != nil || len(page) == 0 {
		return page, nil, err
	}
	entries = make(map[int64]tlog.Hash, len(page))
	err = v.ledger.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return tx.Each(ctx, func(scan func(...any) error) error {
			var e entry
			err := e.scan(scan)
			entries[e.number] = e.hash
			return err
		}, `SELECT `+entryColumns+` FROM ledger_entries WHERE organization = $1 AND log_organization = $2 AND log_class = $3 AND number >= $4 AND number <= $5`,
			access.InstanceOrganization, id.organization, id.class, from, page[len(page)-1].number)
	})
	return page, entries, err
}

// block checks one block against its columns, the block before and the instance's own
// log, and reports whether it can be believed. size is that of the block before, or
// -1 where nothing is known of it; before is its hash, which counts where whole is.
func (v *verification) block(ctx context.Context, id logID, b *block, entries map[int64]tlog.Hash, size int64, before tlog.Hash, whole bool) (Checkpoint, bool) {
	bad := func(what string) (Checkpoint, bool) {
		v.find(Finding{Kind: BlockAltered, Organization: id.organization, Class: id.class, Index: b.first, Block: b.number,
			Detail: what})
		return Checkpoint{}, false
	}
	c, err := parseCheckpoint(noteText(b.note))
	hash, listed := entries[b.number]
	switch {
	case err != nil || c.Removed || c.Block < 0:
		return bad("its checkpoint cannot be read")
	case c.Origin != v.ledger.origin(id):
		return bad("its checkpoint is of another log")
	case listed && hash != noteHash(b.note):
		return bad("its checkpoint is not the one that the instance's own log lists")
	case c.Block != b.number || c.First != b.first || c.Count != b.count || !c.SealedAt.Equal(b.sealedAt):
		return bad("its columns say something else than its checkpoint")
	case !v.saysKey(ctx, b):
		return bad("its column key_id names another key than its checkpoint")
	case c.Count < 1 || c.First+c.Count != c.Size || size >= 0 && c.First != size:
		return bad("it does not follow the block before")
	case whole && size >= 0 && c.Previous != before:
		return bad("it does not chain to the block before")
	case !listed:
		return bad("the instance's own log does not list it")
	}
	return c, true
}

// saysKey reports whether a block says that the key signed it that its column names.
// A key that is not what its seal says was told of already.
func (v *verification) saysKey(ctx context.Context, b *block) bool {
	for range 2 {
		for i := range v.keys {
			if v.keys[i].ID == b.keyID {
				return signedBy(b.note, v.keys[i].Public)
			}
		}
		_, _ = v.open(ctx, b.note) // of a key that was made since they were read
	}
	return v.badKeys[b.keyID]
}

// firstUnsigned names the first block that no key of this instance signed. It is
// looked for where the last one is not signed: else the chain vouches for all.
func (v *verification) firstUnsigned(ctx context.Context, id logID) error {
	for from := int64(0); ; {
		page, _, err := v.blockPage(ctx, id, from)
		if err != nil {
			return err
		}
		for i := range page {
			c, err := v.open(ctx, page[i].note)
			if err != nil || c.Origin != v.ledger.origin(id) {
				v.find(Finding{Kind: SignatureInvalid, Organization: id.organization, Class: id.class, Index: page[i].first, Block: page[i].number,
					Detail: "no key of this instance signed this block as it is, nor what follows: the events from this place on are not vouched for"})
				return nil //nolint:nilerr // it is told
			}
			from = page[i].number + 1
		}
		if len(page) < blockPage {
			return nil
		}
	}
}

// checkPrefix checks the record of what retention removed, and forgets it where it
// does not hold.
func (v *verification) checkPrefix(ctx context.Context, id logID, s *logState) error {
	p := &s.prefix
	if p.Size == 0 {
		return nil
	}
	c, err := v.open(ctx, p.Record)
	good := err == nil && c.Removed && c.Origin == v.ledger.origin(id) && c.Size == p.Size && c.Root == p.Root
	if good {
		err = v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) error {
			t, err := readTree(ctx, tx, id, p.Size)
			if errors.Is(err, errNoTile) {
				good, err = false, nil
			}
			good = good && err == nil && t.root() == p.Root
			return err
		})
		if err != nil {
			return err
		}
	}
	if !good {
		v.ofLog(RecordInvalid, id, -1, "the record that %d events were removed by retention is not signed by this instance, or is of another log", p.Size)
		p.Size = 0
	}
	return nil
}
