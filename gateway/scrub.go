package gateway

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// withheldBody takes the place of an error that came in a coding that we did not
// ask for and cannot look into.
const withheldBody = `{"error":{"message":"The service's error came in a content coding that Gatehouse did not ask for and cannot look into, so it was withheld.","type":"upstream_error","code":"upstream_error_withheld"}}`

// scrub cuts the injected values out of an answer's header, out of the body of one
// that is no success, for providers quote what they refuse, and out of event streams,
// since an error inside one has no status. Other bodies are passed on as they are.
func (t *transfer) scrub(e *exchange, answer *http.Response) {
	secrets := t.secrets()
	if len(secrets) == 0 {
		return
	}
	refused, events := answer.StatusCode >= http.StatusMultipleChoices, isEventStream(answer.Header.Get("Content-Type"))
	if refused {
		secrets = append(slices.Clip(secrets), inBase64(t.upstream.injection.ExposeSecretValues())...)
	}
	t.scrubHeader(answer.Header, secrets)
	if !refused && !events || t.r.Method == http.MethodHead || answer.ContentLength == 0 || answer.StatusCode == http.StatusNotModified {
		return
	}
	coding := strings.ToLower(strings.Join(answer.Header["Content-Encoding"], ","))
	plain := coding == ""
	cutter := newCutter(secrets)
	if !refused {
		if plain {
			cutter.sized = answer.ContentLength >= 0
			answer.Body = replayed{&scrubber{from: answer.Body, cutter: cutter, removed: t.removed}, answer.Body}
		}
		return
	}
	switch {
	case plain:
	case coding == "gzip", coding == "x-gzip":
		body, ok := gunzip(awaited{e, answer.Body})
		if !ok {
			withhold(answer)
			return
		}
		answer.Body = replayed{bytes.NewReader(body), answer.Body}
		unknownLength(answer)
	default:
		withhold(answer)
		return
	}
	if answer.ContentLength > 0 && answer.ContentLength <= bufferSize {
		t.scrubWhole(e, answer, cutter)
		return
	}
	answer.Body = replayed{&scrubber{from: answer.Body, cutter: cutter, removed: t.removed}, answer.Body}
	unknownLength(answer)
}

// scrubHeader cuts secrets out of the values of a header or trailer, and drops what has one
// in its name, whose letters may have got another case.
func (t *transfer) scrubHeader(h http.Header, secrets []string) {
	var c *cutter // made where a value has to be looked at closely
	for name, values := range h {
		if holdsFolded(name, secrets) {
			delete(h, name)
			t.removed(1)
			continue
		}
		for i, value := range values {
			if !strings.ContainsAny(value, escapes) && !leaks(values[i:i+1], secrets) {
				continue
			}
			if c == nil {
				c = newCutter(secrets)
			}
			if clean, n := c.cut([]byte(value)); n > 0 {
				values = slices.Clone(values)
				values[i] = string(clean)
				h[name] = values
				t.removed(n)
			}
		}
	}
}

// holdsFolded reports whether text has one of the secrets in it, in whatever case.
func holdsFolded(text string, secrets []string) bool {
	for _, secret := range secrets {
		for i := 0; i+len(secret) <= len(text); i++ {
			if strings.EqualFold(text[i:i+len(secret)], secret) {
				return true
			}
		}
	}
	return false
}

func withhold(answer *http.Response) {
	_ = answer.Body.Close()
	answer.Body = io.NopCloser(strings.NewReader(withheldBody))
	answer.Header["Content-Type"] = []string{"application/json"}
	knownLength(answer, int64(len(withheldBody)))
}

// scrubWhole reads a small body, so that its length is known again afterwards.
func (t *transfer) scrubWhole(e *exchange, answer *http.Response, cutter *cutter) {
	body, err := io.ReadAll(io.LimitReader(awaited{e, answer.Body}, answer.ContentLength))
	if err == nil && int64(len(body)) < answer.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil { // told when it is read again, at the length that was promised
		answer.Body = replayed{io.MultiReader(bytes.NewReader(body), failing{err}), answer.Body}
		return
	}
	body, n := cutter.cut(body)
	if n > 0 {
		t.removed(n)
		knownLength(answer, int64(len(body)))
	}
	answer.Body = replayed{bytes.NewReader(body), answer.Body}
}

// removed counts values that were cut out, and says the first of a visit in the
// log.
func (t *transfer) removed(n int) {
	if t.result.Scrubbed == 0 {
		t.gateway.log.WarnContext(t.r.Context(), "the upstream said the injected credential again; it was cut out of the answer",
			"service", t.visit.Service, "request", t.visit.RequestID)
	}
	t.result.Scrubbed += n
	if t.gateway.observe.Scrubbed != nil {
		t.gateway.observe.Scrubbed(t.visit.Service, n)
	}
}

// dependent are headers that a body that was changed does not fit any more.
var dependent = []string{"Content-Encoding", "Content-Length", "Content-Md5", "Content-Digest", "Digest", "Etag"}

func unknownLength(answer *http.Response) {
	answer.ContentLength = -1
	for _, name := range dependent {
		delete(answer.Header, name)
	}
}

func knownLength(answer *http.Response, n int64) {
	unknownLength(answer)
	answer.ContentLength = n
	answer.Header["Content-Length"] = []string{strconv.FormatInt(n, 10)}
}

// gunzip gives what a compressed error says; ok is false where that is longer
// than errors are, or cannot be read. A few bytes can stand for very many.
func gunzip(from io.Reader) (body []byte, ok bool) {
	z, err := gzip.NewReader(from)
	if err != nil {
		return nil, false
	}
	body, err = io.ReadAll(io.LimitReader(z, maxGunzip+1))
	return body, err == nil && len(body) <= maxGunzip
}

const maxGunzip = 64 << 10

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
