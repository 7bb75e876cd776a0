package retention_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/store"
)

// What is recorded and sealed under a clock that went back is as old as it is, and not as old
// as that clock said.
func TestClockThatWentBack(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		if _, err := a.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.clock.Pass(-400 * day)
		a.visit(t, "acme", "mallory")
		a.seal(t)
		a.clock.Pass(400 * day)
		if n := a.sweep(t); n != 0 || a.left(t, "acme") != "mallory" {
			t.Errorf("%d events were removed, left are those of %q", n, a.left(t, "acme"))
		}
		a.later(t, 91*day)
		if n := a.sweep(t); n != 1 || a.left(t, "acme") != "" {
			t.Errorf("when it is due, %d events were removed, left are those of %q", n, a.left(t, "acme"))
		}
		a.clean(t)
	})
}

// A time that is believed and is far ahead, whoever wrote it there, is told of, and ends: on
// PostgreSQL by the server's clock, elsewhere when somebody accepts this machine's.
func TestBelievedTimeAhead(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		a.clock.Pass(time.Since(a.clock.Now()))
		if _, err := a.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		a.seal(t) // asks the server
		a.exec(t, `UPDATE retention_sweeper SET clock = $1`, store.At(time.Now().Add(50*365*day)))
		_, err := a.Sweep(t.Context())
		if a.db.Kind() == "sqlite" {
			if !errors.Is(err, retention.ErrClock) {
				t.Errorf("Sweep = %v; want %v", err, retention.ErrClock)
			}
			if err := a.AcceptClock(t.Context(), commandLine); err != nil {
				t.Fatal(err)
			}
			_, err = a.Sweep(t.Context())
		}
		if err != nil {
			t.Errorf("Sweep = %v", err)
		}
		a.visit(t, "acme", "ann")
		a.seal(t)
		if n := a.number(t, `SELECT count(*) FROM ledger_blocks WHERE sealed_at > $1`, store.At(time.Now().Add(day))); n != 0 {
			t.Errorf("%d blocks are of the future", n)
		}
	})
}

// A block sealed under a clock that was ahead goes with the one after it.
func TestBlockFromTheFuture(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		visits := func(actor string, n int) {
			t.Helper()
			for range n {
				a.visit(t, "acme", actor)
			}
			a.seal(t)
		}
		sweep := func(want string) {
			t.Helper()
			p, err := a.Preview(t.Context(), owner, "", nil)
			if err != nil {
				t.Fatal(err)
			}
			n := a.sweep(t)
			if left := a.left(t, "acme"); left != want {
				t.Errorf("left are the events of %q, want %q", left, want)
			}
			for _, c := range p {
				if c.Class == retention.Access && c.Due != n {
					t.Errorf("the preview says %d, and %d were removed", c.Due, n)
				}
			}
			a.clean(t)
		}
		if _, err := a.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		visits("a", 3)
		a.clock.Pass(3650 * day)
		visits("b", 12)
		a.clock.Pass(-3650 * day)
		a.later(t, 50*day)
		const c = 6
		visits("c", c)
		all := strings.Repeat("b ", 12) + strings.TrimSpace(strings.Repeat("c ", c))
		sweep(strings.Repeat("a ", 3) + all)
		a.later(t, 50*day)
		sweep(all)
		a.later(t, 41*day)
		sweep("")
		certificates, _, err := a.Certificates(t.Context(), owner, "", 50, "")
		if err != nil {
			t.Fatal(err)
		}
		a.sound(t, certificates)
	})
}

// A clock that jumped before the first sweep ever is doubted, also where the trail was sealed by
// it meanwhile.
func TestJumpBeforeTheFirstSweep(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		for range 3 {
			a.visit(t, "acme", "ann")
			a.seal(t)
			a.clock.Pass(time.Second)
		}
		a.clock.Pass(400 * day)
		for range 2 {
			a.visit(t, "acme", "bob")
			a.seal(t)
			a.clock.Pass(time.Second)
		}
		for range 2 {
			if n, err := a.Sweep(t.Context()); n != 0 || !errors.Is(err, retention.ErrClock) {
				t.Errorf("%d rows were removed, %v", n, err)
			}
		}
		if err := a.AcceptClock(t.Context(), commandLine); err != nil {
			t.Fatal(err)
		}
		if n, err := a.Sweep(t.Context()); n == 0 || err != nil {
			t.Errorf("once it is accepted %d rows were removed, %v", n, err)
		}
	})
}

// A server notes the time when it starts, so that the first sweep has something to go by also
// where nothing was sealed before.
func TestTimeIsNotedAtTheStart(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); a.Run(ctx) }()
		for begun := time.Now(); a.number(t, `SELECT count(*) FROM retention_sweeper WHERE clock IS NOT NULL`) == 0 && time.Since(begun) < 20*time.Second; {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		<-ended
		a.visit(t, "acme", "ann")
		a.clock.Pass(400 * day)
		a.seal(t)
		if n, err := a.Sweep(t.Context()); n != 0 || !errors.Is(err, retention.ErrClock) {
			t.Errorf("%d rows were removed, %v", n, err)
		}
	})
}

// A clock that is not the database server's neither sweeps nor can be accepted, and nobody is
// told to.
func TestClockThatIsNotTheServers(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		a.clock.Pass(time.Since(a.clock.Now()))
		a.SetServerClock(func() time.Time { return time.Now().Add(-2 * time.Hour) })
		_, swept := a.Sweep(t.Context())
		for what, err := range map[string]error{"Sweep": swept, "AcceptClock": a.AcceptClock(t.Context(), commandLine)} {
			if !errors.Is(err, retention.ErrClockSkewed) || strings.Contains(err.Error(), "--accept-clock") {
				t.Errorf("%s = %v", what, err)
			}
		}
		if n := a.number(t, `SELECT count(*) FROM retention_sweeper WHERE clock IS NOT NULL`); n != 0 {
			t.Error("the clock is believed")
		}
	})
}
