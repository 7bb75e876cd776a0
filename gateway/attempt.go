package gateway

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// Attempt is one request that is about to be sent to an upstream. A visit may have
// several, one after the other.
type Attempt struct {
	Service   string // of the catalogue, or app
	Provider  string // what the OpenTelemetry conventions call whose model is asked; "" where none is
	Operation string // chat, text_completion, embeddings or generate_content; "" for what asks nothing of a model
	Model     string // that is asked for, through [tokens.ModelName]; may be empty
	Stream    bool   // a stream is asked for
	Method    string
	Scheme    string
	Host      string // with the port, where the origin has one
	Before    int    // attempts of the same visit
	// Header is what will be sent, with the credential in it. It may be added to, and
	// must not be kept.
	Header http.Header
}

// AttemptEnd is how an attempt ended.
type AttemptEnd struct {
	Status     int           // of the upstream's answer; 0 where none came
	Outcome    audit.Outcome // as of [Result]; Failure where another attempt took its place
	Reason     string        // as of [Result]; resent where another attempt took its place
	Model      string        // that answered, where the answer says so
	Tokens     tokens.Counts
	FirstChunk time.Duration // from sending the request to the first bytes of an answer's body; 0: none came
}

// Attempted is told of an attempt before it is sent, and gives a function that is
// told of its end, once. Neither may block.
type Attempted func(ctx context.Context, a Attempt) (end func(AttemptEnd))

// outgoing is the attempt that was begun last.
type outgoing struct {
	end    func(AttemptEnd) // nil: it was told
	before int
	sent   time.Time
	status int
	chunk  time.Duration
}

// roundTrip sends a request, and tells of it where somebody wants to know.
func (t *transfer) roundTrip(e *exchange, out *http.Request) (*http.Response, error) {
	if t.gateway.attempted == nil {
		return e.roundTrip(out)
	}
	before := t.superseded()
	u := &t.result.Usage
	a := Attempt{
		Service: catalog.AppName, Model: u.Model, Stream: u.Stream, Method: out.Method,
		Scheme: t.upstream.scheme, Host: t.upstream.host, Before: before, Header: out.Header,
	}
	if t.service != nil {
		a.Service = t.service.Name
		if a.Operation = t.operation.name; a.Operation != "" {
			a.Provider = t.service.GenAIProvider()
		}
	}
	t.outgoing = &outgoing{end: t.gateway.attempted(t.r.Context(), a), before: before, sent: time.Now()}
	answer, err := e.roundTrip(out)
	if answer != nil {
		t.outgoing.status = answer.StatusCode
		answer.Body = &timedBody{ReadCloser: answer.Body, attempt: t.outgoing}
	}
	return answer, err
}

// superseded ends the attempt under way, if there is one, for another to follow,
// and gives how many there were.
func (t *transfer) superseded() int {
	a := t.outgoing
	if a == nil {
		return 0
	}
	if end := a.end; end != nil {
		a.end = nil
		end(AttemptEnd{Status: a.status, Outcome: audit.Failure, Reason: "resent", FirstChunk: a.chunk})
	}
	return a.before + 1
}

// settled ends the attempt under way as the visit has ended.
func (t *transfer) settled(e *exchange) {
	a := t.outgoing
	if a == nil || a.end == nil {
		return
	}
	end, r := a.end, &t.result
	a.end = nil
	how := AttemptEnd{Status: a.status, Outcome: r.Outcome, Reason: r.Reason, Tokens: r.Usage.Tokens, FirstChunk: a.chunk}
	if a.status != 0 && e.watching {
		if how.Model = e.watcher.Model(); how.Model != "" {
			how.Model = r.Usage.Model // without the credential, if an upstream put that there
		}
	}
	end(how)
}

// timedBody notes when the first bytes of an answer came.
type timedBody struct {
	io.ReadCloser
	attempt *outgoing
}

// Read implements [io.Reader].
func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 && b.attempt.chunk == 0 {
		b.attempt.chunk = max(time.Since(b.attempt.sent), 1)
	}
	return n, err
}
