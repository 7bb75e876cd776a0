package store

import (
	"context"
	"sync"
	"time"
)

// Destroys says that what this transaction deletes or replaces is to be gone from the
// database's files after it. On SQLite secure_delete overwrites it in the file, and the
// write-ahead log, which still holds it, is folded in and cut off after the commit: at once
// where that was not done within the last second, and where nobody reads an earlier state.
// On PostgreSQL it does nothing: there the bytes go with a vacuum and with the server's own
// log.
func (tx *Tx) Destroys() { tx.destroys = tx.db.dialect == dialectSQLite }

const (
	cutEvery  = time.Second            // at most: many rows go in many transactions
	cutRetry  = 100 * time.Millisecond // while somebody reads what the log holds, twice as long with each try
	cutRarely = 5 * time.Second        // up to this
	cutWait   = 50 * time.Millisecond  // for readers, during which nobody writes
)

// cutter cuts SQLite's write-ahead log off.
type cutter struct {
	mu      sync.Mutex
	last    time.Time // when it was cut off
	wanted  int       // how often that was asked for
	done    int       // what was asked for when it was cut off last
	running bool      // a goroutine tries
	wait    sync.WaitGroup
	stopped bool
	closed  chan struct{} // when it stops; nil on PostgreSQL
}

func (c *cutter) stop() {
	if c.closed == nil {
		return
	}
	c.mu.Lock()
	first := !c.stopped
	c.stopped = true
	if first {
		close(c.closed)
	}
	c.mu.Unlock()
	c.wait.Wait()
}

// finishCutting stops the cutter, and tries once more what is not done: another process may
// have the database open, and knows nothing of it.
func (db *DB) finishCutting() {
	c := &db.cutter
	c.stop()
	for range 10 {
		c.mu.Lock()
		pending := c.wanted > c.done
		c.mu.Unlock()
		if !pending || db.tryCut() {
			return
		}
	}
}

// cutLog cuts the log off, now or in the background.
func (db *DB) cutLog() {
	c := &db.cutter
	c.mu.Lock()
	c.wanted++
	next := time.Until(c.last.Add(cutEvery))
	later := c.running || next > 0
	c.mu.Unlock()
	if !later && db.tryCut() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.running && !c.stopped {
		c.running = true
		c.wait.Go(func() { db.keepCutting(max(next, cutRetry)) })
	}
}

// keepCutting tries until what was asked for is done, or the database closes. It tries less and
// less often: each try keeps writers waiting.
func (db *DB) keepCutting(next time.Duration) {
	c := &db.cutter
	for retry := cutRetry; ; {
		select {
		case <-c.closed:
			return
		case <-time.After(next):
		}
		if !db.tryCut() {
			next = retry
			retry = min(2*retry, cutRarely)
			continue
		}
		c.mu.Lock()
		if c.wanted == c.done {
			c.running = false
			c.mu.Unlock()
			return
		}
		next, retry = cutEvery, cutRetry
		c.mu.Unlock()
	}
}

// tryCut cuts the log off unless somebody reads what it holds, and reports whether it did.
func (db *DB) tryCut() bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := db.write.Conn(ctx)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	db.cutter.mu.Lock()
	wanted := db.cutter.wanted // committed before the log is cut off
	db.cutter.mu.Unlock()
	// A checkpoint waits for readers as long as a writer waits for another.
	if _, err := conn.ExecContext(ctx, pragmaBusyTimeout(cutWait)); err != nil {
		return false
	}
	var busy, frames, folded int
	err = conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &folded)
	if _, restoreErr := conn.ExecContext(context.WithoutCancel(ctx), pragmaBusyTimeout(busyTimeout)); restoreErr != nil {
		return false
	}
	if err != nil || busy != 0 {
		return false
	}
	db.cutter.mu.Lock()
	defer db.cutter.mu.Unlock()
	db.cutter.last, db.cutter.done = time.Now(), wanted
	return true
}
