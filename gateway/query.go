package gateway

import (
	"bytes"
	"mime"
	"net/http"
	"strings"
)

// query gives the query for the upstream: the caller's, byte for byte, less any
// parameter that holds the token the caller proved itself with. Some SDKs send
// a key both ways.
func (t *transfer) query() string {
	raw := t.r.URL.RawQuery
	if raw == "" {
		return ""
	}
	for _, token := range callerTokens(t.r.Header) {
		raw = withoutParametersHolding(raw, token)
	}
	return raw
}

// callerTokens lists the tokens in the headers that the server reads them from.
func callerTokens(h http.Header) []string {
	const shortest = 16 // less is no token of ours and would match harmless text
	var tokens []string
	for _, name := range [...]string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"} {
		for _, value := range h[name] {
			scheme, after, ok := strings.Cut(value, " ")
			if ok {
				value = strings.TrimSpace(after)
			}
			if len(value) >= shortest {
				tokens = append(tokens, value)
			}
			if ok && strings.EqualFold(scheme, "Basic") {
				for _, token := range basicTokens(value) {
					if len(token) >= shortest {
						tokens = append(tokens, token)
					}
				}
			}
		}
	}
	return tokens
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

// holdsOwnToken says whether the caller's token stands in a text that others get to
// read: a path, in the provider's logs, or a model's name, in ours.
func holdsOwnToken(h http.Header, text string) bool {
	const shortest = 32 // no token of ours is shorter, and most such texts are
	if len(text) < shortest {
		return false
	}
	for _, token := range callerTokens(h) {
		if holdsToken(text, token) {
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
	for _, token := range callerTokens(t.r.Header) {
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
