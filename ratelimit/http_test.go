package ratelimit_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// visit sends one request through the middleware at an instant of its clock.
func visit(h http.Handler, key string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Key", key)
	h.ServeHTTP(w, r)
	return w
}

func limited(limiter ratelimit.Limiter, now *time.Time, limits ...string) http.Handler {
	return ratelimit.Middleware(ratelimit.HTTPOptions{
		Limiter: limiter, Now: func() time.Time { return *now },
		Subjects: func(r *http.Request, subjects []ratelimit.Subject) []ratelimit.Subject {
			if r.Header.Get("Key") == "" {
				return subjects
			}
			return append(subjects, subject("ip", r.Header.Get("Key"), limits...))
		},
	})(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
}

// A client that obeys Retry-After-Ms is admitted to the millisecond; one that
// obeys Retry-After is too, later.
func TestHeadersObeyedToTheMillisecond(t *testing.T) {
	for _, limits := range [][]string{{"3/1s"}, {"3/1s", "10/7s"}, {"1/1ms"}, {"5000/999ms", "2/333ms"}} {
		now := epoch
		h := limited(ratelimit.NewMemory(ratelimit.MemoryOptions{}), &now, limits...)
		denials := 0
		for i := range 500 {
			w := visit(h, "a")
			if w.Code == http.StatusNoContent {
				if w.Header().Get("Retry-After") != "" || w.Header().Get("Retry-After-Ms") != "" {
					t.Fatalf("%v: admitted and told to wait", limits)
				}
				now = now.Add(time.Duration(i%4*7) * time.Millisecond)
				continue
			}
			denials++
			ms, err := strconv.Atoi(w.Header().Get("Retry-After-Ms"))
			seconds, err2 := strconv.Atoi(w.Header().Get("Retry-After"))
			if w.Code != http.StatusTooManyRequests || err != nil || err2 != nil || ms < 1 || seconds != (ms+999)/1000 {
				t.Fatalf("%v: %d with %v", limits, w.Code, w.Header())
			}
			wait := time.Duration(ms) * time.Millisecond
			now = now.Add(wait - time.Millisecond)
			if early := visit(h, "a"); early.Code != http.StatusTooManyRequests {
				t.Fatalf("%v: admitted a millisecond early", limits)
			}
			now = now.Add(time.Millisecond)
			if w := visit(h, "a"); w.Code != http.StatusNoContent {
				t.Fatalf("%v: obeyed and denied", limits)
			}
		}
		if denials == 0 {
			t.Errorf("%v: nothing was denied", limits)
		}
	}
}

func TestHeaders(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	subjects := []ratelimit.Subject{subject("ip", "a", "2/1500ms"), subject("odd \"\\\xff", "b", "9/1h")}
	take(t, m, epoch, subjects...)
	d := take(t, m, epoch.Add(1*time.Millisecond), subjects...)
	h := http.Header{}
	ratelimit.SetHeaders(h, subjects, &d)
	if got, want := h.Get("RateLimit-Policy"), `"ip";q=2;w=2, "odd \"\\?";q=9;w=3600`; got != want {
		t.Errorf("RateLimit-Policy %s, want %s", got, want)
	}
	if got, want := h.Get("RateLimit"), `"ip";r=0;t=2, "odd \"\\?";r=7;t=3600`; got != want {
		t.Errorf("RateLimit %s, want %s", got, want)
	}
	if h.Get("Retry-After") != "" {
		t.Error("admitted and told to wait")
	}
}

// With several limits, all of them stand in the policy, whichever is the tightest now.
func TestHeadersOfSeveralLimits(t *testing.T) {
	m := ratelimit.NewMemory(ratelimit.MemoryOptions{})
	subjects := []ratelimit.Subject{subject("user", "a", "2/1s", "3/1h"), subject("org", "b", "9/1h")}
	policy := `"user-2/1s";q=2;w=1, "user-3/1h";q=3;w=3600, "org";q=9;w=3600`
	for i, state := range []string{
		`"user-2/1s";r=1;t=1, "org";r=8;t=3600`, `"user-2/1s";r=0;t=1, "org";r=7;t=3598`,
		`"user-3/1h";r=0;t=3596, "org";r=6;t=3596`, `"user-3/1h";r=0;t=3594, "org";r=6;t=3594`,
	} {
		now := epoch
		if i > 0 {
			now = epoch.Add(time.Duration(2*i) * time.Second)
		}
		if i == 1 {
			now = epoch.Add(999 * time.Millisecond) // the first still counts in the second
			state = `"user-2/1s";r=0;t=1, "org";r=7;t=3600`
		}
		d := take(t, m, now, subjects...)
		h := http.Header{}
		ratelimit.SetHeaders(h, subjects, &d)
		if h.Get("RateLimit-Policy") != policy || h.Get("RateLimit") != state || d.Admitted == (h.Get("Retry-After") != "") {
			t.Errorf("request %d: %s\n%s\nwant %s", i, h.Get("RateLimit-Policy"), h.Get("RateLimit"), state)
		}
	}
}

func TestAddressKey(t *testing.T) {
	for _, test := range []struct {
		addr string
		bits int
		want string
	}{
		{"203.0.113.7", 64, "203.0.113.7"}, {"::ffff:203.0.113.7", 64, "203.0.113.7"},
		{"2001:db8:1:2:3:4:5:6", 64, "2001:db8:1:2::"}, {"2001:db8:1:2:3:4:5:6", 48, "2001:db8:1::"},
		{"2001:db8:1:2:3:4:5:6", 128, "2001:db8:1:2:3:4:5:6"}, {"2001:db8::1", 300, "2001:db8::1"}, {"2001:db8::1", -1, "::"},
		{"fe80::7%eth0", 64, "fe80::"},
	} {
		if got := ratelimit.AddressKey(netip.MustParseAddr(test.addr), test.bits); got != test.want {
			t.Errorf("%s by /%d: %s, want %s", test.addr, test.bits, got, test.want)
		}
	}
	if got := ratelimit.AddressKey(netip.Addr{}, 64); got != "invalid IP" {
		t.Errorf("no address: %q", got)
	}
}

// A middleware that could never decide is a mistake found when it is made.
func TestMiddlewareNeedsItsParts(t *testing.T) {
	subjects := func(_ *http.Request, s []ratelimit.Subject) []ratelimit.Subject { return s }
	for _, options := range []ratelimit.HTTPOptions{{}, {Subjects: subjects}, {Limiter: ratelimit.NewMemory(ratelimit.MemoryOptions{})}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%+v: no panic", options)
				}
			}()
			ratelimit.Middleware(options)
		}()
	}
}

func TestMiddlewareWithoutSubjectsAndOnErrors(t *testing.T) {
	now := epoch
	h := limited(ratelimit.NewMemory(ratelimit.MemoryOptions{MaxKeys: 8}), &now, "1/1h")
	for range 3 {
		if w := visit(h, ""); w.Code != http.StatusNoContent || w.Header().Get("RateLimit") != "" {
			t.Errorf("no subjects: %d %v", w.Code, w.Header())
		}
	}
	for i := range 8 {
		visit(h, strconv.Itoa(i+1))
	}
	if w := visit(h, "one too many"); w.Code != http.StatusServiceUnavailable {
		t.Errorf("no room: %d", w.Code)
	}
	var failed error
	h = ratelimit.Middleware(ratelimit.HTTPOptions{
		Limiter:  ratelimit.NewMemory(ratelimit.MemoryOptions{}),
		Subjects: func(*http.Request, []ratelimit.Subject) []ratelimit.Subject { return make([]ratelimit.Subject, 1) },
		Failed:   func(_ http.ResponseWriter, _ *http.Request, err error) { failed = err },
	})(http.NotFoundHandler())
	if visit(h, "a"); !errors.Is(failed, ratelimit.ErrInvalidSubject) {
		t.Errorf("invalid subject: %v", failed)
	}
}

// waiting is a limiter that does not answer while its caller waits.
type waiting struct{ ratelimit.Limiter }

func (waiting) Take(ctx context.Context, _ time.Time, _ []ratelimit.Subject, _ *ratelimit.Decision) error {
	<-ctx.Done()
	return fmt.Errorf("%w: %w", ratelimit.ErrUnavailable, context.Cause(ctx))
}

// A request whose time is over before it was decided is refused like any that cannot be. One that is
// cancelled is not served either, and nobody is told: its client is gone, unless the server did it.
func TestMiddlewareWhenTimeIsOver(t *testing.T) {
	now := epoch
	h := limited(waiting{}, &now, "1/1h")
	over, cancel := context.WithDeadline(t.Context(), epoch)
	defer cancel()
	late, stop := context.WithTimeoutCause(t.Context(), 0, errors.New("too late"))
	defer stop()
	gone, leave := context.WithCancel(t.Context())
	leave()
	for name, test := range map[string]struct {
		ctx  context.Context
		told bool
	}{"a deadline": {over, true}, "a deadline with a cause": {late, true}, "cancelled": {gone, false}} {
		w := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(test.ctx, http.MethodGet, "/", nil)
		r.Header.Set("Key", "a")
		h.ServeHTTP(w, r)
		if told := w.Body.Len() > 0; w.Code != http.StatusServiceUnavailable || told != test.told {
			t.Errorf("%s: %d %q", name, w.Code, w.Body)
		}
	}
}
