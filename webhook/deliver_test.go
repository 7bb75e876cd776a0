package webhook_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// What fails is tried on the schedule, then given up, and replayed under the
// same id.
func TestRetriesAndReplay(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, status(http.StatusInternalServerError))
		h := newHouse(t, url, r.URL)
		w, secret := h.make(t, owner, r.URL)
		h.enqueue(t, webhook.CredentialExpired)
		attempts := func(want int) {
			t.Helper()
			h.deliver(t)
			if n := len(r.got()); n != want {
				t.Fatalf("%d attempts, want %d", n, want)
			}
		}
		attempts(1)
		for i, delay := range webhook.Delays {
			h.clock.Pass(delay - time.Second)
			attempts(i + 1)
			if d := h.deliveries(t, w.ID)[0]; d.Status != webhook.Pending || d.LastStatus != 500 || d.LastError != "status" || d.NextAt.IsZero() {
				t.Fatalf("%+v", d)
			}
			h.clock.Pass(delay/10 + time.Second) // the jitter is at most a tenth
			attempts(i + 2)
		}
		h.clock.Pass(1000 * time.Hour)
		attempts(webhook.MaxAttempts)
		d := h.deliveries(t, w.ID)[0]
		if d.Status != webhook.Failed || d.Attempts != int64(webhook.MaxAttempts) {
			t.Errorf("%+v", d)
		}
		if e := h.events(t, audit.WebhookFail); len(e) != 1 || e[0].Reason != "webhook_status" || e[0].Outcome != audit.Failure {
			t.Errorf("events of what was given up: %+v", e)
		}
		if h.outcomes["retried"] != 9 || h.outcomes["failed"] != 1 {
			t.Errorf("counted %v", h.outcomes)
		}

		r.answers(nil)
		if _, err := h.Replay(t.Context(), owner, w.ID, d.ID); err != nil {
			t.Fatal(err)
		}
		attempts(webhook.MaxAttempts + 1)
		all := r.got()
		first, last := all[0], all[len(all)-1]
		if first.header.Get("webhook-id") != last.header.Get("webhook-id") || string(first.body) != string(last.body) ||
			first.header.Get("webhook-timestamp") == last.header.Get("webhook-timestamp") {
			t.Error("a replay is not the same message at another time")
		}
		wh, err := standardwebhooks.NewWebhook(secret)
		if err != nil || wh.VerifyIgnoringTimestamp(last.body, last.header) != nil {
			t.Error("a replay does not verify")
		}
		if d := h.deliveries(t, w.ID)[0]; d.Status != webhook.Delivered || d.Attempts != 1 || d.LastError != "" {
			t.Errorf("%+v", d)
		}
		if _, err := h.Replay(t.Context(), owner, w.ID, d.ID); err != nil { // also what was delivered
			t.Fatal(err)
		}
		attempts(webhook.MaxAttempts + 2)
	})
}

// Retry-After is waited for, 410 ends the webhook, a redirect is not followed.
func TestAnswers(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		elsewhere := newReceiver(t, nil)
		r := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "600")
			w.WriteHeader(http.StatusTooManyRequests)
		})
		h := newHouse(t, url, r.URL, elsewhere.URL)
		w, _ := h.make(t, owner, r.URL)
		h.enqueue(t, webhook.CredentialExpired)
		h.deliver(t)
		h.clock.Pass(599 * time.Second)
		h.deliver(t)
		if n := len(r.got()); n != 1 {
			t.Errorf("%d attempts before Retry-After was over", n)
		}
		r.answers(func(w http.ResponseWriter, q *http.Request) {
			http.Redirect(w, q, elsewhere.URL, http.StatusTemporaryRedirect)
		})
		h.clock.Pass(time.Second)
		h.deliver(t)
		if d := h.deliveries(t, w.ID)[0]; d.LastStatus != 307 || d.Status != webhook.Pending || len(elsewhere.got()) != 0 {
			t.Errorf("%+v; the redirect was followed %d times", d, len(elsewhere.got()))
		}
		// An answer without an end is read to a bound.
		r.answers(func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		})
		h.clock.Pass(time.Hour)
		h.deliver(t)
		if d := h.deliveries(t, w.ID)[0]; d.Status != webhook.Delivered {
			t.Errorf("%+v", d)
		}
		r.answers(status(http.StatusGone))
		h.enqueue(t, webhook.CredentialExpired)
		h.enqueue(t, webhook.CredentialUnused)
		h.enqueue(t, webhook.CredentialUnreadable)
		h.deliver(t)
		got, err := h.Get(t.Context(), owner, w.ID)
		if err != nil || !got.Disabled || got.DisabledReason != "gone" {
			t.Errorf("after 410: %+v, %v", got, err)
		}
		for _, d := range h.deliveries(t, w.ID)[:3] {
			if d.Status != webhook.Failed || d.LastError == "" {
				t.Errorf("after 410: %+v", d)
			}
		}
		if e := h.events(t, audit.WebhookDisable); len(e) != 1 || e[0].Reason != "gone" || e[0].Actor.Type != "system" {
			t.Errorf("%+v", e)
		}
		if _, err := h.SendTest(t.Context(), owner, w.ID); !errors.Is(err, webhook.ErrDisabled) {
			t.Errorf("a test of what is disabled: %v", err)
		}
	})
}

// Of a receiver that is gone, the webhook is switched off only where it still leads there.
func TestGoneAfterAChange(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		there, r := newReceiver(t, nil), newReceiver(t, nil)
		h := newHouse(t, url, r.URL, there.URL)
		w, _ := h.make(t, owner, r.URL)
		r.answers(func(rw http.ResponseWriter, _ *http.Request) {
			if _, err := h.Update(context.Background(), owner, w.ID, store.Match{}, webhook.Content{URL: there.URL}); err != nil {
				t.Error(err)
			}
			rw.WriteHeader(http.StatusGone)
		})
		h.enqueue(t, webhook.CredentialExpired)
		h.deliver(t)
		if got, err := h.Get(t.Context(), owner, w.ID); err != nil || got.Disabled {
			t.Errorf("a webhook was switched off for what its former receiver said: %+v, %v", got, err)
		}
		h.enqueue(t, webhook.CredentialExpired)
		h.deliver(t)
		if len(there.got()) != 1 {
			t.Errorf("%d messages at the new receiver, want 1", len(there.got()))
		}
	})
}

// busy is a sealer that has no time at first.
type busy struct {
	webhook.Sealer
	left *atomic.Int64
}

func (b busy) Open(ctx context.Context, organization, id string, version int64, sealed seal.Sealed) (seal.Secret, error) {
	if b.left.Add(-1) >= 0 {
		return seal.Secret{}, fault.New(fault.Unavailable, "vault_busy", "Too many keys are being derived.")
	}
	return b.Sealer.Open(ctx, organization, id, version, sealed)
}

// An attempt that could not be made for want of a key costs none.
func TestNoAttemptWithoutASecret(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		w, _ := h.make(t, owner, r.URL)
		h.sealer = busy{h.sealer, new(atomic.Int64)}
		h.sealer.(busy).left.Store(3)
		hurried := h.instance(t, r.URL)
		h.enqueue(t, webhook.CredentialExpired)
		for range 3 {
			h.deliver(t, hurried)
			if d := h.deliveries(t, w.ID)[0]; d.Status != webhook.Pending || d.Attempts != 0 || d.LastError != "" || len(r.got()) != 0 {
				t.Fatalf("%+v, %d requests", d, len(r.got()))
			}
			h.clock.Pass(5 * time.Second)
		}
		h.deliver(t, hurried)
		if d := h.deliveries(t, w.ID)[0]; d.Status != webhook.Delivered || d.Attempts != 1 {
			t.Errorf("%+v", d)
		}
	})
}

// A receiver that hangs holds back neither other webhooks nor other tenants.
func TestAReceiverThatHangs(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		release := make(chan struct{})
		hanging := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { <-release; w.WriteHeader(500) })
		arrived := make(chan struct{}, 10)
		working := newReceiver(t, func(w http.ResponseWriter, _ *http.Request) { arrived <- struct{}{}; w.WriteHeader(200) })
		h := newHouse(t, url, hanging.URL, working.URL)
		h.make(t, owner, hanging.URL, webhook.CredentialUnused)
		h.make(t, owner, working.URL, webhook.CredentialExpired)
		for range 100 {
			h.enqueue(t, webhook.CredentialUnused)
		}
		h.clock.Pass(time.Second) // what comes last is due last
		h.enqueue(t, webhook.CredentialExpired)
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-arrived
		if n := len(hanging.got()); n > 2 {
			t.Errorf("%d requests at once to one receiver", n)
		}
		close(release)
		h.Wait()
	})
}

// Instances share the work: each message arrives once. What an instance that was
// killed had taken is sent by another when its lease has ended.
func TestInstancesShareDeliveries(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		r := newReceiver(t, nil)
		h := newHouse(t, url, r.URL)
		other := h.instance(t, r.URL)
		h.make(t, owner, r.URL)
		const n = 40
		for range n {
			h.enqueue(t, webhook.CredentialExpired)
		}
		for range 10 {
			h.deliver(t, h.Webhooks, other)
		}
		seen := map[string]int{}
		for _, m := range r.got() {
			seen[m.header.Get("webhook-id")]++
		}
		for id, times := range seen {
			if times != 1 {
				t.Errorf("%s arrived %d times", id, times)
			}
		}
		if len(seen) != n {
			t.Errorf("%d of %d messages arrived", len(seen), n)
		}

		release := make(chan struct{})
		r.answers(func(http.ResponseWriter, *http.Request) { <-release })
		h.enqueue(t, webhook.CredentialExpired)
		if err := h.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for len(r.got()) == n {
			time.Sleep(time.Millisecond)
		}
		r.answers(nil)
		h.deliver(t, other)
		if len(r.got()) != n+1 {
			t.Error("a delivery that is under way is made twice")
		}
		h.clock.Pass(webhook.Timeout + 2*time.Minute)
		h.deliver(t, other)
		if len(r.got()) != n+2 {
			t.Error("a delivery that was left is not made")
		}
		close(release)
		h.Wait()
		page, err := h.Deliveries(t.Context(), owner, h.first(t), webhook.Filter{Status: webhook.Pending})
		if err != nil || len(page.Deliveries) != 0 {
			t.Errorf("%d deliveries wait in the end, %v", len(page.Deliveries), err)
		}
	})
}

func (h *house) first(t testing.TB) string {
	t.Helper()
	all, err := h.List(t.Context(), owner)
	if err != nil || len(all) == 0 {
		t.Fatal(err)
	}
	return all[len(all)-1].ID
}

// Stopping gives back what was under way: it costs the receiver no attempt.
func TestStopGivesBack(t *testing.T) {
	seen, release := make(chan struct{}, 1), make(chan struct{})
	r := newReceiver(t, func(w http.ResponseWriter, q *http.Request) {
		seen <- struct{}{}
		select {
		case <-release:
		case <-q.Context().Done():
		}
	})
	h := newHouse(t, t.TempDir()+"/gatehouse.db", r.URL)
	w, _ := h.make(t, owner, r.URL)
	h.enqueue(t, webhook.CredentialExpired)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.Run(ctx) }()
	<-seen
	stop()
	<-done
	close(release)
	if d := h.deliveries(t, w.ID)[0]; d.Status != webhook.Pending || d.Attempts != 0 || d.NextAt.After(h.clock.Now()) {
		t.Errorf("%+v", d)
	}
}

// Where a webhook leads is checked each time it is dialled, and its failure
// says no more than that it is not public.
func TestPrivateAddresses(t *testing.T) {
	r := newReceiver(t, nil)
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	port := r.URL[strings.LastIndex(r.URL, ":"):]
	for _, u := range []string{
		r.URL, "http://example.com", "https://127.0.0.1", "https://127.0.0.1" + port, "https://[::1]/", "https://10.0.0.1/x", "https://169.254.169.254/latest/meta-data",
		"https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://example.com:8443/", "https://user:pass@example.com/", "https://example.com/#x",
		"ftp://example.com", "https://", "//example.com", "javascript:alert(1)", "", "https://exa mple.com/", "https://example.com/\n", "https://" + strings.Repeat("a", 3000),
		"https://example.com/\x00", "HTTPS:example.com",
	} {
		if _, _, err := h.Create(t.Context(), owner, webhook.Content{URL: u}); err == nil {
			t.Errorf("%q is taken", u)
		} else if u != "" && strings.Contains(err.Error(), u) {
			t.Errorf("the error holds the URL: %v", err)
		}
	}
	for _, u := range []string{"https://localhost/", "https://localhost:443/x", "https://does-not-exist.invalid/"} {
		w, _ := h.make(t, owner, u, webhook.CredentialExpired)
		h.enqueue(t, webhook.CredentialExpired)
		h.deliver(t)
		if d := h.deliveries(t, w.ID)[0]; d.LastError != "not_public" || d.LastStatus != 0 || d.Status != webhook.Pending {
			t.Errorf("%s: %+v", u, d)
		}
		if err := h.Delete(t.Context(), owner, w.ID, store.Match{}); err != nil {
			t.Fatal(err)
		}
	}
	if len(r.got()) != 0 {
		t.Error("a private address was called")
	}
}

// What a deleted organization had waiting is not sent.
func TestDeletedOrganization(t *testing.T) {
	r := newReceiver(t, nil)
	h := newHouse(t, t.TempDir()+"/gatehouse.db", r.URL)
	h.make(t, owner, r.URL)
	h.enqueue(t, webhook.CredentialExpired)
	h.update(t, func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE organizations SET deleted_at = 1 WHERE id = 'acme'`)
		return err
	})
	h.deliver(t)
	if len(r.got()) != 0 {
		t.Error("a deleted organization's message was sent")
	}
}
