package policy

import (
	"cmp"
	"net/url"
	"slices"
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

// PathOf gives the path of a request target as others sent it, without query and
// fragment and otherwise as it stands there: what is decoded has lost which of its slashes
// were encoded. Of the absolute form (RFC 9112, 3.2.2) it is what follows the host.
func PathOf(target string) string {
	if scheme, rest, ok := strings.Cut(target, "://"); ok && (strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")) {
		target = strings.TrimLeftFunc(rest, func(r rune) bool { return !strings.ContainsRune("/?#", r) })
	}
	if i := strings.IndexAny(target, "?#"); i >= 0 {
		target = target[:i]
	}
	return target
}

// Readings gives the plain paths that servers may take path for, in the form that patterns are
// compared with, each once. The first is that of who takes every slash for a separator,
// however often it is encoded.
func Readings(path string) []string {
	plain := plainPath(path)
	return append([]string{plain}, closedReadings(path, plain)...)
}

// PathAfter gives what follows the first n segments of path that no dot segment takes back, as it
// was sent. An encoded slash is a part of its segment here: whether other readings have
// the same before it and after it is for [Readings] to say.
func PathAfter(path string, n int) (rest string) {
	depth := 0
	for path != "" {
		segment, after, _ := strings.Cut(path, "/")
		path = after
		if closedPath(segment) != "" {
			if depth++; depth == n {
				rest = after
			}
		} else if name, _, _ := strings.Cut(decoded(segment), ";"); name == ".." {
			depth = max(0, depth-1)
		}
	}
	if depth < n {
		return ""
	}
	return rest
}

// maxDecodings is as deep as the gateway looks before it refuses a path.
const maxDecodings = 4

// decoded gives what the most careless of servers makes of path.
func decoded(path string) string {
	for range maxDecodings {
		next := unescaped(path)
		if next == path {
			break
		}
		path = next
	}
	return path
}

// closedReadings gives the plain paths of those who take an encoded slash for a part of its
// segment, as GitHub does of a branch's name, where path has any: also of who decodes a
// path once or more often before looking for separators. Of a pattern only * means
// such a segment. open is the plain path with every slash a separator.
func closedReadings(path, open string) (all []string) {
	if strings.IndexByte(path, '%') < 0 {
		return nil
	}
	for range maxDecodings {
		next := unescaped(path)
		if next == path {
			break
		}
		if strings.Count(next, "/") > strings.Count(path, "/") {
			if closed := closedPath(path); closed != open && !slices.Contains(all, closed) {
				all = append(all, closed)
			}
		}
		path = next
	}
	return all
}

// closedPath gives the plain path with the slashes alone as separators that path has unescaped.
func closedPath(path string) string {
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		segments[i] = strings.ReplaceAll(decoded(segment), "/", "\x00")
	}
	return resolved(strings.Join(segments, "/"))
}

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
	return resolved(decoded(path))
}

// resolved drops parameters and empty segments of a decoded path, and resolves dot segments.
func resolved(path string) string {
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
