package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// relay passes an upstream's answer on.
func (t *transfer) relay(e *exchange, answer *http.Response) {
	length := answer.ContentLength
	events := isEventStream(answer.Header.Get("Content-Type"))
	if events && !t.streaming { // which the request did not show
		if !t.gateway.streams.enter(t.visit.Caller.Organization) {
			t.fail(errStreams)
			return
		}
		defer t.gateway.streams.leave(t.visit.Caller.Organization)
	}
	switch {
	case answer.StatusCode < http.StatusOK, answer.StatusCode > 999: // 101 that nobody asked for, or no status at all
		t.fail(errInvalidAnswer.Because(t.logUpstream("an answer of the upstream was refused", errors.New("its status is not from 200 to 999"))))
	case t.r.Method == http.MethodHead, length == 0,
		answer.StatusCode == http.StatusNoContent, answer.StatusCode == http.StatusNotModified:
		t.answerHeader(answer)
		t.w.WriteHeader(answer.StatusCode)
		t.complete(answer.StatusCode)
	case length > 0 && length <= bufferSize && !events:
		t.whole(e, answer)
	default:
		t.stream(e, answer, events)
	}
}

// answerHeader puts the answer's header onto w.
func (t *transfer) answerHeader(answer *http.Response) {
	h := t.w.Header()
	t.toCaller(answer.Header)
	answerHeader(h, answer.Header, t.secrets())
	addRetryAfter(h, answer)
	if answer.StatusCode == http.StatusNoContent {
		delete(h, "Content-Length")
	}
	if _, typed := h["Content-Type"]; !typed {
		h["Content-Type"] = nil // or the server would guess one
	}
	if location := answer.Header["Location"]; len(location) > 0 {
		delete(h, "Location")
		if through := t.location(answer.Request, location[0]); through != "" {
			h["Location"] = []string{through}
		}
	}
	if links := h["Link"]; len(links) > 0 {
		h["Link"] = t.linkHeader(answer.Request, links)
	}
	for _, name := range linkHeaders {
		if links := h[name]; len(links) > 0 {
			delete(h, name)
			if through := t.location(answer.Request, links[0]); through != "" {
				h[name] = []string{t.origin() + through}
			}
		}
	}
}

// linkHeaders are headers whose whole value is a link at which an SDK goes on, with the caller's
// token: Azure's operations and Gemini's uploads.
var linkHeaders = [...]string{"Operation-Location", "X-Goog-Upload-Url", "X-Goog-Upload-Control-Url"}

func (t *transfer) secrets() []string {
	if t.upstream.injection == nil {
		return nil
	}
	return t.upstream.injection.ExposeSecretForms()
}

// whole reads a small answer to its end before the first byte of it is sent, so
// that one that breaks can still be answered with a problem, and writes it at
// once.
func (t *transfer) whole(e *exchange, answer *http.Response) {
	body := e.space(min(answer.ContentLength+1, bufferSize))
	if err := readWhole(awaited{e, answer.Body}, body, answer.ContentLength); err != nil {
		t.broke(e, err)
		return
	}
	body = body[:answer.ContentLength]
	e.phase.Store(writing)
	pages := t.pageLinks(answer)
	t.answerHeader(answer)
	if pages != nil {
		body = pages.rewriteAll(body)
		t.w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	}
	e.allow(time.Now(), t.gateway.limits.write)
	t.w.WriteHeader(answer.StatusCode)
	n, err := t.w.Write(body)
	t.result.BytesOut = int64(n)
	if err == nil {
		err = flush(e.rc)
	}
	if e.watching {
		e.watcher.Watch(body)
	}
	if err != nil {
		t.broken(answer.StatusCode, e.writeReason(err))
		return
	}
	t.complete(answer.StatusCode)
}

// readWhole reads length bytes of a body. It has room for one more where it can, since over HTTP/2
// there may be more than was said, which net/http tells of where it is asked for it.
func readWhole(body io.Reader, room []byte, length int64) error {
	for n := 0; int64(n) < length; {
		more, err := body.Read(room[n:])
		if n += more; err != nil && (err != io.EOF || int64(n) < length) {
			return err
		}
	}
	return nil
}

// broke answers for an upstream whose answer broke off before any of it was passed on.
func (t *transfer) broke(e *exchange, err error) {
	if cause := context.Cause(e.ctx); cause != nil {
		t.cancelled(cause)
		return
	}
	t.fail(errInterrupted.Because(t.logUpstream("an answer of the upstream broke off", err)))
}

// stream passes an answer on as it comes.
func (t *transfer) stream(e *exchange, answer *http.Response, events bool) {
	body, pages := io.Reader(answer.Body), t.pageLinks(answer)
	if pages != nil {
		answer.ContentLength = -1 // it will be another
	}
	if !events && answer.ContentLength < 0 {
		// Its header goes with its first bytes anyway, and where none come it can still fail properly.
		var err error
		if body, err = e.firstBytes(body); err != nil {
			t.broke(e, err)
			return
		}
	}
	t.answerHeader(answer)
	if pages != nil {
		body = pages.reader(body)
		delete(t.w.Header(), "Content-Length")
	}
	e.phase.Store(writing)
	e.renewed = time.Time{}
	e.renew()
	e.wait(t.bounds.Idle, time.Now()) // no more for the first byte
	s := stream{
		rc: e.rc, w: t.w,
		// Compressed bytes have no lines that we could see.
		lines: events && answer.Header.Get("Content-Encoding") == "",
	}
	if s.lines && t.hiding {
		s.hider = new(tokens.Hider)
		delete(t.w.Header(), "Content-Length") // it will be less
	}
	if events {
		t.w.Header()["X-Accel-Buffering"] = []string{"no"} // an nginx in front must not collect events
	}
	t.w.WriteHeader(answer.StatusCode)
	if events || answer.ContentLength >= 0 {
		// The first event may be long in coming, and SDKs wait for the header first. A small
		// answer of no stated length has one packet less without.
		s.writeErr = flush(e.rc)
	}
	if every := t.bounds.Heartbeat; every > 0 && s.lines && t.takesComments() && t.w.Header()["Content-Length"] == nil {
		s.heart = &heartbeat{every: every, e: e}
		s.heart.start(t.w)
	}
	s.copy(e, body)
	if s.heart != nil {
		beats, broken := s.heart.end()
		s.written += beats
		if broken != nil {
			s.writeErr = broken
		}
	}
	t.result.BytesOut = s.written
	switch {
	case s.writeErr != nil:
		t.broken(answer.StatusCode, e.writeReason(s.writeErr))
	case s.readErr == nil:
		t.trailer(answer)
		t.complete(answer.StatusCode)
	default:
		t.interrupted(e, answer, &s)
	}
}

// interrupted ends an answer whose upstream did not: an event stream with an
// error event, anything else by cutting the connection.
func (t *transfer) interrupted(e *exchange, answer *http.Response, s *stream) {
	cause := context.Cause(e.ctx)
	reason, message := "upstream_interrupted", "The service closed the stream before it was complete."
	switch {
	case cause == nil:
		_ = t.logUpstream("an answer of the upstream broke off", s.readErr)
	case errors.Is(cause, errIdle), errors.Is(cause, errFirstByte):
		reason, message = "upstream_idle", "The service fell silent before the stream was complete."
	case errors.Is(cause, errTotal):
		reason, message = "upstream_too_long", "The stream took longer than it may."
	case errors.Is(cause, errStopping):
		reason, message = "server_stopping", "The server is stopping. Send the request again."
	default:
		t.broken(answer.StatusCode, "client_closed")
		return
	}
	t.broken(answer.StatusCode, reason)
	event := t.errorEvent(reason, message)
	if event == "" || !s.lines || answer.ContentLength >= 0 && s.hider == nil {
		return // no events, or a stated length that another event would not fit in
	}
	if !s.hangs {
		event = "\n" + event // its lines have come, but perhaps not its end
	} else if strings.HasPrefix(event, "data:") {
		event = "event: error\n" + event // in place of the name that came
	}
	if s.midLine {
		event = "\n" + event
	}
	e.allow(time.Now(), t.gateway.limits.write)
	n, err := io.WriteString(t.w, event)
	t.result.BytesOut += int64(n)
	if err == nil {
		err = flush(s.rc)
	}
	if err == nil {
		t.result.Abort = false
	}
}

// broken records an answer that ended early.
func (t *transfer) broken(status int, reason string) {
	t.result.Status, t.result.Outcome, t.result.Reason, t.result.Abort = status, audit.Partial, reason, true
}

// trailer passes the trailers on that a chunked answer ended with.
func (t *transfer) trailer(answer *http.Response) {
	if len(answer.Trailer) == 0 {
		return
	}
	h, secrets := t.w.Header(), t.secrets()
	t.scrubHeader(answer.Trailer, secrets)
	for name, values := range answer.Trailer {
		if len(values) > 0 && !removedFromAnswer(name) && !headOnly(name) && !tellsOurLimits(name) &&
			(t.service == nil || t.service.PassesToCaller(name)) && !leaks(values, secrets) {
			h[http.TrailerPrefix+name] = values
		}
	}
}

// flush sends what is buffered. A writer that cannot flush has none to send.
func flush(rc *http.ResponseController) error {
	if err := rc.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// stream is the state of a copy from an upstream to a caller.
type stream struct {
	rc    *http.ResponseController
	w     http.ResponseWriter
	lines bool          // pass on whole lines only
	hider *tokens.Hider // takes out what only we asked for; nil: nothing
	heart *heartbeat    // nil: none

	written           int64
	midLine           bool // the last byte passed on was no newline
	begun             bool // an event has, and its end is to come
	hangs             bool // an event has begun and has no data yet: SDKs would read its end as broken JSON
	readErr, writeErr error
}

// copy runs until body ends or either side fails.
func (s *stream) copy(e *exchange, body io.Reader) {
	buffer := e.space(bufferSize)
	held := 0 // bytes at the start of the buffer that wait for the end of their line
	for s.writeErr == nil {
		e.listen(time.Now())
		n, err := body.Read(buffer[held:])
		e.phase.Store(writing)
		e.renew() // the upstream may have taken longer than a write may
		end := held + n
		ready := end
		if s.lines && err != io.EOF {
			ready = s.ready(buffer[:end], held)
		}
		if ready > 0 {
			s.pass(e, buffer[:ready])
			held = copy(buffer, buffer[ready:end])
		} else {
			held = end
		}
		if err != nil {
			if err != io.EOF {
				s.readErr = err
			}
			return
		}
	}
}

// ready gives how much of b ends with a whole line; the first held bytes hold
// none. A line longer than the buffer is passed on in pieces.
func (s *stream) ready(b []byte, held int) int {
	if len(b) == 0 {
		return 0
	}
	if c := b[len(b)-1]; c == '\n' || c == '\r' {
		return len(b)
	}
	if i := bytes.LastIndexByte(b[held:], '\n'); i >= 0 {
		return held + i + 1
	}
	if i := bytes.LastIndexByte(b[held:], '\r'); i >= 0 {
		return held + i + 1
	}
	if len(b) < bufferSize {
		return 0
	}
	return len(b)
}

// pass writes b to the caller, and then has it counted.
func (s *stream) pass(e *exchange, b []byte) {
	if s.hider == nil {
		s.write(b)
		if e.watching {
			e.watcher.Watch(b)
		}
		return
	}
	if e.watching { // before b is changed
		e.watcher.Watch(b)
	}
	if b = s.hider.Edit(b); len(b) > 0 {
		s.write(b)
	}
}

// note keeps whether the event at the end of what is passed on hangs.
func (s *stream) note(b []byte) {
	begun, said := s.begun, s.begun && !s.hangs
	if !s.midLine && (b[0] == '\n' || b[0] == '\r') {
		begun, said = false, false
	}
	fresh := !s.midLine
	for _, end := range [...]string{"\n\n", "\r\n\r\n", "\r\r"} {
		if i := bytes.LastIndex(b, []byte(end)); i >= 0 {
			b, begun, said, fresh = b[i+len(end):], false, false, true
		}
	}
	said = said || fresh && bytes.HasPrefix(b, []byte("data")) || bytes.Contains(b, []byte("\ndata")) || bytes.Contains(b, []byte("\rdata"))
	s.begun = begun || len(bytes.Trim(b, "\r\n")) > 0
	s.hangs = s.begun && !said
}

func (s *stream) write(b []byte) {
	if s.lines {
		s.note(b)
	}
	if s.heart != nil {
		s.heart.mu.Lock()
		defer s.heart.mu.Unlock()
		s.heart.note(b, s.midLine)
	}
	n, err := s.w.Write(b)
	s.written += int64(n)
	if err == nil {
		err = flush(s.rc) // which costs nothing after a write of 4 KiB or more: net/http holds nothing of it back
	}
	s.writeErr = err
	s.midLine = b[len(b)-1] != '\n' // after "\r", what follows may be the rest of a "\r\n"
}
