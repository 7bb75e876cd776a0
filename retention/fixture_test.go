package retention_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

const day = 24 * time.Hour

var (
	commandLine = access.NewCaller(access.InstanceOrganization, access.System, "command line", access.Operator)
	operator    = access.NewCaller("acme", access.User, "root", access.Operator)
	owner       = access.NewCaller("acme", access.User, "boss", access.Owner)
	auditor     = access.NewCaller("acme", access.User, "ann", access.Auditor)
	stranger    = access.NewCaller("globex", access.User, "boss", access.Owner)
)

// archive is a trail with its ledger and its retention.
type archive struct {
	*retention.Retention
	ledger *ledger.Ledger
	db     *store.DB
	trail  *audit.Log
	clock  *gatehousetest.Clock
	opts   retention.Options
}

// newArchive opens the database, with the organizations acme and globex.
func newArchive(t testing.TB, url string, opts retention.Options) *archive {
	t.Helper()
	a := &archive{clock: gatehousetest.NewClock(time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))}
	var err error
	if a.db, err = store.Open(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.db.Close() })
	a.trail = audit.New(a.db, audit.Options{Now: a.clock.Now})
	keys, err := masterkey.Open(t.Context(), a.db, a.trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
	if err != nil {
		t.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	v := vault.New(a.db, a.trail, services, keys.Ring(), vault.Options{Environment: "test"})
	a.ledger = ledger.New(a.db, a.trail, v.SigningKeys(), ledger.Options{Environment: "test", Now: a.clock.Now, Batch: 5})
	opts.Now, opts.Pause = a.clock.Now, time.Nanosecond
	if opts.Batch == 0 {
		opts.Batch = 7
	}
	a.opts = opts
	a.Retention = a.beside()
	a.exec(t, `INSERT INTO organizations (id, name, created_at) VALUES ('acme', 'Acme', 1), ('globex', 'Globex', 1)`)
	return a
}

// beside gives another process's retention over the same database.
func (a *archive) beside() *retention.Retention {
	return retention.New(a.db, a.trail, a.ledger, a.opts)
}

// change writes one control event of the organization, with personal data.
func (a *archive) change(t testing.TB, organization, actor, target string, action audit.Action) {
	t.Helper()
	err := a.db.Update(context.Background(), organization, func(tx *store.Tx) error {
		return a.trail.Append(context.Background(), tx, access.NewCaller(organization, access.User, actor, access.Owner), audit.Event{
			Action: action, Outcome: audit.Success, Targets: []audit.Target{{Type: "credential", ID: target, Name: "Marie's"}},
			Request: audit.Request{IP: "192.0.2.1", UserAgent: "curl"},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (a *archive) changes(t testing.TB, n int) {
	t.Helper()
	for range n {
		a.change(t, "acme", "boss", "cred_1", audit.CredentialUpdate)
	}
	a.seal(t)
}

func (a *archive) seal(t testing.TB) {
	t.Helper()
	for {
		n, err := a.ledger.Seal(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// sweep sweeps acme.
func (a *archive) sweep(t testing.TB) int64 {
	t.Helper()
	n, err := a.SweepOne(context.Background(), owner, "")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// later lets time pass as it passes for a running sweeper.
func (a *archive) later(t testing.TB, d time.Duration) {
	t.Helper()
	a.clock.Pass(d)
	if err := a.AcceptClock(context.Background(), commandLine); err != nil {
		t.Fatal(err)
	}
}

func (a *archive) verify(t testing.TB) ledger.Report {
	t.Helper()
	a.seal(t)
	r, err := a.ledger.Verify(context.Background(), commandLine, ledger.VerifyOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (a *archive) clean(t testing.TB) {
	t.Helper()
	if r := a.verify(t); !r.Clean() {
		t.Fatalf("verification finds %+v", r.Findings)
	}
}

func (a *archive) exec(t testing.TB, query string, args ...any) {
	t.Helper()
	err := a.db.UpdateAcross(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(context.Background(), query, args...)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (a *archive) number(t testing.TB, query string, args ...any) (n int64) {
	t.Helper()
	err := a.db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (a *archive) hold(t testing.TB, s retention.Scope) retention.Hold {
	t.Helper()
	h, err := a.Hold(context.Background(), owner, "a case", s, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ownerOf(organization string) access.Caller {
	return access.NewCaller(organization, access.User, "boss", access.Owner)
}

// visit writes one access event.
func (a *archive) visit(t testing.TB, organization, actor string) {
	t.Helper()
	slot, err := a.trail.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	slot.Record(context.Background(), access.NewCaller(organization, access.User, actor, access.Owner), audit.Event{Action: audit.ChatRequest, Outcome: audit.Success})
	a.flush(t)
}

func (a *archive) flush(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	a.trail.Run(ctx) // it writes what there is, and ends
}

// left gives the actors of the access events that are there, by place, those that
// are set aside first.
func (a *archive) left(t testing.TB, organization string) string {
	t.Helper()
	var actors []string
	held, err := a.ledger.HeldEvents(context.Background(), organization, "", -1, 500)
	if err != nil {
		t.Fatal(err)
	}
	err = a.db.View(context.Background(), organization, func(tx *store.Tx) error {
		actors = nil
		for _, h := range held {
			e, err := audit.Read(h.Canonical, nil)
			if err != nil {
				return err
			}
			actors = append(actors, e.Actor.ID)
		}
		return tx.Each(context.Background(), func(scan func(...any) error) error {
			var actor string
			err := scan(&actor)
			actors = append(actors, actor)
			return err
		}, `SELECT actor_id FROM events WHERE organization = $1 AND class = 'access' ORDER BY log_index`, organization)
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(actors, " ")
}

// sound checks that certificates say what their records say, and that a change of any
// of their fields shows.
func (a *archive) sound(t testing.TB, all []retention.Certificate) {
	t.Helper()
	for _, c := range all {
		if c.Contradicts() {
			t.Errorf("a certificate contradicts its record: %+v", c)
		}
		for i, alter := range []func(*retention.Certificate){
			func(c *retention.Certificate) { c.Removed++ }, func(c *retention.Certificate) { c.PolicyRevision = 99 }, func(c *retention.Certificate) { c.Kept = "3650d" },
			func(c *retention.Certificate) {
				if c.Released > 0 {
					c.Released = 0
				} else {
					c.Released = 5
				}
			},
			func(c *retention.Certificate) {
				if c.To++; !c.Class.Events() {
					c.Removed--
				}
			},
			func(c *retention.Certificate) {
				if c.Class.Events() {
					c.Root = ""
				} else {
					c.Root = "x"
				}
			},
			func(c *retention.Certificate) {
				if c.Held++; c.Class.Events() {
					c.Oldest = time.Time{}
				}
			},
			func(c *retention.Certificate) { c.Sweep = "sweep_other" }, func(c *retention.Certificate) { c.Organization = "globex" }, func(c *retention.Certificate) { c.Released = 77 },
		} {
			other := c
			if alter(&other); !other.Contradicts() {
				t.Errorf("alteration %d does not show: %+v", i, other)
			}
		}
	}
}
