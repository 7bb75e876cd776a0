package audit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// sealAll gives every unsealed event its index, as the sealer would, oldest first.
func sealAll(t testing.TB, db *store.DB) {
	t.Helper()
	exec(t, db, `UPDATE events SET log_index = n.place FROM (
			SELECT e.organization AS whose, e.id AS event, row_number() OVER (PARTITION BY e.organization, e.class ORDER BY e.id) - 1
				+ (SELECT count(*) FROM events o WHERE o.organization = e.organization AND o.class = e.class AND o.log_index IS NOT NULL) AS place
			FROM events e WHERE e.log_index IS NULL) n
		WHERE n.whose = events.organization AND n.event = events.id`)
}

// take reads n events of a follower and gives their reasons.
func take(t testing.TB, f *audit.Follower, n int) (all []string, last audit.Positions) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for len(all) < n {
		some, err := f.Next(ctx)
		if err != nil {
			t.Fatalf("after %d events: %v", len(all), err)
		}
		for _, e := range some {
			all, last = append(all, e.Reason), e.After
		}
	}
	return all, last
}

func change(i int) audit.Event {
	return audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success, Reason: fmt.Sprint("n", i)}
}

// A follower gets each sealed event once, in order; one that comes back goes on
// where it was; what is committed late comes late and is not passed over.
func TestFollow(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		put(t, db, l, change(0))
		sealAll(t, db)
		live, err := l.Follow(t.Context(), owner, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		put(t, db, l, change(1), change(2), audit.Event{Organization: "globex", Action: audit.PolicyUpdate, Outcome: audit.Success, Reason: "theirs"})
		sealAll(t, db)
		got, _ := take(t, live, 2)
		put(t, db, l, change(3)) // not sealed yet: seen when it is
		again, err := l.Follow(t.Context(), owner, "acme", new(audit.Positions))
		if err != nil {
			t.Fatal(err)
		}
		defer again.Close()
		all, place := take(t, again, 3)
		sealAll(t, db)
		late, _ := take(t, live, 1)
		more, _ := take(t, again, 1)
		if diff := cmp.Diff([]string{"n1", "n2", "n3"}, append(got, late...)); diff != "" {
			t.Errorf("live (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"n0", "n1", "n2", "n3"}, append(all, more...)); diff != "" {
			t.Errorf("from the beginning (-want +got):\n%s", diff)
		}
		back, err := audit.ParsePositions(place.String())
		if err != nil {
			t.Fatal(err)
		}
		resumed, err := l.Follow(t.Context(), owner, "", &back)
		if err != nil {
			t.Fatal(err)
		}
		defer resumed.Close()
		if rest, _ := take(t, resumed, 1); rest[0] != "n3" {
			t.Errorf("resumed at %s with %s", place, rest)
		}
		// Also when retention has taken all since.
		err = db.Update(t.Context(), "acme", func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `INSERT INTO ledger_prefixes (organization, class, size, root, record, created_at) VALUES ('acme', 'control', 4, '', '', 0)`)
			if err == nil {
				_, err = tx.Exec(t.Context(), `DELETE FROM events WHERE organization = 'acme'`)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		emptied, err := l.Follow(t.Context(), owner, "", &back)
		if err != nil {
			t.Fatal("when retention has taken all: ", err)
		}
		emptied.Close()
		back[0] += 5 // of a database that was put back since
		if _, err := l.Follow(t.Context(), owner, "", &back); !errors.Is(err, audit.ErrAhead) {
			t.Errorf("from a place that is to come: %v", err)
		}
	})
}

// Nobody reads for followers once Run has returned: the database may be closed then.
func TestFollowingEndsWithRun(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	var log strings.Builder
	l := audit.New(db, audit.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	stop := run(t, l)
	f, err := l.Follow(t.Context(), owner, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	put(t, db, l, change(0))
	sealAll(t, db)
	take(t, f, 1) // it is being read for
	stop()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * audit.TailEvery)
	if log.Len() > 0 {
		t.Errorf("after the stop: %s", log.String())
	}
}

// There are only so many; one that does not read is dropped, and no other is held up.
func TestFollowersAreBounded(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	l := audit.New(db, audit.Options{})
	var all []*audit.Follower
	for range audit.MaxFollowers {
		f, err := l.Follow(t.Context(), owner, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, f)
	}
	if _, err := l.Follow(t.Context(), owner, "", nil); !errors.Is(err, audit.ErrFollowers) {
		t.Errorf("one more: %v", err)
	}
	if _, err := l.Follow(t.Context(), access.NewCaller("globex", access.User, "u", access.Auditor), "", nil); err != nil {
		t.Errorf("another organization's: %v", err)
	}
	all[0].Close()
	if _, err := l.Follow(t.Context(), owner, "", nil); err != nil {
		t.Errorf("after one left: %v", err)
	}
	var denied *access.DeniedError
	for role, organization := range map[access.Role]string{access.Developer: "", access.Owner: "globex", access.Operator: "globex"} {
		if _, err := l.Follow(t.Context(), access.NewCaller("acme", access.User, "u", role), organization, nil); !errors.As(err, &denied) {
			t.Errorf("%s on %q: %v", role, organization, err)
		}
	}
	for i := range audit.TailBacklog + 1 {
		put(t, db, l, change(i))
		sealAll(t, db)
		l.Feed(t.Context(), "acme")
		if got, _ := take(t, all[1], 1); got[0] != fmt.Sprint("n", i) {
			t.Fatalf("got %v", got)
		}
	}
	for {
		if _, err := all[2].Next(t.Context()); errors.Is(err, audit.ErrSlow) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzParsePositions(f *testing.F) {
	f.Add("c12-a400-s3-y0")
	f.Add("c-1-a0-s0-y0")
	f.Add("c+1-a0-s0-y0")
	f.Add("c99999999999999999999-a0-s0-y0")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := audit.ParsePositions(text)
		if err != nil {
			return
		}
		again, err := audit.ParsePositions(p.String())
		if err != nil || again != p {
			t.Errorf("%q gave %v and then %v, %v", text, p, again, err)
		}
		for _, n := range p {
			if n < 0 {
				t.Errorf("%q gave %v", text, p)
			}
		}
	})
}
