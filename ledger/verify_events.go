package ledger

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// chunkSize is how many places of a log are read at once: whole tiles.
const chunkSize = 32 * tileWidth

// chunk is what was read of a log's places from from up to to.
type chunk struct {
	from, to int64
	leaves   []tlog.Hash // of events
	have     []bool      // there is an event
	stored   []tlog.Hash // of the stored tree; shorter where hashes are missing
	ids      []string
	wrong    []Finding // columns and personal data
	erased   int64
	events   int64
	err      error
}

// events hashes the log's events and holds them to the marks.
func (v *verification) events(ctx context.Context, id logID, s *logState, marks []mark, report *LogReport) error {
	w := &walk{verification: v, id: id, state: s, marks: marks, tree: &tree{}}
	if s.from > 0 { // what lies before is taken as it was signed
		base := marks[0]
		w.marks = marks[1:]
		err := v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) (err error) {
			w.tree, err = readTree(ctx, tx, id, base.size)
			return err
		})
		if err != nil && !errors.Is(err, errNoTile) {
			return err
		}
		if err != nil || w.tree.root() != base.root {
			v.ofLog(TreeAltered, id, base.block, "the stored hashes of the first %d events are not what was signed; verify without a beginning", base.size)
			return nil
		}
	}
	if len(w.marks) == 0 {
		return nil
	}
	w.begin()
	end := w.marks[len(w.marks)-1].size
	var readers sync.WaitGroup
	defer readers.Wait() // whoever is told that it is over may close the database
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	workers := runtime.GOMAXPROCS(0)
	queue := make(chan chan *chunk, workers)
	readers.Go(func() { // reads ahead, in order
		defer close(queue)
		for from := w.tree.size; from < end; {
			to := min(from-from%tileWidth+chunkSize, end)
			answer := make(chan *chunk, 1)
			select {
			case queue <- answer:
			case <-ctx.Done():
				return
			}
			first := from
			readers.Go(func() { answer <- v.chunk(ctx, id, first, to) })
			from = to
		}
	})
	for answer := range queue {
		c := <-answer
		if c.err != nil {
			return c.err
		}
		report.Verified += c.events
		report.Erased += c.erased
		for _, f := range c.wrong {
			v.find(f)
		}
		v.progress(c.events)
		if err := w.chunk(ctx, c); err != nil {
			return err
		}
		if w.lost {
			break
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if !w.lost { // told already
		if err := w.tellMissing(ctx); err != nil {
			return err
		}
	}
	if report.Removed = w.removed; w.lost {
		return nil
	}
	return w.edge(ctx)
}

// chunk reads places of a log and hashes what stands there.
func (v *verification) chunk(ctx context.Context, id logID, from, to int64) *chunk {
	c := &chunk{from: from, to: to, leaves: make([]tlog.Hash, to-from), have: make([]bool, to-from), ids: make([]string, to-from)}
	c.err = v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) error {
		tiles := make(map[int64][]tlog.Hash, chunkSize/tileWidth)
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var number int64
			var hashes []byte
			err := scan(&number, &hashes)
			tiles[number] = unpackHashes(hashes)
			return err
		}, `SELECT number, hashes FROM ledger_tiles WHERE organization = $1 AND class = $2 AND level = 0 AND number >= $3 AND number <= $4`,
			id.organization, id.class, from/tileWidth, (to-1)/tileWidth)
		if err != nil {
			return err
		}
		for i := from; i < to; i++ {
			tile := tiles[i/tileWidth]
			if int64(len(tile)) <= i%tileWidth {
				break
			}
			c.stored = append(c.stored, tile[i%tileWidth])
		}
		columns := audit.Columns{Organization: id.organization, Class: id.class}
		var canonical, salt store.Raw // looked at before the next row is read
		var person *string
		var at, recorded store.Time
		var index int64
		return tx.Each(ctx, func(scan func(...any) error) error {
			if err := scan(&index, &columns.ID, &at, &recorded, &columns.Action, &columns.Outcome, &columns.ActorID, &canonical, &salt, &person); err != nil {
				return err
			}
			i := index - from
			if c.have[i] {
				c.wrong = append(c.wrong, Finding{EventAdded, id.organization, id.class, index, columns.ID, -1, "two events claim this place"})
				return nil
			}
			c.events++
			c.have[i], c.ids[i], c.leaves[i] = true, columns.ID, tlog.RecordHash(canonical)
			columns.OccurredAt, columns.RecordedAt = at.Time, recorded.Time
			column, commitment := columns.Differ(canonical)
			if column != "" {
				c.wrong = append(c.wrong, Finding{ColumnAltered, id.organization, id.class, index, columns.ID, -1, "the column " + column + " says something else than the event"})
			}
			switch {
			case person == nil && commitment != "":
				c.erased++
			case person != nil && !audit.Committed(commitment, salt, []byte(*person)):
				c.wrong = append(c.wrong, Finding{PersonAltered, id.organization, id.class, index, columns.ID, -1, "its personal data is not what the event is bound to"})
			}
			return nil
		}, `SELECT e.log_index, e.id, e.occurred_at, e.recorded_at, e.action, e.outcome, e.actor_id, e.canonical, p.salt, p.data FROM events e
			LEFT JOIN event_persons p ON p.organization = e.organization AND p.event_id = e.id
			WHERE e.organization = $1 AND e.class = $2 AND e.log_index >= $3 AND e.log_index < $4 ORDER BY e.log_index`,
			id.organization, id.class, from, to)
	})
	return c
}

// walk follows a log's events from mark to mark.
type walk struct {
	*verification
	id    logID
	state *logState
	marks []mark // that are still to come
	tree  *tree

	start   *tree       // the tree at the last mark
	leaves  []tlog.Hash // since then: of events, or stored ones where there is none
	stored  []tlog.Hash // since then: stored
	ids     []string    // since then: of events, "" where there is none
	full    []fullTile  // since then: tiles above the lowest level
	missing [][2]int64  // places without an event: from, to
	removed int64
	lost    bool // nothing that follows can be checked
}

type fullTile struct {
	id     tileID
	hashes []tlog.Hash
}

// begin starts anew behind a mark.
func (w *walk) begin() {
	w.start = w.tree.clone()
	w.leaves, w.stored, w.ids, w.full = w.leaves[:0], w.stored[:0], w.ids[:0], w.full[:0]
	w.tree.full = func(id tileID, hashes []tlog.Hash) {
		if id.level > 0 {
			w.full = append(w.full, fullTile{id, append([]tlog.Hash(nil), hashes...)})
		}
	}
}

func (w *walk) chunk(ctx context.Context, c *chunk) error {
	for i := range c.leaves {
		at := c.from + int64(i)
		known := i < len(c.stored)
		if !c.have[i] {
			if n := len(w.missing); n > 0 && w.missing[n-1][1] == at {
				w.missing[n-1][1]++
			} else {
				w.missing = append(w.missing, [2]int64{at, at + 1})
			}
			if !known {
				w.find(Finding{EventMissing, w.id.organization, w.id.class, at, "", -1, "the event is gone, and so is its hash: nothing that follows can be checked"})
				w.lost = true
				return w.tellMissing(ctx)
			}
			c.leaves[i] = c.stored[i]
		}
		stored := tlog.Hash{}
		if known {
			stored = c.stored[i]
		}
		w.leaves, w.stored, w.ids = append(w.leaves, c.leaves[i]), append(w.stored, stored), append(w.ids, c.ids[i])
		w.tree.append(c.leaves[i])
		if w.tree.size == w.marks[0].size {
			if err := w.reach(ctx); err != nil || w.lost {
				return err
			}
		}
	}
	return nil
}

// reach compares the tree with what the block at the next mark says of it.
func (w *walk) reach(ctx context.Context) error {
	m := w.marks[0]
	w.marks = w.marks[1:]
	if w.tree.root() == m.root {
		for i := range w.leaves {
			if w.leaves[i] != w.stored[i] {
				w.event(TreeAltered, m, i, "the stored hash of the event, or of others after it, is not that of its bytes, which are as they were signed")
				break
			}
		}
		err := w.compare(ctx)
		w.begin()
		return err
	}
	// With the stored hashes in place of those of the events: what differs was altered.
	w.tree = w.start
	w.full = w.full[:0]
	for _, hash := range w.stored {
		w.tree.append(hash)
	}
	if w.tree.root() == m.root {
		for i := range w.leaves {
			if w.leaves[i] != w.stored[i] {
				w.event(EventAltered, m, i, "its bytes are not those that were sealed")
			}
		}
		w.begin()
		return nil
	}
	w.lost = true
	for i := range w.leaves {
		if w.leaves[i] != w.stored[i] {
			w.event(EventAltered, m, i, "neither its bytes nor its stored hash are those that were sealed; nothing that follows can be checked")
			return w.tellMissing(ctx)
		}
	}
	w.event(EventAltered, m, 0, fmt.Sprintf("this event or one of the next %d was altered with its stored hash: block %d was signed over others; nothing that follows can be checked", len(w.leaves)-1, m.block))
	return w.tellMissing(ctx)
}

// event finds something about the i-th event since the last mark.
func (w *walk) event(kind Kind, m mark, i int, detail string) {
	w.find(Finding{kind, w.id.organization, w.id.class, m.size - int64(len(w.leaves)) + int64(i), w.ids[i], m.block, detail})
}

// compare holds the tiles above the lowest level to the stored ones.
func (w *walk) compare(ctx context.Context) error {
	return w.differ(ctx, w.id, w.full, func(t tileID) {
		w.ofLog(TreeAltered, w.id, -1, "the stored tree's row %d of level %d is not that of the events", t.number, t.level)
	})
}

// differ tells of tiles that are not stored as they should be. More may be stored than
// there should be: of what was sealed meanwhile.
func (v *verification) differ(ctx context.Context, id logID, should []fullTile, tell func(tileID)) error {
	if len(should) == 0 {
		return nil
	}
	ids := make([]tileID, len(should))
	for i, t := range should {
		ids[i] = t.id
	}
	return v.ledger.db.View(ctx, id.organization, func(tx *store.Tx) error {
		tiles, err := readTiles(ctx, tx, id, ids)
		if err != nil {
			return err
		}
		for _, t := range should {
			if stored := tiles[t.id]; len(stored) < len(t.hashes) || !slices.Equal(stored[:len(t.hashes)], t.hashes) {
				tell(t.id)
			}
		}
		return nil
	})
}

// edge compares what is not full yet.
func (w *walk) edge(ctx context.Context) error {
	w.full = w.full[:0]
	ids, counts := edges(w.tree.size)
	for i, id := range ids {
		if id.level > 0 {
			w.full = append(w.full, fullTile{id, w.tree.edge[id.level][:counts[i]]})
		}
	}
	return w.compare(ctx)
}

// tellMissing names the events that are missing and that no record of retention
// covers. It looks for that record again: a sweep may have ended since.
func (w *walk) tellMissing(ctx context.Context) error {
	if len(w.missing) == 0 {
		return nil
	}
	if last := w.missing[len(w.missing)-1][1]; last > w.state.prefix.Size {
		err := w.ledger.db.View(ctx, w.id.organization, func(tx *store.Tx) (err error) {
			w.state.prefix, err = readPrefix(ctx, tx, w.id)
			return err
		})
		if err != nil {
			return err
		}
		found := len(w.report.Findings)
		if err := w.checkPrefix(ctx, w.id, w.state); err != nil {
			return err
		}
		w.report.Findings = w.report.Findings[:min(found, len(w.report.Findings))] // told already
	}
	for _, gap := range w.missing {
		from, to := gap[0], gap[1]
		covered := min(max(w.state.prefix.Size-from, 0), to-from)
		w.removed += covered
		if from += covered; from == to {
			continue
		}
		detail := "it was deleted"
		if to-from > 1 {
			detail = fmt.Sprintf("it and the %d after it were deleted", to-from-1)
		}
		before, err := w.idBefore(ctx, from)
		if err != nil {
			return err
		}
		if before != "" {
			detail += "; the event before it is " + before
		}
		w.find(Finding{EventMissing, w.id.organization, w.id.class, from, "", -1, detail})
	}
	w.missing = nil
	return nil
}

// idBefore gives the id of the event before a place.
func (w *walk) idBefore(ctx context.Context, place int64) (event string, err error) {
	err = w.ledger.db.View(ctx, w.id.organization, func(tx *store.Tx) error {
		err := tx.Row(ctx, `SELECT id FROM events WHERE organization = $1 AND class = $2 AND log_index < $3 ORDER BY log_index DESC LIMIT 1`,
			w.id.organization, w.id.class, place).Scan(&event)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	return event, err
}
