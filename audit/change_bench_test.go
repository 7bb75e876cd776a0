package audit_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"

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

func openRooms(b *testing.B, db *store.DB, ring *seal.Keyring, l *audit.Log) rooms {
	b.Helper()
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
		vault.New(db, l, services, ring, vault.Options{Environment: "test"}),
		policy.New(ratelimit.NewMemory(ratelimit.MemoryOptions{}), db, l, policy.Defaults{IP: limits, Organization: limits, Tests: limits}, policy.Options{}),
		org.New(db, l, org.Options{}),
	}
}

// BenchmarkChanges compares the product's own changes to the same without their
// events, 8 writers with an organization each, in turns. Asked are at most 1.5 times.
func BenchmarkChanges(b *testing.B) {
	bench := func(b *testing.B, url string) {
		db := openStore(b, url)
		durable(b, db)
		trail, silent := audit.New(db, audit.Options{}), audit.New(db, audit.Options{})
		silent.AppendNothing()
		run(b, trail)
		run(b, silent)
		keys, err := masterkey.Open(b.Context(), db, trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
		if err != nil {
			b.Fatal(err)
		}
		with, without := openRooms(b, db, keys.Ring(), trail), openRooms(b, db, keys.Ring(), silent)
		var callers [changeWriters]access.Caller
		var credentials, policies [changeWriters]string
		operator := access.NewCaller(access.InstanceOrganization, access.User, "op", access.Operator)
		draft := policy.Draft{Effect: "limit", Subject: "ip", Limits: []string{"50/1m"}, Reason: "seen scraping"}
		for i := range changeWriters {
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
				_, _, err := r.vault.Rotate(ctx, callers[w], credentials[w], store.Match{}, vault.Rotation{Fields: map[string]string{"secretKey": fmt.Sprint("sk_live_0123456789abcdef", n)}})
				return err
			}},
			{"change policy", func(ctx context.Context, r rooms, w, n int) error {
				d := draft
				d.Limits = []string{fmt.Sprint(1+n%90, "/1m")}
				_, err := r.policies.UpdatePolicy(ctx, callers[w], policies[w], store.Match{}, d)
				return err
			}},
			{"change member", func(ctx context.Context, r rooms, w, n int) error {
				name := fmt.Sprint("Member ", n)
				_, err := r.members.SetMember(ctx, callers[w], fmt.Sprint("u-", n), org.MemberChange{Name: &name})
				return err
			}},
		} {
			b.Run(change.name, func(b *testing.B) {
				compareChanges(b, func(event bool, writer, n int) error {
					if event {
						return change.make(request, with, writer, n)
					}
					return change.make(request, without, writer, n)
				})
			})
		}
	}
	b.Run("sqlite", func(b *testing.B) { bench(b, filepath.Join(b.TempDir(), "gatehouse.db")) })
	b.Run("postgresql", func(b *testing.B) { bench(b, gatehousetest.Postgres(b)) })
}
