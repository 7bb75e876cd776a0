package gateway

import (
	"fmt"
	"net/http"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// FailedOver says of a visit that another credential served it than the one that
// was asked for, which the provider did not take.
type FailedOver struct {
	ID, Name string // of the credential that was asked for; empty: it served itself
	Status   int    // what the provider said to it
}

// failOver tries the request with the credentials that the one in use names for
// this, in order, where refused says that the provider takes that one not now or
// not at all (401, 402, 429). It gives the answer to pass on: of the first one
// that is taken, or refused itself. Nothing has been sent to the caller yet, and
// the time to the first byte is that of all. The scope of each holds as if it had
// been asked for, and what each names itself does not count.
func (t *transfer) failOver(e *exchange, refused *http.Response, body *payload) *http.Response {
	first := t.opened
	if len(first.Failover) == 0 || !failsOver(refused.StatusCode) {
		return refused
	}
	version := t.result.RefusedVersion
	e.phase.Store(awaitHeader)
	for _, name := range first.Failover {
		if e.ctx.Err() != nil {
			break
		}
		c, err := t.gateway.opener.OpenForUse(e.ctx, t.visit.Caller, t.service, name, false)
		if err != nil {
			t.logStandby(e, name, c.ID, err)
			continue
		}
		if c.ID == first.ID {
			continue
		}
		if t.allowed(c, body) != nil {
			t.result.Scope = "" // the request was allowed; this one just does not serve it
			continue
		}
		if err := c.ready(e.ctx); err != nil {
			t.logStandby(e, name, c.ID, err)
			continue
		}
		t.use(c)
		answer, err := t.attempt(e, body)
		if err != nil {
			t.logStandby(e, name, c.ID, err)
			continue
		}
		if failsOver(answer.StatusCode) || answer.StatusCode == http.StatusForbidden || answer.StatusCode >= http.StatusInternalServerError {
			_ = answer.Body.Close()
			t.logStandby(e, name, c.ID, fmt.Errorf("the service answered %d", answer.StatusCode))
			continue
		}
		_ = refused.Body.Close()
		t.result.FailedOver = FailedOver{ID: first.ID, Name: first.Name, Status: refused.StatusCode}
		t.result.RefusedVersion = 0
		if t.gateway.observe.FailedOver != nil {
			t.gateway.observe.FailedOver(t.visit.Service)
		}
		return answer
	}
	t.use(first)
	t.result.RefusedVersion = version
	return refused
}

// logStandby says why a credential did not step in: one that is broken is seen by
// nobody else until all of them are. id is empty where none was found by the name.
func (t *transfer) logStandby(e *exchange, name, id string, err error) {
	if e.ctx.Err() != nil { // the caller left, or the time is over
		return
	}
	if f, ours := fault.As(err); ours && f.Unwrap() != nil { // whose text is for callers
		err = fmt.Errorf("%s: %w", f.Code, f.Unwrap())
	}
	_ = t.logUpstream("a credential could not step in for another", err, "credential", id, "name", name)
}

func failsOver(status int) bool {
	switch status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusTooManyRequests:
		return true
	}
	return false
}
