package audit_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// What a filter picks of events that are followed or read from a file is what a search with the
// same filter finds: by each of its fields.
func TestMatcherPicksWhatASearchFinds(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		l := audit.New(db, audit.Options{})
		run(t, l)
		target := func(ids ...string) (all []audit.Target) {
			for _, id := range ids {
				all = append(all, audit.Target{Type: "credential", ID: id})
			}
			return all
		}
		at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
		put(t, db, l,
			audit.Event{Reason: "a", OccurredAt: at(0), Action: audit.CredentialCreate, Outcome: audit.Success, Actor: audit.Actor{Type: "user", ID: "ann"}, Targets: target("cred_1")},
			audit.Event{Reason: "b", OccurredAt: at(1), Action: audit.CredentialUpdate, Outcome: audit.Denied, Actor: audit.Actor{Type: "user", ID: "bob"}, Targets: target("cred_2", "cred_1")},
			audit.Event{Reason: "c", OccurredAt: at(2), Action: audit.PolicyUpdate, Outcome: audit.Failure, Actor: audit.Actor{Type: "user", ID: "anna"}, Targets: target("pol_1")},
		)
		slot, err := l.Reserve()
		if err != nil {
			t.Fatal(err)
		}
		slot.Record(t.Context(), owner, audit.Event{Reason: "d", OccurredAt: at(3), Action: audit.ChatRequest, Outcome: audit.Partial, Actor: audit.Actor{Type: "user", ID: "ann"}})
		l.Security(t.Context(), owner, audit.Event{Reason: "e", OccurredAt: at(4), Action: audit.AccessDeny, Outcome: audit.Denied, Actor: audit.Actor{Type: "user", ID: "bob"}, Targets: target("cred_10")})
		flushed, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := l.Flush(flushed); err != nil {
			t.Fatal(err)
		}
		everything, err := l.Events(t.Context(), owner, audit.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		slices.Reverse(everything.Events)
		for name, test := range map[string]struct {
			filter audit.Filter
			want   string
		}{
			"nothing said":           {audit.Filter{}, "abcde"},
			"a class":                {audit.Filter{Class: "control"}, "abc"},
			"another class":          {audit.Filter{Class: "access"}, "d"},
			"an action":              {audit.Filter{Action: "credential.update"}, "b"},
			"actions":                {audit.Filter{Action: "credential.*"}, "ab"},
			"all actions":            {audit.Filter{Action: "*"}, "abcde"},
			"no action":              {audit.Filter{Action: "nothing.*"}, ""},
			"an outcome":             {audit.Filter{Outcome: "denied"}, "be"},
			"another outcome":        {audit.Filter{Outcome: "partial"}, "d"},
			"an actor":               {audit.Filter{Actor: "ann"}, "ad"},
			"actors":                 {audit.Filter{Actor: "ann*"}, "acd"},
			"a target":               {audit.Filter{Target: "cred_1"}, "ab"},
			"targets":                {audit.Filter{Target: "cred_1*"}, "abe"},
			"from":                   {audit.Filter{From: at(2)}, "cde"},
			"to":                     {audit.Filter{To: at(2)}, "ab"},
			"from and to":            {audit.Filter{From: at(1), To: at(3)}, "bc"},
			"an actor and a target":  {audit.Filter{Actor: "bob", Target: "cred_1"}, "b"},
			"a class and an outcome": {audit.Filter{Class: "security", Outcome: "denied"}, "e"},
			"all at once":            {audit.Filter{Class: "control", Action: "credential.*", Outcome: "denied", Actor: "bob", Target: "cred_2", From: at(1), To: at(2)}, "b"},
			"all but the actor":      {audit.Filter{Class: "control", Action: "credential.*", Outcome: "denied", Actor: "ann", Target: "cred_2", From: at(1), To: at(2)}, ""},
		} {
			picks, err := test.filter.Matcher()
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			picked, found := "", ""
			for i := range everything.Events {
				if e := &everything.Events[i]; picks(e) {
					picked += e.Reason
				}
			}
			page, err := l.Events(t.Context(), owner, test.filter)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			for _, e := range slices.Backward(page.Events) {
				found += e.Reason
			}
			if diff := cmp.Diff([]string{test.want, test.want}, []string{picked, found}); diff != "" {
				t.Errorf("%s, what is picked and what is found (-want +got):\n%s", name, diff)
			}
		}
		for name, wrong := range map[string]audit.Filter{
			"class": {Class: "control "}, "action": {Action: "credential"}, "outcome": {Outcome: "good"}, "from": {From: at(1), To: at(1)}, "limit": {Limit: audit.MaxLimit + 1},
		} {
			picks, err := wrong.Matcher()
			if f, ok := fault.As(err); picks != nil || !ok || len(f.Fields) != 1 || f.Fields[0].Name != name {
				t.Errorf("a wrong %s: %v", name, err)
			}
		}
	})
}
