package webhook_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// record writes events and seals them, as the sealer would.
func (h *house) record(t testing.TB, organization string, first, n int) {
	t.Helper()
	h.update(t, func(tx *store.Tx) error {
		for i := range n {
			err := h.trail.Append(context.Background(), tx, owner, audit.Event{
				Organization: organization, Action: audit.PolicyUpdate, Outcome: audit.Success, Reason: fmt.Sprint("n", first+i), Request: audit.Request{IP: "192.0.2.7"},
			})
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(context.Background(), `UPDATE events SET log_index = n.place FROM (
			SELECT e.organization AS whose, e.id AS event, row_number() OVER (PARTITION BY e.organization, e.class ORDER BY e.id) - 1
				+ (SELECT count(*) FROM events o WHERE o.organization = e.organization AND o.class = e.class AND o.log_index IS NOT NULL) AS place
			FROM events e WHERE e.log_index IS NULL) n
		WHERE n.whose = events.organization AND n.event = events.id`)
		return err
	})
}

func (h *house) deliverTrail(t testing.TB, instances ...*webhook.Webhooks) {
	t.Helper()
	h.thrice(t, (*webhook.Webhooks).DeliverTrail, instances)
}

// reasonsOf gives the reasons of all events that were received, and how often a
// batch came.
func reasonsOf(t testing.TB, all []received) (reasons []string, batches map[string]int) {
	t.Helper()
	batches = make(map[string]int)
	for _, r := range all {
		var m struct {
			Type string
			Data struct {
				OrganizationID string
				Events         []struct{ Reason, Organization, Action string }
			}
		}
		if err := json.Unmarshal(r.body, &m); err != nil || m.Type != "audit.events" {
			t.Fatalf("%s: %v", r.body, err)
		}
		for _, e := range m.Data.Events {
			if e.Organization != m.Data.OrganizationID {
				t.Errorf("an event of %s in a batch of %s", e.Organization, m.Data.OrganizationID)
			}
			if e.Action == string(audit.PolicyUpdate) {
				reasons = append(reasons, e.Reason)
			}
		}
		batches[r.header.Get("webhook-id")]++
	}
	return reasons, batches
}

func numbered(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("n", i))
	}
	return all
}

// Every event after the sink was made comes, in order, signed, and no other
// organization's; the sink's lag is said.
func TestSink(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		h.record(t, "acme", 100, 3) // before it
		hook, secret := h.make(t, owner, r.URL, webhook.AuditEvents)
		h.record(t, "globex", 200, 3)
		h.record(t, "acme", 0, 1200)
		sinks, err := h.Sinks(t.Context(), owner, "")
		if err != nil || len(sinks) != 1 || sinks[0].LagEvents != 1201 || sinks[0].LagSince.IsZero() || sinks[0].Webhook != hook.ID || sinks[0].Origin != r.URL {
			t.Errorf("before: %+v, %v", sinks, err) // with the event of its creation
		}
		h.deliverTrail(t)
		got, batches := reasonsOf(t, r.got())
		if diff := cmp.Diff(numbered(1200), got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(batches) != 3 {
			t.Errorf("%d batches", len(batches))
		}
		if !verifies(t, secret, r.got()[0]) {
			t.Error("the signature does not verify")
		}
		sinks, err = h.Sinks(t.Context(), owner, "acme")
		if err != nil || sinks[0].LagEvents != 0 || !sinks[0].LagSince.IsZero() || sinks[0].Delivered != 1201 || sinks[0].LastStatus != 204 || sinks[0].Attempts != 0 {
			t.Errorf("after: %+v, %v", sinks, err)
		}
		if other, err := h.Sinks(t.Context(), stranger, ""); err != nil || len(other) != 0 {
			t.Errorf("another organization sees %+v, %v", other, err)
		}
		var denied *access.DeniedError
		if _, err := h.Sinks(t.Context(), stranger, "acme"); !errors.As(err, &denied) {
			t.Errorf("a stranger: %v", err)
		}
		h.deliverTrail(t)
		if _, again := reasonsOf(t, r.got()); len(again) != 3 {
			t.Errorf("sent again: %v", again)
		}
		if _, err := h.Update(t.Context(), owner, hook.ID, store.Match{}, webhook.Content{URL: r.URL}); err != nil { // all types, which the trail is not among
			t.Fatal(err)
		}
		h.record(t, "acme", 0, 1)
		h.deliverTrail(t)
		if len(r.got()) != 3 {
			t.Error("sent to what is no sink any more")
		}
	})
}

// A sink that hangs holds up neither another one nor whoever writes events; how far it
// is behind is seen meanwhile, and it loses nothing.
func TestSinkThatHangs(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		release, arrived := make(chan struct{}), make(chan struct{}, 10)
		hanging := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { arrived <- struct{}{}; <-release; w.WriteHeader(503) })
		working := newReceiver(t, nil)
		h := newHouse(t, url, hanging.URL, working.URL)
		hung, _ := h.make(t, owner, hanging.URL, webhook.AuditEvents)
		works, _ := h.make(t, owner, working.URL, webhook.AuditEvents)
		h.record(t, "acme", 0, 5)
		if err := h.StartTrail(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-arrived
		h.record(t, "acme", 5, 5)
		lag := func(id string) webhook.Sink {
			t.Helper()
			all, err := h.Sinks(t.Context(), owner, "")
			if err != nil {
				t.Fatal(err)
			}
			return all[slices.IndexFunc(all, func(s webhook.Sink) bool { return s.Webhook == id })]
		}
		for end := time.Now().Add(time.Minute); lag(works.ID).LagEvents > 0 && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			if err := h.StartTrail(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got, _ := reasonsOf(t, working.got()); !slices.Equal(got, numbered(10)) {
			t.Errorf("beside a sink that hangs %v came", got)
		}
		if s := lag(hung.ID); s.LagEvents != 12 || s.LagSince.IsZero() || len(hanging.got()) != 1 {
			t.Errorf("%d requests, %+v", len(hanging.got()), s)
		}
		close(release)
		h.WaitTrail()
		if s := lag(hung.ID); s.LastError == "" || s.LastStatus != 503 || s.Attempts != 1 {
			t.Errorf("%+v", s)
		}
		hanging.answers(nil)
		h.clock.Pass(17 * time.Minute)
		h.deliverTrail(t)
		if got, _ := reasonsOf(t, hanging.got()[1:]); !slices.Equal(got, numbered(10)) || lag(hung.ID).LagEvents != 0 {
			t.Errorf("after it %v came", got)
		}
	})
}

// A sink that fails in whatever way gets the same batch again, under the same id,
// and then the rest.
func TestSinkThatFails(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"500": status(500),
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"hang up": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"busy": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "90000")
			w.WriteHeader(http.StatusTooManyRequests)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t, handler)
			h := newHouse(t, t.TempDir()+"/gatehouse.db", r.URL)
			h.make(t, owner, r.URL, webhook.AuditEvents)
			h.record(t, "acme", 0, 5)
			h.deliverTrail(t)
			if len(r.got()) != 1 {
				t.Fatalf("%d requests at once", len(r.got()))
			}
			h.record(t, "acme", 5, 5) // the batch under way stays what it is
			sinks, err := h.Sinks(t.Context(), owner, "")
			if err != nil || sinks[0].LastError == "" || sinks[0].Attempts != 1 || sinks[0].LagEvents != 11 || !sinks[0].NextAttemptAt.After(h.clock.Now()) {
				t.Errorf("%+v, %v", sinks, err)
			}
			for range 11 {
				h.clock.Pass(17 * time.Minute)
				h.deliverTrail(t)
			}
			if told := h.events(t, audit.WebhookFail); len(told) != 1 {
				t.Errorf("the trail tells of it %d times", len(told))
			}
			r.answers(status(200))
			h.clock.Pass(17 * time.Minute)
			h.deliverTrail(t)
			all, batches := reasonsOf(t, r.got())
			repeated := slices.Max(slices.Collect(maps.Values(batches)))
			if repeated != 13 || !slices.Equal(all[len(all)-10:], numbered(10)) {
				t.Errorf("%d attempts at one batch, the last events are %v", repeated, all)
			}
		})
	}
}

// Several instances send each batch once.
func TestSinkOfSeveralInstances(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		h.make(t, owner, r.URL, webhook.AuditEvents)
		h.record(t, "acme", 0, 700)
		h.deliverTrail(t, h.Webhooks, h.instance(t, r.URL), h.instance(t, r.URL))
		h.clock.Pass(time.Second)
		h.deliverTrail(t)
		got, batches := reasonsOf(t, r.got())
		if diff := cmp.Diff(numbered(700), got); diff != "" || len(batches) != 2 {
			t.Errorf("%d batches (-want +got):\n%s", len(batches), diff)
		}
	})
}

// The operator's sink gets what belongs to no tenant.
func TestOperatorSink(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url)
		w, err := webhook.New(h.db, h.trail, h.sealer, webhook.Options{Now: h.clock.Now, Operator: webhook.OperatorSink{
			URL: r.URL, Secret: seal.NewSecret([]byte("0123456789abcdef0123456789abcdef")),
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.DeliverTrail(t.Context()); err != nil {
			t.Fatal(err)
		}
		h.record(t, access.InstanceOrganization, 0, 3)
		h.record(t, "acme", 0, 3)
		if err := w.DeliverTrail(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, _ := reasonsOf(t, r.got()); !slices.Equal(got, numbered(3)) {
			t.Errorf("got %v", got)
		}
		sinks, err := w.Sinks(t.Context(), access.NewCaller("acme", access.User, "op", access.Operator), access.InstanceOrganization)
		if err != nil || len(sinks) != 1 || sinks[0].Origin != r.URL || sinks[0].LagEvents != 0 {
			t.Errorf("%+v, %v", sinks, err)
		}
	})
}

func TestParseSecret(t *testing.T) {
	if _, err := webhook.ParseSecret("whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "whsec_", "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=", "whsec_c2hvcnQ=", "whsec_!!"} {
		if _, err := webhook.ParseSecret(bad); err == nil || fault.KindOf(err) != fault.Internal {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
