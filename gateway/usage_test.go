package gateway_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

const (
	completions = "/api/chat/up/v1/chat/completions"
	streamBody  = `{"model":"m", "stream":true,"messages":[{"role":"user","content":"Ä \"hi\""}]}`
	askingBody  = `{"stream_options":{"include_usage":true},"model":"m", "stream":true,"messages":[{"role":"user","content":"Ä \"hi\""}]}`
)

// readRequest reads one request with its body, or gives nil at the end.
func readRequest(conn net.Conn) *http.Request {
	r, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return r
}

// asking has the gateway ask the service up for usage.
func asking(o *gateway.Options) { o.AskUsage = []string{"up"} }

// openAIStream gives the events of a stream, as with include_usage and as without.
func openAIStream(words int) (asked, plain []string) {
	for i := range words {
		event := fmt.Sprintf(`data: {"id":"c","model":"m-1","choices":[{"index":0,"delta":{"content":"w%d \"usage\":null"}}]`, i)
		plain = append(plain, event+"}\n\n")
		asked = append(asked, event+`,"usage":null}`+"\n\n")
	}
	asked = append(asked, `data: {"id":"c","model":"m-1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":9,"total_tokens":16}}`+"\n\n", "data: [DONE]\n\n")
	return asked, append(plain, "data: [DONE]\n\n")
}

// The upstream is asked for usage, and the caller gets, byte for byte, the
// stream of somebody who did not ask, however the network cuts it.
func TestUsageIsAskedForAndHidden(t *testing.T) {
	asked, plain := openAIStream(40)
	for _, size := range []int{1, 3, 17, 100, 1000, 1 << 20} {
		got := make(chan *http.Request, 1)
		upstream := "http://" + listen(t, func(conn net.Conn) {
			r := readRequest(conn)
			if r == nil {
				return
			}
			got <- r
			_, _ = io.WriteString(conn, eventStream)
			for rest := strings.Join(asked, ""); rest != ""; {
				n := min(size, len(rest))
				chunk(conn, rest[:n])
				rest = rest[n:]
			}
			chunk(conn, "")
		})
		f := serve(t, upstream, asking)
		answer, body := f.call(t, "POST", completions, streamBody)
		if diff := cmp.Diff(strings.Join(plain, ""), body); diff != "" || answer.StatusCode != 200 {
			t.Fatalf("in pieces of %d: %s", size, diff)
		}
		r := <-got
		sent, _ := io.ReadAll(r.Body)
		if string(sent) != askingBody || r.ContentLength != int64(len(askingBody)) || r.Header.Get("Accept-Encoding") != "identity" {
			t.Errorf("the upstream got %d bytes: %s", r.ContentLength, sent)
		}
		result := f.result(t)
		want := gateway.Usage{Model: "m-1", Tokens: tokens.Counts{Input: tokens.Of(7), Output: tokens.Of(9)}, Expected: true, Stream: true, Events: 42}
		if diff := cmp.Diff(want, result.Usage); diff != "" || result.Outcome != audit.Success || result.BytesIn != int64(len(streamBody)) || result.BytesOut != int64(len(body)) {
			t.Errorf("%s %+v", diff, result)
		}
	}
}

// The caller's digest of a body goes with that body, and with no other.
func TestADigestGoesWithItsBody(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream, asking)
	for body, want := range map[string]string{`{"model":"m"}`: "sha-256=:x:", streamBody: ""} {
		f.call(t, "POST", completions, body, "Content-Digest", "sha-256=:x:", "Content-Md5", "x", "Digest", "x")
		r := <-got
		if r.Header.Get("Content-Digest") != want || (r.Header.Get("Content-Md5") == "x") != (want != "") || (r.Header.Get("Digest") == "x") != (want != "") {
			t.Errorf("with %s went %v", body, r.Header)
		}
	}
}

// Who asks for usage gets it, and who is not known to take the question is not asked.
func TestUsageIsNotAskedFor(t *testing.T) {
	asked, _ := openAIStream(2)
	whole := strings.Join(asked, "")
	own := strings.Replace(streamBody, `"stream":true`, `"stream":true,"stream_options":{"include_usage":true}`, 1)
	for name, test := range map[string]struct {
		path, body string
		change     func(*gateway.Options)
	}{
		"the caller asked":    {completions, own, asking},
		"an unknown host":     {completions, streamBody, func(*gateway.Options) {}},
		"no stream":           {completions, `{"model":"m"}`, asking},
		"another operation":   {"/api/chat/up/v1/responses", streamBody, asking},
		"another service":     {"/api/chat/anthropic/v1/chat/completions", streamBody, asking},
		"the team's own":      {"/api/chat/app/v1/chat/completions", streamBody, asking},
		"a proxy route":       {"/api/proxy/stripe/v1/chat/completions", streamBody, asking},
		"no JSON":             {completions, `{"stream":true`, asking},
		"a body in two words": {completions, `{"stream":true,"stream":true}`, asking},
	} {
		t.Run(name, func(t *testing.T) {
			upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, whole)
			})
			f := serve(t, upstream, test.change)
			_, body := f.call(t, "POST", test.path, test.body)
			if r := <-got; r.Body != test.body || r.Length != int64(len(test.body)) {
				t.Errorf("the upstream got %s", r.Body)
			}
			if body != whole {
				t.Errorf("the caller got %q", body)
			}
		})
	}
}

// What is asked of which service of the catalogue.
func TestServicesThatAreAsked(t *testing.T) {
	upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/event-stream") })
	services, err := catalog.New(catalog.Options{ServiceHosts: map[string]string{"openai": upstream, "anthropic": upstream}})
	if err != nil {
		t.Fatal(err)
	}
	f := serve(t, upstream, func(o *gateway.Options) { o.Catalog = services })
	for path, want := range map[string]bool{
		"openai/v1/chat/completions": true, "openai/v1/chat/completions/": true, "openai/v1/completions": true, "openai/v1/chat/complet%69ons": true,
		"openai/v1/responses": false, "openai/v1/embeddings": false, "anthropic/v1/messages": false, "anthropic/v1/chat/completions": false,
	} {
		f.call(t, "POST", "/api/chat/"+path, streamBody)
		if r := <-got; (r.Body == askingBody) != want || (r.Body == streamBody) == want {
			t.Errorf("%s got %s", path, r.Body)
		}
	}
}

// A stream that ends early leaves what was seen, and nothing where nothing was.
func TestUsageOfStreamsThatEndEarly(t *testing.T) {
	const start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n"
	t.Run("upstream died", func(t *testing.T) {
		f := serve(t, scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, eventStream)
			chunk(conn, start)
		}))
		if _, body := f.call(t, "POST", "/api/chat/anthropic/v1/messages", streamBody); !strings.HasPrefix(body, start) || !strings.Contains(body, "upstream_interrupted") {
			t.Errorf("the caller got %q", body)
		}
		r := f.result(t)
		if u := r.Usage; r.Outcome != audit.Partial || u.Model != "claude-x" || u.Tokens.Input != tokens.Of(25) || u.Tokens.Output != tokens.Of(1) || u.Events != 1 || !u.Expected {
			t.Errorf("%+v", r)
		}
	})
	t.Run("client left", func(t *testing.T) {
		f := serve(t, scripted(t, func(conn net.Conn) {
			_, _ = io.WriteString(conn, eventStream)
			chunk(conn, `data: {"model":"m-1","choices":[{"delta":{"content":"a"}}]}`+"\n\n")
			_, _ = conn.Read(make([]byte, 1))
		}))
		ctx, cancel := context.WithCancel(t.Context())
		answer := f.open(ctx, t, completions)
		if _, err := answer.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		cancel()
		r := f.result(t)
		if u := r.Usage; r.Outcome != audit.Partial || u.Tokens.Known() || u.Model != "m-1" || u.Events != 1 || !u.Expected {
			t.Errorf("%+v", r)
		}
	})
}

// A provider that tells of an error inside of a stream broke it off, though its
// status was a success; what was counted until then stays.
func TestStreamsThatTellOfAnError(t *testing.T) {
	const start = `data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":25,"output_tokens":1}}}` + "\n\n"
	for _, test := range []struct {
		path, contentType, body string
		outcome                 audit.Outcome
	}{
		{"v1/messages", "text/event-stream", start + "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n", audit.Partial},
		{"v1/chat/completions", "text/event-stream", start + "data: {\"error\":{\"code\":502}}\n\ndata: [DONE]\n\n", audit.Partial},
		{"v1/responses", "text/event-stream", start + "data: {\"type\":\"response.failed\",\"response\":{\"error\":{}}}\n\n", audit.Partial},
		{"v1beta/models/g:streamGenerateContent", "application/json", `[{"usage":{"input_tokens":25}},{"error":{"code":503}}]`, audit.Partial},
		{"v1/messages", "text/event-stream", start, audit.Success},
		{"v1/messages", "application/json", `{"usage":{"input_tokens":25},"error":{}}`, audit.Success}, // which is whole
	} {
		upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", test.contentType)
			_, _ = io.WriteString(w, test.body)
		})
		f := serve(t, upstream)
		if _, body := f.call(t, "POST", "/api/chat/up/"+test.path, `{}`); body != test.body {
			t.Errorf("%s: the caller got %q", test.path, body)
		}
		reason := ""
		if test.outcome == audit.Partial {
			reason = "upstream_error"
		}
		if r := f.result(t); r.Outcome != test.outcome || r.Reason != reason || r.Usage.Tokens.Input != tokens.Of(25) || r.Status != 200 || r.Abort {
			t.Errorf("%s of %s: %+v", test.contentType, test.path, r)
		}
	}
}

// Whatever an upstream answers reaches the caller unchanged, and is counted as
// far as it can be read.
func TestCountingNeverChangesAnAnswer(t *testing.T) {
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, `{"usage":{"prompt_tokens":5}}`)
	_ = z.Close()
	big := `{"model":"m","data":"` + strings.Repeat(`x\"{[`, 100_000) + `","usage":{"prompt_tokens":5}}`
	for name, test := range map[string]struct {
		header [2]string
		body   string
		known  bool
	}{
		"JSON":                {[2]string{"Content-Type", "application/json"}, `{"usage":{"prompt_tokens":5}}`, true},
		"large":               {[2]string{"Content-Type", "application/json"}, big, true},
		"compressed":          {[2]string{"Content-Encoding", "gzip"}, zipped.String(), false},
		"malformed":           {[2]string{"Content-Type", "application/json"}, "\x00\x1f{\"usage\":[<html>\xff\xfe" + strings.Repeat("]}", 5000), false},
		"malformed events":    {[2]string{"Content-Type", "text/event-stream"}, "data: {\"usage\":{\"usage\":null}\n\ndata\n:\n\ndata: }}}}\n\n", false},
		"deep":                {[2]string{"Content-Type", "application/json"}, strings.Repeat(`{"usage":`, 50_000), false},
		"an error":            {[2]string{"Status", "500"}, `{"usage":{"prompt_tokens":5}}`, false},
		"another type":        {[2]string{"Content-Type", "audio/mpeg"}, `{"usage":{"prompt_tokens":5}}`, false},
		"Gemini's JSON array": {[2]string{"Content-Type", "application/json; charset=UTF-8"}, "[{\"usageMetadata\":{\"promptTokenCount\":1}}\n,\n{\"usageMetadata\":{\"promptTokenCount\":5}}]", true},
	} {
		for _, length := range []bool{true, false} {
			upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
				status := 200
				if test.header[0] == "Status" {
					status, _ = strconv.Atoi(test.header[1])
					w.Header().Set("Content-Type", "application/json")
				} else {
					w.Header().Set("Content-Type", "application/json")
					w.Header().Set(test.header[0], test.header[1])
				}
				if length {
					w.Header().Set("Content-Length", strconv.Itoa(len(test.body)))
				}
				w.WriteHeader(status)
				_ = http.NewResponseController(w).Flush()
				_, _ = io.WriteString(w, test.body)
			})
			f := serve(t, upstream, asking)
			answer, body := f.call(t, "POST", completions, streamBody)
			if body != test.body {
				t.Errorf("%s: the caller got %d bytes of %d", name, len(body), len(test.body))
			}
			if length && !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/event-stream") && answer.ContentLength != int64(len(test.body)) {
				t.Errorf("%s: a length of %d", name, answer.ContentLength)
			}
			if u := f.result(t).Usage; u.Tokens.Known() != test.known || test.known && u.Tokens.Input != tokens.Of(5) {
				t.Errorf("%s: counted %+v", name, u.Tokens)
			}
		}
	}
}

// Models that only the path names, and what counts as a stream.
func TestModelsAndStreamsOfPaths(t *testing.T) {
	upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "application/json") })
	f := serve(t, upstream)
	for _, test := range []struct {
		path, body, accept string
		model              string
		stream, expected   bool
	}{
		{"up/v1beta/models/gemini-2.5-flash:generateContent", `{}`, "", "gemini-2.5-flash", false, true},
		{"up/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse", `{}`, "", "gemini-2.5-flash", true, true},
		{"up/v1beta/models/gemini-2.5-flash%3AstreamGenerateContent", `{}`, "", "gemini-2.5-flash", true, true},
		{"up/v1beta/models/gemini-2.5-flash:countTokens", `{}`, "", "", false, false},
		{"up/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21", `{}`, "", "my-gpt", false, true},
		{"up/v2/chat", `{"model":"command-a","stream":true}`, "", "command-a", true, true},
		{"up/v1/messages", `{"model":"claude","stream":false}`, "", "claude", false, true},
		{"up/v1/models", ``, "text/event-stream, application/json", "", true, false},
		{"app/anything", `{"model":"own","stream":true}`, "", "own", true, false},
		{"up/v1/embeddings", `{"model":"` + strings.Repeat("x", 500) + `"}`, "", "other", false, true},
	} {
		f.call(t, "POST", "/api/chat/"+test.path, test.body, "Accept", test.accept)
		u := f.result(t).Usage
		if u.Model != test.model || u.Stream != test.stream || u.Expected != test.expected {
			t.Errorf("%s: %+v", test.path, u)
		}
	}
}

// The model of a form, which the answers to sound and images do not name.
func TestModelsOfForms(t *testing.T) {
	upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"text":"hello","usage":{"type":"tokens","input_tokens":14,"output_tokens":45,"total_tokens":59}}`)
	})
	f := serve(t, upstream)
	body := "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n" + strings.Repeat("RIFF", 20_000) +
		"\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\ngpt-4o-transcribe\r\n--b--\r\n"
	f.call(t, "POST", "/api/chat/up/v1/audio/transcriptions", body, "Content-Type", "multipart/form-data; boundary=b")
	if r := <-got; r.Body != body {
		t.Error("the upstream got another form")
	}
	if u := f.result(t).Usage; u.Model != "gpt-4o-transcribe" || u.Tokens.Output != tokens.Of(45) {
		t.Errorf("%+v", u)
	}
	f.call(t, "POST", "/api/chat/up/v1/audio/transcriptions", strings.Replace(body, "gpt-4o-transcribe", injectedKey, 1), "Content-Type", "multipart/form-data; boundary=b")
	if u := f.result(t).Usage; u.Model != tokens.OtherModel {
		t.Errorf("the credential is recorded as the model: %+v", u)
	}
}

// An answer to a POST that changes what is stored tells once more what was counted
// when it was made.
func TestStoredUsageIsNotCountedAgain(t *testing.T) {
	upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"model":"m-1","usage":{"prompt_tokens":5,"completion_tokens":6}}`)
	})
	f := serve(t, upstream)
	for path, want := range map[string]bool{
		"v1/chat/completions": true, "v1/chat/completions/chatcmpl-1": false, "v1/threads/t/runs": true, "v1/threads/t/runs/r": false,
		"v1/batches/b/cancel": false, "v1/images/edits": true, "v1/responses/compact": true, "v1/responses/r/cancel": false,
		"serving-endpoints/x/invocations": true, "model/x/invoke": true, // which a host of the operator's own may have
	} {
		f.call(t, "POST", "/api/chat/up/"+path, `{"metadata":{}}`)
		if u := f.result(t).Usage; u.Tokens.Known() != want {
			t.Errorf("%s: counted %+v", path, u.Tokens)
		}
	}
}

// A token that was put where the model belongs is recorded nowhere.
func TestATokenIsNoModel(t *testing.T) {
	said, status := "", 0
	upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"model":%q,"usage":{"prompt_tokens":1,"completion_tokens":2}}`, said)
	})
	f := serve(t, upstream)
	for i, test := range []struct{ asked, said, want string }{
		{callerToken, "", ""}, // which is refused before anybody reads it
		{"x-" + callerToken + ":1", "", ""},
		{"gpt-5", callerToken, "other"},
		{"gpt-5", injectedKey, "other"},
		{injectedKey, "", "other"},
		{"x/" + injectedKey, "", "other"},
		{"gth_" + strings.Repeat("a1B2c3D", 7), "", "other"},
		{"gpt-5", "gpt-5", "gpt-5"},
		{"gpt-5", "gpt-5-2027-01-01", "gpt-5-2027-01-01"},
		{"a-model-of-a-name-as-long-as-a-token-0123456789", "", "a-model-of-a-name-as-long-as-a-token-0123456789"},
	} {
		said = test.said
		if status = 200; test.said == "" && i%2 == 1 {
			status = 400 // which nobody counts
		}
		f.call(t, "POST", "/api/chat/up/v1/chat/completions", `{"model":"`+test.asked+`"}`)
		if got := f.result(t).Usage.Model; got != test.want {
			t.Errorf("asked for %q, answered %q: recorded as %q", test.asked, test.said, got)
		}
	}
}

// An organization has so many streams at once and no more; other requests, and
// other organizations, are not concerned, and a stream that ends gives its place.
func TestStreamsAreCapped(t *testing.T) {
	release := make(chan struct{})
	upstream := "http://" + listen(t, func(conn net.Conn) {
		for {
			r := readRequest(conn)
			if r == nil {
				return
			}
			body, _ := io.ReadAll(r.Body)
			if !bytes.Contains(body, []byte("true")) && !bytes.Contains(body, []byte("perhaps")) {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}")
				continue
			}
			_, _ = io.WriteString(conn, eventStream)
			chunk(conn, "data: {}\n\n")
			<-release
			chunk(conn, "")
		}
	})
	f := serve(t, upstream, func(o *gateway.Options) { o.StreamsPerOrganization = 2 })
	open := func() *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), "POST", f.URL+completions, strings.NewReader(streamBody))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := noRedirect().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = answer.Body.Close() })
		return answer
	}
	first, second := open(), open()
	third := open()
	if third.StatusCode != 429 || third.Header.Get("Gatehouse-Error") != "too_many_streams" {
		t.Errorf("the third: %d %q", third.StatusCode, third.Header)
	}
	if r := f.result(t); r.Outcome != audit.Denied || r.Reason != "too_many_streams" || r.Abort {
		t.Errorf("%+v", r)
	}
	// What the request did not show, the answer does.
	if answer, text := f.call(t, "POST", completions, `{"stream":"perhaps"}`); answer.StatusCode != 429 || answer.Header.Get("Gatehouse-Error") != "too_many_streams" {
		t.Errorf("a stream that was not asked for: %d %s", answer.StatusCode, text)
	}
	if r := f.result(t); r.Outcome != audit.Denied || r.Reason != "too_many_streams" || r.Abort {
		t.Errorf("%+v", r)
	}
	if answer, _ := f.call(t, "POST", completions, `{}`); answer.StatusCode != 200 {
		t.Errorf("no stream: %d", answer.StatusCode)
	}
	other := httptestVisit(t, f, "other")
	if other != 200 {
		t.Errorf("another organization's stream: %d", other)
	}
	close(release)
	for _, answer := range []*http.Response{first, second} {
		if _, err := io.ReadAll(answer.Body); err != nil {
			t.Error(err)
		}
	}
	for range 4 {
		f.result(t)
	}
	if again := open(); again.StatusCode != 200 {
		t.Errorf("after the end of both: %d", again.StatusCode)
	}
}

// httptestVisit sends a stream of another organization through the gateway and
// gives the status; it leaves before the end.
func httptestVisit(t *testing.T, f *front, organization string) int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := &headOnly{header: http.Header{}, done: cancel}
	r, err := http.NewRequestWithContext(ctx, "POST", "http://gatehouse.example"+completions, strings.NewReader(streamBody))
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = completions
	r.URL.Host = ""
	result := f.Gateway.Serve(w, r, gateway.Visit{Route: gateway.Chat, Caller: access.NewCaller(organization, access.User, "u", access.Owner), Service: "up", Path: "v1/chat/completions"})
	f.results <- result
	return w.status
}

// headOnly is a caller who leaves after the first bytes of an answer.
type headOnly struct {
	header http.Header
	status int
	done   func()
}

func (w *headOnly) Header() http.Header    { return w.header }
func (w *headOnly) WriteHeader(status int) { w.status = status }

func (w *headOnly) Write(p []byte) (int, error) {
	w.done()
	return len(p), nil
}

// What counting costs a stream: the same answer to POST, which is counted, and
// to PUT, which is not. The ratio is of the time for each.
func BenchmarkCounting(b *testing.B) {
	asked, _ := openAIStream(200)
	answer := []string{eventStream}
	for _, event := range asked {
		answer = append(answer, strconv.FormatInt(int64(len(event)), 16)+"\r\n"+event+"\r\n")
	}
	answer = append(answer, "0\r\n\r\n")
	upstream := "http://" + listen(b, func(conn net.Conn) { answerForever(conn, answer) })
	f := serve(b, upstream)
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	visit := func(method string) time.Duration {
		begin := time.Now()
		r, err := http.NewRequest(method, f.URL+completions, strings.NewReader(streamBody))
		if err != nil {
			b.Fatal(err)
		}
		answer, err := client.Do(r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, answer.Body); err != nil {
			b.Fatal(err)
		}
		_ = answer.Body.Close()
		if u := f.result(b).Usage; u.Tokens.Known() != (method == "POST") {
			b.Fatalf("%s counted %+v", method, u)
		}
		return time.Since(begin)
	}
	var spent [2]time.Duration
	for i := range b.N {
		if i%2 == 0 {
			spent[0] += visit("POST")
			spent[1] += visit("PUT")
		} else {
			spent[1] += visit("PUT")
			spent[0] += visit("POST")
		}
	}
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "x_uncounted")
	b.ReportMetric(float64(spent[0]-spent[1])/float64(b.N*len(asked)), "ns/event_more")
}
