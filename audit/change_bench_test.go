package audit_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// rooms are those whose changes are measured, over one log.
type rooms struct {
	vault    *vault.Vault
	policies *policy.Limits
	members  *org.Directory
}

func openRooms(b *testing.B, db *store.DB, keyLog, l *audit.Log) rooms {
	b.Helper()
	keys, err := masterkey.Open(b.Context(), db, keyLog, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
	if err != nil {
		b.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		b.Fatal(err)
	}
	limit, err := ratelimit.ParseLimit("100/1m")
	if err != nil {
		b.Fatal(err)
	}
	limits := []ratelimit.Limit{limit}
	return rooms{
		vault.New(db, l, services, keys.Ring(), vault.Options{Environment: "test"}),
		policy.New(ratelimit.NewMemory(ratelimit.MemoryOptions{}), db, l, policy.Defaults{IP: limits, Organization: limits, Tests: limits}, policy.Options{}),
		org.New(db, l, org.Options{}),
	}
}

// BenchmarkChanges compares the product's own changes to the same without their
// events, 8 writers with an organization each, in turns. Asked are at most 1.5 times.
func BenchmarkChanges(b *testing.B) {
	const writers, each = 8, 12
	bench := func(b *testing.B, url string) {
		db := openStore(b, url)
		durable(b, db)
		real, none := audit.New(db, audit.Options{}), audit.New(db, audit.Options{})
		none.AppendNothing()
		run(b, real)
		run(b, none)
		with, without := openRooms(b, db, real, real), openRooms(b, db, real, none)
		var callers [writers]access.Caller
		var credentials, policies [writers]string
		operator := access.NewCaller(access.InstanceOrganization, access.User, "op", access.Operator)
		draft := policy.Draft{Effect: "limit", Subject: "ip", Limits: []string{"50/1m"}, Reason: "seen scraping"}
		for i := range writers {
			name := fmt.Sprint("org-", i)
			callers[i] = access.NewCaller(name, access.User, "u-1", access.Owner)
			if _, err := with.members.Create(b.Context(), operator, name, name); err != nil {
				b.Fatal(err)
			}
			c, _, err := with.vault.Create(b.Context(), callers[i], vault.NewCredential{Service: "stripe", Fields: map[string]string{"secretKey": "sk_live_" + name + "0123456789abcdef"}})
			if err != nil {
				b.Fatal(err)
			}
			p, err := with.policies.CreatePolicy(b.Context(), callers[i], draft)
			if err != nil {
				b.Fatal(err)
			}
			credentials[i], policies[i] = c.ID, p.ID
		}
		request := audit.WithRequest(b.Context(), &audit.Request{ID: "req_01a20896-bf5d-70ab-8436-8383c80a02ae", Method: "PUT", Route: "/api/x/{id}",
			IP: "203.0.113.7", UserAgent: "curl/8.5.0", Status: 200})
		for _, change := range []struct {
			name string
			make func(ctx context.Context, r rooms, writer, n int) error
		}{
			{"create credential", func(ctx context.Context, r rooms, w, n int) error {
				_, _, err := r.vault.Create(ctx, callers[w], vault.NewCredential{Service: "stripe", Name: fmt.Sprint("n", n), Fields: map[string]string{"secretKey": fmt.Sprint("sk_live_0123456789abcdef", n)}})
				return err
			}},
			{"rotate credential", func(ctx context.Context, r rooms, w, n int) error {
				_, _, err := r.vault.Rotate(ctx, callers[w], credentials[w], vault.Match{}, vault.Rotation{Fields: map[string]string{"secretKey": fmt.Sprint("sk_live_0123456789abcdef", n)}})
				return err
			}},
			{"change policy", func(ctx context.Context, r rooms, w, n int) error {
				d := draft
				d.Limits = []string{fmt.Sprint(1+n%90, "/1m")}
				_, err := r.policies.UpdatePolicy(ctx, callers[w], policies[w], nil, d)
				return err
			}},
			{"change member", func(ctx context.Context, r rooms, w, n int) error {
				name := fmt.Sprint("Member ", n)
				_, err := r.members.SetMember(ctx, callers[w], fmt.Sprint("u-", n), org.MemberChange{Name: &name})
				return err
			}},
		} {
			b.Run(change.name, func(b *testing.B) {
				n := 0
				round := func(r rooms) (all []time.Duration) {
					var mu sync.Mutex
					var wg sync.WaitGroup
					for w := range writers {
						first := n + w*each
						wg.Go(func() {
							for i := range each {
								start := time.Now()
								if err := change.make(request, r, w, first+i); err != nil {
									b.Error(err)
									return
								}
								took := time.Since(start)
								mu.Lock()
								all = append(all, took)
								mu.Unlock()
							}
						})
					}
					wg.Wait()
					n += writers * each
					return all
				}
				round(with)
				round(without)
				var having, bare []time.Duration
				for b.Loop() {
					bare, having = append(bare, round(without)...), append(having, round(with)...)
				}
				h, o := median(having), median(bare) // sorts both
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(o.Microseconds()), "µs-without")
				b.ReportMetric(float64(h)/float64(o), "ratio-p50")
				b.ReportMetric(float64(having[len(having)*99/100])/float64(bare[len(bare)*99/100]), "ratio-p99")
			})
		}
	}
	b.Run("sqlite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "gatehouse.db")) })
	b.Run("postgresql", func(b *testing.B) { bench(b, gatehousetest.Postgres(b)) })
}
