package webhook

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// How an instance shares its attention out.
const (
	poll            = time.Second           // between two looks for what is due
	sweepEvery      = time.Hour             // between two looks for what is too old
	lease           = Timeout + time.Minute // an attempt is over by then: after it, another instance may try
	maxRunning      = 32                    // requests at once
	maxPerWebhook   = 2
	maxPerTenant    = 4
	candidates      = 64  // read at a time
	sweepBatch      = 500 // deleted at a time
	recordingMaxFor = 5 * time.Second
)

// flight is what this instance is sending at the moment.
type flight struct {
	mu      sync.Mutex
	webhook map[webhookKey]int
	tenant  map[string]int
	running int
	all     sync.WaitGroup
	freed   chan struct{}
}

type webhookKey struct{ organization, id string }

func (f *flight) poke() {
	select {
	case f.freed <- struct{}{}:
	default:
	}
}

// board takes a place for a request to the webhook, if there is one.
func (f *flight) board(k webhookKey) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running >= maxRunning || f.webhook[k] >= maxPerWebhook || f.tenant[k.organization] >= maxPerTenant {
		return false
	}
	if f.webhook == nil {
		f.webhook, f.tenant = make(map[webhookKey]int), make(map[string]int)
	}
	f.running++
	f.webhook[k]++
	f.tenant[k.organization]++
	f.all.Add(1)
	return true
}

func (f *flight) leave(k webhookKey) {
	f.mu.Lock()
	f.running--
	if f.webhook[k]--; f.webhook[k] == 0 {
		delete(f.webhook, k)
	}
	if f.tenant[k.organization]--; f.tenant[k.organization] == 0 {
		delete(f.tenant, k.organization)
	}
	f.mu.Unlock()
	f.all.Done()
	f.poke()
}

// full gives who has as many requests running as it may, and whether there is a
// place at all.
func (f *flight) full() (tenants []string, webhooks []webhookKey, room bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for t, n := range f.tenant {
		if n >= maxPerTenant {
			tenants = append(tenants, t)
		}
	}
	for k, n := range f.webhook {
		if n >= maxPerWebhook {
			webhooks = append(webhooks, k)
		}
	}
	return tenants, webhooks, f.running < maxRunning
}

// Run sends what is due until ctx ends, gives up what is under way (it is due
// again at once), and returns. While the database is away it waits.
func (w *Webhooks) Run(ctx context.Context) {
	var trail sync.WaitGroup
	defer trail.Wait()
	trail.Go(func() { w.runSinks(ctx) })
	tick, sweep := time.NewTicker(poll), time.NewTicker(sweepEvery)
	defer tick.Stop()
	defer sweep.Stop()
	failing := false
	for {
		err := w.dispatch(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			w.opts.Logger.WarnContext(ctx, "webhooks wait for the database", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			w.flight.all.Wait()
			return
		case <-tick.C:
		case <-w.flight.freed:
			if failing { // not faster than the tick while the database is away
				select {
				case <-ctx.Done():
				case <-tick.C:
				}
			}
		case <-sweep.C:
			if err := w.sweep(ctx); err != nil {
				w.opts.Logger.WarnContext(ctx, "old webhook deliveries could not be deleted", "error", err)
			}
		}
	}
}

// due is a delivery that this instance has taken.
type due struct {
	webhookKey
	delivery string
	message  string
	body     string
	url      string
	attempts int64 // this one included
	next     store.Time
}

// dispatch takes what is due and starts sending it, as far as there is room.
func (w *Webhooks) dispatch(ctx context.Context) error {
	for ctx.Err() == nil {
		tenants, webhooks, room := w.flight.full()
		if !room {
			return nil
		}
		found, err := w.find(ctx, tenants, webhooks)
		if err != nil {
			return err
		}
		var boarded []due
		for _, d := range found {
			if w.flight.board(d.webhookKey) {
				boarded = append(boarded, d)
			}
		}
		if len(boarded) == 0 {
			return nil
		}
		taken, err := w.take(ctx, boarded)
		for _, d := range boarded {
			if i := slices.IndexFunc(taken, func(t due) bool { return t.delivery == d.delivery }); err == nil && i >= 0 {
				go w.send(ctx, taken[i])
			} else {
				w.flight.leave(d.webhookKey) // another instance was first
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// find gives the deliveries that are due longest, except those of tenants and webhooks that
// have enough running.
func (w *Webhooks) find(ctx context.Context, tenants []string, webhooks []webhookKey) ([]due, error) {
	args := []any{store.At(w.opts.Now()), false}
	arg := func(value any) string {
		args = append(args, value)
		return "$" + strconv.Itoa(len(args))
	}
	var but strings.Builder
	for _, t := range tenants {
		but.WriteString(" AND d.organization <> " + arg(t))
	}
	for _, k := range webhooks {
		but.WriteString(" AND NOT (d.organization = " + arg(k.organization) + " AND d.webhook_id = " + arg(k.id) + ")")
	}
	var all []due
	err := w.db.ViewAcross(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var d due
			err := scan(&d.organization, &d.id, &d.delivery, &d.message, &d.body, &d.url, &d.attempts, &d.next)
			all = append(all, d)
			return err
		}, `SELECT d.organization, d.webhook_id, d.id, d.message_id, d.body, h.url, d.attempts, d.next_at
			FROM webhook_deliveries d JOIN webhooks h ON h.organization = d.organization AND h.id = d.webhook_id
			JOIN organizations o ON o.id = d.organization AND o.deleted_at IS NULL
			WHERE d.status = 'pending' AND d.next_at <= $1 AND h.disabled = $2`+but.String()+`
			ORDER BY d.next_at LIMIT `+strconv.Itoa(candidates), args...)
	})
	return all, err
}

// take makes the deliveries this instance's for the length of the lease, except
// those that another took meanwhile.
func (w *Webhooks) take(ctx context.Context, found []due) ([]due, error) {
	now := w.opts.Now()
	until := store.At(now.Add(lease))
	var taken []due
	err := w.db.UpdateAcross(ctx, func(tx *store.Tx) error {
		taken = nil
		for _, d := range found {
			n, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET attempts = $1, next_at = $2, last_attempt_at = $3
				WHERE organization = $4 AND id = $5 AND status = 'pending' AND attempts = $6 AND next_at = $7`,
				d.attempts+1, until, store.At(now), d.organization, d.delivery, d.attempts, d.next)
			if err != nil {
				return err
			}
			if n == 1 {
				d.attempts, d.next = d.attempts+1, until
				taken = append(taken, d)
			}
		}
		return nil
	})
	return taken, err
}

// sweep deletes deliveries that were made [KeepFor] ago and have ended, and secrets that nothing
// is signed under any more.
func (w *Webhooks) sweep(ctx context.Context) error {
	now := w.opts.Now()
	old := `SELECT organization, id, '' FROM webhook_deliveries WHERE created_at < $1 AND status <> 'pending' LIMIT ` + strconv.Itoa(sweepBatch)
	err := w.deleteWhile(ctx, old, store.At(now.Add(-KeepFor)), func(tx *store.Tx, organization, id, _ string) error {
		tx.Destroys()
		_, err := tx.Exec(ctx, `DELETE FROM webhook_deliveries WHERE organization = $1 AND id = $2 AND status <> 'pending'`, organization, id)
		return err
	})
	if err != nil {
		return err
	}
	ended := `SELECT organization, webhook_id, CAST(version AS TEXT) FROM webhook_secrets WHERE expires_at < $1 LIMIT ` + strconv.Itoa(sweepBatch)
	return w.deleteWhile(ctx, ended, store.At(now), func(tx *store.Tx, organization, id, version string) error {
		n, err := strconv.ParseInt(version, 10, 64)
		if err != nil {
			return err
		}
		tx.Destroys()
		_, err = tx.Exec(ctx, `DELETE FROM webhook_secrets WHERE organization = $1 AND webhook_id = $2 AND version = $3`, organization, id, n)
		return err
	})
}

// deleteWhile calls del for what query finds, in batches, until it finds less.
func (w *Webhooks) deleteWhile(ctx context.Context, query string, before store.Time, del func(tx *store.Tx, organization, id, more string) error) error {
	for ctx.Err() == nil {
		n := 0
		err := w.db.UpdateAcross(ctx, func(tx *store.Tx) error {
			var rows [][3]string
			err := tx.Each(ctx, func(scan func(...any) error) error {
				var r [3]string
				err := scan(&r[0], &r[1], &r[2])
				rows = append(rows, r)
				return err
			}, query, before)
			if err != nil {
				return err
			}
			n = len(rows)
			for _, r := range rows {
				if err := del(tx, r[0], r[1], r[2]); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil || n < sweepBatch {
			return err
		}
	}
	return nil
}
