package policy

import (
	"cmp"
	"net/url"
	"strconv"
	"strings"
)

// pattern is a path pattern taken apart: segments that stand for themselves,
// "*" for any one segment, and "**" at the end for any number of them.
type pattern struct {
	segments []string
	rest     bool // ends in **
}

// parsePattern checks a pattern and gives it without a leading slash.
func parsePattern(s string) (text, problem string) {
	text = strings.TrimPrefix(s, "/")
	if text == "" || len(text) > maxPattern {
		return "", "must be a path of the service of at most 256 bytes, such as v1/chat/completions or v1/files/**"
	}
	segments := strings.Split(text, "/")
	for i, segment := range segments {
		switch {
		case segment == "**" && i == len(segments)-1, segment == "*":
			continue
		case segment == "", segment == ".", segment == "..":
			return "", "must have no empty or dot segments"
		case strings.Contains(segment, "*"):
			return "", "must have * as a whole segment, and ** as the last one only"
		}
		for j := range len(segment) {
			if c := segment[j]; c <= ' ' || c >= 0x7f || strings.IndexByte(`%?#;\"<>^{|}`+"`", c) >= 0 {
				return "", "must have only characters that stand unescaped in a path"
			}
		}
	}
	return text, ""
}

func compilePattern(text string) pattern {
	if text == "" {
		return pattern{rest: true}
	}
	p := pattern{segments: strings.Split(text, "/")}
	if last := len(p.segments) - 1; p.segments[last] == "**" {
		p.segments, p.rest = p.segments[:last], true
	}
	return p
}

// match reports whether a path that [plainPath] gave is in the pattern.
func (p *pattern) match(path string) bool {
	for _, want := range p.segments {
		if path == "" {
			return false
		}
		segment, rest, _ := strings.Cut(path, "/")
		if want != "*" && want != segment {
			return false
		}
		path = rest
	}
	return p.rest || path == ""
}

// covers reports whether every path in q is in p.
func (p *pattern) covers(q *pattern) bool {
	if len(q.segments) < len(p.segments) || q.rest && !p.rest {
		return false
	}
	if !p.rest && len(q.segments) != len(p.segments) {
		return false
	}
	for i, want := range p.segments {
		if want != "*" && want != q.segments[i] {
			return false
		}
	}
	return true
}

// compare orders patterns, the more specific first: more segments that stand
// for themselves, then more segments at all, then one that is not open at its
// end, then by text so that the order is total.
func (p *pattern) compare(q *pattern) int {
	literal := func(p *pattern) (n int) {
		for _, s := range p.segments {
			if s != "*" {
				n++
			}
		}
		return n
	}
	open := func(p *pattern) int {
		if p.rest {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(literal(q), literal(p)), cmp.Compare(len(q.segments), len(p.segments)),
		cmp.Compare(open(p), open(q)), cmp.Compare(strings.Join(p.segments, "/"), strings.Join(q.segments, "/")))
}

// unescaped decodes the escapes that are some, and leaves the others: one that is none
// must not hide those beside it.
func unescaped(path string) string {
	if decoded, err := url.PathUnescape(path); err == nil {
		return decoded
	}
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		if path[i] == '%' && i+2 < len(path) {
			if c, err := strconv.ParseUint(path[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(path[i])
	}
	return b.String()
}

// PathOf gives the path of a request target as others sent it: without query and
// fragment, in the form that policies compare.
func PathOf(target string) string {
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	return plainPath(target)
}

// insidePath gives the plain path of who takes an encoded slash for a part of its
// segment, as GitHub does of a branch's name, where path has one. Of a pattern only * means such a segment.
func insidePath(path string) string {
	if strings.IndexByte(path, '%') < 0 {
		return ""
	}
	closed := closedSlashes.Replace(path)
	if closed == path {
		return ""
	}
	return plainPath(closed)
}

var closedSlashes = strings.NewReplacer("%2F", "\x00", "%2f", "\x00")

// plainPath gives the path that a service may take path for: escapes decoded,
// parameters (";...") and empty segments dropped, dot segments resolved, no slash
// at the beginning or the end. Otherwise v1/ch%61t would pass by a limit on v1/chat.
// The gateway refuses some of these; a path that goes past it was not looked at.
func plainPath(path string) string {
	if strings.IndexByte(path, '%') < 0 && strings.IndexByte(path, ';') < 0 &&
		!strings.Contains(path, "//") && !strings.HasPrefix(path, "/") && !strings.HasSuffix(path, "/") &&
		!strings.HasPrefix(path, ".") && !strings.Contains(path, "/.") {
		return path
	}
	for range 4 { // as deep as the gateway looks before it refuses a path
		decoded := unescaped(path)
		if decoded == path {
			break
		}
		path = decoded
	}
	var plain []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment, _, _ = strings.Cut(segment, ";"); segment {
		case "", ".":
		case "..":
			plain = plain[:max(0, len(plain)-1)]
		default:
			plain = append(plain, segment)
		}
	}
	return strings.Join(plain, "/")
}
