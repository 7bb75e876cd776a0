package gateway

import (
	"bytes"
	"mime"
	"net/http"
	"strings"

	"github.com/gatehouse-io/gatehouse/internal/bearer"
)

// query gives the query for the upstream: the caller's, byte for byte, less any
// parameter that holds the token the caller proved itself with. Some SDKs send
// a key both ways.
func (t *transfer) query() string {
	raw := t.r.URL.RawQuery
	if raw == "" {
		return ""
	}
	for _, token := range bearer.Held(t.r.Header) {
		raw = withoutParametersHolding(raw, token)
	}
	return raw
}

func withoutParametersHolding(raw, token string) string {
	if !strings.Contains(raw, token) && strings.IndexByte(raw, '%') < 0 {
		return raw
	}
	kept := make([]string, 0, strings.Count(raw, "&")+1)
	for parameter := range strings.SplitSeq(raw, "&") {
		if !holdsToken(parameter, token) {
			kept = append(kept, parameter)
		}
	}
	return strings.Join(kept, "&")
}

// holdsOwnToken says whether the caller's token stands in the path, from where it
// would go to the provider's logs.
func holdsOwnToken(h http.Header, path string) bool {
	const shortest = 32 // no token of ours is shorter, and most paths are
	if len(path) < shortest {
		return false
	}
	for _, token := range bearer.Held(h) {
		if holdsToken(path, token) {
			return true
		}
	}
	return false
}

// dropOwnToken takes out of a form what holds the caller's token: some SDKs send
// the key there as well, and the provider would go by it. The bytes are moved
// where they are.
func (t *transfer) dropOwnToken(p *payload) {
	body := p.inMemory()
	if len(body) == 0 || len(t.r.Header["Content-Type"]) != 1 {
		return
	}
	if media, _, err := mime.ParseMediaType(t.r.Header["Content-Type"][0]); err != nil || media != "application/x-www-form-urlencoded" {
		return
	}
	for _, token := range bearer.Held(t.r.Header) {
		if len(body) > firstRead && !bytes.Contains(body, []byte(token)) || len(body) <= firstRead && !holdsToken(string(body), token) {
			continue // a long one is not read in its escapes
		}
		kept, first := body[:0], true
		for parameter := range bytes.SplitSeq(body, []byte("&")) {
			if holdsToken(string(parameter), token) {
				continue
			}
			if !first {
				kept = append(kept, '&')
			}
			first = false
			kept = append(kept, parameter...)
		}
		body = kept
	}
	p.memory, p.size = body, int64(len(body))
}
