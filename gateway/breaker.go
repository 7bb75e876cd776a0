package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// The breakers. One stands before each host for each credential of each
// organization, so that what one tenant's key or requests do is nobody else's
// matter. It opens when, within a window, at least [Options.BreakerFailures]
// requests and half of all failed; after breakerPause one request is let pass as
// a probe, and its end decides.
const (
	breakerWindow  = 10 * time.Second
	breakerPause   = 10 * time.Second
	maxBreakers    = 20_000
	statusOverload = 529 // Anthropic's
)

var errBroken = fault.New(fault.Unavailable, "upstream_unavailable",
	"The service failed too often in the last seconds, so nothing is sent to it for a moment. Retry-After says when the next request is let pass.")

// The verdicts on an attempt, beside nil for one that the service answered.
var (
	errFailed    = errors.New("the upstream failed")
	errAbandoned = errors.New("the attempt was ended from our side or the caller's")
)

type breakerKey struct{ organization, credential, host string }

// breaker is one circuit breaker, and when it opened.
type breaker struct {
	circuit *gobreaker.TwoStepCircuitBreaker[any]
	opened  atomic.Int64 // Unix nanoseconds
}

func (g *Gateway) newBreaker(key breakerKey) *breaker {
	b := new(breaker)
	least := uint32(g.breakerFailures)
	b.circuit = gobreaker.NewTwoStepCircuitBreaker[any](gobreaker.Settings{
		MaxRequests: 1, Interval: breakerWindow, Timeout: breakerPause,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			return c.TotalFailures >= least && 2*c.TotalFailures >= c.Requests-c.TotalExclusions
		},
		IsExcluded: func(err error) bool { return errors.Is(err, errAbandoned) },
		OnStateChange: func(_ string, from, to gobreaker.State) {
			if to == gobreaker.StateOpen {
				b.opened.Store(time.Now().UnixNano())
			}
			g.log.Warn("the breaker of an upstream turned", "organization", key.organization, "credential", key.credential,
				"upstream", key.host, "from", from.String(), "to", to.String())
			if g.observe.BreakerTurned != nil {
				g.observe.BreakerTurned(to.String())
			}
		},
	})
	return b
}

// OpenBreakers gives how many breakers let nothing pass at the moment.
func (g *Gateway) OpenBreakers() int { return g.breakers.count((*breaker).open) }

func (b *breaker) open() bool { return b.circuit.State() == gobreaker.StateOpen }

// attempt sends the request once, if the breaker lets it pass. The error is a
// *fault.Error where it does not.
func (t *transfer) attempt(e *exchange, body *payload) (*http.Response, error) {
	if t.gateway.breakerFailures == 0 {
		return t.send(e, body)
	}
	b := t.gateway.breakers.get(breakerKey{t.visit.Caller.Organization, t.opened.ID, t.upstream.host})
	done, err := b.circuit.Allow()
	if err != nil {
		wait := time.Second // another request is the probe
		if errors.Is(err, gobreaker.ErrOpenState) {
			wait = max(time.Until(time.Unix(0, b.opened.Load()).Add(breakerPause)), time.Millisecond)
		}
		return nil, errBroken.After(wait)
	}
	answer, err := t.send(e, body)
	done(verdict(e, answer, err))
	return answer, err
}

// verdict says what an attempt tells of the service. Whatever it answers that is
// not about itself being out of order tells that it works: also 4xx, and 500,
// which is as often about the one request.
func verdict(e *exchange, answer *http.Response, err error) error {
	if err == nil {
		if unavailable(answer.StatusCode) {
			return errFailed
		}
		return nil
	}
	if cause := context.Cause(e.ctx); errors.Is(err, errBodyGone) || cause != nil && !errors.Is(cause, errFirstByte) && !errors.Is(cause, errTotal) {
		return errAbandoned // the caller left, we are stopping, or nothing was sent at all
	}
	return errFailed
}

// unavailable says whether a status means that the service, or what stands before
// it, is out of order.
func unavailable(status int) bool {
	switch status {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, statusOverload:
		return true
	}
	return false
}
