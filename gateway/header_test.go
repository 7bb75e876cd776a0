package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rawUpstream answers each connection's first request with the given bytes and
// closes the connection.
func rawUpstream(t testing.TB, answer string) string {
	t.Helper()
	return "http://" + listen(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(conn, answer)
	})
}

// listen serves each connection with serve and closes it after.
func listen(t testing.TB, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return accept(t, l, serve)
}

// accept does so with what l accepts, until the test ends.
func accept(t testing.TB, l net.Listener, serve func(net.Conn)) string {
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				serve(conn)
			}()
		}
	}()
	return l.Addr().String()
}

func TestNothingACallerSendsTakesTheKeyOff(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	for _, connection := range []string{"Authorization", "authorization, keep-alive", "close, AUTHORIZATION", "x-api-key"} {
		f.call(t, "POST", "/api/chat/up/v1", "{}", "Connection", connection, "X-Api-Key", callerToken)
		r := <-got
		if diff := cmp.Diff([]string{"Bearer " + injectedKey}, r.Header["Authorization"]); diff != "" {
			t.Errorf("Connection: %s: %s", connection, diff)
		}
	}
	f.call(t, "POST", "/api/chat/anthropic/v1/messages", "{}", "Connection", "X-Api-Key, Anthropic-Version", "X-Api-Key", callerToken)
	r := <-got
	if r.Header.Get("X-Api-Key") != injectedKey || r.Header.Get("Anthropic-Version") != "2023-06-01" {
		t.Errorf("the upstream saw %v", r.Header)
	}
}

func TestWhatARequestLoses(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	removed := []string{
		"Cookie", "X-Api-Key", "Api-Key", "X-Goog-Api-Key", "Proxy-Authorization", "Te", "Keep-Alive", "Proxy-Connection",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Anything", "X-Real-Ip", "Via", "Gatehouse-Credential",
		"Gatehouse-Subject", "Gatehouse-Anything", "Gatehouse_subject", "Gatehouse.subject", "X_forwarded_for", "Accept-Encoding",
		"Trailer", "X-Original-Url", "X-Named", "Traceparent", "Tracestate", "Baggage",
	}
	header := []string{"Connection", "X-Named, Keep-Alive"}
	for _, name := range removed {
		header = append(header, name, "a-caller's-value")
	}
	kept := map[string][]string{
		"Content-Type":        {"application/json"},
		"Accept":              {"text/event-stream", "application/json"},
		"Openai-Organization": {"org-1"},
		"Anthropic-Version":   {"2023-06-01"}, // the host may speak any of the three APIs
		"Anthropic-Beta":      {"compact-2026-01-12"},
		"X-Goog-Api-Client":   {"genai-js/1"},
		"Idempotency-Key":     {"k"},
		"User-Agent":          {"sdk/1"},
		"X-Stainless-Lang":    {"go"},
		"Content-Length":      {"2"},
		"Authorization":       {"Bearer " + injectedKey},
		"Accept-Encoding":     {"identity"}, // an answer that can be counted
	}
	for name, values := range kept {
		if name == "Accept-Encoding" || name == "Authorization" || name == "Content-Length" {
			continue
		}
		for _, v := range values {
			header = append(header, name, v)
		}
	}
	f.call(t, "POST", "/api/chat/up/v1", "{}", header...)
	r := <-got
	if diff := cmp.Diff(http.Header(kept), r.Header); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(fmt.Sprint(r), callerToken) {
		t.Error("the caller's token reached the upstream")
	}
}

func TestAnAbsentUserAgentStaysAbsent(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	f.call(t, "GET", "/api/chat/up/v1", "", "User-Agent", "")
	if v, ok := (<-got).Header["User-Agent"]; ok {
		t.Errorf("User-Agent is %q", v)
	}
}

func TestTheCallersTokenLeavesTheQuery(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	for query, want := range map[string]string{
		"key=" + callerToken + "&alt=sse": "alt=sse",
		"alt=sse&key=" + callerToken:      "alt=sse",
		"key=" + callerToken:              "",
		"key=harmless&a=1&a=2&;=%zz":      "key=harmless&a=1&a=2&;=%zz",
		"a=%zz&api_key=" + strings.ReplaceAll(callerToken, ".", "%2e") + "&b=%zz":  "a=%zz&b=%zz",
		"access_token=" + strings.ReplaceAll(callerToken, ".", "%252E") + "&b=1":   "b=1",
		"access_token=" + strings.ReplaceAll(callerToken, ".", "%25252e") + "&b=1": "b=1",
		"access_token=" + callerToken + "%zz&b=1":                                  "b=1",
		callerToken + "=1&x[" + callerToken + "]=2":                                "",
		"b=1;key=" + callerToken + "&c":                                            "c",
	} {
		f.call(t, "GET", "/api/chat/up/v1?"+query, "")
		if _, sent, _ := strings.Cut((<-got).URI, "?"); sent != want {
			t.Errorf("%s became %s, want %s", query, sent, want)
		}
	}
}

// A form loses the field that holds the token, and nothing else; another body, or a path,
// that holds it is refused before anything is sent.
func TestTheCallersTokenLeavesFormsBodiesAndPaths(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	const form = "application/x-www-form-urlencoded"
	token := callerToken
	send := func(path, contentType, body string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", f.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", contentType)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		return answer
	}
	for _, test := range []struct{ contentType, body, want string }{
		{form, "channel=C1&token=" + callerToken + "&text=a+b%26", "channel=C1&text=a+b%26"},
		{form + "; charset=utf-8", "token=" + strings.ReplaceAll(callerToken, ".", "%2E"), ""},
		{form, "token=" + callerToken + "&token=" + callerToken + "&&x", "&x"},
		{form, "&&a=%zz&=&b=caller.token", "&&a=%zz&=&b=caller.token"}, // byte for byte where there is none
		{form, "token=" + callerToken + "&file=" + strings.Repeat("%20", 100_000), "file=" + strings.Repeat("%20", 100_000)},
		{form + "; charset", "token=" + strings.ReplaceAll(callerToken, ".", "%2E") + "&x", "x"},
		{form, "token=" + strings.ReplaceAll(callerToken, ".", "%252E") + "&file=" + strings.Repeat("%20", 100_000), "file=" + strings.Repeat("%20", 100_000)},
		{form, "file=" + strings.Repeat("%20", 21_842) + strings.ReplaceAll(callerToken, ".", "%25252e") + strings.Repeat("x", 100_000) + "&y", "y"},
		{"application/json", `{"text":"` + callerToken[1:] + `"}`, `{"text":"` + callerToken[1:] + `"}`},
	} {
		if answer := send("/api/chat/up/v1", test.contentType, test.body); answer.StatusCode != http.StatusOK {
			t.Errorf("%.60s: %d", test.body, answer.StatusCode)
			continue
		}
		if seen := <-got; seen.Body != test.want {
			t.Errorf("%.80s became %.80q, want %.80q", test.body, seen.Body, test.want)
		}
	}
	for _, path := range []string{"/v1/" + callerToken, "/bot" + strings.ReplaceAll(callerToken, ".", "%2e") + "/me", "/" + strings.ReplaceAll(callerToken, ".", "%252e")} {
		if answer := send("/api/chat/up"+path, form, ""); answer.StatusCode != http.StatusBadRequest || answer.Header.Get("Gatehouse-Error") != "token_in_path" {
			t.Errorf("%s: %d %s", path, answer.StatusCode, answer.Header.Get("Gatehouse-Error"))
		}
	}
	for contentType, body := range map[string]string{
		"application/json":                `{"text":"a=` + callerToken + `&b"}`,
		"multipart/form-data; boundary=b": "--b\r\nContent-Disposition: form-data; name=token\r\n\r\n" + callerToken + "\r\n--b--\r\n",
		"text/plain":                      strings.Repeat(callerToken[8:], 3000) + callerToken,
	} {
		if answer := send("/api/chat/up/v1", contentType, body); answer.StatusCode != http.StatusBadRequest || answer.Header.Get("Gatehouse-Error") != "token_in_body" {
			t.Errorf("%s: %d %s", contentType, answer.StatusCode, answer.Header.Get("Gatehouse-Error"))
		}
	}
	token = "gth_" + strings.Repeat("a1B2c3D", 7) // whose end stands in it several times
	if answer := send("/api/chat/up/v1", "application/json", `{"text":"`+token+`"}`); answer.Header.Get("Gatehouse-Error") != "token_in_body" {
		t.Errorf("%d %s", answer.StatusCode, answer.Header.Get("Gatehouse-Error"))
	}
	select {
	case seen := <-got:
		t.Errorf("the provider saw %s", seen.URI)
	default:
	}
}

func TestWhatAnAnswerLoses(t *testing.T) {
	upstream := rawUpstream(t, strings.ReplaceAll(`HTTP/1.1 200 OK
Content-Length: 2
Content-Type: text/plain
Connection: x-named, keep-alive ,  x-ratelimit-Limit-tokens
Connection:x-ratelimit-reset-tokens
X-Named: v
X-RateLimit-Limit-Tokens: 8
X-RateLimit-Reset-Tokens: 1s
Keep-Alive: timeout=5
Set-Cookie: session=1
Gatehouse-Error: forged
Gatehouse-Anything: forged
Strict-Transport-Security: max-age=1
Alt-Svc: h3=":443"
Clear-Site-Data: "*"
Access-Control-Allow-Origin: *
X-Accel-Redirect: /internal
X-RateLimit-Limit: 5000
X-RATELIMIT-REMAINING: 4999
x-ratelimit-reset: 1750000000
X-RateLimit-Org-Limit: 1
X-RateLimit-Org-Remaining: 2
X-RateLimit-Org-Reset: 3
x-ratelimit-remaining-tokens: 7
X-RateLimit-Resource: core
RateLimit-Limit: 5
RateLimit: "p";r=1
RateLimit-Policy: "p";q=1
Retry-After: 3
Anthropic-Ratelimit-Requests-Limit: 9
X-Groq-Region: us
X-Request-Id: provider-1
OpenAI-Processing-Ms: 12
X-Reflected: your key is `+injectedKey+`!
X-Several-`+injectedKey+`: 1
X-Several: fine
X-Several: Bearer `+injectedKey+`

ok`, "\n", "\r\n"))
	f := serve(t, upstream)
	answer, text := f.call(t, "GET", "/api/chat/up/v1", "")
	if text != "ok" {
		t.Errorf("body %q", text)
	}
	delete(answer.Header, "Date")
	delete(answer.Header, "Connection") // our own server's
	want := http.Header{
		"Content-Length": {"2"}, "Content-Type": {"text/plain"}, "X-Ratelimit-Limit": {"100"},
		"Upstream-X-Ratelimit-Limit": {"5000"}, "Upstream-X-Ratelimit-Remaining": {"4999"}, "Upstream-X-Ratelimit-Reset": {"1750000000"},
		"Upstream-X-Ratelimit-Org-Limit": {"1"}, "Upstream-X-Ratelimit-Org-Remaining": {"2"}, "Upstream-X-Ratelimit-Org-Reset": {"3"},
		// Not renamed: they are nobody's but the provider's, whose clients look for them under these names.
		"X-Ratelimit-Remaining-Tokens": {"7"}, "X-Ratelimit-Resource": {"core"}, "Ratelimit-Limit": {"5"},
		"Upstream-Ratelimit": {`"p";r=1`}, "Upstream-Ratelimit-Policy": {`"p";q=1`}, "Retry-After": {"3"},
		"X-Request-Id": {"provider-1"}, "Openai-Processing-Ms": {"12"}, "Anthropic-Ratelimit-Requests-Limit": {"9"},
		"X-Reflected": {"your key is [removed by Gatehouse]!"}, "X-Several": {"fine", "Bearer [removed by Gatehouse]"},
	}
	if diff := cmp.Diff(want, answer.Header); diff != "" {
		t.Error(diff)
	}
}

func TestNoContentTypeIsGuessed(t *testing.T) {
	f := serve(t, rawUpstream(t, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"))
	answer, _ := f.call(t, "GET", "/api/chat/up/v1", "")
	if v, ok := answer.Header["Content-Type"]; ok {
		t.Errorf("Content-Type is %q", v)
	}
}

// A request that two servers could cut apart in two ways goes on as exactly one.
func TestSmuggling(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	const second = "GET /api/chat/up/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	for name, head := range map[string]string{
		"TE and CL":         "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"two CL":            "Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
		"TE with a tab":     "Transfer-Encoding:\tchunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
		"TE twice":          "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
		"obsolete folding":  "X-A: 1\r\n Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
		"space before :":    "Content-Length : 5\r\n\r\n",
		"CL with a plus":    "Content-Length: +5\r\n\r\nhello",
		"bare LF":           "X-A: 1\nContent-Length: 0\r\n\r\n",
		"newline in header": "X-A: 1\rContent-Length: 9\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", f.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "POST /api/chat/up/first HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"+head+second)
		_, _ = io.Copy(io.Discard, conn)
		_ = conn.Close()
		for {
			select {
			case r := <-got:
				if strings.Contains(r.URI, "smuggled") || r.Header.Get("Transfer-Encoding") != "" || int64(len(r.Body)) != r.Length {
					t.Errorf("%s: the upstream saw %+v", name, r)
				}
				continue
			default:
			}
			break
		}
	}
}
