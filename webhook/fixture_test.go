package webhook_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

var (
	owner    = access.NewCaller("acme", access.User, "u-1", access.Owner)
	stranger = access.NewCaller("globex", access.User, "u-9", access.Owner)
)

// house is a set of webhooks of the organizations acme and globex, and what it
// stands on.
type house struct {
	*webhook.Webhooks
	db       *store.DB
	trail    *audit.Log
	sealer   webhook.Sealer
	clock    *gatehousetest.Clock
	outcomes map[string]int
	mu       sync.Mutex
}

func newHouse(t testing.TB, url string, origins ...string) *house {
	t.Helper()
	h := &house{clock: gatehousetest.NewClock(time.Now().UTC().Truncate(time.Second)), outcomes: map[string]int{}}
	var err error
	if h.db, err = store.Open(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	h.trail = audit.New(h.db, audit.Options{})
	running, stop := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() { h.trail.Run(running) })
	t.Cleanup(func() { stop(); writer.Wait() })
	keys, err := masterkey.Open(t.Context(), h.db, h.trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
	if err != nil {
		t.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	h.sealer = vault.New(h.db, h.trail, services, keys.Ring(), vault.Options{Environment: "test", Now: h.clock.Now}).WebhookSecrets()
	h.update(t, func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO organizations (id, name, created_at) VALUES ('acme', 'acme', 1), ('globex', 'globex', 1)`)
		return err
	})
	h.Webhooks = h.instance(t, origins...)
	return h
}

// instance gives one more instance on the same database and clock.
func (h *house) instance(t testing.TB, origins ...string) *webhook.Webhooks {
	t.Helper()
	w, err := webhook.New(h.db, h.trail, h.sealer, webhook.Options{AllowedOrigins: origins, Now: h.clock.Now, Attempted: func(outcome string) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.outcomes[outcome]++
	}})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (h *house) update(t testing.TB, fn func(tx *store.Tx) error) {
	t.Helper()
	if err := h.db.UpdateAcross(context.Background(), fn); err != nil {
		t.Fatal(err)
	}
}

func (h *house) make(t testing.TB, caller access.Caller, url string, types ...webhook.Type) (webhook.Webhook, string) {
	t.Helper()
	w, secret, err := h.Create(t.Context(), caller, webhook.Content{URL: url, Types: types})
	if err != nil {
		t.Fatal(err)
	}
	return w, secret
}

// enqueue tells acme of something.
func (h *house) enqueue(t testing.TB, typ webhook.Type) {
	t.Helper()
	h.update(t, func(tx *store.Tx) error {
		return webhook.Enqueue(context.Background(), tx, "acme", h.clock.Now(), webhook.Message{
			Type: typ, OccurredAt: h.clock.Now(), Data: map[string]any{"organizationId": "acme"},
		})
	})
}

func (h *house) deliver(t testing.TB, instances ...*webhook.Webhooks) {
	t.Helper()
	h.thrice(t, (*webhook.Webhooks).Deliver, instances)
}

// thrice lets instances run at once, three times each; none is the house's own.
func (h *house) thrice(t testing.TB, run func(*webhook.Webhooks, context.Context) error, instances []*webhook.Webhooks) {
	t.Helper()
	if len(instances) == 0 {
		instances = []*webhook.Webhooks{h.Webhooks}
	}
	var all sync.WaitGroup
	for _, w := range instances {
		all.Go(func() {
			for range 3 {
				if err := run(w, context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

func (h *house) deliveries(t testing.TB, id string) []webhook.Delivery {
	t.Helper()
	page, err := h.Deliveries(t.Context(), owner, id, webhook.Filter{Limit: webhook.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	return page.Deliveries
}

// events gives acme's events of one action, newest first.
func (h *house) events(t testing.TB, action audit.Action) []audit.Event {
	t.Helper()
	page, err := h.trail.Events(t.Context(), owner, audit.Filter{Action: string(action), Limit: audit.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

// received is a request as a receiver saw it.
type received struct {
	header http.Header
	body   []byte
}

// receiver is somebody's system that takes webhooks.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	all     []received
	handler func(w http.ResponseWriter, r *http.Request) // nil: 204
}

func newReceiver(t testing.TB, handler http.HandlerFunc) *receiver {
	t.Helper()
	r := &receiver{handler: handler}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, err := io.ReadAll(q.Body)
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("a body that cannot be read: %v", err)
		}
		r.mu.Lock()
		r.all = append(r.all, received{q.Header.Clone(), body})
		handle := r.handler
		r.mu.Unlock()
		if handle != nil {
			handle(w, q)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(handler http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.handler = handler
}

func (r *receiver) got() []received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]received(nil), r.all...)
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}
