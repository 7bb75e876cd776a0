package gateway

import (
	"bytes"
	"io"
	"net/http"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// fallBack tries the request once more with the credential's previous version,
// whose grace is not over, where refused says that the provider does not accept
// the active one. It gives the answer to pass on, refused itself where the other
// version is accepted no better. Nothing has been sent to the caller yet.
func (t *transfer) fallBack(e *exchange, refused *http.Response, body *payload) *http.Response {
	if t.lacksScope(e, refused) || e.ctx.Err() != nil {
		return refused
	}
	active := t.opened
	previous, err := active.Previous(e.ctx)
	if err != nil || previous.Injection == nil {
		return refused // its grace is over, or it does not open: the provider's answer stands
	}
	if !e.timer.Stop() {
		return refused // it has fired: there is no time left
	}
	e.phase.Store(awaitHeader)
	e.wait(e.bounds.FirstByte, time.Now())
	t.use(previous)
	answer, err := t.attempt(e, body)
	if err != nil {
		_ = t.logUpstream("no answer to the previous version of a credential", err)
		t.use(active)
		return refused
	}
	if answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden {
		_ = answer.Body.Close()
		t.use(active)
		return refused
	}
	_ = refused.Body.Close()
	t.result.RefusedVersion = active.Version
	if active.Fallback != nil {
		active.Fallback(e.ctx)
	}
	return answer
}

// lacksScope says whether a 401 means that the key is real and may not do this,
// where the catalogue can tell. The answer stays whole.
func (t *transfer) lacksScope(e *exchange, refused *http.Response) bool {
	head, _ := io.ReadAll(io.LimitReader(awaited{e, refused.Body}, catalog.MaxProbeBody)) // what breaks off breaks again for the caller
	outcome := t.service.Read(t.upstream.injection, refused.StatusCode, refused.Header, head)
	refused.Body = replayed{io.MultiReader(bytes.NewReader(head), refused.Body), refused.Body}
	return outcome.Result == catalog.Restricted
}

// replayed is a body whose beginning has been read.
type replayed struct {
	io.Reader
	io.Closer
}
