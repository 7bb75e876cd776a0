package catalog

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Scope is what a credential may be used for. An empty list bounds nothing,
// but for Paths, whose place the service's own take (see [Service.DefaultScope]).
// Its JSON is what the API takes and the database keeps.
type Scope struct {
	// Methods are the HTTP methods; GET lets HEAD pass too.
	Methods []string `json:"methods,omitempty"`
	// Paths are patterns on the provider's path, see [PathPattern].
	Paths []string `json:"paths,omitempty"`
	// Models are patterns on the names of models, in which * stands for any
	// text. A request that is no GET must then name a model.
	Models []string `json:"models,omitempty"`
	// Members and Roles say who may use it: a caller whose id is in one or who
	// has a role of the other.
	Members []string `json:"members,omitempty"`
	Roles   []string `json:"roles,omitempty"`

	patterns []PathPattern // of Paths, once they were read
}

// The bounds of a scope.
const (
	maxScopeList  = 64   // entries of a list
	maxScopeEntry = 256  // bytes of one
	maxScopeBytes = 4096 // of all
)

// scopeMethods are the methods that the gateway passes on.
var scopeMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// Check gives what is wrong with s, each with the member's name as Field; it
// never says a value. A list that is there and empty is wrong: it would read
// as "nothing" and mean "anything".
func (s *Scope) Check() []Problem {
	var wrong []Problem
	bytes := 0
	list := func(name string, entries []string, check func(string) bool, must string) {
		switch {
		case entries != nil && len(entries) == 0:
			wrong = append(wrong, Problem{Field: name, Message: "must hold something, or be left out"})
		case len(entries) > maxScopeList:
			wrong = append(wrong, Problem{Field: name, Message: fmt.Sprintf("must hold at most %d entries", maxScopeList)})
		}
		for i, e := range entries {
			bytes += len(e)
			if e == "" || len(e) > maxScopeEntry || !check(e) {
				wrong = append(wrong, Problem{Field: fmt.Sprintf("%s[%d]", name, i), Message: must})
				return
			}
		}
	}
	list("methods", s.Methods, func(m string) bool { return slices.Contains(scopeMethods, m) }, "must be one of "+strings.Join(scopeMethods, ", "))
	list("paths", s.Paths, func(p string) bool { _, err := ParsePathPattern(p); return err == nil },
		"must be a pattern such as /v1/models/*, with a method in front where it is meant (POST /v1/messages); ** may only be the last segment")
	list("models", s.Models, printable, "must be the name of a model, in which * stands for any text")
	list("members", s.Members, printable, "must be the id of a member, as in the sub of its token")
	list("roles", s.Roles, printable, "must be the name of a role")
	if len(wrong) == 0 && bytes > maxScopeBytes {
		wrong = append(wrong, Problem{Message: fmt.Sprintf("must be at most %d bytes in all", maxScopeBytes)})
	}
	return wrong
}

func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) })
}

// AllowsMethod reports whether the scope takes a method.
func (s *Scope) AllowsMethod(method string) bool {
	return len(s.Methods) == 0 || slices.ContainsFunc(s.Methods, func(m string) bool { return sameMethod(m, method) })
}

// sameMethod takes HEAD for GET, as net/http's patterns do.
func sameMethod(pattern, method string) bool {
	return pattern == method || pattern == http.MethodGet && method == http.MethodHead
}

// AllowsPath reports whether the scope takes a request of method to path, which
// stands escaped as on the request line and has passed the gateway's check of
// paths. It begins with a slash. Nothing is allowed where Paths is empty. A slash
// that is encoded may be a part of its segment or a separator: both must be allowed.
func (s *Scope) AllowsPath(method, path string) bool {
	if HasEncodedSlash(path) && !s.allowsPlain(method, closedSlashes.Replace(path)) {
		return false
	}
	return s.allowsPlain(method, path)
}

func (s *Scope) allowsPlain(method, path string) bool {
	if strings.IndexByte(path, '%') >= 0 {
		plain, err := url.PathUnescape(path)
		if err != nil {
			return false
		}
		path = plain
	}
	return slices.ContainsFunc(s.read().patterns, func(p PathPattern) bool { return p.Matches(method, path) })
}

// Slashes that stand encoded in a path: as the separators that some servers take them
// for, and as a part of their segment, for which a byte stands that no pattern has but in *.
var (
	openSlashes   = strings.NewReplacer("%2F", "/", "%2f", "/")
	closedSlashes = strings.NewReplacer("%2F", "\x00", "%2f", "\x00")
)

// HasEncodedSlash says whether a slash stands in path encoded, once.
func HasEncodedSlash(path string) bool {
	return strings.IndexByte(path, '%') >= 0 && (strings.Contains(path, "%2F") || strings.Contains(path, "%2f"))
}

// OpenSlashes gives path with its encoded slashes as separators.
func OpenSlashes(path string) string { return openSlashes.Replace(path) }

// read gives s with its patterns read, for scopes that are used more than once.
// What is no pattern matches nothing.
func (s *Scope) read() *Scope {
	if len(s.patterns) > 0 || len(s.Paths) == 0 {
		return s
	}
	done := *s
	for _, text := range s.Paths {
		if p, err := ParsePathPattern(text); err == nil {
			done.patterns = append(done.patterns, p)
		}
	}
	return &done
}

// AllowsModel reports whether the scope takes a model.
func (s *Scope) AllowsModel(name string) bool {
	return len(s.Models) == 0 || slices.ContainsFunc(s.Models, func(pattern string) bool { return wildcard(pattern, name, "") })
}

// AllowsCaller reports whether a caller of this id and with these roles is one of
// those that the scope is for.
func (s *Scope) AllowsCaller(id string, roles []string) bool {
	if len(s.Members) == 0 && len(s.Roles) == 0 {
		return true
	}
	return slices.Contains(s.Members, id) || slices.ContainsFunc(s.Roles, func(r string) bool { return slices.Contains(roles, r) })
}

// PathPattern is a pattern on a path: an optional method and a space, then
// segments after slashes. In a segment, which is never empty, * stands for any
// characters but question mark, hash, semicolon and percent sign, at which some
// servers cut a path or read it in another way. A last segment ** stands for any rest,
// the empty one included.
//
//	POST /v1/chat/completions
//	GET /v1/models/*
//	/openai/deployments/*/chat/completions
//	POST /v1beta/models/*:generateContent
//	/**
type PathPattern struct {
	method string // "" is any
	prefix string // the segments, each with its slash
	rest   bool   // ** follows
}

var errPattern = errors.New("catalog: no pattern of paths")

// ParsePathPattern reads a pattern.
func ParsePathPattern(text string) (PathPattern, error) {
	var p PathPattern
	if method, path, ok := strings.Cut(text, " "); ok {
		if !slices.Contains(scopeMethods, method) {
			return PathPattern{}, errPattern
		}
		p.method, text = method, path
	}
	if text == "" || text[0] != '/' || !onlyBytes(text, patternByte) {
		return PathPattern{}, errPattern
	}
	if text, p.rest = strings.CutSuffix(text, "/**"); strings.Contains(text, "**") {
		return PathPattern{}, errPattern
	}
	p.prefix = text
	return p, nil
}

// patternByte reports whether b may stand in a pattern, which is written plain.
func patternByte(b byte) bool {
	switch b {
	case '%', '?', '#', '\\', ';', '"', '<', '>', '^', '`', '{', '|', '}':
		return false
	}
	return b > ' ' && b < 0x7f
}

// Matches reports whether a request of method to path, which stands decoded, is
// one that the pattern means.
func (p PathPattern) Matches(method, path string) bool {
	if p.method != "" && !sameMethod(p.method, method) {
		return false
	}
	pattern := p.prefix
	for pattern != "" {
		var want, have string
		want, pattern = segment(pattern)
		if path == "" || path[0] != '/' {
			return false
		}
		if have, path = segment(path); have == "" && want != "" || !wildcard(want, have, "?#;%") {
			return false
		}
	}
	return path == "" || p.rest && path[0] == '/'
}

// segment cuts the first segment, without its slash, off a path that begins
// with one.
func segment(path string) (first, rest string) {
	if i := strings.IndexByte(path[1:], '/'); i >= 0 {
		return path[1 : i+1], path[i+1:]
	}
	return path[1:], ""
}

// wildcard reports whether text is what pattern means, in which * stands for any
// characters, or none, that are not in never.
func wildcard(pattern, text, never string) bool {
	// The last star is the only one that is ever tried again: what an earlier one
	// could take more of, it can take as well.
	star, from := -1, 0
	p, t := 0, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0 && strings.IndexByte(never, text[from]) < 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
