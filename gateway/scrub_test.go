package gateway_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gateway"
)

const removedMark = "[removed by Gatehouse]"

func gzipped(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = io.WriteString(z, text)
	_ = z.Close()
	return b.String()
}

// What a provider says of the key in an error does not come through, however the
// body comes and in whatever form the key stands in it.
func TestTheKeyIsCutOutOfErrors(t *testing.T) {
	long := strings.Repeat("filler ", 9000)
	for name, test := range map[string]struct {
		status   int
		header   []string
		body     string // KEY stands for the key
		chunks   int    // the body comes in so many pieces
		want     string
		scrubbed int
	}{
		"JSON":                    {status: 401, body: `{"error":"bad key KEY!"}`, want: `{"error":"bad key MARK!"}`, scrubbed: 1},
		"twice, and side by side": {status: 500, body: "KEYKEY and KEY", want: "MARKMARK and MARK", scrubbed: 3},
		"byte by byte":            {status: 400, body: "a KEY b", chunks: 1 << 20, want: "a MARK b", scrubbed: 1},
		"in pieces":               {status: 503, body: long + "KEY" + long, chunks: 77, want: long + "MARK" + long, scrubbed: 1},
		"long, at its length":     {status: 403, body: long + "KEY", want: long + "MARK", scrubbed: 1},
		"only the beginning":      {status: 404, body: "sk-injected-0123", chunks: 3, want: "sk-injected-0123"},
		"a beginning, and then":   {status: 404, body: "sk-injected-sk-injKEY", chunks: 7, want: "sk-injected-sk-injMARK", scrubbed: 1},
		"a redirect":              {status: 302, body: "see KEY", want: "see MARK", scrubbed: 1},
		"in a header":             {status: 200, header: []string{"X-Answer", "is KEY, yes"}, body: "ok", want: "ok", scrubbed: 1},
		"compressed":              {status: 401, header: []string{"Content-Encoding", "gzip"}, body: gzipped("KEY"), want: "MARK", scrubbed: 1},
		"of no coding":            {status: 401, header: []string{"Content-Encoding", "none"}, body: "KEY", want: "MARK", scrubbed: 1},
		"events of no coding":     {status: 200, header: []string{"Content-Encoding", "None, identity", "Content-Type", "text/event-stream"}, chunks: 3, body: "data: {\"error\":\"bad KEY\"}\n\n", want: "data: {\"error\":\"bad MARK\"}\n\n", scrubbed: 1},
		"no gzip":                 {status: 401, header: []string{"Content-Encoding", "br"}, body: "KEY", want: "WITHHELD"},
		"two codings":             {status: 401, header: []string{"Content-Encoding", "gzip, br"}, body: "KEY", want: "WITHHELD"},
		"a success is passed on":  {status: 200, body: "KEY", want: "KEY"},
		"an event of an error":    {status: 200, header: []string{"Content-Type", "text/event-stream"}, chunks: 3, body: "data: a\n\ndata: {\"error\":\"bad KEY\"}\n\ndata: [DONE]\n\n", want: "data: a\n\ndata: {\"error\":\"bad MARK\"}\n\ndata: [DONE]\n\n", scrubbed: 1},
		"events of a length":      {status: 200, header: []string{"Content-Type", "text/event-stream"}, body: "data: KEY\n\n", want: "data: " + strings.Repeat("*", len(injectedKey)) + "\n\n", scrubbed: 1},
		"events in pieces":        {status: 200, header: []string{"Content-Type", "text/event-stream"}, body: "data: KEY KEY\n\nKEY", chunks: 1 << 20, want: "data: MARK MARK\n\nMARK", scrubbed: 3},
		"nothing of it":           {status: 418, body: "teapot", want: "teapot"},
	} {
		t.Run(name, func(t *testing.T) {
			body := strings.ReplaceAll(test.body, "KEY", injectedKey)
			if strings.HasPrefix(test.want, "MARK") && len(test.header) == 2 && test.header[1] == "gzip" {
				body = gzipped(injectedKey)
			}
			upstream, got := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
				for i := 0; i < len(test.header); i += 2 {
					w.Header().Set(test.header[i], strings.ReplaceAll(test.header[i+1], "KEY", injectedKey))
				}
				if test.chunks == 0 {
					w.Header().Set("Content-Length", strconv.Itoa(len(body)))
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, body)
					return
				}
				w.WriteHeader(test.status)
				size := max(1, len(body)/test.chunks)
				for rest := body; rest != ""; {
					n := min(size, len(rest))
					_, _ = io.WriteString(w, rest[:n])
					_ = http.NewResponseController(w).Flush()
					rest = rest[n:]
				}
			})
			f := serve(t, upstream)
			answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
			want := strings.ReplaceAll(test.want, "MARK", removedMark)
			want = strings.ReplaceAll(want, "KEY", injectedKey)
			if want == "WITHHELD" {
				if !strings.Contains(text, "upstream_error_withheld") || strings.Contains(text, injectedKey) {
					t.Errorf("answered %q", text)
				}
			} else if text != want {
				t.Errorf("answered %.200q, want %.200q", text, want)
			}
			if answer.StatusCode != test.status || answer.Header.Get("Content-Encoding") != "" {
				t.Errorf("%d %v", answer.StatusCode, answer.Header)
			}
			if v := answer.Header.Get("X-Answer"); strings.Contains(v, injectedKey) {
				t.Errorf("X-Answer is %q", v)
			}
			if r := f.result(t); r.Scrubbed != test.scrubbed {
				t.Errorf("counted %d, want %d", r.Scrubbed, test.scrubbed)
			}
			if r := <-got; r.Header.Get("Accept-Encoding") != "identity" {
				t.Errorf("asked for %q", r.Header.Get("Accept-Encoding"))
			}
		})
	}
}

// A key with characters that URLs and Basic write in another way is found in
// each of its forms.
func TestEveryFormOfTheKeyIsCutOut(t *testing.T) {
	const user, password = "agent@example.com/token", "p+ss/w=rd&0123456789 abc"
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	forms := []string{password, url.QueryEscape(password), url.PathEscape(password), strings.ReplaceAll(password, "/", `\/`), basic, url.QueryEscape(basic)}
	upstream, _ := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(500)
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+"|"+strings.Join(forms, "|"))
	})
	f := serve(t, upstream, func(o *gateway.Options) { o.Opener = basicKeys{user, password} })
	_, text := f.call(t, "GET", "/api/chat/custom/v1", "")
	for _, form := range forms {
		if strings.Contains(text, form) {
			t.Errorf("%q came through in %q", form, text)
		}
	}
	if strings.Count(text, removedMark) != len(forms)+1 {
		t.Errorf("answered %q", text)
	}
}

// Libraries differ in what they escape, so the key is found whichever of its
// characters are, and where the body is cut. What is no key stays as it came.
func TestEverySpellingOfTheKeyIsCutOut(t *testing.T) {
	const user, password = "agent@example.com/token", `p+ss/w=rd&0"1'2<3>4%5\6789`
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	pairs := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(password) }
	every := func(format string) string {
		var b strings.Builder
		for i := range len(password) {
			fmt.Fprintf(&b, format, password[i])
		}
		return b.String()
	}
	forms := []string{
		pairs("+", "%2B", "=", "%3D", "&", "%26", `"`, "%22", "'", "%27", "<", "%3C", ">", "%3E", "%", "%25", `\`, "%5C"), // Python's quote keeps /
		pairs("+", "%2b", "/", "%2f", "=", "%3d", "&", "%26", `"`, "%22", "<", "%3c", ">", "%3e", "%", "%25", `\`, "%5c"),
		pairs("+", `\u002B`, "&", `\u0026`, `"`, `\u0022`, "'", `\u0027`, "<", `\u003C`, ">", `\u003E`, `\`, `\\`), // System.Text.Json
		pairs("=", `\u003d`, "&", `\u0026`, `"`, `\"`, "'", `\u0027`, "<", `\u003c`, ">", `\u003e`, `\`, `\\`),     // Gson
		pairs("&", `\u0026`, `"`, `\"`, "<", `\u003c`, ">", `\u003e`, `\`, `\\`),                                   // encoding/json
		pairs("/", `\/`, `"`, `\"`, `\`, `\\`), // PHP
		pairs("&", "&amp;", `"`, "&quot;", "'", "&#39;", "<", "&lt;", ">", "&gt;"),
		pairs("&", "&amp;", `"`, "&#34;", "'", "&#x27;", "<", "&lt;", ">", "&gt;", "/", "&#x2F;", "=", "&#x3D;"),
		every("%%%02x"), every("%%%02X"), every(`\u%04x`), every(`\x%02x`), every("&#%d;"), every("&#x%X;"),
		// Inside of something else that was put into base64, at each of three places.
		base64.StdEncoding.EncodeToString([]byte("Authorization: " + password + " .")),
		base64.URLEncoding.EncodeToString([]byte("an Authorization: " + password + "!")),
		base64.StdEncoding.EncodeToString([]byte(" Authorization: " + password)),
		strings.TrimRight(basic, "="), base64.RawURLEncoding.EncodeToString([]byte(user + ":" + password)),
	}
	const innocent = `100% of \u0070 &amp; %70+ss/w p+ss/w&#61;x \ `
	for _, form := range forms {
		for _, piece := range []int{1, 7, 1 << 20} {
			upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(500)
				for text := innocent + form + innocent; text != ""; {
					n := min(piece, len(text))
					_, _ = io.WriteString(w, text[:n])
					_ = http.NewResponseController(w).Flush()
					text = text[n:]
				}
			})
			f := serve(t, upstream, func(o *gateway.Options) { o.Opener = basicKeys{user, password} })
			_, text := f.call(t, "GET", "/api/chat/custom/v1", "")
			before, after, _ := strings.Cut(text, removedMark)
			// Of a text in base64, what stands beside the key may stay.
			if !strings.HasPrefix(before, innocent) || !strings.HasSuffix(after, innocent) || strings.Contains(text, form[len(form)/2-6:len(form)/2+6]) ||
				!strings.HasPrefix(form, "QXV0") && !strings.HasPrefix(form, "YW4g") && !strings.HasPrefix(form, "IEF1") && text != innocent+removedMark+innocent {
				t.Errorf("in pieces of %d: %q came as %q", piece, form, text)
			}
		}
	}
}

// An error inside an event stream has no status, and quotes no less than another. A
// length that was stated stays what it is, and lines come whole.
func TestEverySpellingOfTheKeyIsCutOutOfEvents(t *testing.T) {
	const password = "p+ss/word=0123456789abcdef"
	for _, form := range []string{
		password,
		strings.NewReplacer("+", `\u002B`, "=", `\u003d`, "/", `\/`).Replace(password),
		strings.NewReplacer("+", `\\u002B`, "/", `\\\/`).Replace(password),
		url.QueryEscape(url.QueryEscape(password)), strings.Replace(password, "s", "%73", 1), strings.Replace(password, "+", "&#43;", 1),
	} {
		for _, sized := range []bool{false, true} {
			for _, piece := range []int{1, 7, 1 << 20} {
				const before, after = `data: {"delta":"100% of \u0070\n &amp; p+ss"}` + "\n\n" + `data: {"error":"bad `, `"}` + "\n\n"
				upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
					text := before + form + after
					w.Header().Set("Content-Type", "text/event-stream")
					if sized {
						w.Header().Set("Content-Length", strconv.Itoa(len(text)))
					}
					for text != "" {
						n := min(piece, len(text))
						_, _ = io.WriteString(w, text[:n])
						_ = http.NewResponseController(w).Flush()
						text = text[n:]
					}
				})
				f := serve(t, upstream, func(o *gateway.Options) { o.Opener = basicKeys{"u", password} })
				mark := removedMark
				if sized {
					mark = strings.Repeat("*", len(form))
				}
				if answer, text := f.call(t, "POST", "/api/chat/custom/v1", "{}"); text != before+mark+after || sized != (answer.ContentLength >= 0) {
					t.Errorf("in pieces of %d, with a length: %t: %q came as %q", piece, sized, form, text)
				}
				if r := f.result(t); r.Scrubbed != 1 || r.Outcome != "partial" {
					t.Errorf("%q: %+v", form, r)
				}
			}
		}
	}
}

// An error that quotes another's: what was escaped is escaped again.
func TestTheKeyInQuotedErrorsIsCutOut(t *testing.T) {
	const user, password = "agent@example.com/token", `p+ss/w=rd&0"1'2<3>456789`
	object := func(text string) string {
		quoted, _ := json.Marshal(map[string]string{"error": text})
		return string(quoted)
	}
	for name, body := range map[string]string{
		"JSON in JSON":          object(object(password)),
		"JSON in JSON in JSON":  object(object(object(password))),
		"PHP's in JSON":         object(strings.NewReplacer("/", `\/`, `"`, `\"`).Replace(password)),
		".NET's in .NET's":      strings.NewReplacer("+", `\\u002B`, `"`, `\\u0022`, "&", `\\u0026`, "'", `\\u0027`, "<", `\\u003C`, ">", `\\u003E`).Replace(password),
		"a query in a query":    url.QueryEscape(url.QueryEscape(password)),
		"three queries":         url.QueryEscape(url.QueryEscape(url.QueryEscape(password))),
		"a query in JSON":       object("?a=" + url.QueryEscape(password) + "&b=1"),
		"JSON in base64 or not": base64.StdEncoding.EncodeToString([]byte(password)) + object(password),
	} {
		upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			_, _ = io.WriteString(w, body)
		})
		f := serve(t, upstream, func(o *gateway.Options) { o.Opener = basicKeys{user, password} })
		if _, text := f.call(t, "GET", "/api/chat/custom/v1", ""); !strings.Contains(text, removedMark) || strings.Contains(text, "456") {
			t.Errorf("%s: %q came as %q", name, body, text)
		}
	}
}

// A compressed error that is far longer than it looks is not decoded to its end.
func TestACompressedErrorIsBounded(t *testing.T) {
	upstream, _ := recorder(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.WriteHeader(500)
		_, _ = io.WriteString(w, gzipped(strings.Repeat("x", 16<<20)))
	})
	f := serve(t, upstream)
	if answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}"); answer.StatusCode != 500 || !strings.Contains(text, "upstream_error_withheld") {
		t.Errorf("answered %d %.100q", answer.StatusCode, text)
	}
}

// The caller's token goes up in no header and no parameter, however it is
// written.
func TestTheCallersTokenGoesNowhere(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	escaped := strings.ReplaceAll(url.QueryEscape(callerToken), "a", "%61")
	for _, target := range []string{"/api/chat/up/v1?a=1&key=" + escaped, "/api/proxy/stripe/v1?a=1&k=x" + callerToken + "y"} {
		f.call(t, "GET", target, "", "User-Agent", "sdk "+callerToken, "Accept", callerToken, "X-Stainless-Lang", callerToken, "Openai-Beta", callerToken, "X-Stainless-Os", "%7B"+escaped,
			"Stripe-Version", callerToken, "Referer", "https://x/"+callerToken, "X-Http-Method-Override", "DELETE", "Traceparent", "00-1-2-01",
			"Origin", "https://app.example", "Baggage", "user=1", "Sec-Fetch-Site", "none", "X-Anything", "v")
		r := <-got
		if _, query, _ := strings.Cut(r.URI, "?"); query != "a=1" {
			t.Errorf("the query went up as %q", query)
		}
		for name, values := range r.Header {
			switch name {
			case "Authorization", "Accept-Encoding":
			default:
				t.Errorf("%s went up: %q", name, values)
			}
		}
	}
}

func TestTheClientsAddressOnlyWhereAsked(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream, func(o *gateway.Options) { o.TellClientIP = []string{"up"} })
	for path, want := range map[string]string{"/api/chat/up/v1": "203.0.113.9", "/api/proxy/stripe/v1": ""} {
		f.call(t, "GET", path, "", "X-Forwarded-For", "198.51.100.1")
		select {
		case r := <-got:
			if r.Header.Get("X-Forwarded-For") != want {
				t.Errorf("%s: %q", path, r.Header.Get("X-Forwarded-For"))
			}
		case <-time.After(time.Second):
			t.Fatal("nothing came")
		}
	}
}

// A token that came as the password of Basic goes nowhere either.
func TestTheTokenInBasicGoesNowhere(t *testing.T) {
	upstream, got := recorder(t, nil)
	f := serve(t, upstream)
	r, err := http.NewRequestWithContext(t.Context(), "GET", f.URL+"/api/proxy/stripe/v1?key="+callerToken+"&a=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth(callerToken, "")
	r.Header.Set("User-Agent", callerToken)
	answer, err := noRedirect().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if seen := <-got; strings.Contains(seen.URI, callerToken) || seen.Header.Get("User-Agent") != "" {
		t.Errorf("the upstream saw %s %v", seen.URI, seen.Header)
	}
}
