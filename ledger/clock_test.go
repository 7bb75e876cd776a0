package ledger_test

import (
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// An instance whose clock is not the database server's leaves the sealing to another.
func TestWrongClockDoesNotSeal(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		b.change(t, "acme", 1)
		for _, off := range []time.Duration{-400 * 24 * time.Hour, -61 * time.Minute, 61 * time.Minute, 3650 * 24 * time.Hour} {
			wrong := b.beside()
			wrong.SetServerClock(func() time.Time { return time.Now().Add(off) })
			if n, err := wrong.Seal(t.Context()); n != 0 || err != nil {
				t.Errorf("a clock that is %v off sealed %d events, %v", off, n, err)
			}
		}
		right := b.beside()
		right.SetServerClock(func() time.Time { return time.Now().Add(59 * time.Minute) })
		if n, err := right.Seal(t.Context()); n == 0 || err != nil {
			t.Errorf("a clock that is less off sealed %d events, %v", n, err)
		}
	})
}

// Whatever stands where retention keeps the time that it believes, the trail is sealed.
func TestDamagedTimeDoesNotStopSealing(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{})
		damages := []string{`UPDATE retention_sweeper SET clock = NULL`, `DELETE FROM retention_sweeper`}
		if b.db.Kind() == "sqlite" {
			damages = append([]string{`UPDATE retention_sweeper SET clock = 'yesterday'`, `UPDATE retention_sweeper SET clock = x'00'`}, damages...)
		}
		for _, damage := range damages {
			err := b.db.UpdateAcross(t.Context(), func(tx *store.Tx) error {
				_, err := tx.Exec(t.Context(), damage)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			b.change(t, "acme", 1)
			if n, err := b.Seal(t.Context()); n == 0 || err != nil {
				t.Errorf("after %s: %d events sealed, %v", damage, n, err)
			}
		}
	})
}
