package gateway

import (
	"net/http"
	"strings"
)

// toProvider gives the header for the upstream: what the service's list lets
// pass, and none that holds the caller's own token. The operator's own backend
// gets what is not removed for everybody.
func (t *transfer) toProvider() http.Header {
	out := requestHeader(t.r.Header)
	for name, values := range out {
		if t.service != nil && !t.service.PassesToProvider(name) || hold(values, t.tokens) {
			delete(out, name)
		}
	}
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // keeps the transport from naming itself
	}
	if t.gateway.tellsIP[t.visit.Service] && t.visit.ClientIP != "" {
		out["X-Forwarded-For"] = []string{t.visit.ClientIP}
	}
	return out
}

// toCaller drops what of an answer's header the service's list does not let
// pass; the header is the answer's own.
func (t *transfer) toCaller(h http.Header) {
	if t.service == nil {
		return
	}
	for name := range h {
		if name != "Connection" && !t.service.PassesToCaller(name) { // what that names is still to be dropped
			delete(h, name)
		}
	}
}

func hold(values, tokens []string) bool {
	for _, token := range tokens {
		for _, value := range values {
			if holdsToken(value, token) {
				return true
			}
		}
	}
	return false
}

// holdsToken says whether text of a URL or a form holds token, as it is or
// escaped, also several times over.
func holdsToken(text, token string) bool {
	for range 4 {
		if strings.Contains(text, token) {
			return true
		}
		if strings.IndexByte(text, '%') < 0 {
			return false
		}
		plain, changed, _ := unescape(text)
		if !changed {
			return false
		}
		text = plain
	}
	return strings.Contains(text, token)
}
