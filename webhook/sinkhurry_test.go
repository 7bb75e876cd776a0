package webhook_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// What a receiver asked to wait holds for that receiver, not for the one that is named next,
// nor after somebody enabled the webhook again.
func TestSinkIsTriedAtOnce(t *testing.T) {
	busy := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Retry-After", "900")
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	for name, change := range map[string]func(h *house, hook webhook.Webhook, other string) error{
		"another URL": func(h *house, hook webhook.Webhook, other string) error {
			_, err := h.Update(context.Background(), owner, hook.ID, store.Match{}, webhook.Content{URL: other, Types: hook.Types})
			return err
		},
		"disabled and enabled": func(h *house, hook webhook.Webhook, _ string) error {
			for _, disabled := range []bool{true, false} {
				if _, err := h.Update(context.Background(), owner, hook.ID, store.Match{}, webhook.Content{URL: hook.URL, Types: hook.Types, Disabled: disabled}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			gatehousetest.Databases(t, func(t *testing.T, url string) {
				first, second := newReceiver(t, busy), newReceiver(t, nil)
				h := newHouse(t, url, first.URL, second.URL)
				hook, _ := h.make(t, owner, first.URL, webhook.AuditEvents)
				h.record(t, "acme", 0, 3)
				h.deliverTrail(t)
				first.answers(nil)
				h.clock.Pass(10 * time.Second)
				if _, err := h.Update(t.Context(), owner, hook.ID, store.Match{}, webhook.Content{URL: hook.URL, Types: hook.Types, Description: "the same"}); err != nil {
					t.Fatal(err)
				}
				h.deliverTrail(t)
				if n := len(first.got()); n != 1 {
					t.Fatalf("after a change of its description it was tried %d times; want that it waits", n)
				}
				if err := change(h, hook, second.URL); err != nil {
					t.Fatal(err)
				}
				h.deliverTrail(t)
				all := slices.Concat(first.got()[1:], second.got())
				if got, _ := reasonsOf(t, all); !slices.Equal(got, numbered(3)) {
					t.Errorf("%v came", got)
				}
			})
		})
	}
}
