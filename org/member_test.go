package org_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
)

func newClock() *gatehousetest.Clock {
	return gatehousetest.NewClock(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
}

func disable(t testing.TB, d *org.Directory, c access.Caller, disabled bool) {
	t.Helper()
	if err := d.SetDisabled(t.Context(), admin, c.Organization, c.ID, disabled); err != nil {
		t.Fatal(err)
	}
}

func TestDisabled(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, clock := openStore(t, url), newClock()
		here, there := directory(db, org.Options{Now: clock.Now}), directory(openStore(t, url), org.Options{Now: clock.Now})
		create(t, here, "acme", "globex")
		namesake := access.NewCaller("globex", access.User, member.ID, access.Owner)
		all := access.NewCaller("acme", access.User, member.ID, access.Roles()...)
		for _, d := range []*org.Directory{here, there} {
			admits(t, d, member, nil)
		}
		disable(t, here, member, true)
		admits(t, here, member, org.ErrDisabled) // at once
		admits(t, here, all, org.ErrDisabled)    // whatever the token says
		admits(t, here, namesake, nil)
		admits(t, there, member, nil)
		clock.Pass(org.Fresh)
		admits(t, there, member, org.ErrDisabled)
		disable(t, there, member, true) // twice is once
		disable(t, there, member, false)
		admits(t, there, member, nil)
		clock.Pass(org.Fresh)
		admits(t, here, member, nil)
		for action, want := range map[string]int64{"member.disable": 2, "member.enable": 1} {
			if n := number(t, db, `SELECT count(*) FROM events WHERE organization = 'acme' AND actor_id = 'boss' AND action = $1`, action); n != want {
				t.Errorf("%d events %s, want %d", n, action, want)
			}
		}
	})
}

func TestWhoDisables(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		d := directory(openStore(t, url), org.Options{})
		create(t, d, "acme", "globex", "dead")
		tests := []struct {
			name         string
			caller       access.Caller
			organization string
			member       string
			want         fault.Kind
		}{
			{"developer", member, "acme", "u-2", fault.Denied},
			{"operator, another organization", operator, "acme", "u-2", fault.Denied},
			{"admin of another", access.NewCaller("globex", access.User, "x", access.Admin), "acme", "u-2", fault.Denied},
			{"no member", admin, "acme", "", fault.Invalid},
			{"too long", admin, "acme", strings.Repeat("x", 257), fault.Invalid},
			{"NUL", admin, "acme", "u\x00", fault.Invalid},
			{"no UTF-8", admin, "acme", "\xff", fault.Invalid},
			{"no such organization", access.NewCaller("nobody", access.User, "x", access.Admin), "nobody", "u-2", fault.Denied},
		}
		for _, test := range tests {
			err := d.SetDisabled(t.Context(), test.caller, test.organization, test.member, true)
			var denied *access.DeniedError
			if err == nil || fault.KindOf(err) != test.want && (test.want != fault.Denied || !errors.As(err, &denied)) {
				t.Errorf("%s: %v", test.name, err)
			}
		}
	})
}

// Without its event no change happens.
func TestNoChangeWithoutItsEvent(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		d := directory(db, org.Options{FromTokens: true})
		create(t, d, "acme")
		exec(t, db, `ALTER TABLE events RENAME TO events_elsewhere`)
		if _, err := d.Create(t.Context(), operator, "globex", ""); err == nil {
			t.Error("Create said that it is done")
		}
		if err := d.Admit(t.Context(), access.NewCaller("initech", access.User, "u-1")); fault.KindOf(err) != fault.Unavailable {
			t.Errorf("Admit of a new organization: %v", err)
		}
		if err := d.SetDisabled(t.Context(), admin, "acme", "u-1", true); err == nil {
			t.Error("SetDisabled said that it is done")
		}
		exec(t, db, `ALTER TABLE events_elsewhere RENAME TO events`)
		if n := number(t, db, `SELECT count(*) FROM organizations WHERE id <> '_instance'`); n != 1 {
			t.Errorf("%d organizations, want 1", n)
		}
		if n := number(t, db, `SELECT count(*) FROM members`); n != 0 {
			t.Errorf("%d members are known", n)
		}
		admits(t, d, member, nil)
	})
}

// While PostgreSQL is away what was known holds up to StaleMax, and nothing
// else is let in. (SQLite is a file beside us: it is not away, or all is.)
func TestDatabaseAway(t *testing.T) {
	address := gatehousetest.Postgres(t)
	clock := newClock()
	d := directory(openStore(t, address), org.Options{Now: clock.Now, StaleMax: 20 * time.Second})
	create(t, d, "acme")
	disabled := access.NewCaller("acme", access.User, "u-2", access.Owner)
	disable(t, d, disabled, true)
	admits(t, d, member, nil)
	admits(t, d, disabled, org.ErrDisabled)

	back := gatehousetest.Shut(t, address)
	clock.Pass(org.Fresh)
	admits(t, d, member, nil)
	admits(t, d, disabled, org.ErrDisabled)
	if err := d.Admit(t.Context(), access.NewCaller("acme", access.User, "u-3")); fault.KindOf(err) != fault.Unavailable {
		t.Errorf("somebody who was not seen before: %v", err)
	}
	clock.Pass(20*time.Second - org.Fresh)
	for _, c := range []access.Caller{member, disabled} {
		err := d.Admit(t.Context(), c)
		f, _ := fault.As(err)
		if fault.KindOf(err) != fault.Unavailable || f.RetryAfter == 0 {
			t.Errorf("after StaleMax: %v", err)
		}
	}
	back()
	admits(t, d, member, nil)
	admits(t, d, disabled, org.ErrDisabled)
}

// Nobody changes the members of an organization that is deleted, by a token that still says so:
// what is written of people there would never be erased.
func TestNoMembersOfWhatIsDeleted(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		d := directory(db, org.Options{})
		create(t, d, "acme", "globex")
		if err := d.Delete(t.Context(), operator, "acme", "acme"); err != nil {
			t.Fatal(err)
		}
		name, roles := "Marie", []string{"viewer"}
		for what, try := range map[string]func(boss access.Caller) error{
			"a name": func(boss access.Caller) error {
				_, err := d.SetMember(t.Context(), boss, "u-2", org.MemberChange{Name: &name})
				return err
			},
			"roles": func(boss access.Caller) error {
				_, err := d.SetMember(t.Context(), boss, "u-2", org.MemberChange{Roles: &roles})
				return err
			},
			"disabled": func(boss access.Caller) error {
				return d.SetDisabled(t.Context(), boss, boss.Organization, "u-2", true)
			},
		} {
			if err := try(admin); !errors.Is(err, org.ErrUnknown) {
				t.Errorf("%s in a deleted organization: %v", what, err)
			}
			if err := try(access.NewCaller("never-made", access.User, "boss", access.Admin)); !errors.Is(err, org.ErrUnknown) {
				t.Errorf("%s in no organization: %v", what, err)
			}
			if err := try(access.NewCaller("globex", access.User, "boss", access.Admin)); err != nil {
				t.Errorf("%s in one that lives: %v", what, err)
			}
		}
		for _, table := range []string{"members", "member_persons", "member_roles"} {
			if n := number(t, db, `SELECT count(*) FROM `+table+` WHERE organization <> 'globex'`); n != 0 {
				t.Errorf("%d rows of %s were written", n, table)
			}
		}
		if n := number(t, db, `SELECT count(*) FROM events WHERE organization = 'acme' AND action LIKE 'member.%'`); n != 0 {
			t.Errorf("%d events of changes that did not happen", n)
		}
	})
}
