package gateway

import (
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
