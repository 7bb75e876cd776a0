package audit_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

func denial(ip string) audit.Event {
	return audit.Event{Action: audit.AccessDeny, Reason: "token_invalid", Request: audit.Request{IP: ip, Route: "/api/x"}}
}

// total gives how many denials the events stand for.
func total(events []audit.Event) (n int64) {
	for _, e := range events {
		n += max(1, e.Count)
	}
	return n
}

func TestSeries(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: 10 * time.Millisecond, Coalesce: time.Hour})
		stop := run(t, l)
		ctx := t.Context()
		for range 5 {
			l.Security(ctx, access.Caller{}, denial("192.0.2.1"))
		}
		l.Security(ctx, access.Caller{}, denial("192.0.2.2"))
		l.Security(ctx, owner, denial("192.0.2.1"))
		flush(t, l)
		first := stored(t, db, access.InstanceOrganization)
		if len(first) != 2 || total(first) != 2 {
			t.Errorf("at once there should be the first of each series: %+v", first)
		}
		for _, e := range first {
			if e.Outcome != audit.Denied || e.Class != audit.Security || e.Actor.Type != "anonymous" {
				t.Errorf("stored: %+v", e)
			}
		}
		stop()
		all := stored(t, db, access.InstanceOrganization)
		if len(all) != 3 || total(all) != 6 {
			t.Errorf("after the end %d events stand for %d denials, want 3 for 6", len(all), total(all))
		}
		if e := all[2]; e.Count != 4 || e.Request.IP != "192.0.2.1" {
			t.Errorf("the repeats: %+v", e)
		}
		if n := len(stored(t, db, "acme")); n != 1 {
			t.Errorf("%d events of the caller's organization, want 1", n)
		}
	})
}

// What tells two denials apart stays apart.
func TestSeriesAreToldApart(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		base := denial("192.0.2.1")
		changes := []func(*audit.Event){
			func(*audit.Event) {},
			func(e *audit.Event) { e.Action = audit.LimitExceed },
			func(e *audit.Event) { e.Reason = "other" },
			func(e *audit.Event) { e.Request.IP = "192.0.2.2" },
			func(e *audit.Event) { e.Request.Route = "/api/y" },
			func(e *audit.Event) { e.Permission = "audit:read" },
			func(e *audit.Event) { e.Actor = audit.Actor{Type: "user", ID: "u-2"} },
			func(e *audit.Event) { e.Targets = []audit.Target{{Type: "credential", ID: "cred_1"}} },
		}
		for _, change := range changes {
			e := base
			change(&e)
			l.Security(t.Context(), owner, e)
		}
		run(t, l)
		flush(t, l)
		if n := len(stored(t, db, "acme")); n != len(changes) {
			t.Errorf("%d series of %d", n, len(changes))
		}
	})
}

// Targets that exist are told apart, however many; those that somebody asked for up to a
// bound, and no count is lost.
func TestTargetsAreToldApart(t *testing.T) {
	for _, asked := range []bool{false, true} {
		db := openStore(t, t.TempDir()+"/gatehouse.db")
		l := audit.New(db, audit.Options{FlushEvery: 10 * time.Millisecond, Coalesce: time.Hour})
		stop := run(t, l)
		for range 3 {
			for i := range 40 {
				e := denial("192.0.2.1")
				e.Targets, e.TargetAsked = []audit.Target{{Type: "credential", ID: fmt.Sprint("cred_", i)}}, asked
				l.Security(t.Context(), owner, e)
			}
		}
		stop()
		named := make(map[string]int64)
		all := stored(t, db, "acme")
		for _, e := range all {
			id := ""
			if len(e.Targets) > 0 {
				id = e.Targets[0].ID
			}
			named[id] += max(1, e.Count)
		}
		// Past the bound, the first still names its own.
		if want := map[bool]int{false: 40, true: 18}[asked]; len(named) != want || total(all) != 120 || !asked && named[""] > 0 {
			t.Errorf("asked %v: %d targets in %d events of %d denials: %v", asked, len(named), len(all), total(all), named)
		}
	}
}

// The sum of the counts is the number of denials, under concurrency and past
// the bound of series, and no denial waits for the database.
func TestCountsAreExact(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{FlushEvery: time.Millisecond, Coalesce: 3 * time.Millisecond})
		stop := run(t, l)
		const workers, each, addresses = 8, 3000, 700
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				for i := range each {
					l.Security(context.Background(), owner, denial(fmt.Sprint("192.0.2.", (i*7+w)%addresses)))
				}
			})
		}
		wg.Wait()
		patient, cancel := context.WithTimeout(context.Background(), time.Minute) // stopping waits for ten seconds only
		defer cancel()
		if err := l.Flush(patient); err != nil {
			t.Fatal(err)
		}
		stop()
		events := stored(t, db, "acme")
		if got := total(events); got != workers*each {
			t.Errorf("%d events stand for %d denials, want %d", len(events), got, workers*each)
		}
	})
}

func TestPastTheBoundOfSeries(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db") // the bound is in memory: one database will do
	l := audit.New(db, audit.Options{Coalesce: time.Hour})
	const n = audit.MaxSeriesOf + 2345
	for i := range n {
		e := denial(fmt.Sprint("198.51.100.", i))
		e.Targets = []audit.Target{{Type: "ip", ID: "ip", Name: e.Request.IP}}
		e.Personal = map[string]string{"key": e.Request.IP}
		l.Security(t.Context(), access.Caller{}, e)
	}
	if l.Series() > audit.MaxSeriesOf+1 {
		t.Errorf("%d series are kept", l.Series())
	}
	// A flood elsewhere takes nothing from a tenant's trail, and what a client
	// writes as it likes makes no series of its own.
	for i := range 50 {
		e := denial("203.0.113.9")
		e.Request.UserAgent = fmt.Sprint("agent ", i)
		l.Security(t.Context(), owner, e)
	}
	stop := run(t, l)
	flush(t, l) // the firsts, which are many
	stop()
	events := stored(t, db, access.InstanceOrganization)
	if total(events) != n {
		t.Errorf("%d events stand for %d denials, want %d", len(events), total(events), n)
	}
	tenant := stored(t, db, "acme")
	if len(tenant) != 2 || total(tenant) != 50 || tenant[0].Request.IP != "203.0.113.9" || tenant[0].Actor.ID != owner.ID {
		t.Errorf("a tenant's denials beside the flood: %+v", tenant)
	}
	merged := events[len(events)-1]
	if merged.Count != n-audit.MaxSeriesOf || merged.Metadata["merged"] != true {
		t.Fatalf("the merged rest: %+v", merged)
	}
	if merged.Request != (audit.Request{}) || merged.Personal != nil || merged.Targets != nil || merged.Actor.ID != "several" {
		t.Errorf("the merged rest names one of many: %+v", merged)
	}
}

// A spool that is full does not stop denials, and does not lose them.
func TestDenialsBesideAFullSpool(t *testing.T) {
	db := openStore(t, t.TempDir()+"/gatehouse.db")
	l := audit.New(db, audit.Options{Spool: 2})
	visit(t, l, "n0")
	visit(t, l, "n1")
	for i := range 50 {
		l.Security(t.Context(), owner, denial(fmt.Sprint("192.0.2.", i%5)))
	}
	if waiting, _ := l.Backlog(); waiting != 2 {
		t.Errorf("%d events wait in a spool of 2", waiting)
	}
	stop := run(t, l)
	stop()
	var denials []audit.Event
	for _, e := range stored(t, db, "acme") {
		if e.Class == audit.Security {
			denials = append(denials, e)
		}
	}
	if total(denials) != 50 {
		t.Errorf("%d denials of 50 are told of", total(denials))
	}
}

// A denial does not wait, with nobody writing at all.
func TestDenialsDoNotBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := audit.New(nil, audit.Options{Spool: 10})
		start := time.Now()
		for i := range 1000 {
			l.Security(t.Context(), owner, denial(fmt.Sprint("192.0.2.", i)))
		}
		if time.Since(start) != 0 { // the bubble's clock moves when something waits
			t.Error("a denial waited")
		}
	})
}

const mebibyte = 1 << 20

// hostile are texts that a client can send where it likes.
var hostile = map[string]string{
	"NUL":           "a\x00b",
	"invalid UTF-8": "a\xff\xfe\xc0\xafb",
	"cut rune":      strings.Repeat("x", 511) + "€",
	"surrogate":     "a\xed\xa0\x80b",
	"quotes":        `'"; DROP TABLE events; -- $1 ?1 \`,
	"controls":      "a\r\nb\x1b[31mc\x7f",
	"markup":        "<script>alert(1)</script>\u2028",
	"long":          strings.Repeat("A", mebibyte),
	"long NULs":     strings.Repeat("\x00", mebibyte),
	"long invalid":  strings.Repeat("\xff", mebibyte),
	"long quotes":   strings.Repeat(`"`, mebibyte),
	"replacement":   "a\ufffdb",
}

func TestHostileText(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		sent := map[audit.Class]int{}
		for name, text := range hostile {
			caller := access.NewCaller("acme", access.User, text, access.Role(text))
			caller.TokenID = text
			e := audit.Event{
				Action: audit.AccessDeny, Outcome: audit.Denied, Reason: text, Permission: text,
				Targets:  []audit.Target{{Type: text, ID: name + text, Name: text}}, // the name keeps the series apart
				Request:  audit.Request{ID: text, Method: text, Route: text, IP: text, UserAgent: text},
				Metadata: map[string]any{"text": text}, Personal: map[string]string{"text": text},
			}
			l.Security(t.Context(), caller, e)
			slot, err := l.Reserve()
			if err != nil {
				t.Fatal(err)
			}
			slot.Record(t.Context(), caller, e)
			sent[audit.Security]++
			sent[audit.Access]++
		}
		flush(t, l)
		if _, lost := l.Backlog(); lost != 0 {
			t.Errorf("%d events were refused by the database", lost)
		}
		got := map[audit.Class]int{}
		for _, e := range stored(t, db, "acme") {
			got[e.Class]++
			if len(e.Request.UserAgent) > 512 || len(e.Reason) > 64 || len(e.Actor.ID) > 256 || len(e.Personal["text"]) > 4096 {
				t.Error("a text was stored without a bound")
			}
		}
		if diff := cmp.Diff(sent, got); diff != "" {
			t.Errorf("events by class (-sent +stored):\n%s", diff)
		}
	})
}
