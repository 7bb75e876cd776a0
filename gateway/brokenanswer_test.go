package gateway_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/audit"
)

func TestAnEventStreamThatDiesEndsWithAnErrorEvent(t *testing.T) {
	long := "data: " + strings.Repeat("x", 70_000)
	for name, test := range map[string]struct {
		path string
		sent []string
		want string
	}{
		"between events":      {"/api/chat/up/v1", []string{"data: 1\n\n"}, "data: 1\n\n" + interruptedEvent},
		"inside a line":       {"/api/chat/up/v1", []string{"data: 1\n\n", `data: {"half`}, "data: 1\n\n" + interruptedEvent},
		"inside a CRLF":       {"/api/chat/up/v1", []string{"data: 1\r"}, "data: 1\r\n" + interruptedEvent},
		"inside an event":     {"/api/chat/up/v1", []string{"event: x\ndata: 1\nda"}, "event: x\ndata: 1\n" + interruptedEvent},
		"before any":          {"/api/chat/up/v1", nil, interruptedEvent},
		"inside a great line": {"/api/chat/up/v1", []string{long}, long[:65536] + "\n" + interruptedEvent},
		"Anthropic":           {"/api/chat/anthropic/v1/messages", []string{"event: ping\ndata: {}\n\n"}, "event: ping\ndata: {}\n\n" + anthropicEvent},
		"Anthropic's dialect": {"/api/chat/up/anthropic/v1/messages", []string{"event: ping\ndata: {}\n\n"}, "event: ping\ndata: {}\n\n" + anthropicEvent},
		"Gemini":              {"/api/chat/up/v1beta/models/g:streamGenerateContent?alt=sse", []string{"data: 1\n\n"}, "data: 1\n\n" + googleEvent},
		// A name without data is given the error's: an SDK reads the data of each event that ends.
		"behind a name":            {"/api/chat/up/v1", []string{"data: 1\n\nevent: x\n", `data: {"ha`}, "data: 1\n\nevent: x\nevent: error\n" + interruptedEvent[1:]},
		"behind a name, pieces":    {"/api/chat/up/v1", []string{"data: 1\n", "\n", "event: x\n", ": y\n"}, "data: 1\n\nevent: x\n: y\nevent: error\n" + interruptedEvent[1:]},
		"behind a name, CRLF":      {"/api/chat/up/v1", []string{"data: 1\r\n\r\nevent: x\r\n"}, "data: 1\r\n\r\nevent: x\r\nevent: error\n" + interruptedEvent[1:]},
		"behind data, pieces":      {"/api/chat/up/v1", []string{"event: x\n", "data: 1\n"}, "event: x\ndata: 1\n" + interruptedEvent},
		"behind a name, Anthropic": {"/api/chat/anthropic/v1/messages", []string{"event: ping\ndata: {}\n\nevent: x\n"}, "event: ping\ndata: {}\n\nevent: x\n" + anthropicEvent[1:]},
	} {
		t.Run(name, func(t *testing.T) {
			f := serve(t, scripted(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, eventStream)
				for _, text := range test.sent {
					chunk(conn, text)
				}
			}))
			answer, got := f.call(t, "POST", test.path, "{}")
			if answer.StatusCode != 200 || got != test.want {
				t.Errorf("got %d %.300q, want %.300q", answer.StatusCode, got, test.want)
			}
			if r := f.result(t); r.Outcome != audit.Partial || r.Reason != "upstream_interrupted" || r.Abort || r.Status != 200 || r.BytesOut != int64(len(test.want)) {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Whatever is no event stream and dies must not look complete.
func TestAnotherAnswerThatDiesIsCutOff(t *testing.T) {
	for name, head := range map[string]string{
		"chunked JSON":          "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n",
		"a long answer":         "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("a", 50_000),
		"compressed events":     "Content-Type: text/event-stream\r\nContent-Encoding: br\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
		"Gemini's interactions": "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
		"a broken chunk":        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\nzz\r\n",
		"events of a length": "Content-Type: text/event-stream\r\nContent-Length: 100\r\n\r\n" +
			"data: 1\n\n",
	} {
		f := serve(t, rawUpstream(t, "HTTP/1.1 200 OK\r\n"+head))
		path := "/api/chat/up/v1"
		if name == "Gemini's interactions" { // whose SDKs take an error event for one like any other
			path = "/api/chat/up/v1beta/interactions"
		}
		answer := f.open(t.Context(), t, path)
		if _, err := io.ReadAll(answer.Body); err == nil {
			t.Errorf("%s: the answer looks complete", name)
		}
		if r := f.result(t); r.Outcome != audit.Partial || r.Reason != "upstream_interrupted" || !r.Abort {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A small answer is not begun before it is whole, so it can fail properly.
func TestASmallAnswerThatDiesIsAProblem(t *testing.T) {
	f := serve(t, rawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Provider: 1\r\nContent-Length: 10\r\n\r\n{\"a"))
	answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
	if answer.StatusCode != 502 || answer.Header.Get("Gatehouse-Error") != "upstream_interrupted" || answer.Header.Get("X-Provider") != "" {
		t.Errorf("%d %v %q", answer.StatusCode, answer.Header, text)
	}
	if r := f.result(t); r.Outcome != audit.Failure || r.Status != 502 || r.Abort {
		t.Errorf("%+v", r)
	}
}

// An answer of unknown length is not begun before its first bytes, so it can fail properly
// until then. An empty one is an answer.
func TestAnAnswerThatDiesBeforeItsFirstBytesIsAProblem(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Answer: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, body := range map[string]string{"nothing": "", "a broken chunk": "zz\r\n"} {
		f := serve(t, rawUpstream(t, head+body))
		answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if answer.StatusCode != 502 || answer.Header.Get("Gatehouse-Error") != "upstream_interrupted" || answer.Header.Get("X-Answer") != "" {
			t.Errorf("%s: %d %v %q", name, answer.StatusCode, answer.Header, text)
		}
		if r := f.result(t); r.Outcome != audit.Failure || r.Status != 502 || r.Abort {
			t.Errorf("%s: %+v", name, r)
		}
	}
	f := serve(t, rawUpstream(t, head+"0\r\n\r\n"))
	if answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}"); answer.StatusCode != 200 || text != "" || answer.Header.Get("X-Answer") != "1" {
		t.Errorf("an empty answer: %d %q", answer.StatusCode, text)
	}
}

// A page whose links are rewritten has no stated length any more, however long it is: where it breaks
// before it begins, nothing of it was sent.
func TestALongPageThatBreaksBeforeItBegins(t *testing.T) {
	f := serve(t, rawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"))
	if answer, text := f.call(t, "POST", "/api/proxy/github/releases", "{}"); answer.StatusCode != 502 || answer.Header.Get("Gatehouse-Error") != "upstream_interrupted" {
		t.Errorf("%d %s", answer.StatusCode, text)
	}
	if r := f.result(t); r.Outcome != audit.Failure {
		t.Errorf("%+v", r)
	}
}
