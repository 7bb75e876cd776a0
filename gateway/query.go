package gateway

import (
	"bytes"
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
	for _, token := range t.tokens {
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
func holdsOwnToken(tokens []string, path string) bool {
	const shortest = 32 // no token of ours is shorter, and most paths are
	if len(path) < shortest {
		return false
	}
	for _, token := range tokens {
		if holdsToken(path, token) {
			return true
		}
	}
	return false
}

// dropOwnToken takes out of a form what holds the caller's token: some SDKs send
// the key there as well, and the provider would go by it. The bytes are moved
// where they are. Any other body that holds it is refused, since nobody can tell
// what it would be without. A spooled one is not looked into.
func (t *transfer) dropOwnToken(p *payload) error {
	body := p.inMemory()
	if len(body) == 0 {
		return nil
	}
	form := isForm(t.r.Header["Content-Type"])
	for _, token := range t.tokens {
		if !form {
			if holdsBytes(body, token) {
				return errTokenInBody
			}
			continue
		}
		kept, first := body[:0], true
		for parameter := range bytes.SplitSeq(body, []byte("&")) {
			if longHoldsToken(parameter, token) {
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
	t.edited = t.edited || int64(len(body)) != p.size
	p.memory, p.size = body, int64(len(body))
	return nil
}

// isForm says whether a body is declared as what URLs have behind the question mark, also
// where the parameters of its media type are none.
func isForm(types []string) bool {
	if len(types) != 1 {
		return false
	}
	media, _, _ := strings.Cut(types[0], ";")
	return strings.EqualFold(strings.TrimSpace(media), "application/x-www-form-urlencoded")
}

// holdsBytes is bytes.Contains for a long needle whose end is rarer than its beginning, as
// a signature is: the end alone is found many times faster.
func holdsBytes(body []byte, token string) bool {
	const tail = 32
	if len(token) <= tail {
		return bytes.Contains(body, []byte(token))
	}
	end := []byte(token[len(token)-tail:])
	for from := 0; ; {
		i := bytes.Index(body[from:], end)
		if i < 0 {
			return false
		}
		if bytes.HasSuffix(body[:from+i+tail], []byte(token)) {
			return true
		}
		from += i + 1
	}
}

// longHoldsToken is holdsToken for a parameter of any length, which is read in pieces: each
// overlaps the next by what the token takes where every byte of it is escaped four times.
func longHoldsToken(parameter []byte, token string) bool {
	if bytes.IndexByte(parameter, '%') < 0 {
		return holdsBytes(parameter, token)
	}
	overlap := len("%25252525") * len(token)
	for ; ; parameter = parameter[firstRead:] {
		if holdsToken(string(parameter[:min(len(parameter), firstRead+overlap)]), token) {
			return true
		}
		if len(parameter) <= firstRead+overlap {
			return false
		}
	}
}
