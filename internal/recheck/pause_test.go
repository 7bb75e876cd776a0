package recheck_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/recheck"
)

// TestNoLookRightAfterAFailure lets a look fail and asks again: within a second
// the old value comes without another look, after it with one.
func TestNoLookRightAfterAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		away := errors.New("away")
		c := recheck.New[string, int](recheck.Options{Size: 10, Fresh: time.Second, StaleMax: time.Minute,
			Stale: func(err error) bool { return errors.Is(err, away) }})
		var looks atomic.Int64
		fail := func(context.Context) (int, error) { looks.Add(1); return 0, away }
		get := func(load func(context.Context) (int, error)) int {
			v, err := c.Get(t.Context(), "k", load)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		if v := get(func(context.Context) (int, error) { return 7, nil }); v != 7 {
			t.Fatal(v)
		}
		time.Sleep(2 * time.Second)
		for range 5 {
			if v := get(fail); v != 7 {
				t.Errorf("%d, want the old value", v)
			}
		}
		if looks := looks.Load(); looks != 1 {
			t.Errorf("%d looks while one has just failed, want 1", looks)
		}
		time.Sleep(1100 * time.Millisecond)
		get(fail)
		synctest.Wait() // it is behind
		if looks := looks.Load(); looks != 2 {
			t.Errorf("%d looks a second later, want 2", looks)
		}
		time.Sleep(time.Minute)
		if _, err := c.Get(t.Context(), "k", fail); !errors.Is(err, away) {
			t.Errorf("past StaleMax: %v", err)
		}
	})
}

// One look that fails at once, as by a connection that broke, says nothing of the others: what
// was changed is looked for and waited for.
func TestAFailureAtOnceIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := recheck.New[string, int](recheck.Options{Size: 10, Fresh: time.Second, StaleMax: time.Minute,
			Stale: func(err error) bool { return errors.Is(err, errAway) }})
		get := func(key string, answer int, err error) int {
			v, getErr := c.Get(t.Context(), key, func(context.Context) (int, error) {
				time.Sleep(5 * time.Millisecond)
				return answer, err
			})
			if getErr != nil {
				t.Fatal(getErr)
			}
			return v
		}
		get("a", 1, nil)
		get("b", 1, nil)
		time.Sleep(2 * time.Second)
		if v := get("b", 0, errAway); v != 1 {
			t.Errorf("%d, want the old value", v)
		}
		time.Sleep(4 * time.Second)
		if v := get("a", 2, nil); v != 2 {
			t.Errorf("%d four seconds after another's look failed, want the new value", v)
		}
	})
}
