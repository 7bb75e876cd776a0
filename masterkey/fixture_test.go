package masterkey_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
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

// The master secrets of the tests, in the order in which they come to seal.
const (
	first    = gatehousetest.EncryptionKey
	second   = "a-second-master-secret-0123456789abcdefgh"
	third    = "a-third-master-secret-0123456789abcdefghi"
	fallback = gatehousetest.JWTSecret
)

var operator = access.NewCaller("ops", access.User, "op-1", access.Operator)

// house is a database with its trail.
type house struct {
	url   string
	db    *store.DB
	trail *audit.Log
	logs  *gatehousetest.Buffer
}

func newHouse(t testing.TB, url string) *house {
	t.Helper()
	h := &house{url: url, logs: new(gatehousetest.Buffer)}
	var err error
	if h.db, err = store.Open(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.db.Close() })
	h.trail = audit.New(h.db, audit.Options{})
	return h
}

// options gives what an instance is started with: its key, then the old ones.
func (h *house) options(secrets ...string) masterkey.Options {
	o := masterkey.Options{
		Environment: "test", Columns: vault.SealedColumns(), Poll: 50 * time.Millisecond, Lease: time.Second,
		Logger: slog.New(slog.NewTextHandler(h.logs, nil)),
	}
	for i, s := range secrets {
		if i == 0 {
			o.Secret = seal.NewSecret(s)
		} else {
			o.Old = append(o.Old, seal.NewSecret(s))
		}
	}
	return o
}

// process is a running instance, or a command.
type process struct {
	*masterkey.Keys
	vault *vault.Vault
	stop  func()
}

// open opens the keys and a vault over them.
func (h *house) open(t testing.TB, o masterkey.Options) *process {
	t.Helper()
	keys, err := masterkey.Open(t.Context(), h.db, h.trail, o)
	if err != nil {
		t.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &process{Keys: keys, vault: vault.New(h.db, h.trail, services, keys.Ring(), vault.Options{Environment: "test", Reveal: true}), stop: func() {}}
}

// start runs an instance of that name until the test ends or it is stopped.
func (h *house) start(t testing.TB, name string, secrets ...string) *process {
	t.Helper()
	o := h.options(secrets...)
	o.Instance, o.Version = name, "test"
	p := h.open(t, o)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	p.stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(p.stop)
	return p
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

func (h *house) count(t testing.TB, query string, args ...any) (n int64) {
	t.Helper()
	err := h.db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (h *house) organization(t testing.TB, id string) {
	t.Helper()
	h.exec(t, `INSERT INTO organizations (id, name, created_at) VALUES ($1, $1, 1)`, id)
}

func ownerOf(organization string) access.Caller {
	return access.NewCaller(organization, access.User, "u-1", access.Owner)
}

// keyOf is the plaintext that stored gives to a credential.
func keyOf(organization, name string) string {
	return fmt.Sprintf("sk-proj-%s-%s-0123456789abcdef", organization, name)
}

// store stores a credential of that name.
func (p *process) store(t testing.TB, organization, name string) vault.Credential {
	t.Helper()
	c, _, err := p.vault.Create(t.Context(), ownerOf(organization), vault.NewCredential{
		Service: "openai", Name: name, Fields: map[string]string{"apiKey": keyOf(organization, name)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// reads checks that the process opens the credential to the plaintext.
func (p *process) reads(t testing.TB, organization string, c vault.Credential, want string) {
	t.Helper()
	_, fields, err := p.vault.Reveal(t.Context(), ownerOf(organization), c.ID, "test")
	if err != nil || fields["apiKey"].ExposeSecret() != want {
		t.Errorf("%s of %s: %v", c.Name, organization, err)
	}
}

func (p *process) status(t testing.TB) masterkey.Status {
	t.Helper()
	s, err := p.Status(t.Context(), operator)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// key gives the key that the process has from a source.
func (p *process) key(t testing.TB, source masterkey.Source) masterkey.Key {
	t.Helper()
	all := p.status(t).Keys
	i := slices.IndexFunc(all, func(k masterkey.Key) bool { return k.Source == source })
	if i < 0 {
		t.Fatalf("no key from %s in %+v", source, all)
	}
	return all[i]
}

// rotated waits for the rotation to end.
func (p *process) rotated(t testing.TB) masterkey.Rotation {
	t.Helper()
	r, err := p.Work(t.Context(), operator, nil)
	if err != nil || r.State != masterkey.Done {
		t.Fatalf("the rotation: %+v, %v", r, err)
	}
	return r
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within twenty seconds: %s", what)
		}
	}
}

// events gives the phases of the trail's events on keys, the oldest first.
func (h *house) events(t testing.TB) []string {
	t.Helper()
	page, err := h.trail.Events(t.Context(), access.NewCaller(access.InstanceOrganization, access.User, "reader", access.Auditor), audit.Filter{Limit: audit.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range slices.Backward(page.Events) {
		text := string(e.Action)
		if phase, ok := e.Metadata["phase"]; ok {
			text += fmt.Sprint(" ", phase)
		}
		if e.Outcome != audit.Success {
			text += " " + string(e.Outcome)
		}
		all = append(all, text)
	}
	return all
}
