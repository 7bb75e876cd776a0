package masterkey_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// What the benchmarks rewrap.
const (
	benchOrganizations = 100
	benchVersions      = 10_000
	benchBatch         = 200 // rows in one transaction, as the worker writes them
)

// benchHouse is a database with 10,000 versions of 100 organizations, and both
// keys of each organization derived.
type benchHouse struct {
	*house
	*process
	keys []seal.KeyID
	at   int // which of keys seals
}

func newBenchHouse(b *testing.B, url string) *benchHouse {
	b.Helper()
	h := &benchHouse{house: newHouse(b, url)}
	o := h.options(second, first)
	o.Logger, o.Lease = nil, time.Minute
	h.open(b, h.options(first))
	h.process = h.open(b, o)
	if _, err := h.Stage(b.Context(), operator, 0); err != nil {
		b.Fatal(err)
	}
	for i := range benchOrganizations {
		h.seed(b, fmt.Sprintf("org-%03d", i))
	}
	for _, k := range h.process.status(b).Keys {
		h.keys = append(h.keys, k.ID)
	}
	h.rotate(b) // derives the other key of each organization
	h.rotate(b)
	return h
}

// seed writes an organization's versions as vault would, in one transaction.
func (h *benchHouse) seed(b *testing.B, organization string) {
	b.Helper()
	ctx := b.Context()
	h.organization(b, organization)
	h.store(b, organization, "first")
	err := h.db.Update(ctx, organization, func(tx *store.Tx) error {
		var salt seal.OrganizationSalt
		if err := tx.Row(ctx, `SELECT salt FROM organization_keys WHERE organization = $1`, organization).Scan(&salt); err != nil {
			return err
		}
		for i := range benchVersions/benchOrganizations - 1 {
			id, name := store.NewID("cred"), fmt.Sprint("c-", i)
			c := seal.Context{Environment: "test", Organization: organization, Kind: "credential", ID: id, Version: 1}
			sealed, err := h.Ring().SealFields(ctx, c, salt, seal.Fields{"apiKey": seal.NewSecret("sk-proj-" + strings.Repeat("k", 156))})
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO credentials (organization, id, service, name, version, revision, disabled, created_at, created_by, updated_at)
				VALUES ($1, $2, 'openai', $3, 1, 1, $4, 1, 'u', 1)`, organization, id, name, false)
			if err != nil {
				return err
			}
			_, err = tx.Exec(ctx, `INSERT INTO credential_versions (organization, credential_id, version, fields, hints, fingerprint, fields_sealed, created_at, created_by)
				VALUES ($1, $2, 1, '["apiKey"]', '{}', '', $3, 1, 'u')`, organization, id, sealed)
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}

// rotate moves everything to the other key and gives how long it took.
func (h *benchHouse) rotate(b *testing.B) time.Duration { return h.rotateAt(b, 0) }

// rotateAt rotates at a rate, in rows a second.
func (h *benchHouse) rotateAt(b *testing.B, rate int) time.Duration {
	b.Helper()
	h.at = 1 - h.at
	begin := time.Now()
	if _, err := h.Rotate(b.Context(), operator, masterkey.RotateOptions{Key: h.keys[h.at], Rate: rate}); err != nil {
		b.Fatal(err)
	}
	r := h.rotated(b)
	if r.Rewrapped != benchVersions+benchOrganizations || r.Unreadable != 0 {
		b.Fatalf("%+v", r)
	}
	return time.Since(begin)
}

// update is one row's change as the worker makes it.
type update struct {
	organization, id string
	old, new         []byte
}

// updates reads all versions and makes up new bytes for each, of the same length.
func (h *benchHouse) updates(b *testing.B) []update {
	b.Helper()
	var all []update
	err := h.db.ViewAcross(b.Context(), func(tx *store.Tx) error {
		return tx.Each(b.Context(), func(scan func(...any) error) error {
			var u update
			err := scan(&u.organization, &u.id, &u.old)
			u.new = slices.Clone(u.old)
			for i := 24; i < 116; i++ { // what rewrapping changes
				u.new[i] = byte(rand.N(256))
			}
			all = append(all, u)
			return err
		}, `SELECT organization, credential_id, fields_sealed FROM credential_versions ORDER BY organization, credential_id, version`)
	})
	if err != nil {
		b.Fatal(err)
	}
	return all
}

const benchUpdate = `UPDATE credential_versions SET fields_sealed = $1 WHERE organization = $2 AND credential_id = $3 AND version = $4
	AND fields_sealed = $5`

// oneByOne runs a statement for each row by exec.
func oneByOne(exec func(*store.Tx, context.Context, string, ...any) (int64, error)) func(*store.Tx, context.Context, string, [][]any) (int64, error) {
	return func(tx *store.Tx, ctx context.Context, statement string, all [][]any) (changed int64, err error) {
		for _, args := range all {
			n, err := exec(tx, ctx, statement, args...)
			if err != nil {
				return changed, err
			}
			changed += n
		}
		return changed, nil
	}
}

// write makes the database take the updates in batches of the worker's size, and
// gives how long it took. The worker's statements go in one message, parsed once;
// here they go as exec sends them.
func (h *benchHouse) write(b *testing.B, all []update, exec func(*store.Tx, context.Context, string, [][]any) (int64, error)) time.Duration {
	b.Helper()
	begin := time.Now()
	for batch := range slices.Chunk(all, benchBatch) {
		args := make([][]any, len(batch))
		for i, u := range batch {
			args[i] = []any{u.new, u.organization, u.id, 1, u.old}
		}
		err := h.db.UpdateAcross(b.Context(), func(tx *store.Tx) error {
			n, err := exec(tx, b.Context(), benchUpdate, args)
			if err != nil || n != int64(len(batch)) {
				return fmt.Errorf("%d rows, %w", n, err)
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

func benchDatabases(b *testing.B, run func(b *testing.B, url string)) {
	b.Run("sqlite", func(b *testing.B) { run(b, filepath.Join(b.TempDir(), "gatehouse.db")) })
	b.Run("postgresql", func(b *testing.B) { run(b, gatehousetest.Postgres(b)) })
}

// BenchmarkRewrap compares the rate of a rotation, its key derivations done
// beforehand, with the rate at which the database alone takes the same updates:
// as statements are run elsewhere, parsed once, and all of a batch in one message
// as the worker's. The sides take turns; a ratio is the median over the rounds.
func BenchmarkRewrap(b *testing.B) {
	alone := []struct {
		name string
		exec func(*store.Tx, context.Context, string, [][]any) (int64, error)
	}{
		{"updated", oneByOne((*store.Tx).Exec)},
		{"updated-parsed-once", oneByOne((*store.Tx).ExecPrepared)},
		{"updated-in-one", (*store.Tx).ExecEach},
	}
	benchDatabases(b, func(b *testing.B, url string) {
		h := newBenchHouse(b, url)
		var rotations []float64
		rates, ratios := make([][]float64, len(alone)), make([][]float64, len(alone))
		for b.Loop() {
			for range 3 {
				all := h.updates(b)
				took := make([]float64, len(alone))
				for i, side := range alone {
					took[i] = h.write(b, all, side.exec).Seconds() / benchVersions
					for i := range all { // the next one takes it back
						all[i].old, all[i].new = all[i].new, all[i].old
					}
				}
				h.write(b, all, (*store.Tx).ExecEach) // the fourth, so that what is there opens
				rotate := h.rotate(b).Seconds() / (benchVersions + benchOrganizations)
				rotations = append(rotations, 1/rotate)
				for i := range alone {
					rates[i], ratios[i] = append(rates[i], 1/took[i]), append(ratios[i], took[i]/rotate)
				}
			}
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(rotations), "rewrapped/s")
		for i, side := range alone {
			b.ReportMetric(median(rates[i]), side.name+"/s")
			b.ReportMetric(median(ratios[i]), "ratio-"+side.name)
		}
	})
}

// BenchmarkReadsDuringRewrap compares the 99th percentile of reads (a stored
// credential found, read, opened and made ready for a request) while nothing
// else goes on and while a rotation runs.
func BenchmarkReadsDuringRewrap(b *testing.B) {
	benchDatabases(b, func(b *testing.B, url string) {
		h := newBenchHouse(b, url)
		services, err := catalog.New(catalog.Options{})
		if err != nil {
			b.Fatal(err)
		}
		service, _ := services.Service("openai")
		for name, rate := range map[string]int{"full": 0, "rate=1000": 1000} {
			b.Run(name, func(b *testing.B) {
				var idle, busy, ratios []float64
				for b.Loop() {
					for range 3 {
						quiet := h.readFor(b, service, func() { time.Sleep(4 * time.Second) })
						during := h.readFor(b, service, func() {
							for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
								h.rotateAt(b, rate)
							}
						})
						idle, busy, ratios = append(idle, quiet), append(busy, during), append(ratios, during/quiet)
					}
				}
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(median(idle), "p99-idle-µs")
				b.ReportMetric(median(busy), "p99-rotating-µs")
				b.ReportMetric(median(ratios), "ratio")
			})
		}
	})
}

// readFor reads credentials, 300 a second, while what runs, and gives the 99th
// percentile in microseconds. A vault of its own keeps the reads from being
// answered from memory.
func (h *benchHouse) readFor(b *testing.B, service *catalog.Service, what func()) float64 {
	b.Helper()
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	v := vault.New(h.db, h.trail, services, h.Ring(), vault.Options{Environment: "test"})
	ctx, cancel := context.WithCancel(b.Context())
	var took []float64
	var reader sync.WaitGroup
	reader.Go(func() {
		tick := time.NewTicker(time.Second / 300)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			caller := ownerOf(fmt.Sprintf("org-%03d", rand.N(benchOrganizations)))
			begin := time.Now()
			_, err := v.OpenForUse(context.WithoutCancel(ctx), caller, service, fmt.Sprint("c-", rand.N(benchVersions/benchOrganizations-1)))
			if err != nil {
				b.Error(err)
				return
			}
			took = append(took, float64(time.Since(begin).Microseconds()))
		}
	})
	what()
	cancel()
	reader.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
