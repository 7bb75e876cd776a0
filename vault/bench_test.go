package vault_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// The organizations that listing is measured in: one with a page of credentials,
// one with very many.
const (
	smallOrganization = 100
	largeOrganization = 100_000
)

// services of the many, in turn.
var fillServices = []string{"anthropic", "intercom", "openai", "stripe", "zendesk"}

// fill makes n credentials of organization by rows copied from a real one's, a
// fifth of each service. Of each hundred one is disabled, one has expired, and
// one expires soon. Listing opens none, so what is sealed in them does not matter.
func (h *house) fill(t testing.TB, organization string, n int) {
	t.Helper()
	now := h.clock.Now()
	const rows = 500
	for done := 0; done < n; done += rows {
		err := h.db.Update(t.Context(), organization, func(tx *store.Tx) error {
			var credentials, versions, history []string
			var credentialArgs, versionArgs, historyArgs []any
			put := func(list *[]string, args *[]any, values ...any) {
				var marks []string
				for _, v := range values {
					*args = append(*args, v)
					marks = append(marks, fmt.Sprintf("$%d", len(*args)))
				}
				*list = append(*list, "("+strings.Join(marks, ", ")+")")
			}
			for i := done; i < min(done+rows, n); i++ {
				id := store.NewID("cred")
				var expires store.Time
				switch i % 100 {
				case 33:
					expires = store.At(now.Add(-time.Duration(i) * time.Second))
				case 66:
					expires = store.At(now.Add(time.Hour + time.Duration(i)*time.Second))
				}
				put(&credentials, &credentialArgs, organization, id, fillServices[i%len(fillServices)], fmt.Sprint("n", i), 1, 1, i%100 == 99, expires, store.At(now), "u", store.At(now))
				put(&versions, &versionArgs, organization, id, 1, `["apiKey"]`, `{"apiKey":"••••abcd"}`, "0123456789abcdef0123456789abcdef", make([]byte, 260), store.At(now), "u")
				put(&history, &historyArgs, organization, id, 1, "active", `["apiKey"]`, "0123456789abcdef0123456789abcdef", store.At(now), "u", store.At(now), "u")
			}
			_, err := tx.Exec(t.Context(), `INSERT INTO credentials (organization, id, service, name, version, revision, disabled, expires_at, created_at, created_by, updated_at)
				VALUES `+strings.Join(credentials, ", "), credentialArgs...)
			if err == nil {
				_, err = tx.Exec(t.Context(), `INSERT INTO credential_versions (organization, credential_id, version, fields, hints, fingerprint, fields_sealed, created_at, created_by)
					VALUES `+strings.Join(versions, ", "), versionArgs...)
			}
			if err == nil {
				_, err = tx.Exec(t.Context(), `INSERT INTO credential_version_history (organization, credential_id, version, state, fields, fingerprint, created_at, created_by, activated_at, activated_by)
					VALUES `+strings.Join(history, ", "), historyArgs...)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// BenchmarkListing prints what a page of 100 credentials costs in an organization
// of 100,000, at any depth and by filter, over the page of an organization that
// has no more than that page.
func BenchmarkListing(b *testing.B) {
	for _, database := range []string{"sqlite", "postgresql"} {
		b.Run(database, func(b *testing.B) {
			url := b.TempDir() + "/gatehouse.db"
			if database == "postgresql" {
				url = gatehousetest.Postgres(b)
			}
			h := newHouse(b, url, vault.Options{})
			// The small one's credentials pass every filter below but in its own organization.
			h.fill(b, "globex", smallOrganization)
			h.fill(b, "acme", largeOrganization)
			if database == "postgresql" {
				h.exec(b, `ANALYZE`) // as the server does by itself in a minute
			}
			acme, globex := access.NewCaller("acme", access.User, "u", access.Viewer), access.NewCaller("globex", access.User, "u", access.Viewer)
			deep := func(f vault.Filter, pages int) vault.Filter {
				f.Limit = vault.MaxLimit
				for range pages {
					page, err := h.List(b.Context(), acme, f)
					if err != nil || page.NextCursor == "" {
						b.Fatal(err, len(page.Credentials))
					}
					f.Cursor = page.NextCursor
				}
				return f
			}
			for _, c := range []struct {
				name   string
				filter vault.Filter
			}{
				{"first", vault.Filter{}},
				{"deep", deep(vault.Filter{}, largeOrganization/vault.MaxLimit-2)},
				{"service", vault.Filter{Service: "stripe"}},
				{"service-deep", deep(vault.Filter{Service: "stripe"}, largeOrganization/5/vault.MaxLimit-2)},
				{"active", vault.Filter{Status: vault.Active}},
				{"active-service-deep", deep(vault.Filter{Status: vault.Active, Service: "stripe"}, 90)},
				{"disabled", vault.Filter{Status: vault.Disabled}},
				{"disabled-deep", deep(vault.Filter{Status: vault.Disabled}, 4)},
				{"expired", vault.Filter{Status: vault.Expired}},
				{"expired-deep", deep(vault.Filter{Status: vault.Expired}, 4)},
				{"expiring", vault.Filter{Status: vault.Expiring}},
				{"expiring-deep", deep(vault.Filter{Status: vault.Expiring}, 4)},
				{"disabled-service", vault.Filter{Status: vault.Disabled, Service: fillServices[99%5]}},
				{"expired-service", vault.Filter{Status: vault.Expired, Service: fillServices[33%5]}},
			} {
				b.Run(c.name, func(b *testing.B) {
					c.filter.Limit = 100
					var large, small []time.Duration
					for b.Loop() {
						for range pagesOfRound { // the two take turns
							large = append(large, h.listing(b, acme, c.filter))
							small = append(small, h.listing(b, globex, vault.Filter{Limit: 100}))
						}
					}
					report(b, median(large), "µs/large", median(small), "µs/small")
				})
			}
		})
	}
}

// pagesOfRound is how many pages of each organization one round of listing reads.
const pagesOfRound = 10

func (h *house) listing(b *testing.B, caller access.Caller, f vault.Filter) time.Duration {
	begin := time.Now()
	page, err := h.List(b.Context(), caller, f)
	if err != nil || len(page.Credentials) != 100 {
		b.Fatal(err, len(page.Credentials))
	}
	return time.Since(begin)
}

func median(all []time.Duration) time.Duration {
	slices.Sort(all)
	return all[len(all)/2]
}

// report prints both sides and the ratio of the first to the second.
func report(b *testing.B, one time.Duration, oneUnit string, other time.Duration, otherUnit string) {
	b.ReportMetric(float64(one.Microseconds()), oneUnit)
	b.ReportMetric(float64(other.Microseconds()), otherUnit)
	b.ReportMetric(float64(one)/float64(other), "ratio")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkStartup prints what starting costs with 100,000 credentials in the
// database over what it costs with 100.
func BenchmarkStartup(b *testing.B) {
	for _, database := range []string{"sqlite", "postgresql"} {
		b.Run(database, func(b *testing.B) {
			configs := make([]instance.Config, 2)
			for i, n := range []int{smallOrganization, largeOrganization} {
				dir := b.TempDir()
				url := dir + "/gatehouse.db"
				if database == "postgresql" {
					url = gatehousetest.Postgres(b)
				}
				h := newHouse(b, url, vault.Options{})
				h.fill(b, "acme", n)
				config, err := instance.FromEnvironment(map[string]string{
					"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test",
					"GATEHOUSE_DATA": dir, "DATABASE_URL": url,
				})
				if err != nil {
					b.Fatal(err)
				}
				configs[i] = config
			}
			start := func(config instance.Config) time.Duration {
				begin := time.Now()
				in, err := instance.Open(context.Background(), config, new(gatehousetest.Buffer))
				if err != nil {
					b.Fatal(err)
				}
				took := time.Since(begin)
				if err := in.Close(); err != nil {
					b.Fatal(err)
				}
				return took
			}
			var few, many []time.Duration
			for b.Loop() {
				few, many = append(few, start(configs[0])), append(many, start(configs[1]))
			}
			report(b, median(many), "µs/100000", median(few), "µs/100")
		})
	}
}
