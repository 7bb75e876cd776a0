package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

var (
	errUnreachable = fault.New(fault.BadUpstream, "upstream_unreachable",
		"The service could not be reached. Try again; if it lasts, see the service's status page.")
	errInterrupted = fault.New(fault.BadUpstream, "upstream_interrupted",
		"The service closed the connection before its answer was complete.")
	errInvalidAnswer = fault.New(fault.BadUpstream, "upstream_invalid",
		"The service answered with something that cannot be passed on.")
	errSlowUpstream = fault.New(fault.SlowUpstream, "upstream_timeout",
		"The service did not begin to answer in time.")
	errIdleUpstream = fault.New(fault.SlowUpstream, "upstream_idle",
		"The service fell silent before its answer was complete.")
	errLongUpstream = fault.New(fault.SlowUpstream, "upstream_too_long",
		"The service took longer for its answer than it may.")
)

// forward sends the request and passes the answer on.
func (t *transfer) forward(body *payload) {
	e := t.gateway.begin(t.r.Context(), t.w, t.bounds, body.size)
	if e == nil {
		t.fail(errStopped)
		return
	}
	defer e.end()
	defer t.settled(e)
	body.sendOnce(!t.mayRepeat())
	answer, err := t.deliver(e, body)
	if err != nil {
		t.unanswered(e, err)
		return
	}
	if answer.StatusCode == http.StatusUnauthorized && t.opened.Previous != nil {
		answer = t.fallBack(e, answer, body)
	}
	answer = t.failOver(e, answer, body)
	defer func() { _ = answer.Body.Close() }()
	body.settle() // a stream may be long, and nobody needs the question any more
	t.result.FirstByte = time.Since(e.begun)
	dropNoCoding(answer.Header)
	dropNoLength(answer)
	t.scrub(e, answer)
	t.watch(e, answer)
	t.relay(e, answer)
	t.counted(e)
}

// mayRepeat says whether the request may be sent again after it was sent whole.
func (t *transfer) mayRepeat() bool {
	return t.opened.Previous != nil || len(t.opened.Failover) > 0 || t.idempotent()
}

// send sends the request, with the credential at hand, and gives the answer once
// its header is there.
func (t *transfer) send(e *exchange, body *payload) (*http.Response, error) {
	ctx := e.ctx
	if e.giveUp = nil; t.idempotent() || t.upstream.scheme == "https" { // HTTP/2 knows what may be sent twice by itself
		ctx = e.resendable()
	}
	out := t.request(httptrace.WithClientTrace(ctx, &e.trace))
	if err := body.put(out); err != nil {
		return nil, err
	}
	return t.roundTrip(e, out)
}

// request makes the request to the upstream, without its body.
func (t *transfer) request(ctx context.Context) *http.Request {
	out := new(http.Request).WithContext(ctx) // first, since it copies the request
	out.Method, out.Host, out.Header = t.r.Method, t.upstream.host, t.toProvider()
	// Opaque is written to the wire as it is; Path would be encoded anew.
	out.URL = &url.URL{
		Scheme: t.upstream.scheme, Host: t.upstream.host, Opaque: t.upstream.base + "/" + t.visit.Path,
		RawQuery: t.query(), ForceQuery: t.r.URL.ForceQuery,
	}
	out.Proto, out.ProtoMajor, out.ProtoMinor = "HTTP/1.1", 1, 1
	if t.edited {
		for _, digest := range digests {
			delete(out.Header, digest)
		}
	}
	if t.service != nil {
		out.Header["Accept-Encoding"] = []string{"identity"} // none at all would mean any, and an answer has to be readable
	}
	// Last, so that nothing a caller sent can take it off.
	if t.service == nil {
		t.gateway.app.sign(out, t.visit)
	} else {
		t.upstream.injection.Apply(out.Header)
	}
	return out
}

// unanswered answers for an upstream that did not.
func (t *transfer) unanswered(e *exchange, err error) {
	if cause := context.Cause(e.ctx); cause != nil {
		t.cancelled(cause)
		return
	}
	if _, ours := fault.As(err); ours { // an open breaker
		t.fail(err)
		return
	}
	shown := t.logUpstream("no answer from the upstream", err)
	switch {
	case !e.connected: // all others may have done what was asked
		t.fail(errUnreachable.Because(shown))
	case ofTheNetwork(err):
		t.fail(errInterrupted.Because(shown))
	default:
		t.fail(errInvalidAnswer.Because(shown))
	}
}

// ofTheNetwork says whether an exchange over a connection ended with it, and not
// with what the upstream sent.
func ofTheNetwork(err error) bool {
	var operation *net.OpError
	if errors.As(err, &operation) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errUnasked) || errors.Is(err, errRefused) ||
		errors.Is(err, errBodyGone) { // net/http was to send it again, after HTTP/2 had refused it
		return true
	}
	// net/http keeps these to itself: of an idle connection, and of HTTP/2, where a reset may mean anything.
	text := withoutQuotes(err.Error())
	return strings.Contains(text, "idle connection") || strings.Contains(text, "http2: ") || strings.Contains(text, "stream error: ")
}

// cancelled answers for an exchange that was cancelled before anything was sent.
func (t *transfer) cancelled(cause error) {
	switch {
	case errors.Is(cause, errFirstByte):
		t.fail(errSlowUpstream)
	case errors.Is(cause, errIdle):
		t.fail(errIdleUpstream)
	case errors.Is(cause, errTotal):
		t.fail(errLongUpstream)
	case errors.Is(cause, errStopping):
		t.fail(errStopped)
	default:
		t.left()
	}
}

// errWithheld stands for an error whose text quotes the upstream quoting the
// credential.
var errWithheld = errors.New("the text of the error held the credential")

// longestLogged is how much of an error's text is logged, in bytes.
const longestLogged = 300

// withoutQuotes cuts off where net/http begins to quote what an upstream sent: an
// answer may be in there, or the credential in some spelling.
func withoutQuotes(text string) string {
	for _, quote := range [...]string{`"`, "`", "malformed MIME header"} {
		if i := strings.Index(text, quote); i >= 0 {
			if strings.HasPrefix(quote, "malformed") {
				i += len(quote)
			}
			text = strings.TrimRight(text[:i], " :=[") + " [what the upstream sent is not logged]"
		}
	}
	return text
}

// logUpstream says in the log what a caller is not told: addresses, DNS, TLS. It
// gives err, or another where the text of err is not for a log either. more are
// further attributes.
func (t *transfer) logUpstream(message string, err error, more ...any) error {
	var operation *net.OpError
	text := err.Error()
	if !errors.As(err, &operation) { // which quotes nothing
		text = withoutQuotes(text)
	}
	if leaks([]string{text}, t.secrets()) {
		err = errWithheld
	} else if len(text) > longestLogged {
		err = errors.New(strings.ToValidUTF8(text[:longestLogged], "") + "...")
	} else if text != err.Error() {
		err = errors.New(text)
	}
	t.gateway.log.WarnContext(t.r.Context(), message, append(more, "service", t.visit.Service, "upstream", t.upstream.host,
		"request", t.visit.RequestID, "error", err)...)
	return err
}
