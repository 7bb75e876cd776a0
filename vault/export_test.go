package vault

import (
	"context"
	"time"
)

// CheckDue looks once at all credentials that are due.
func (k *Checker) CheckDue(ctx context.Context) error { return k.checkDue(ctx) }

// TestDue makes the tests that are due and waits for them.
func (k *Checker) TestDue(ctx context.Context) error {
	err := k.startTests(ctx)
	k.WaitForTests()
	return err
}

// StartDue starts the tests that are due, and waits for none.
func (k *Checker) StartDue(ctx context.Context) error { return k.startTests(ctx) }

// WaitForTests waits for those that were started.
func (k *Checker) WaitForTests() { k.vault.lanes.all.Wait() }

// FallbackShown is how long a fallback is told of.
const FallbackShown = fallbackShown

// DestroyDue is one turn of the timer.
func (v *Vault) DestroyDue(ctx context.Context) (int, error) { return v.destroyAllDue(ctx) }

// SetServerClock has the vault take that for the time of the database's server.
func (v *Vault) SetServerClock(now func() time.Time) {
	v.server = func(context.Context) (time.Time, bool, error) { return now(), true, nil }
}
