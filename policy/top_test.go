package policy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/policy"
)

// Whoever is refused most is found among any number of others, in bounded
// memory, and is forgotten after an hour.
func TestTop(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "block", CIDR: "10.0.0.0/8"})
	r.make(t, operator, policy.Draft{Effect: "block", Organization: "greedy"})
	for i := range 6000 {
		r.take(t, visit{"greedy", fmt.Sprintf("192.0.%d.%d", i/250, i%250), "", ""})
		if i%10 == 0 {
			r.take(t, visit{fmt.Sprintf("org%d", i), "10.1.2.3", "", ""})
		}
		r.now = r.now.Add(100 * time.Millisecond)
	}
	top, err := r.Top(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	if len(top) == 0 || len(top) > 100 {
		t.Fatalf("%d are listed", len(top))
	}
	if o := top[0]; o.Type != policy.Organization || o.Key != "greedy" || o.Denied < 6000 || o.Denied-o.Over > 6000 {
		t.Errorf("the first is %+v, want greedy with 6000", o)
	}
	if o := top[1]; o.Type != policy.IP || o.Key != "10.1.2.3" || o.Denied < 600 || o.Denied-o.Over > 600 {
		t.Errorf("the second is %+v, want 10.1.2.3 with 600", o)
	}
	if _, err := r.Top(t.Context(), admin); err == nil {
		t.Error("an admin sees whom others' limits refused")
	}
	r.now = r.now.Add(61 * time.Minute)
	if top, err := r.Top(t.Context(), operator); err != nil || len(top) != 0 {
		t.Errorf("an hour later: %+v, %v", top, err)
	}
}

// A refused request is one, however many limits of its organization are full, and one event.
func TestRefusedOnceEach(t *testing.T) {
	r := newRoom(t, sqlite(t))
	r.make(t, operator, policy.Draft{Effect: "limit", Subject: "org", Organization: "acme", Limits: []string{"3/1h"}})
	own := r.make(t, admin, policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"3/2h"}})
	check := func(want int64) {
		t.Helper()
		top, err := r.Top(t.Context(), operator)
		if err != nil || len(top) == 0 || top[0].Key != "acme" || top[0].Denied != want {
			t.Errorf("%+v, %v, want acme with %d", top, err, want)
		}
	}
	if n := r.admitted(t, visit{"acme", "192.0.2.1", "openai", ""}, 8); n != 3 {
		t.Errorf("%d of 8 passed", n)
	}
	check(5)
	told := int64(0)
	for _, e := range r.events(t, admin, audit.LimitExceed) {
		told += max(e.Count, 1)
		if e.Metadata["policy"] != own.ID || e.Metadata["windowSeconds"] != 7200.0 { // the longest wait
			t.Errorf("the event is about %v", e.Metadata)
		}
	}
	if told != 5 {
		t.Errorf("%d are told, want 5", told)
	}
	r.make(t, operator, policy.Draft{Effect: "block", Organization: "acme"})
	r.take(t, visit{"acme", "192.0.2.1", "openai", ""})
	check(6)
}
