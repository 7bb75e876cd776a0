package ledger_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

var (
	commandLine = access.NewCaller(access.InstanceOrganization, access.System, "command line", access.Operator)
	operator    = access.NewCaller("acme", access.User, "root", access.Operator)
)

func ownerOf(organization string) access.Caller {
	return access.NewCaller(organization, access.User, "u-1", access.Owner)
}

// book is a trail with its ledger.
type book struct {
	*ledger.Ledger
	db    *store.DB
	trail *audit.Log
	keys  ledger.Sealer
	opts  ledger.Options
}

// newBook opens the database, with the organizations acme and globex.
func newBook(t testing.TB, url string, opts ledger.Options) *book {
	t.Helper()
	b := &book{opts: opts}
	var err error
	if b.db, err = store.Open(t.Context(), url, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.db.Close() })
	b.trail = audit.New(b.db, audit.Options{})
	running, stop := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() { b.trail.Run(running) })
	t.Cleanup(func() { stop(); writer.Wait() })
	keys, err := masterkey.Open(t.Context(), b.db, b.trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
	if err != nil {
		t.Fatal(err)
	}
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b.keys = vault.New(b.db, b.trail, services, keys.Ring(), vault.Options{Environment: "test"}).SigningKeys()
	b.Ledger = b.beside()
	return b
}

// beside gives another process's ledger over the same database.
func (b *book) beside() *ledger.Ledger {
	opts := b.opts
	opts.Environment = "test"
	return ledger.New(b.db, b.trail, b.keys, opts)
}

// change writes one control event of the organization, with personal data.
func (b *book) change(t testing.TB, organization string, n int) {
	t.Helper()
	err := b.db.Update(context.Background(), organization, func(tx *store.Tx) error { return b.append(tx, organization, n) })
	if err != nil {
		t.Fatal(err)
	}
}

func (b *book) append(tx *store.Tx, organization string, n int) error {
	return b.trail.Append(context.Background(), tx, ownerOf(organization), audit.Event{
		Action: audit.CredentialUpdate, Outcome: audit.Success, Targets: []audit.Target{{Type: "credential", ID: "cred_1", Name: "Marie's"}},
		Request: audit.Request{IP: "192.0.2.1", UserAgent: "curl"}, Metadata: map[string]any{"n": n},
	})
}

// visit writes one access event of the organization.
func (b *book) visit(t testing.TB, organization string, n int) {
	t.Helper()
	slot, err := b.trail.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	slot.Record(context.Background(), ownerOf(organization), audit.Event{Action: audit.ChatRequest, Outcome: audit.Success, Metadata: map[string]any{"n": n}})
}

// fill writes rounds of events, and seals after each.
func (b *book) fill(t testing.TB, rounds, events int) {
	t.Helper()
	for range rounds {
		for i := range events {
			b.change(t, "acme", i)
			b.change(t, "globex", i)
			b.visit(t, "acme", i)
		}
		b.flush(t)
		b.sealAll(t)
	}
}

func (b *book) flush(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := b.trail.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func (b *book) sealAll(t testing.TB) {
	t.Helper()
	for {
		n, err := b.Seal(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
	}
}

// verifyAll verifies everything, as the command line does.
func (b *book) verifyAll(t testing.TB, checkpoints ...string) ledger.Report {
	t.Helper()
	r, err := b.Verify(context.Background(), commandLine, ledger.VerifyOptions{All: true, Checkpoints: checkpoints})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *book) exec(t testing.TB, statements ...string) {
	t.Helper()
	err := b.db.UpdateAcross(context.Background(), func(tx *store.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(context.Background(), s); err != nil {
				return fmt.Errorf("%s: %w", s, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *book) scan(t testing.TB, dest any, query string, args ...any) {
	t.Helper()
	err := b.db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(dest)
	})
	if err != nil {
		t.Fatal(err)
	}
}
