package server_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const streamBody = `{"model":"m","stream":true,"messages":[{"role":"user","content":"one two three"}]}`

// stream starts a streamed chat and gives it once its first event is there.
func stream(t *testing.T, c *client) (*http.Response, *bufio.Reader) {
	t.Helper()
	resp, err := c.http.Do(c.request("POST", chatPath, strings.NewReader(streamBody)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(ct, "text/event-stream") {
		t.Fatalf("%d %s", resp.StatusCode, ct)
	}
	lines := bufio.NewReader(resp.Body)
	if first, err := lines.ReadString('\n'); err != nil || !strings.HasPrefix(first, "data: {") {
		t.Fatalf("the first event: %q, %v", first, err)
	}
	return resp, lines
}

// Events reach the caller as they come, and the visit is recorded at its end.
func TestStream(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	release := make(chan struct{})
	openai.Next(gatehousetest.Hold(release))
	resp, lines := stream(t, c) // the provider has not said more yet
	checkLimitHeaders(t, resp.Header)
	if n := len(c.events("action", "chat.request")); n != 0 {
		t.Errorf("%d visits are recorded while the first runs", n)
	}
	close(release)
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") || !strings.Contains(string(rest), "three") {
		t.Errorf("the rest: %v %q", err, rest)
	}
	if v := c.events("action", "chat.request"); len(v) != 1 || v[0].Outcome != "success" || v[0].Metadata["bytesOut"].(float64) < 100 {
		t.Errorf("the trail tells %+v", v)
	}

	// One that breaks, or that the caller leaves, is partial.
	openai.Next(gatehousetest.CutAfter(350))
	_, lines = stream(t, c)
	rest, _ = io.ReadAll(lines)
	if strings.Contains(string(rest), "[DONE]") || !strings.Contains(string(rest), "error") {
		t.Errorf("a broken stream ends in %q", rest)
	}
	openai.Next(gatehousetest.Hold(nil))
	resp, _ = stream(t, c)
	resp.Body.Close()
	openai.Await(3)
	for range 50 { // the visit ends a moment after the provider noticed
		if v := c.events("action", "chat.request", "outcome", "partial"); len(v) == 2 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the trail tells %+v", c.events("action", "chat.request"))
}

// At a stop a running stream may end; new requests are told to go elsewhere,
// and what was acknowledged is on disk.
func TestStopLetsStreamsEnd(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "GATEHOUSE_STOP_GRACE": "1m"})
	c := as(t, s, "acme", "u1", access.Owner)
	id := c.store("openai", map[string]string{"apiKey": openai.Key()})
	release := make(chan struct{})
	openai.Next(gatehousetest.Hold(release))
	_, lines := stream(t, c)

	s.Server.Stop() // as the signal does first
	fresh := as(t, s, "acme", "u1", access.Owner)
	a := fresh.do("POST", chatPath, chatBody)
	checkSDKError(t, a)
	checkProblem(t, a, 503, "server_stopping")
	if a.Header.Get("Retry-After") == "" {
		t.Errorf("a request while stopping: %q", a.Header)
	}
	checkProblem(t, fresh.get(credentialsPath), 503, "server_stopping")
	if a := fresh.get("/healthz"); a.Status != 200 {
		t.Errorf("healthz while stopping: %d", a.Status)
	}
	if a := fresh.get("/readyz"); a.Status != 503 || !strings.Contains(a.Body, "stopping") {
		t.Errorf("readyz while stopping: %d %s", a.Status, a.Body)
	}

	stopped := make(chan struct{})
	go func() { defer close(stopped); s.Stop() }()
	close(release)
	if rest, err := io.ReadAll(lines); err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the running stream: %v %q", err, rest)
	}
	<-stopped
	checkAfterRestart(t, s, id, "success")
}

// A stream that outlasts the grace ends with an event that says why.
func TestStopCutsWhatOutlastsTheGrace(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL, "GATEHOUSE_STOP_GRACE": "50ms"})
	c := as(t, s, "acme", "u1", access.Owner)
	id := c.store("openai", map[string]string{"apiKey": openai.Key()})
	openai.Next(gatehousetest.Hold(nil))
	_, lines := stream(t, c)
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.Stop() }()
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.Contains(string(rest), "server_stopping") || strings.Contains(string(rest), "[DONE]") {
		t.Errorf("a stream that was cut: %v %q", err, rest)
	}
	<-stopped
	checkAfterRestart(t, s, id, "partial")
}

// An upload that outlasts the grace is told so, and recorded.
func TestStopEndsUploads(t *testing.T) {
	for _, length := range []string{"Transfer-Encoding: chunked", "Content-Length: 100000"} {
		s := instancetest.Serve(t, map[string]string{"GATEHOUSE_STOP_GRACE": "50ms"})
		answers := upload(t, s, length)
		s.Stop()
		answer, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", length, err)
		}
		if answer.StatusCode != 503 || answer.Header.Get("Gatehouse-Error") != "server_stopping" || answer.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v", length, answer.StatusCode, answer.Header)
		}
		checkStoppedUpload(t, s)
	}
}

// upload sends the header of a chat, and a part of its body once the server waits for that. It
// gives what the server answers.
func upload(t *testing.T, s *instancetest.Server, length string) *bufio.Reader {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, "POST "+chatPath+" HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer "+
		s.Token(t, "acme", "u1", access.Owner)+"\r\nExpect: 100-continue\r\n"+length+"\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(conn)
	if answer, err := http.ReadResponse(answers, nil); err != nil || answer.StatusCode != http.StatusContinue {
		t.Fatalf("%v %v", answer, err)
	}
	if _, err := io.WriteString(conn, "4000\r\n"+strings.Repeat("x", 1000)); err != nil {
		t.Fatal(err)
	}
	return answers
}

// checkStoppedUpload starts a server on what another left behind whose stop ended an upload.
func checkStoppedUpload(t *testing.T, s *instancetest.Server) {
	t.Helper()
	c := as(t, instancetest.ServeConfig(t, s.Config), "acme", "u1", access.Owner)
	if v := c.events("action", "chat.request"); len(v) != 1 || v[0].Reason != "server_stopping" || v[0].Request.Status != 503 {
		t.Errorf("the trail tells %+v", v)
	}
	if a := c.get("/api/usage"); !strings.Contains(a.Body, `"requests":1`) {
		t.Errorf("the usage: %d %s", a.Status, a.Body)
	}
}

// checkAfterRestart starts a server on what another left behind.
func checkAfterRestart(t *testing.T, s *instancetest.Server, id, outcome string) {
	t.Helper()
	again := instancetest.ServeConfig(t, s.Config)
	c := as(t, again, "acme", "u1", access.Owner)
	if a := c.get(credentialsPath + "/" + id); a.Status != 200 || !strings.Contains(a.Body, "lastUsedAt") {
		t.Errorf("the credential after a restart: %d %s", a.Status, a.Body)
	}
	if v := c.events("action", "chat.request"); len(v) != 1 || v[0].Outcome != outcome {
		t.Errorf("the visits after a restart: %+v, want one that was a %s", v, outcome)
	}
	if v := c.events("action", "credential.create"); len(v) != 1 {
		t.Errorf("the change after a restart: %+v", v)
	}
}

// A caller that does not read holds up no stop: the visit ends with the grace, as the stop's doing.
func TestStopDoesNotWaitForCallersThatDoNotRead(t *testing.T) {
	const grace = 300 * time.Millisecond
	for name, header := range map[string][2]string{
		"events":   {"Content-Type", "text/event-stream"},
		"a length": {"Content-Length", "1000000000"},
		"chunks":   {"Content-Type", "application/x-ndjson"},
	} {
		t.Run(name, func(t *testing.T) {
			provider := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set(header[0], header[1])
				for r.Context().Err() == nil {
					_, _ = io.WriteString(w, "data: "+strings.Repeat("x", 32<<10)+"\n\n")
				}
			}))
			t.Cleanup(provider.Close)
			s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + provider.URL, "GATEHOUSE_STOP_GRACE": grace.String()})
			c := as(t, s, "acme", "u1", access.Owner)
			c.store("openai", map[string]string{"apiKey": "sk-proj-0123456789abcdefghijABCDEFGHIJ0123456789abcdefghij"})
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if err := c.request("POST", chatPath, strings.NewReader(streamBody)).Write(conn); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, make([]byte, 64<<10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(300 * time.Millisecond) // until all that lies between is full
			begin := time.Now()
			s.Stop()
			if took := time.Since(begin); took > grace+time.Second+500*time.Millisecond { // for the trail
				t.Errorf("the stop took %v", took)
			}
			again := as(t, instancetest.ServeConfig(t, s.Config), "acme", "u1", access.Owner)
			if v := again.events("action", "chat.request"); len(v) != 1 || v[0].Outcome != "partial" || v[0].Reason != "server_stopping" {
				t.Errorf("the trail tells %+v", v)
			}
		})
	}
}
