package ledger_test

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// soak gives how long a campaign runs: as long as GATEHOUSE_SOAK_LEDGER says (a Go
// duration), or a moment.
func soak(t *testing.T) time.Duration {
	d, err := time.ParseDuration(os.Getenv("GATEHOUSE_SOAK_LEDGER"))
	if err != nil {
		return 2 * time.Second
	}
	t.Logf("for %s", d)
	return d
}

// Many writers, three instances that would all seal, leases that are stolen all the
// while, a key that rotates, and verification beside it all: nothing is ever found,
// and places are dense.
func TestNoFalseAlarm(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		const writers, instances = 64, 3
		b := newBook(t, url, ledger.Options{Every: 20 * time.Millisecond, Lease: 300 * time.Millisecond, Batch: 200})
		b.fill(t, 1, 1)
		ctx, stop := context.WithTimeout(t.Context(), soak(t))
		defer stop()
		running, halt := context.WithCancel(t.Context())
		defer halt()
		var sealers, all sync.WaitGroup
		for range instances {
			l := b.beside()
			sealers.Go(func() { l.Run(running) })
		}
		organizations := []string{"acme", "globex", access.InstanceOrganization}
		written := make([]int, writers)
		for w := range writers {
			all.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					organization := organizations[(w+i)%len(organizations)]
					if w%4 == 0 { // in its change's transaction, some of which are rolled back
						undo := errors.New("undo")
						err := b.db.Update(t.Context(), organization, func(tx *store.Tx) error {
							if err := b.trail.Append(t.Context(), tx, ownerOf(organization), audit.Event{Action: audit.CredentialUpdate, Outcome: audit.Success}); err != nil {
								return err
							}
							if i%7 == 3 {
								time.Sleep(30 * time.Millisecond) // commits late, after ids that are younger
							}
							if i%5 == 4 {
								return undo
							}
							return nil
						})
						if err != nil && !errors.Is(err, undo) {
							t.Error(err)
							return
						}
						if err == nil {
							written[w]++
						}
						continue
					}
					slot, err := b.trail.Reserve()
					if err != nil { // the disk is slower than the writers
						time.Sleep(10 * time.Millisecond)
						continue
					}
					slot.Record(t.Context(), ownerOf(organization), audit.Event{Action: audit.ChatRequest, Outcome: audit.Success, Metadata: map[string]any{"n": i}})
					written[w]++
					time.Sleep(time.Millisecond)
				}
			})
		}
		all.Go(func() { // two that believe they lead
			for ctx.Err() == nil {
				b.exec(t, `UPDATE ledger_sealer SET lease_until = 1`)
				time.Sleep(50 * time.Millisecond)
			}
		})
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := b.RotateKey(t.Context(), operator); err != nil {
					t.Error(err)
				}
				time.Sleep(300 * time.Millisecond)
			}
		})
		verified := 0
		for ctx.Err() == nil {
			if r := b.verifyAll(t); !r.Clean() {
				t.Fatalf("a false alarm: %+v", r.Findings)
			}
			verified++
		}
		all.Wait()
		b.flush(t)
		var left int64
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			if b.scan(t, &left, `SELECT count(*) FROM events WHERE log_index IS NULL`); left == 0 || time.Now().After(end) {
				break
			}
		}
		halt()
		sealers.Wait()
		b.Ledger = b.beside()
		b.sealAll(t) // whose own events came last
		r := b.verifyAll(t)
		sum := 0
		for _, n := range written {
			sum += n
		}
		if !r.Clean() || r.Unsealed != 0 || r.Events < int64(sum) {
			t.Errorf("%d written, %d verified, %d unsealed: %+v", sum, r.Events, r.Unsealed, r.Findings)
		}
		var gaps, blocks int64
		b.scan(t, &gaps, `SELECT count(*) FROM (SELECT max(log_index) - count(*) + 1 AS d, min(log_index) AS f FROM events GROUP BY organization, class) AS x WHERE d <> 0 OR f <> 0`)
		b.scan(t, &blocks, `SELECT count(*) FROM ledger_blocks`)
		if gaps != 0 {
			t.Errorf("%d logs are not dense", gaps)
		}
		t.Logf("%d events in %d blocks, verified %d times meanwhile", r.Events, blocks, verified)
	})
}

// Instances that start at the same time make one key, and none of them fails.
func TestFirstKeyAtOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		var all sync.WaitGroup
		for range 8 {
			l := b.beside()
			all.Go(func() {
				if err := l.Prepare(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if keys, err := b.Keys(t.Context()); err != nil || len(keys) != 1 {
			t.Errorf("%d keys, %v", len(keys), err)
		}
		b.sealAll(t)
		if r := b.verifyAll(t); !r.Clean() {
			t.Errorf("%+v", r.Findings)
		}
	})
}

// The holder of the lease dies without a word: another goes on when it ends, also
// where its clock had jumped far ahead.
func TestLeaseAfterDeath(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		now := time.Now()
		var mu sync.Mutex
		clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
		b := newBook(t, url, ledger.Options{Now: clock, Lease: 10 * time.Second})
		b.fill(t, 1, 1)
		b.change(t, "acme", 1)
		next := b.beside()
		if n, err := next.Seal(t.Context()); n != 0 || err != nil {
			t.Fatalf("beside a live holder it seals %d: %v", n, err)
		}
		mu.Lock()
		now = now.Add(11 * time.Second)
		mu.Unlock()
		if n, err := next.Seal(t.Context()); n != 1 || err != nil {
			t.Fatalf("after the holder's end it seals %d: %v", n, err)
		}
		if n, err := b.Seal(t.Context()); n != 0 || err != nil {
			t.Fatalf("the old holder, back again, seals %d: %v", n, err)
		}
		b.exec(t, `UPDATE ledger_sealer SET lease_until = `+strconv.FormatInt(now.Add(24*365*time.Hour).UnixMicro(), 10))
		b.change(t, "acme", 2)
		if n, err := b.Seal(t.Context()); n != 1 || err != nil {
			t.Errorf("beside a lease of a year it seals %d: %v", n, err)
		}
		if r := b.verifyAll(t); !r.Clean() {
			t.Errorf("%+v", r.Findings)
		}
	})
}
