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

// removedMark stands where an injected value was.
const removedMark = "[removed by Gatehouse]"

// withheldBody takes the place of an error that came in a coding that we did not
// ask for and cannot look into.
const withheldBody = `{"error":{"message":"The service's error came in a content coding that Gatehouse did not ask for and cannot look into, so it was withheld.","type":"upstream_error","code":"upstream_error_withheld"}}`

// scrub cuts the injected values out of an answer's header, and out of the body
// of one that is no success: providers quote what they refuse. Other bodies are
// passed on as they are.
func (t *transfer) scrub(e *exchange, answer *http.Response) {
	secrets := t.secrets()
	if len(secrets) == 0 {
		return
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		secrets = append(slices.Clip(secrets), inBase64(t.upstream.injection.ExposeSecretValues())...)
	}
	t.scrubHeader(answer.Header, secrets)
	if answer.StatusCode < http.StatusMultipleChoices || t.r.Method == http.MethodHead || answer.ContentLength == 0 {
		return
	}
	switch coding := strings.ToLower(strings.Join(answer.Header["Content-Encoding"], ",")); coding {
	case "", "identity":
	case "gzip", "x-gzip":
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
		t.scrubWhole(e, answer, secrets)
		return
	}
	answer.Body = replayed{&scrubber{from: answer.Body, secrets: secrets, removed: t.removed}, answer.Body}
	unknownLength(answer)
}

// scrubHeader cuts secrets out of the values of a header or trailer, and drops what has one
// in its name, whose letters may have got another case.
func (t *transfer) scrubHeader(h http.Header, secrets []string) {
	for name, values := range h {
		if holdsFolded(name, secrets) {
			delete(h, name)
			t.removed(1)
			continue
		}
		for i, value := range values {
			if clean, n := cutText(value, secrets); n > 0 {
				values = slices.Clone(values)
				values[i] = clean
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
func (t *transfer) scrubWhole(e *exchange, answer *http.Response, secrets []string) {
	body, err := io.ReadAll(io.LimitReader(awaited{e, answer.Body}, answer.ContentLength))
	if err == nil && int64(len(body)) < answer.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil { // told when it is read again, at the length that was promised
		answer.Body = replayed{io.MultiReader(bytes.NewReader(body), failing{err}), answer.Body}
		return
	}
	clean, n := cutText(string(body), secrets)
	if n > 0 {
		t.removed(n)
		body = []byte(clean)
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

// cutText gives text with a mark in the place of each secret, and how many.
func cutText(text string, secrets []string) (string, int) {
	n := 0
	for _, secret := range secrets { // longer ones first
		if found := strings.Count(text, secret); found > 0 {
			n += found
			text = strings.ReplaceAll(text, secret, removedMark)
		}
	}
	if strings.ContainsAny(text, escapes) {
		spelled := 0
		text, spelled = cutSpelled(text, secrets)
		n += spelled
	}
	return text, n
}

// scrubber cuts secrets out of a body as it is read. What could be the beginning
// of one is held back until more has come.
type scrubber struct {
	from    io.Reader
	secrets []string
	removed func(int)

	held  []byte // read, not looked at yet
	ready []byte // to be given out
	err   error
	chunk [4 << 10]byte
}

func (s *scrubber) Read(p []byte) (int, error) {
	for len(s.ready) == 0 && s.err == nil {
		var n int
		n, s.err = s.from.Read(s.chunk[:])
		text, keep, cut := string(append(s.held, s.chunk[:n]...)), 0, 0
		if s.err == nil {
			keep = begun(text, s.secrets)
		}
		// A short one that stands in what may become a longer one waits for it.
		if end := len(text) - keep; keep == 0 || !crosses(text, end, s.secrets) {
			text, s.held = text[:end], append(s.held[:0], text[end:]...)
			text, cut = cutText(text, s.secrets)
		} else {
			text, cut = cutText(text, s.secrets)
			end = len(text) - begun(text, s.secrets)
			text, s.held = text[:end], append(s.held[:0], text[end:]...)
		}
		if cut > 0 {
			s.removed(cut)
		}
		s.ready = []byte(text)
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	if n == 0 && len(p) > 0 {
		return 0, s.err
	}
	return n, nil
}

// begun gives how many bytes at the end of text could be the beginning of a
// secret.
func begun(text string, secrets []string) int {
	longest := 0
	for _, secret := range secrets {
		for n := min(len(secret)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, secret[:n]) {
				longest = n
			}
		}
	}
	return max(longest, begunSpelled(text, secrets))
}

// crosses reports whether a whole secret begins before a place in text and ends
// behind it.
func crosses(text string, place int, secrets []string) bool {
	for _, secret := range secrets {
		for i := max(0, place-longestEscape*len(secret)+1); i < place; i++ {
			if strings.HasPrefix(text[i:], secret) && i+len(secret) > place {
				return true
			}
			if length, whole := spells(text[i:], secret); whole && i+length > place {
				return true
			}
		}
	}
	return false
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
