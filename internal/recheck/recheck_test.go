package recheck_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/recheck"
)

const (
	fresh    = 3 * time.Second
	staleMax = time.Minute
)

var (
	errAway = errors.New("the database is away")
	errGone = errors.New("there is no such thing any more")
)

func newCache() *recheck.Cache[string, int] {
	return recheck.New[string, int](recheck.Options{
		Size: 100, Fresh: fresh, StaleMax: staleMax, Stale: func(err error) bool { return errors.Is(err, errAway) },
	})
}

// source is what is looked up.
type source struct {
	mu    sync.Mutex
	value int
	err   error
	takes time.Duration
	looks int
}

func (s *source) set(value int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.value, s.err = value, err
}

func (s *source) load(ctx context.Context) (int, error) {
	s.mu.Lock()
	value, err, takes := s.value, s.err, s.takes
	s.looks++
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return value, err
}

func want(t *testing.T, c *recheck.Cache[string, int], s *source, value int, err error, looks int) {
	t.Helper()
	got, gotErr := c.Get(t.Context(), "k", s.load)
	if got != value || !errors.Is(gotErr, err) {
		t.Errorf("Get = %d, %v; want %d, %v", got, gotErr, value, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.looks != looks {
		t.Errorf("%d looks so far, want %d", s.looks, looks)
	}
}

func TestFreshness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1}
		want(t, c, s, 1, nil, 1)
		s.set(2, nil)
		time.Sleep(fresh - time.Nanosecond)
		want(t, c, s, 1, nil, 1)
		time.Sleep(time.Nanosecond)
		want(t, c, s, 2, nil, 2)
		c.Forget("k")
		s.set(3, nil)
		want(t, c, s, 3, nil, 3)
	})
}

// A value is as old as the beginning of its look: a change that comes while
// the look is under way counts as newer.
func TestAgeCountsFromTheBeginningOfTheLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1, takes: 2 * time.Second}
		want(t, c, s, 1, nil, 1)
		time.Sleep(time.Second) // three seconds after the look began
		want(t, c, s, 1, nil, 2)
		time.Sleep(2 * time.Second) // the look behind
	})
}

func TestStaleWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1}
		want(t, c, s, 1, nil, 1)
		s.set(0, fmt.Errorf("looking: %w", errAway))
		time.Sleep(staleMax - time.Nanosecond)
		want(t, c, s, 1, nil, 2)
		time.Sleep(time.Nanosecond)
		want(t, c, s, 0, errAway, 3)
		s.set(2, nil)
		want(t, c, s, 2, nil, 4)
	})
}

// The age counts at the moment of the answer, not of the question.
func TestStaleMaxHoldsAfterASlowLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1}
		want(t, c, s, 1, nil, 1)
		s.set(0, errAway)
		s.takes = 4 * time.Second
		time.Sleep(staleMax - 2*time.Second)
		want(t, c, s, 0, errAway, 2)
	})
}

// Once a look has said that the thing is gone, a failing database does not
// bring it back.
func TestGoneStaysGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1}
		want(t, c, s, 1, nil, 1)
		time.Sleep(fresh)
		s.set(0, errGone)
		want(t, c, s, 0, errGone, 2)
		s.set(0, errAway)
		want(t, c, s, 0, errAway, 3)
	})
}

func TestForgottenIsNotServedStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1}
		want(t, c, s, 1, nil, 1)
		time.Sleep(fresh)
		s.set(0, errAway)
		s.takes = time.Second
		done := make(chan error)
		go func() { _, err := c.Get(t.Context(), "k", s.load); done <- err }()
		synctest.Wait()
		c.Forget("k")
		if err := <-done; !errors.Is(err, errAway) {
			t.Errorf("a value that was forgotten while the look went on was served: %v", err)
		}
	})
}

func TestForgetDuringALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1, takes: time.Second}
		first := make(chan int)
		go func() { v, _ := c.Get(t.Context(), "k", s.load); first <- v }()
		synctest.Wait()
		s.set(2, nil) // the change
		c.Forget("k")
		second := make(chan int)
		go func() { v, _ := c.Get(t.Context(), "k", s.load); second <- v }()
		if v := <-second; v != 2 {
			t.Errorf("who asked after Forget got %d, want 2", v)
		}
		if v := <-first; v != 1 {
			t.Errorf("who asked before the change got %d, want 1", v)
		}
		want(t, c, s, 2, nil, 2)
	})
}

func TestSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1, takes: time.Second}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if v, err := c.Get(t.Context(), "k", s.load); v != 1 || err != nil {
					t.Errorf("Get = %d, %v", v, err)
				}
			})
		}
		wg.Wait()
		if s.looks != 1 {
			t.Errorf("%d looks for one value", s.looks)
		}
	})
}

// Who leaves does not fail the others, and waits no longer than it wants.
func TestCallerThatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1, takes: 2 * time.Second}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Get(ctx, "k", s.load); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("who left got %v", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { want(t, c, s, 1, nil, 1) })
		wg.Wait()
		want(t, c, s, 1, nil, 1)
	})
}

func TestLookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{takes: time.Hour}
		start := time.Now()
		want(t, c, s, 0, context.DeadlineExceeded, 1)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("a look that hangs was waited for for %v", took)
		}
	})
}

// Many keys, changes and forgetting at once: nobody reads what was forgotten
// before the question.
func TestConcurrent(t *testing.T) {
	c := recheck.New[int, int64](recheck.Options{Size: 8, Fresh: time.Hour, StaleMax: time.Hour})
	var values [4]atomic.Int64
	var wg sync.WaitGroup
	for key := range values {
		wg.Go(func() {
			for n := range int64(500) {
				values[key].Store(n)
				c.Forget(key)
				got, err := c.Get(t.Context(), key, func(context.Context) (int64, error) { return values[key].Load(), nil })
				if err != nil || got < n {
					t.Errorf("key %d: got %d, %v after the change to %d", key, got, err, n)
				}
			}
		})
		for range 2 {
			wg.Go(func() {
				for range 500 {
					if _, err := c.Get(t.Context(), key, func(context.Context) (int64, error) { return values[key].Load(), nil }); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestForgetWhere drops many keys at once, those being looked up among them,
// and no others.
func TestForgetWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := newCache(), &source{value: 1}
		for _, key := range []string{"acme/1", "acme/2", "globex/1"} {
			if _, err := c.Get(t.Context(), key, s.load); err != nil {
				t.Fatal(err)
			}
		}
		slow := &source{value: 1, takes: time.Second}
		var looking sync.WaitGroup
		looking.Go(func() { _, _ = c.Get(t.Context(), "acme/3", slow.load) })
		synctest.Wait()
		c.ForgetWhere(func(key string) bool { return key[:4] == "acme" })
		looking.Wait()
		s.set(2, nil)
		for key, want := range map[string]int{"acme/1": 2, "acme/2": 2, "acme/3": 2, "globex/1": 1} {
			if got, err := c.Get(t.Context(), key, s.load); err != nil || got != want {
				t.Errorf("%s gives %d, %v; want %d", key, got, err, want)
			}
		}
	})
}
