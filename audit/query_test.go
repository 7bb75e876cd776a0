package audit_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// put writes events at once.
func put(t testing.TB, db *store.DB, l *audit.Log, events ...audit.Event) {
	t.Helper()
	err := db.UpdateAcross(t.Context(), func(tx *store.Tx) error {
		for _, e := range events {
			if err := l.Append(t.Context(), tx, owner, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// pages reads every page and gives the reasons.
func pages(t testing.TB, l *audit.Log, caller access.Caller, f audit.Filter) (all []string) {
	t.Helper()
	for range 1000 {
		page, err := l.Events(t.Context(), caller, f)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(page.Events); n > f.Limit || n < f.Limit && page.NextCursor != "" {
			t.Fatalf("a page of %d with the cursor %q, limit %d", n, page.NextCursor, f.Limit)
		}
		all = append(all, reasons(page.Events)...)
		if f.Cursor = page.NextCursor; f.Cursor == "" {
			return all
		}
	}
	t.Fatal("the pages do not end")
	return nil
}

// Every event stands on exactly one page, newest first, also where many have
// the same instant.
func TestPages(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		var events []audit.Event
		var want []string
		for i := range 60 {
			at := noon.Add(time.Duration(i/20) * time.Microsecond) // twenty at each of three instants
			events = append(events, audit.Event{Action: audit.CredentialTest, Outcome: audit.Success, OccurredAt: at, Reason: fmt.Sprint("n", i)})
			want = append([]string{fmt.Sprint("n", i)}, want...)
		}
		put(t, db, l, events...)
		other := audit.Event{Organization: "globex", Action: audit.CredentialTest, Outcome: audit.Success, OccurredAt: noon}
		put(t, db, l, other)
		for _, limit := range []int{1, 7, 20, 59, 60, 61, audit.MaxLimit} {
			if diff := cmp.Diff(want, pages(t, l, owner, audit.Filter{Limit: limit})); diff != "" {
				t.Errorf("limit %d (-want +got):\n%s", limit, diff)
			}
		}
		page, err := l.Events(t.Context(), owner, audit.Filter{})
		if err != nil || len(page.Events) != audit.DefaultLimit {
			t.Errorf("without a limit: %d events, %v", len(page.Events), err)
		}
	})
}

func TestFilters(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		put(t, db, l,
			audit.Event{Action: audit.CredentialCreate, Outcome: audit.Success, OccurredAt: noon, Reason: "a",
				Targets: []audit.Target{{Type: "credential", ID: "cred_1"}, {Type: "service", ID: "cred_0"}}},
			audit.Event{Action: audit.CredentialDelete, Outcome: audit.Success, OccurredAt: noon.Add(time.Second), Reason: "b",
				Targets: []audit.Target{{Type: "credential", ID: "cred_2"}, {Type: "again", ID: "cred_2"}}},
			audit.Event{Action: audit.CredentialCreate, Outcome: audit.Failure, OccurredAt: noon.Add(2 * time.Second), Reason: "c",
				Targets: []audit.Target{{Type: "credential", ID: "cred_1"}}, Actor: audit.Actor{Type: "user", ID: "O'Brien \"%_"}},
		)
		tests := []struct {
			name   string
			filter audit.Filter
			want   []string
		}{
			{"all", audit.Filter{}, []string{"c", "b", "a"}},
			{"action", audit.Filter{Action: "credential.create"}, []string{"c", "a"}},
			{"outcome", audit.Filter{Outcome: "failure"}, []string{"c"}},
			{"actor", audit.Filter{Actor: "O'Brien \"%_"}, []string{"c"}},
			{"from is included", audit.Filter{From: noon.Add(time.Second)}, []string{"c", "b"}},
			{"to is not", audit.Filter{To: noon.Add(time.Second)}, []string{"a"}},
			{"together", audit.Filter{Action: "credential.create", Outcome: "success", Actor: "u-1", From: noon, To: noon.Add(time.Hour)}, []string{"a"}},
			{"no such action", audit.Filter{Action: "nothing.happened"}, nil},
			{"injection", audit.Filter{Actor: "' OR '1'='1"}, nil},
			{"wildcard", audit.Filter{Actor: "%"}, nil},
			{"class", audit.Filter{Class: "control"}, []string{"c", "b", "a"}},
			{"another class", audit.Filter{Class: "security"}, nil},
			{"actions that begin so", audit.Filter{Action: "credential.*"}, []string{"c", "b", "a"}},
			{"in the middle of a word", audit.Filter{Action: "credential.de*"}, []string{"b"}},
			{"all actions", audit.Filter{Action: "*"}, []string{"c", "b", "a"}},
			{"no action begins so", audit.Filter{Action: "nothing*"}, nil},
			{"actors that begin so", audit.Filter{Actor: "u-*"}, []string{"b", "a"}},
			{"actors with wildcards in them", audit.Filter{Actor: "O'Brien \"%*"}, []string{"c"}},
			{"no actor begins so", audit.Filter{Actor: "%*"}, nil},
			{"a wildcard of one character", audit.Filter{Actor: "u_1"}, nil},
			{"case", audit.Filter{Actor: "U-*"}, nil},
			{"all actors", audit.Filter{Actor: "*"}, []string{"c", "b", "a"}},
			{"target", audit.Filter{Target: "cred_1"}, []string{"c", "a"}},
			{"targets that begin so", audit.Filter{Target: "cred_*"}, []string{"c", "b", "a"}},
			{"target and more", audit.Filter{Target: "cred_*", Action: "credential.d*", Actor: "u-1", Outcome: "success", Class: "control", From: noon}, []string{"b"}},
			{"target and another actor", audit.Filter{Target: "cred_1", Actor: "O*"}, []string{"c"}},
			{"no such target", audit.Filter{Target: "cred"}, nil},
			{"a hostile target", audit.Filter{Target: "' OR 1=1 --\x00\xff*"}, nil},
			{"a star in the middle", audit.Filter{Target: "c*1"}, nil},
			{"NUL", audit.Filter{Actor: "u-1\x00"}, nil},
			{"invalid UTF-8", audit.Filter{Actor: "\xff\xfe"}, nil},
			{"long", audit.Filter{Actor: strings.Repeat("x", mebibyte)}, nil},
			{"far times", audit.Filter{From: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), To: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, []string{"c", "b", "a"}},
		}
		for _, test := range tests {
			test.filter.Limit, test.filter.Count = 2, true
			if page, err := l.Events(t.Context(), owner, test.filter); err != nil || page.Count != int64(len(test.want)) || page.CountCapped {
				t.Errorf("%s: counted %d, capped %v, %v", test.name, page.Count, page.CountCapped, err)
			}
			if diff := cmp.Diff(test.want, pages(t, l, owner, test.filter)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", test.name, diff)
			}
		}
	})
}

func TestFiltersThatAreWrong(t *testing.T) {
	l := audit.New(openStore(t, t.TempDir()+"/gatehouse.db"), audit.Options{}) // refused before any database is asked
	tests := map[string]audit.Filter{
		"action":  {Action: "credential.create' OR 1=1"},
		"class":   {Class: "controls"},
		"outcome": {Outcome: "SUCCESS"},
		"limit":   {Limit: audit.MaxLimit + 1},
		"from":    {From: noon, To: noon},
		"cursor":  {Cursor: "not a cursor"},
	}
	for field, f := range tests {
		_, err := l.Events(t.Context(), owner, f)
		e, ok := fault.As(err)
		if !ok || e.Kind != fault.Invalid || len(e.Fields) != 1 || e.Fields[0].Name != field {
			t.Errorf("%s: %+v", field, err)
			continue
		}
		if strings.Contains(e.Fields[0].Message, "OR 1=1") || strings.Contains(e.Fields[0].Message, "not a cursor") {
			t.Errorf("%s: the value is echoed: %s", field, e.Fields[0].Message)
		}
	}
	if _, err := l.Events(t.Context(), owner, audit.Filter{Limit: -1}); fault.KindOf(err) != fault.Invalid {
		t.Errorf("limit -1: %v", err)
	}
}

func TestCursors(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		for _, organization := range []string{"acme", "globex"} {
			for i := range 4 {
				put(t, db, l, audit.Event{Organization: organization, Action: audit.CredentialTest, Outcome: audit.Success,
					OccurredAt: noon.Add(time.Duration(i) * time.Second), Reason: organization})
			}
		}
		foreigner := access.NewCaller("globex", access.User, "u-9", access.Auditor)
		page, err := l.Events(t.Context(), foreigner, audit.Filter{Limit: 2})
		if err != nil || page.NextCursor == "" {
			t.Fatal(page, err)
		}
		own := audit.Filter{Organization: "acme"}
		id := "evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab"
		for _, at := range []time.Time{noon.AddDate(-1000, 0, 0), time.UnixMicro(-1 << 62), time.UnixMicro(1 << 62), {}} {
			if _, err := l.Events(t.Context(), owner, audit.Filter{Cursor: own.EncodeCursor(at, id)}); err != nil {
				t.Errorf("a cursor at %v: %v", at, err)
			}
		}
		good := own.EncodeCursor(noon, id)
		for _, bad := range []string{
			page.NextCursor, // another organization's
			audit.Filter{Organization: "acme", Action: "credential.*"}.EncodeCursor(noon, id),
			audit.Filter{Organization: "acme", To: noon}.EncodeCursor(noon, id),
			"A", "AAAA", good[:len(good)-2], good + "=", good + "AAAA", " " + good, strings.Repeat("A", mebibyte),
			own.EncodeCursor(noon, ""), own.EncodeCursor(noon, "' OR 1=1 --"), own.EncodeCursor(noon, "cred_0197c3f2-6a1e-7c3a-9f00-0123456789ab"),
			own.EncodeCursor(noon, id+"\x00"), "é",
		} {
			if _, err := l.Events(t.Context(), owner, audit.Filter{Cursor: bad}); fault.KindOf(err) != fault.Invalid {
				t.Errorf("the cursor %.40q: %v", bad, err)
			}
		}
	})
}

func TestWhoReadsTheTrail(t *testing.T) {
	l := audit.New(openStore(t, t.TempDir()+"/gatehouse.db"), audit.Options{FlushEvery: time.Millisecond})
	run(t, l)
	tests := []struct {
		role         access.Role
		organization string
		allowed      bool
	}{
		{access.Owner, "", true}, {access.Admin, "acme", true}, {access.Auditor, "acme", true},
		{access.Developer, "", false}, {access.Viewer, "", false}, {access.ServiceRole, "", false},
		{access.Owner, "globex", false}, {access.Owner, access.InstanceOrganization, false},
		{access.Operator, access.InstanceOrganization, true}, {access.Operator, "", false}, {access.Operator, "globex", false},
	}
	for _, test := range tests {
		_, err := l.Events(t.Context(), access.NewCaller("acme", access.User, "u", test.role), audit.Filter{Organization: test.organization})
		var denied *access.DeniedError
		if (err == nil) != test.allowed || err != nil && !errors.As(err, &denied) {
			t.Errorf("%s on %q: %v", test.role, test.organization, err)
		}
	}
}

// Reading changes no stored byte; the commitment of the side row holds; once
// the side row is gone the bytes and their hash are the same and the event can
// be read without the person.
func TestErasingAPerson(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		put(t, db, l, audit.Event{
			Action: audit.CredentialReveal, Outcome: audit.Success, Targets: []audit.Target{{Type: "credential", ID: "cred_1", Name: "Marie"}},
			Request: audit.Request{IP: "192.0.2.7", UserAgent: "curl", Route: "/x"}, Metadata: map[string]any{"b": 1, "a": 1e21},
		})
		canonical := func() (b []byte) {
			err := db.View(context.Background(), "acme", func(tx *store.Tx) error {
				return tx.Row(context.Background(), `SELECT canonical FROM events WHERE organization = 'acme'`).Scan(&b)
			})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		before := canonical()
		page, err := l.Events(t.Context(), owner, audit.Filter{})
		if err != nil || len(page.Events) != 1 || page.Events[0].Request.IP != "192.0.2.7" || page.Events[0].Targets[0].Name != "Marie" {
			t.Fatalf("before: %+v, %v", page.Events, err)
		}
		var salt []byte
		var data string
		err = db.View(t.Context(), "acme", func(tx *store.Tx) error {
			return tx.Row(t.Context(), `SELECT salt, data FROM event_persons WHERE organization = 'acme' AND event_id = $1`, page.Events[0].ID).Scan(&salt, &data)
		})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(append(bytes.Clone(salt), data...))
		if !bytes.Contains(before, []byte(`"personal":"`+hex.EncodeToString(sum[:])+`"`)) {
			t.Errorf("the commitment is not in %s", before)
		}
		exec(t, db, `DELETE FROM event_persons WHERE organization = 'acme'`)
		page, err = l.Events(t.Context(), owner, audit.Filter{})
		if err != nil || len(page.Events) != 1 || page.Events[0].Request != (audit.Request{Route: "/x"}) || page.Events[0].Targets[0].Name != "" {
			t.Errorf("after: %+v, %v", page.Events, err)
		}
		if diff := cmp.Diff(string(before), string(canonical())); diff != "" {
			t.Errorf("the canonical bytes changed:\n%s", diff)
		}
	})
}

// Erasing a person takes the side rows of what it did and of what was done to it,
// in its organization, and no byte that is hashed.
func TestErasePerson(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Millisecond})
		run(t, l)
		marie := audit.Actor{Type: "user", ID: "usr_marie"}
		ip := audit.Request{IP: "192.0.2.7"}
		var events []audit.Event
		for range 1200 { // more than a batch
			events = append(events, audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success, Actor: marie, Request: ip})
		}
		events = append(events,
			audit.Event{Action: audit.MemberDisable, Outcome: audit.Success, Targets: []audit.Target{{Type: "member", ID: "usr_marie", Name: "Marie"}}},
			audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success, Actor: audit.Actor{Type: "user", ID: "usr_marie2"}, Request: ip, Reason: "another"},
			audit.Event{Organization: "globex", Action: audit.PolicyUpdate, Outcome: audit.Success, Actor: marie, Request: ip})
		put(t, db, l, events...)
		hash := func() string {
			h := sha256.New()
			err := db.View(tctx, "acme", func(tx *store.Tx) error {
				return tx.Each(tctx, func(scan func(...any) error) error {
					var b []byte
					err := scan(&b)
					h.Write(b)
					return err
				}, `SELECT canonical FROM events WHERE organization = 'acme' AND action <> 'audit.erase' ORDER BY id`)
			})
			if err != nil {
				t.Fatal(err)
			}
			return hex.EncodeToString(h.Sum(nil))
		}
		before := hash()
		n, err := l.ErasePerson(t.Context(), owner, "usr_marie")
		if err != nil || n != 1201 {
			t.Errorf("erased %d, %v", n, err)
		}
		if hash() != before {
			t.Error("the canonical bytes changed")
		}
		for _, f := range []audit.Filter{{Actor: "usr_marie", Limit: 500}, {Target: "usr_marie", Action: "member.*"}} {
			page, err := l.Events(t.Context(), owner, f)
			if err != nil || len(page.Events) == 0 {
				t.Fatal(len(page.Events), err)
			}
			for _, e := range page.Events {
				if e.Request.IP != "" || e.Damaged || len(e.Targets) > 0 && e.Targets[0].Name != "" {
					t.Fatalf("still there: %+v", e)
				}
			}
		}
		page, err := l.Events(t.Context(), owner, audit.Filter{Actor: "usr_marie2"})
		if err != nil || page.Events[0].Request.IP == "" {
			t.Errorf("another person: %+v, %v", page.Events, err)
		}
		if kept := stored(t, db, "globex"); kept[0].Request.IP == "" {
			t.Error("another organization's was erased")
		}
		page, err = l.Events(t.Context(), owner, audit.Filter{Action: "audit.erase"})
		var sum float64
		for _, e := range page.Events {
			sum += e.Metadata["events"].(float64)
		}
		if err != nil || sum != 1201 || page.Events[0].Targets[0].ID != "usr_marie" {
			t.Errorf("the trail tells of %v erased, %v", sum, err)
		}
		// Whoever asked for it is another person, and keeps what the event says of it.
		asked := audit.WithRequest(t.Context(), &audit.Request{IP: "192.0.2.99"})
		for range 2 {
			if n, err := l.ErasePerson(asked, owner, "usr_marie"); err != nil || n != 0 {
				t.Errorf("erased %d once more, %v", n, err)
			}
		}
		put(t, db, l, events[0])
		for _, want := range []int64{1, 0} {
			if n, err := l.ErasePerson(asked, owner, "usr_marie"); err != nil || n != want {
				t.Errorf("erased %d of a later event, want %d, %v", n, want, err)
			}
		}
		page, err = l.Events(t.Context(), owner, audit.Filter{Action: "audit.erase", Target: "usr_marie", Limit: 1})
		if err != nil || page.Events[0].Request.IP != "192.0.2.99" {
			t.Errorf("who erased: %+v, %v", page.Events, err)
		}
		for _, role := range []access.Role{access.Auditor, access.Developer, access.Operator} {
			var denied *access.DeniedError
			if _, err := l.ErasePerson(t.Context(), access.NewCaller("acme", access.User, "u", role), "usr_marie"); !errors.As(err, &denied) {
				t.Errorf("%s: %v", role, err)
			}
		}
		for _, id := range []string{"", "\x00", "\xff", strings.Repeat("x", 257)} {
			if _, err := l.ErasePerson(t.Context(), owner, id); fault.KindOf(err) != fault.Invalid {
				t.Errorf("%.10q: %v", id, err)
			}
		}
	})
}
