package vault_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// asking is a vault whose provider is a function of the test.
func asking(t *testing.T, reuse time.Duration, probe vault.Probe) (*vault.Vault, *audit.Log) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "g.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	trail := audit.New(db, audit.Options{})
	running, stop := context.WithCancel(ctx)
	var writer sync.WaitGroup
	writer.Go(func() { trail.Run(running) })
	t.Cleanup(func() { stop(); writer.Wait(); _ = db.Close() })
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ring, err := seal.NewKeyring(seal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return vault.New(db, trail, services, ring, vault.Options{Environment: "test", Probe: probe, TestReuse: reuse}), trail
}

func caller(organization string) access.Caller {
	return access.NewCaller(organization, access.User, "u1", access.Owner)
}

var stripeFields = map[string]string{"secretKey": "sk_test_0123456789abcdef"}

func tested(t *testing.T, trail *audit.Log, organization string) int {
	t.Helper()
	if err := trail.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	page, err := trail.Events(t.Context(), caller(organization), audit.Filter{Action: string(audit.CredentialTest), Limit: 500})
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Events)
}

// TestIdenticalTestsShareOneQuestion: those of one organization that ask the
// same at once are answered together, each with an event of its own; another
// organization, service or value is another question.
func TestIdenticalTestsShareOneQuestion(t *testing.T) {
	synctest.Test(t, identicalTests)
}

func identicalTests(t *testing.T) {
	var asked atomic.Int32
	arrived, answer := make(chan string, 100), make(chan struct{})
	v, trail := asking(t, 0, func(_ context.Context, s *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error) {
		asked.Add(1)
		arrived <- s.Name + fields["secretKey"]
		<-answer
		return catalog.Outcome{Result: catalog.Valid}, time.Millisecond, nil
	})
	var all sync.WaitGroup
	test := func(organization string, fields map[string]string) {
		all.Go(func() {
			r, err := v.Test(t.Context(), caller(organization), "stripe", fields)
			if err != nil || r.Result != catalog.Valid {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	test("acme", stripeFields)
	<-arrived
	for range 20 {
		test("acme", stripeFields)
	}
	test("other", stripeFields)
	<-arrived
	test("acme", map[string]string{"secretKey": "sk_test_another0123456789"})
	<-arrived
	test("acme", map[string]string{"secretKey": "sk_test_0123456789abcdef", "publishableKey": "pk_test_0123456789abc"})
	<-arrived
	synctest.Wait() // all have joined
	close(answer)
	all.Wait()
	if n := asked.Load(); n != 4 {
		t.Errorf("the provider was asked %d times, want 4", n)
	}
	if n := tested(t, trail, "acme"); n != 23 {
		t.Errorf("%d events, want 23", n)
	}
	if n := tested(t, trail, "other"); n != 1 {
		t.Errorf("%d events of the other, want 1", n)
	}
	// Nothing is remembered.
	before := asked.Load()
	if _, err := v.Test(t.Context(), caller("acme"), "stripe", stripeFields); err != nil || asked.Load() != before+1 {
		t.Errorf("asked %d times more, %v", asked.Load()-before, err)
	}
}

// TestLeavingASharedTest: who leaves takes nothing from the others, and when all
// have left the question is given up.
func TestLeavingASharedTest(t *testing.T) {
	synctest.Test(t, leavingATest)
}

func leavingATest(t *testing.T) {
	arrived, givenUp, answer := make(chan struct{}, 10), make(chan struct{}, 10), make(chan struct{})
	v, _ := asking(t, 0, func(ctx context.Context, _ *catalog.Service, _ map[string]string) (catalog.Outcome, time.Duration, error) {
		arrived <- struct{}{}
		select {
		case <-answer:
			return catalog.Outcome{Result: catalog.Valid}, 0, nil
		case <-ctx.Done():
			givenUp <- struct{}{}
			return catalog.Outcome{Result: catalog.Indeterminate}, 0, ctx.Err()
		}
	})
	test := func(ctx context.Context) <-chan catalog.Result {
		done := make(chan catalog.Result, 1)
		go func() {
			r, err := v.Test(ctx, caller("acme"), "stripe", stripeFields)
			if err != nil {
				t.Error(err)
			}
			done <- r.Result
		}()
		return done
	}
	first, leaveFirst := context.WithCancel(t.Context())
	second, leaveSecond := context.WithCancel(t.Context())
	one := test(first)
	<-arrived
	two := test(second)
	synctest.Wait() // the second has joined
	leaveFirst()
	if r := <-one; r != catalog.Indeterminate {
		t.Errorf("who left was told %s", r)
	}
	leaveSecond()
	if r := <-two; r != catalog.Indeterminate {
		t.Errorf("who left was told %s", r)
	}
	select {
	case <-givenUp:
	case <-time.After(time.Second):
		t.Error("nobody waits, and the question goes on")
	}
	close(answer)
	if r := <-test(t.Context()); r != catalog.Valid {
		t.Errorf("the next is told %s", r)
	}
}

// TestReuse: where the operator wants it, an answer is given again for a while,
// to the same organization, unless nothing was known.
func TestReuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked int
		result := catalog.Indeterminate
		v, trail := asking(t, time.Minute, func(context.Context, *catalog.Service, map[string]string) (catalog.Outcome, time.Duration, error) {
			asked++
			return catalog.Outcome{Result: result}, 0, nil
		})
		ask := func(organization string, want catalog.Result, times int) {
			t.Helper()
			r, err := v.Test(t.Context(), caller(organization), "stripe", stripeFields)
			if err != nil || r.Result != want || asked != times {
				t.Errorf("%s after %d questions, %v; want %s after %d", r.Result, asked, err, want, times)
			}
		}
		ask("acme", catalog.Indeterminate, 1)
		result = catalog.Valid
		ask("acme", catalog.Valid, 2)
		result = catalog.Invalid
		ask("acme", catalog.Valid, 2)
		ask("other", catalog.Invalid, 3)
		time.Sleep(59 * time.Second)
		ask("acme", catalog.Valid, 3)
		time.Sleep(2 * time.Second)
		ask("acme", catalog.Invalid, 4)
		if n := tested(t, trail, "acme"); n != 5 {
			t.Errorf("%d events, want 5", n)
		}
	})
}

// TestPanicInATest: a fault of ours ends one test, not the server, and does not
// tell what it had in its hands.
func TestPanicInATest(t *testing.T) {
	v, trail := asking(t, time.Minute, func(_ context.Context, _ *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error) {
		panic(fields["secretKey"])
	})
	for range 2 {
		r, err := v.Test(t.Context(), caller("acme"), "stripe", stripeFields)
		if err != nil || r.Result != catalog.Indeterminate || r.Detail == "" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n := tested(t, trail, "acme"); n != 2 {
		t.Errorf("%d events, want 2", n)
	}
}
