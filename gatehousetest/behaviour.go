package gatehousetest

import (
	"io"
	"log"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Behaviour is how a fake answers one request, in place of serving it as usual.
type Behaviour func(*answer)

// A refusal is why a provider answers with an error; each dialect knows its documented form.
type refusal struct {
	kind   refusalKind
	key    string        // the key presented
	scope  string        // the scope that it lacks
	after  time.Duration // when to come back
	detail string        // what is wrong with the request
}

type refusalKind int

const (
	noKey refusalKind = iota
	wrongKey
	missingScope
	notFound
	badRequest
	rateLimited
	outOfQuota
	overloaded
	serverError
)

func refusing(f refusal) Behaviour {
	return func(a *answer) { a.provider.dialect.refuse(a, a.request, f) }
}

func serveAsUsual(a *answer) { a.provider.mux.ServeHTTP(a, a.request) }

// InvalidKey answers as to a key that the provider does not know, whatever the key is.
func InvalidKey() Behaviour { return refusing(refusal{kind: wrongKey, key: "revoked-key"}) }

// MissingScope answers as to a real key that lacks scope: 401 at OpenAI, 403 elsewhere.
func MissingScope(scope string) Behaviour {
	return refusing(refusal{kind: missingScope, scope: scope, key: "restricted-key"})
}

// NotFound answers 404 in the provider's form.
func NotFound() Behaviour { return refusing(refusal{kind: notFound}) }

// RateLimited answers 429 with Retry-After (whole seconds, rounded up), which Intercom alone leaves out, and the
// provider's own headers about its limit.
func RateLimited(after time.Duration) Behaviour {
	return refusing(refusal{kind: rateLimited, after: after})
}

// RateLimitedFor answers as [RateLimited] from its first request on until after has passed, and serves as usual then: for one limit
// that several requests meet, of which one that comes back too early is refused again.
func RateLimitedFor(after time.Duration) Behaviour {
	var first sync.Once
	var until time.Time
	return func(a *answer) {
		first.Do(func() { until = time.Now().Add(after) })
		if left := time.Until(until); left > 0 {
			RateLimited(left)(a)
			return
		}
		serveAsUsual(a)
	}
}

// OutOfQuota answers 429 without Retry-After, in the form of OpenAI's insufficient_quota: no wait mends it. A provider
// without such an answer says that it is rate limited.
func OutOfQuota() Behaviour { return refusing(refusal{kind: outOfQuota}) }

// Overloaded answers 503, at Anthropic 529.
func Overloaded() Behaviour { return refusing(refusal{kind: overloaded}) }

// ServerError answers 500.
func ServerError() Behaviour { return refusing(refusal{kind: serverError}) }

// Slow serves as usual after d, or not at all when the client has left by then.
func Slow(d time.Duration) Behaviour {
	return func(a *answer) {
		if a.wait(after(d)) {
			serveAsUsual(a)
		}
	}
}

// Silent says nothing at all until the client leaves.
func Silent() Behaviour { return func(a *answer) { a.wait(nil) } }

// Announce closes seen once the request has arrived whole, and then behaves as b.
func Announce(seen chan<- struct{}, b Behaviour) Behaviour {
	return func(a *answer) {
		close(seen)
		b(a)
	}
}

// Garbage answers 200 with bytes that are called JSON and are not.
func Garbage() Behaviour {
	return func(a *answer) {
		a.Header().Set("Content-Type", "application/json")
		a.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(a, "\x00\x1f{\"data\":[<html>\xff\xfe")
	}
}

// Redirect answers 307 to target, which an HTTP client follows with method, body and, on the same host, credentials.
func Redirect(target string) Behaviour {
	return func(a *answer) {
		a.Header().Set("Location", target)
		a.WriteHeader(http.StatusTemporaryRedirect)
	}
}

// HangUp closes the connection without an answer.
func HangUp() Behaviour { return func(*answer) { panic(http.ErrAbortHandler) } }

// CutAfter serves as usual but closes the connection after n bytes of the body.
func CutAfter(n int) Behaviour {
	return func(a *answer) {
		a.cut = n
		serveAsUsual(a)
	}
}

// Hold serves as usual but, after the first event of a stream or half of another body, waits until release is closed or
// the client leaves. What came before has been sent by then. A nil release is never closed.
func Hold(release <-chan struct{}) Behaviour {
	return func(a *answer) {
		a.hold, a.release = true, release
		serveAsUsual(a)
	}
}

// Handler answers by h. Headers that every answer of the provider carries are set already.
func Handler(h http.HandlerFunc) Behaviour { return func(a *answer) { h(a, a.request) } }

// An answer is the response under way, as a behaviour bends it.
type answer struct {
	http.ResponseWriter
	request  *http.Request
	provider *Provider
	status   int
	written  int
	cut      int // close the connection after that many bytes; -1 for never
	hold     bool
	release  <-chan struct{}
}

// WriteHeader notes the status.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Unwrap serves http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Flush sends what was written; http.ServeMux and the streams ask for it.
func (a *answer) Flush() { _ = http.NewResponseController(a.ResponseWriter).Flush() }

// Write sends b, or the part of it that the behaviour lets through.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.cut >= 0 && a.written+len(b) >= a.cut {
		_, _ = a.ResponseWriter.Write(b[:a.cut-a.written])
		a.Flush()
		panic(http.ErrAbortHandler) // closes the connection, as net/http documents
	}
	if a.hold {
		first := len(b)
		if !strings.HasPrefix(a.Header().Get("Content-Type"), "text/event-stream") {
			first /= 2
		}
		a.hold = false
		if _, err := a.ResponseWriter.Write(b[:first]); err != nil {
			return 0, err
		}
		a.Flush()
		if !a.wait(a.release) {
			panic(http.ErrAbortHandler)
		}
		a.written += len(b)
		_, err := a.ResponseWriter.Write(b[first:])
		return len(b), err
	}
	n, err := a.ResponseWriter.Write(b)
	a.written += n
	return n, err
}

// wait gives true once c delivers or is closed, and false when the client leaves or the test ends first.
func (a *answer) wait(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-a.request.Context().Done():
	case <-a.provider.closing:
	}
	return false
}

// after closes a channel once d has passed.
func after(d time.Duration) <-chan struct{} {
	c := make(chan struct{})
	time.AfterFunc(d, func() { close(c) })
	return c
}

// quiet drops what net/http would log about connections that a test cuts on purpose.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }
