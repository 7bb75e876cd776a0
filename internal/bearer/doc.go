// Package bearer finds the tokens that a request presents, for those who must keep
// them out of what they record or send on: the server, which records a request, and
// the gateway, which sends it on. Which of them makes a caller is for package auth.
package bearer

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
)

// Headers are where a token is looked for.
var Headers = [...]string{"Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key"}

// shortest is how many bytes a token has at least that is looked for: less is no
// token of ours and would match harmless text.
const shortest = 16

// Held lists whatever in h may be a token, in each of the forms that somebody may
// write it in elsewhere: the value of each of [Headers], without its scheme, and the
// password of Basic, or where that is empty the user. A user beside a password is no
// secret, and stands in paths and queries that mean it: Twilio's account, GitHub's owner.
func Held(h http.Header) []string {
	var tokens []string
	each(h, func(token string) { tokens = append(tokens, token) })
	return tokens
}

func each(h http.Header, fn func(token string)) {
	for _, name := range Headers {
		for _, value := range h[name] {
			value = strings.TrimSpace(value)
			scheme, after, ok := strings.Cut(value, " ")
			if ok {
				value = strings.TrimSpace(after)
			}
			if len(value) < shortest {
				continue
			}
			fn(value)
			if !ok || !strings.EqualFold(scheme, "Basic") {
				continue
			}
			plain, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				continue
			}
			user, password, _ := strings.Cut(string(plain), ":")
			if password == "" {
				password = user
			}
			if len(password) >= shortest {
				fn(password)
			}
		}
	}
}

// form finds service tokens (package auth has their form) and JWTs.
var form = regexp.MustCompile(`gth_[0-9A-Za-z]{49}|eyJ[\w-]{10,}\.[\w-]{2,}\.[\w-]{20,}`)

// mark stands where a token was.
const mark = "[a token]"

// Without gives a text of a request, such as its User-Agent, as it may be recorded:
// without what h holds, and without whatever else has the form of a service token or
// a JWT, unless it is escaped in some way.
func Without(text string, h http.Header) string {
	if len(text) < shortest {
		return text
	}
	each(h, func(token string) { text = strings.ReplaceAll(text, token, mark) })
	if !strings.Contains(text, "gth_") && !strings.Contains(text, "eyJ") {
		return text
	}
	return form.ReplaceAllLiteralString(text, mark)
}
