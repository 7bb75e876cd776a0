package retention_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/retention"
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
