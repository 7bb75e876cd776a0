package seal_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/seal"
)

// gate holds derivations up until the test lets them pass, one by one.
type gate chan struct{}

func (g gate) derive(real func() ([]byte, error)) ([]byte, error) {
	<-g
	return real()
}

// gated gives a keyring whose derivations wait for the gate.
func gated(t *testing.T, options seal.Options) (*seal.Keyring, gate) {
	t.Helper()
	keyring := newKeyringWith(t, options)
	g := make(gate)
	keyring.SetDerive(g.derive)
	return keyring, g
}

// begin seals for an organization in a goroutine of its own.
func begin(ctx context.Context, keyring *seal.Keyring, organization string) <-chan error {
	done := make(chan error, 1)
	go func() {
		c := credential
		c.Organization = organization
		_, err := keyring.Seal(ctx, c, saltA, []byte("plaintext"))
		done <- err
	}()
	return done
}

// bubble runs f in a synctest bubble, with the fixtures made outside of it.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	keyA()
	keyB()
	synctest.Test(t, f)
}

func wantStats(t *testing.T, keyring *seal.Keyring, running, waiting int, derived uint64) {
	t.Helper()
	synctest.Wait()
	got := keyring.Stats()
	if got.Running != running || got.Waiting != waiting || got.Derived != derived {
		t.Fatalf("running %d, waiting %d, derived %d; want %d, %d, %d",
			got.Running, got.Waiting, got.Derived, running, waiting, derived)
	}
}

func TestOneDerivationForAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keyring, g := gated(t, seal.Options{Derivations: 4})
		var waiters []<-chan error
		for range 50 {
			waiters = append(waiters, begin(t.Context(), keyring, "acme"))
		}
		wantStats(t, keyring, 1, 0, 1)
		g <- struct{}{}
		for _, done := range waiters {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := <-begin(t.Context(), keyring, "acme"); err != nil {
			t.Error(err)
		}
		wantStats(t, keyring, 0, 0, 1)
	})
}

func TestBusy(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keyring, g := gated(t, seal.Options{Derivations: 2, Waiting: 3})
		var waiters []<-chan error
		for i := range 5 {
			waiters = append(waiters, begin(t.Context(), keyring, fmt.Sprintf("organization-%d", i)))
			synctest.Wait()
		}
		wantStats(t, keyring, 2, 3, 2)
		if err := <-begin(t.Context(), keyring, "one-too-many"); !errors.Is(err, seal.ErrBusy) {
			t.Errorf("past the line: %v", err)
		}
		// Whoever wants a key that is in line already takes no further place.
		waiters = append(waiters, begin(t.Context(), keyring, "organization-4"))
		wantStats(t, keyring, 2, 3, 2)

		for range 5 {
			g <- struct{}{}
			synctest.Wait()
			if got := keyring.Stats().Running; got > 2 {
				t.Errorf("%d derivations at a time", got)
			}
		}
		for _, done := range waiters {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		wantStats(t, keyring, 0, 0, 5)
		if got := keyring.Stats().Refused; got != 1 {
			t.Errorf("%d refused", got)
		}
	})
}

func TestLeavingDoesNotCancelForOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keyring, g := gated(t, seal.Options{Derivations: 1, Waiting: 1})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		first := begin(ctx, keyring, "acme")
		synctest.Wait()
		second := begin(t.Context(), keyring, "acme")
		synctest.Wait()
		if err := <-first; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the one whose time is over: %v", err)
		}
		wantStats(t, keyring, 1, 0, 1)
		g <- struct{}{}
		if err := <-second; err != nil {
			t.Errorf("the other: %v", err)
		}
	})
}

func TestLeavingTheLine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keyring, g := gated(t, seal.Options{Derivations: 1, Waiting: 1})
		ctx, cancel := context.WithCancel(t.Context())
		running := begin(ctx, keyring, "running")
		synctest.Wait()
		inLine := begin(ctx, keyring, "in-line")
		wantStats(t, keyring, 1, 1, 1)
		cancel()
		for _, done := range []<-chan error{running, inLine} {
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("after cancel: %v", err)
			}
		}
		// The place in line is free again; what runs, runs to its end.
		wantStats(t, keyring, 1, 0, 1)
		next := begin(t.Context(), keyring, "next")
		wantStats(t, keyring, 1, 1, 1)
		g <- struct{}{}
		g <- struct{}{}
		if err := <-next; err != nil {
			t.Error(err)
		}
		if err := <-begin(t.Context(), keyring, "running"); err != nil {
			t.Error(err)
		}
		wantStats(t, keyring, 0, 0, 2) // "running" was cached, "in-line" never derived
	})
}

func TestLeavingTheLineToOthers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		keyring, g := gated(t, seal.Options{Derivations: 1, Waiting: 1})
		running := begin(t.Context(), keyring, "running")
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		leaves, stays := begin(ctx, keyring, "in-line"), begin(t.Context(), keyring, "in-line")
		wantStats(t, keyring, 1, 1, 1)
		cancel()
		if err := <-leaves; !errors.Is(err, context.Canceled) {
			t.Errorf("after cancel: %v", err)
		}
		wantStats(t, keyring, 1, 1, 1)
		g <- struct{}{}
		g <- struct{}{}
		for _, done := range []<-chan error{running, stays} {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		wantStats(t, keyring, 0, 0, 2)
	})
}

func TestCancelledBeforehand(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the client went away")
	cancel(cause)
	if _, err := keyring.Open(ctx, credential, saltA, sealed); err != nil {
		t.Errorf("an open that need not wait: %v", err)
	}
	keyring.Forget(credential.Organization)
	if _, err := keyring.Open(ctx, credential, saltA, sealed); !errors.Is(err, cause) {
		t.Errorf("an open that would wait: %v", err)
	}
	if got := keyring.Stats().Derived; got != 1 {
		t.Errorf("%d derivations", got)
	}
}

func TestForget(t *testing.T) {
	keyring := newKeyring(t)
	other := credential
	other.Organization = "umbrella"
	open := func(c seal.Context, salt seal.OrganizationSalt, sealed seal.Sealed) {
		t.Helper()
		if _, err := keyring.Open(t.Context(), c, salt, sealed); err != nil {
			t.Fatal(err)
		}
	}
	sealed, err := keyring.Seal(t.Context(), credential, saltA, nil)
	if err != nil {
		t.Fatal(err)
	}
	otherSealed, err := keyring.Seal(t.Context(), other, saltB, nil)
	if err != nil {
		t.Fatal(err)
	}
	open(credential, saltA, sealed)
	open(other, saltB, otherSealed)
	if got := keyring.Stats(); got.OrganizationKeys != 2 || got.DataKeys != 2 {
		t.Fatalf("before: %+v", got)
	}
	keyring.Forget(credential.Organization)
	if got := keyring.Stats(); got.OrganizationKeys != 1 || got.DataKeys != 1 || got.Derived != 2 {
		t.Fatalf("after: %+v", got)
	}
	open(other, saltB, otherSealed)
	if got := keyring.Stats().Derived; got != 2 {
		t.Error("another organization was forgotten too")
	}
	open(credential, saltA, sealed)
	if got := keyring.Stats().Derived; got != 3 {
		t.Error("the organization was not forgotten")
	}
}

// TestForgetWhileDeriving is the race that matters: an open that began before
// Forget must not leave its keys behind.
func TestForgetWhileDeriving(t *testing.T) {
	sealed, err := newKeyring(t).Seal(t.Context(), credential, saltA, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	bubble(t, func(t *testing.T) {
		keyring, g := gated(t, seal.Options{Derivations: 1})
		opened := make(chan error, 1)
		go func() {
			_, err := keyring.Open(t.Context(), credential, saltA, sealed)
			opened <- err
		}()
		synctest.Wait()
		keyring.Forget(credential.Organization)
		later := begin(t.Context(), keyring, credential.Organization)
		wantStats(t, keyring, 1, 1, 1) // it does not join the one from before
		g <- struct{}{}
		if err := <-opened; err != nil {
			t.Errorf("the open from before: %v", err)
		}
		if got := keyring.Stats(); got.OrganizationKeys != 0 || got.DataKeys != 0 {
			t.Errorf("left behind: %+v", got)
		}
		g <- struct{}{}
		if err := <-later; err != nil {
			t.Error(err)
		}
		if got := keyring.Stats(); got.OrganizationKeys != 1 {
			t.Errorf("not cached: %+v", got)
		}
	})
}

func TestDerivationFails(t *testing.T) {
	keyring := newKeyring(t)
	broken := errors.New("broken")
	keyring.SetDerive(func(func() ([]byte, error)) ([]byte, error) { return nil, broken })
	for range 2 {
		if _, err := keyring.Seal(t.Context(), credential, saltA, nil); !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
	}
	if got := keyring.Stats(); got.OrganizationKeys != 0 || got.Running != 0 {
		t.Errorf("a failure is kept: %+v", got)
	}
}

// TestConcurrency is for the race detector: everything at once, on caches so
// small that they evict all the time.
func TestConcurrency(t *testing.T) {
	keyring := newKeyringWith(t, seal.Options{OrganizationKeys: 2, DataKeys: 3, Waiting: 100})
	keyring.SetDerive(func(func() ([]byte, error)) ([]byte, error) { return make([]byte, 32), nil })
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			c := credential
			c.Organization = fmt.Sprintf("organization-%d", i%4)
			for j := range 100 {
				sealed, err := keyring.Seal(t.Context(), c, saltA, []byte(c.Organization))
				if err != nil {
					t.Error(err)
					return
				}
				for range 3 {
					got, err := keyring.Open(t.Context(), c, saltA, sealed)
					if err != nil || got.ExposeSecret() != c.Organization {
						t.Errorf("opened as %v: %v", got, err)
					}
				}
				switch j % 10 {
				case 3:
					keyring.Forget(c.Organization)
				case 6:
					if err := keyring.SetSealing(keyring.KeyIDs()[j/10%2]); err != nil {
						t.Error(err)
					}
				case 9:
					if _, err := keyring.Rewrap(t.Context(), c, saltA, sealed); err != nil {
						t.Error(err)
					}
				}
				if got := keyring.Stats(); got.OrganizationKeys > 2 || got.DataKeys > 3 {
					t.Errorf("over the bounds: %+v", got)
				}
			}
		})
	}
	workers.Wait()
}

func TestOpenAppendDoesNotAllocate(t *testing.T) {
	keyring := newKeyring(t)
	sealed, err := keyring.Seal(t.Context(), credential, saltA, []byte("plaintext"))
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, 0, 64)
	ctx := t.Context()
	got := testing.AllocsPerRun(100, func() {
		if _, err := keyring.OpenAppend(ctx, dst, credential, saltA, sealed); err != nil {
			t.Fatal(err)
		}
	})
	if got > 0 && !raceEnabled { // the race detector empties sync.Pool at random
		t.Errorf("%v allocations", got)
	}
}
