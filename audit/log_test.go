package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

// tctx is for helpers that a property test calls, whose T has a context of its own.
var tctx = context.Background()

var owner = access.NewCaller("acme", access.User, "u-1", access.Owner)

func openStore(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// run runs the log until the function it gives is called, or the test ends.
func run(t testing.TB, l *audit.Log) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	return stop
}

func exec(t testing.TB, db *store.DB, statements ...string) {
	t.Helper()
	err := db.UpdateAcross(context.Background(), func(tx *store.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(context.Background(), s); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// stored gives the organization's events as they lie in the table, oldest first.
func stored(t testing.TB, db *store.DB, organization string) (events []audit.Event) {
	t.Helper()
	err := db.View(context.Background(), organization, func(tx *store.Tx) error {
		events = nil
		return tx.Each(context.Background(), func(scan func(...any) error) error {
			var canonical []byte
			var side *string
			if err := scan(&canonical, &side); err != nil {
				return err
			}
			var personal []byte
			if side != nil {
				personal = []byte(*side)
			}
			e, err := audit.Decode(canonical, personal)
			events = append(events, e)
			return err
		}, `SELECT e.canonical, p.data FROM events e LEFT JOIN event_persons p
			ON p.organization = e.organization AND p.event_id = e.id WHERE e.organization = $1 ORDER BY e.id`, organization)
	})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func flush(t testing.TB, l *audit.Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		t.Fatal("Flush:", err)
	}
}

func TestAppendLivesAndDiesWithItsTransaction(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), openStore(t, url)
		l := audit.New(db, audit.Options{})
		broken := errors.New("broken")
		for i, fail := range []error{nil, broken, nil} {
			err := db.Update(ctx, "acme", func(tx *store.Tx) error {
				if err := l.Append(ctx, tx, owner, audit.Event{Action: audit.CredentialCreate, Outcome: audit.Success, Reason: fmt.Sprint("n", i)}); err != nil {
					return err
				}
				return fail
			})
			if !errors.Is(err, fail) {
				t.Fatal(err)
			}
		}
		events := stored(t, db, "acme")
		if len(events) != 2 || events[0].Reason != "n0" || events[1].Reason != "n2" {
			t.Fatalf("stored: %+v", events)
		}
		if e := events[0]; e.Class != audit.Control || e.Actor.ID != "u-1" || e.Organization != "acme" || e.ID == "" || e.OccurredAt.IsZero() {
			t.Errorf("what the log fills in: %+v", e)
		}
	})
}

// breaks are ways in which the table of events refuses a write.
func breaks(db *store.DB) map[string][]string {
	refuse := []string{
		`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no events today'; END $$`,
		`CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()`,
	}
	if db.Kind() == "sqlite" {
		refuse = []string{`CREATE TRIGGER refuse BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'no events today'); END`}
	}
	return map[string][]string{
		"the table is gone":      {`ALTER TABLE events RENAME TO events_elsewhere`},
		"a trigger refuses":      refuse,
		"the side table is gone": {`ALTER TABLE event_persons RENAME TO persons_elsewhere`},
	}
}

func TestAppendFailsTheChange(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), openStore(t, url)
		l := audit.New(db, audit.Options{})
		for name, statements := range breaks(db) {
			for _, heeded := range []bool{true, false} { // nor where the change goes on as if nothing had been
				t.Run(fmt.Sprintf("%s, heeded %t", name, heeded), func(t *testing.T) {
					err := db.Update(ctx, "acme", func(tx *store.Tx) error {
						for _, s := range statements {
							if _, err := tx.Exec(ctx, s); err != nil {
								t.Error(err)
							}
						}
						err := l.Append(ctx, tx, owner, audit.Event{
							Action: audit.CredentialCreate, Outcome: audit.Success, Request: audit.Request{IP: "192.0.2.1"},
						})
						if heeded {
							return err
						}
						return nil
					})
					if err == nil {
						t.Fatal("a change was committed without its event")
					}
				})
			}
		}
	})
}

func TestRequestOfTheContext(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		want := audit.Request{ID: "req_1", Method: "POST", Route: "/api/x", IP: "192.0.2.1", UserAgent: "curl"}
		ctx := audit.WithRequest(t.Context(), &want)
		err := db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
			return l.Append(ctx, tx, access.Caller{}, audit.Event{Action: audit.OrgCreate, Outcome: audit.Success})
		})
		if err != nil {
			t.Fatal(err)
		}
		events := stored(t, db, access.InstanceOrganization) // nobody's events are the instance's
		if len(events) != 1 || events[0].Request != want || events[0].Actor.Type != "anonymous" {
			t.Errorf("stored: %+v", events)
		}
		if got := audit.RequestOf(t.Context()); got != (audit.Request{}) {
			t.Errorf("a bare context has the request %+v", got)
		}
	})
}
