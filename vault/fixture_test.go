package vault_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
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
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

var (
	owner     = access.NewCaller("acme", access.User, "u-1", access.Owner)
	stranger  = access.NewCaller("globex", access.User, "u-9", access.Owner)
	keySecret = seal.NewSecret(gatehousetest.EncryptionKey)
)

// Values of credentials, each of its usual form.
const (
	apiKey    = "sk-proj-AAAAAAAAAAAAAAAAAAAAAAAA"
	apiKeyTwo = "sk-proj-BBBBBBBBBBBBBBBBBBBBBBBB"
)

// house is a vault with the organizations acme and globex, and what it stands on.
type house struct {
	*vault.Vault
	db       *store.DB
	trail    *audit.Log
	services *catalog.Catalog
	clock    *gatehousetest.Clock
}

func newHouse(t testing.TB, url string, opts vault.Options) *house {
	t.Helper()
	h := &house{clock: gatehousetest.NewClock(time.Now().UTC().Truncate(time.Second))}
	h.open(t, url, opts)
	h.exec(t, `INSERT INTO organizations (id, name, created_at) VALUES ('acme', 'acme', 1), ('globex', 'globex', 1)`)
	return h
}

// beside gives another instance on the same database and clock.
func (h *house) beside(t testing.TB, url string, opts vault.Options) *house {
	t.Helper()
	other := &house{clock: h.clock}
	other.open(t, url, opts)
	return other
}

func (h *house) open(t testing.TB, url string, opts vault.Options) {
	t.Helper()
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
	keys, err := masterkey.Open(t.Context(), h.db, h.trail, masterkey.Options{Environment: "test", Secret: keySecret})
	if err != nil {
		t.Fatal(err)
	}
	if h.services, err = catalog.New(catalog.Options{Echo: true}); err != nil {
		t.Fatal(err)
	}
	opts.Environment, opts.Now = "test", h.clock.Now
	h.Vault = vault.New(h.db, h.trail, h.services, keys.Ring(), opts)
}

func (h *house) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	err := h.db.UpdateAcross(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(context.Background(), statement, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) scan(t testing.TB, dest any, query string, args ...any) {
	t.Helper()
	err := h.db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(dest)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *house) count(t testing.TB, query string, args ...any) (n int64) {
	t.Helper()
	h.scan(t, &n, query, args...)
	return n
}

// events gives the organization's events of one action, oldest first.
func (h *house) events(t testing.TB, organization string, action audit.Action) []audit.Event {
	t.Helper()
	reader := access.NewCaller(organization, access.User, "reader", access.Auditor)
	page, err := h.trail.Events(t.Context(), reader, audit.Filter{Action: string(action), Limit: audit.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	for i, j := 0, len(page.Events)-1; i < j; i, j = i+1, j-1 {
		page.Events[i], page.Events[j] = page.Events[j], page.Events[i]
	}
	return page.Events
}

func (h *house) create(t testing.TB, caller access.Caller, n vault.NewCredential) vault.Credential {
	t.Helper()
	c, _, err := h.Create(t.Context(), caller, n)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// openai is a new credential of the service openai.
func openai(name, key string) vault.NewCredential {
	return vault.NewCredential{Service: "openai", Name: name, Fields: map[string]string{"apiKey": key}}
}

func zendesk() vault.NewCredential {
	return vault.NewCredential{Service: "zendesk", Fields: map[string]string{
		"subdomain": "acme", "email": "agent@example.com", "apiToken": "0123456789012345678901234567890123456789",
	}}
}

// values reveals what is stored.
func (h *house) values(t testing.TB, caller access.Caller, id string) map[string]string {
	t.Helper()
	_, fields, err := h.Reveal(t.Context(), caller, id, "test")
	if err != nil {
		t.Fatal(err)
	}
	plain := map[string]string{}
	for name, value := range fields {
		plain[name] = value.ExposeSecret()
	}
	return plain
}

// use gives the key that a request would carry.
func (h *house) use(t testing.TB, caller access.Caller, service, name string) (string, error) {
	t.Helper()
	s, ok := h.services.Service(service)
	if !ok {
		t.Fatalf("no service %s", service)
	}
	opened, err := h.OpenForUse(t.Context(), caller, s, name)
	if err != nil {
		return "", err
	}
	injection, err := opened.Open(t.Context())
	if err != nil {
		return "", err
	}
	header := http.Header{}
	injection.Apply(header)
	return header.Get("Authorization"), nil
}

func (h *house) uses(t testing.TB, name, key string, want error) {
	t.Helper()
	got, err := h.use(t, owner, "openai", name)
	if key != "" {
		key = "Bearer " + key
	}
	if got != key || !errors.Is(err, want) {
		t.Errorf("the credential %q in use: %q, %v; want %q, %v", name, got, err, key, want)
	}
}

func text(s string) *string { return &s }
