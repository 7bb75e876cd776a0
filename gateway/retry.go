package gateway

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

// How retries are spaced and bounded.
const (
	maxRetries = 16
	retryBase  = 100 * time.Millisecond // the first wait is a random part of it ("full jitter"), each further one of twice that
	retryMost  = time.Second            // of which a wait is a random part at most
	retryLong  = 2 * time.Second        // a longer Retry-After is the caller's to wait for

	// Each request puts a tenth of a retry into the budget of its organization and
	// host, which starts with and holds at most budgetMost retries.
	budgetShare = 0.1
	budgetMost  = 10.0
	maxBudgets  = 20_000
)

// budget bounds retries to a share of the requests, so that they do not multiply
// the load on a service that is in trouble.
type budget struct {
	mu   sync.Mutex
	left float64 // retries
}

type budgetKey struct{ organization, host string }

func newBudget(budgetKey) *budget { return &budget{left: budgetMost} }

func (b *budget) deposit() {
	b.mu.Lock()
	b.left = min(b.left+budgetShare, budgetMost)
	b.mu.Unlock()
}

func (b *budget) withdraw() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// deliver sends the request, and again where that is safe, until an answer is to be
// passed on. Nothing has been sent to the caller yet. All attempts share the time
// to the first byte, which begins with the first of them: an upload took none of it.
func (t *transfer) deliver(e *exchange, body *payload) (*http.Response, error) {
	var b *budget
	if t.gateway.retries > 0 {
		b = t.gateway.budgets.get(budgetKey{t.visit.Caller.Organization, t.upstream.host})
		b.deposit()
	}
	for tried := 0; ; tried++ {
		answer, err := t.attempt(e, body)
		if tried == t.gateway.retries || e.ctx.Err() != nil || !t.safeAgain(answer, err) {
			return answer, err
		}
		wait, ok := retryWait(answer, tried)
		if !ok || time.Since(e.begun)+wait > t.bounds.FirstByte/2 || !b.withdraw() {
			return answer, err
		}
		if answer != nil {
			drain(answer.Body)
		}
		if err := sleep(e.ctx, wait); err != nil {
			return nil, err
		}
		t.result.Retries++
		if t.gateway.observe.Retried != nil {
			t.gateway.observe.Retried(t.visit.Service)
		}
	}
}

// drain reads an answer that is not passed on to its end, so that its connection can be used
// again. One that is long, or does not come, is not waited for.
func drain(body io.ReadCloser) {
	late := time.AfterFunc(retryBase, func() { _ = body.Close() })
	defer late.Stop()
	_, _ = io.CopyN(io.Discard, body, 4<<10)
	_ = body.Close()
}

// safeAgain says whether sending the request once more can do no harm and some
// good: nothing of it was sent, or it is idempotent (RFC 9110, 9.2.2, or by a
// key) and the service was out of order.
func (t *transfer) safeAgain(answer *http.Response, err error) bool {
	if err != nil {
		if _, ours := fault.As(err); ours {
			return false
		}
		return neverSent(err) || t.idempotent()
	}
	return unavailable(answer.StatusCode) && answer.StatusCode != statusOverload && t.idempotent()
}

// neverSent says whether err is of making the connection. An address that we
// refuse ourselves is no such error.
func neverSent(err error) bool {
	var operation *net.OpError
	var name *net.DNSError
	return errors.As(err, &operation) && operation.Op == "dial" || errors.As(err, &name) && (name.IsTemporary || name.IsTimeout)
}

// idempotent says whether the request may be done twice: by its method, or by a key that
// the provider is sent. One that stays behind protects nothing.
func (t *transfer) idempotent() bool {
	switch t.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key", "I-Twilio-Idempotency-Token"} {
		if t.r.Header.Get(name) != "" && t.toProvider().Get(name) != "" {
			return true
		}
	}
	return false
}

// retryWait gives how long to wait before the next attempt. It is not ok where
// the service asks for more than we wait, or says that it is of no use.
func retryWait(answer *http.Response, tried int) (time.Duration, bool) {
	wait := rand.N(min(retryBase<<tried, retryMost))
	if answer == nil {
		return wait, true
	}
	for _, name := range [...]string{"X-Should-Retry", "Stripe-Should-Retry"} {
		if answer.Header.Get(name) == "false" {
			return 0, false
		}
	}
	asked := retryAfter(answer.Header, time.Now())
	return asked + wait, asked <= retryLong
}

// retryAfter reads Retry-After (RFC 9110, 10.2.3) and the milliseconds that some
// services say beside it; 0 where there is none that can be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil && ms >= 0 && ms < 1e9 {
		return time.Duration(ms * float64(time.Millisecond))
	}
	return wiretime.RetryAfter(h.Get("Retry-After"), now)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
