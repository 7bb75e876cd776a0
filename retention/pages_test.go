package retention_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/retention"
)

// pages reads page after page of limit, and gives what is on them.
func pages(t *testing.T, limit, most int, read func(limit int, after string) (names []string, next string, err error)) (all []string) {
	t.Helper()
	after := ""
	for range most + 1 {
		names, next, err := read(limit, after)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) > limit || next != "" && len(names) != limit {
			t.Errorf("a page of %d has %d, and %q follows", limit, len(names), next)
		}
		all = append(all, names...)
		if after = next; next == "" {
			return all
		}
	}
	t.Fatalf("more than %d pages of %d", most, limit)
	return nil
}

// Page by page each certificate and each event that is set aside comes once, in order, and
// none of another organization.
func TestPages(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		a := newArchive(t, url, retention.Options{})
		for _, organization := range []string{"acme", "globex"} {
			if _, err := a.Hold(t.Context(), ownerOf(organization), "a case", retention.Scope{Target: "cred_9"}, a.clock.Now().Add(3000*day)); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // sweeps, each of two classes and more
			for _, organization := range []string{"acme", "globex"} {
				for range 2 {
					a.change(t, organization, "eve", "cred_9", audit.CredentialReveal)
					a.change(t, organization, "eve", "cred_1", audit.CredentialReveal)
					a.visit(t, organization, "eve")
				}
			}
			a.seal(t)
			a.later(t, 366*day)
			for _, organization := range []string{"acme", "globex"} {
				if _, err := a.SweepOne(t.Context(), ownerOf(organization), ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		certificates := func(limit int, after string) (names []string, next string, err error) {
			all, next, err := a.Certificates(t.Context(), auditor, "", limit, after)
			for _, c := range all {
				names = append(names, fmt.Sprint(c.Organization, " ", c.Sweep, " ", c.Class))
			}
			return names, next, err
		}
		held := func(limit int, after string) (names []string, next string, err error) {
			all, next, err := a.HeldEvents(t.Context(), auditor, limit, after)
			for _, h := range all {
				names = append(names, fmt.Sprint(h.Class, " ", h.Index))
			}
			return names, next, err
		}
		for name, of := range map[string]struct {
			read  func(limit int, after string) ([]string, string, error)
			count string
		}{
			"certificates": {certificates, `SELECT count(*) FROM retention_certificates WHERE organization = 'acme'`},
			"held events":  {held, `SELECT count(*) FROM ledger_held WHERE organization = 'acme'`},
		} {
			n := int(a.number(t, of.count))
			want := pages(t, 500, 1, of.read)
			if n < 6 || len(want) != n {
				t.Fatalf("one page has %d %s, want %d", len(want), name, n)
			}
			for _, limit := range []int{1, 2, 5, n - 1, n} {
				if diff := cmp.Diff(want, pages(t, limit, n, of.read)); diff != "" {
					t.Errorf("%s in pages of %d (-want +got):\n%s", name, limit, diff)
				}
			}
			for _, wrong := range []struct {
				limit int
				after string
			}{{-1, ""}, {501, ""}, {1, "x"}, {1, "sweep_1:control"}, {1, "control"}, {1, "control:-1"}, {1, "usage:1"}, {1, ":1"}} {
				if _, _, err := of.read(wrong.limit, wrong.after); fault.KindOf(err) != fault.Invalid {
					t.Errorf("%s after %q in pages of %d: %v", name, wrong.after, wrong.limit, err)
				}
			}
		}
		// The newest sweep is first.
		all := pages(t, 500, 1, certificates)
		for i := 1; i < len(all); i++ {
			if all[i] >= all[i-1] {
				t.Errorf("%s is behind %s", all[i], all[i-1])
			}
		}
	})
}
