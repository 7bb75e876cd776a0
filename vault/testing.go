package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// tests asks a provider once for all that ask the same at the same time, and
// may remember the answer for a while. What is the same is told by an HMAC of
// organization, service and fields under a key of this process, so that no
// value is kept, and no organization ever shares with another.
type tests struct {
	key     [32]byte
	reuse   time.Duration // how long an answer is remembered; 0 is not at all
	now     func() time.Time
	timeout time.Duration // of asking, whoever waits

	mu        sync.Mutex
	flights   map[testKey]*flight
	answers   map[testKey]answered
	nextSweep time.Time
}

type testKey [sha256.Size]byte

// flight is one question under way.
type flight struct {
	done    chan struct{} // closed when answer is there
	answer  probed
	waiting int
	leave   context.CancelFunc
}

// probed is what asking gave.
type probed struct {
	outcome catalog.Outcome
	took    time.Duration
	err     error
}

type answered struct {
	probed
	until time.Time
}

// testTimeout bounds one test, all its questions and answers.
const testTimeout = 10 * time.Second

// maxAnswers bounds what is remembered; past it the oldest go.
const maxAnswers = 10_000

func newTests(reuse time.Duration, now func() time.Time) *tests {
	t := &tests{reuse: reuse, now: now, timeout: testTimeout, flights: make(map[testKey]*flight), answers: make(map[testKey]answered)}
	rand.Read(t.key[:]) // never fails (crypto/rand)
	return t
}

// keyOf gives the key of a question. Every part is written with its length, so
// that no two questions run into one.
func (t *tests) keyOf(organization, service string, fields map[string]string) testKey {
	h := hmac.New(sha256.New, t.key[:])
	write := func(s string) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(s))) // a hash takes every write
		h.Write([]byte(s))
	}
	write(organization)
	write(service)
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		write(name)
		write(fields[name])
	}
	return testKey(h.Sum(nil))
}

// errLeft is the cause of an outcome that somebody did not wait for.
var errLeft = errors.New("vault: the caller left before the provider answered")

// errPanicked is the cause of an outcome that a fault of ours kept from coming.
var errPanicked = errors.New("vault: a panic while the provider was asked")

// ask gives the answer of fn, or of the same question asked by somebody else
// meanwhile. Somebody who leaves gets an indeterminate outcome at once; when
// nobody waits any more, fn's context ends. With fresh, what is remembered is
// not looked at.
func (t *tests) ask(ctx context.Context, key testKey, fresh bool, fn func(context.Context) probed) probed {
	t.mu.Lock()
	if a, ok := t.answers[key]; ok && !fresh && t.now().Before(a.until) {
		t.mu.Unlock()
		return a.probed
	}
	f := t.flights[key]
	if f == nil {
		asking, leave := context.WithTimeout(context.WithoutCancel(ctx), t.timeout)
		f = &flight{done: make(chan struct{}), leave: leave}
		t.flights[key] = f
		go func() {
			defer leave()
			p := probed{outcome: catalog.Outcome{Result: catalog.Indeterminate, Detail: "The test failed inside Gatehouse."}, err: errPanicked}
			defer func() {
				_ = recover() // its value may hold the credential, so it is told to nobody
				t.land(key, f, p)
			}()
			p = fn(asking)
		}()
	}
	f.waiting++
	t.mu.Unlock()

	select {
	case <-f.done:
		return f.answer
	case <-ctx.Done():
	}
	t.mu.Lock()
	if f.waiting--; f.waiting == 0 {
		f.leave()
		if t.flights[key] == f {
			delete(t.flights, key) // whoever asks now asks anew
		}
	}
	t.mu.Unlock()
	return probed{outcome: catalog.Outcome{Result: catalog.Indeterminate, Detail: "The test was canceled."}, err: errLeft}
}

// land hands the answer to all that wait.
func (t *tests) land(key testKey, f *flight, p probed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f.answer = p
	if t.flights[key] == f {
		delete(t.flights, key)
	}
	// What is not known may be known a moment later.
	if t.reuse > 0 && p.outcome.Result != catalog.Indeterminate {
		t.remember(key, p)
	} else {
		delete(t.answers, key)
	}
	close(f.done)
}

func (t *tests) remember(key testKey, p probed) {
	now := t.now()
	if len(t.answers) >= maxAnswers || now.After(t.nextSweep) {
		maps.DeleteFunc(t.answers, func(_ testKey, a answered) bool { return !now.Before(a.until) })
		t.nextSweep = now.Add(t.reuse)
	}
	for old := range t.answers { // any will do: it costs one more question
		if len(t.answers) < maxAnswers {
			break
		}
		delete(t.answers, old)
	}
	t.answers[key] = answered{p, now.Add(t.reuse)}
}
