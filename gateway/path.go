package gateway

import (
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// maxPath bounds the path after the service, in bytes.
const maxPath = 8 << 10

// SplitPath takes the service and the rest of the path out of a request for
// /api/{route}/{service}/{path...}, both exactly as they stand on the request
// line. The rest has no slash before it and is not checked: [Gateway.Serve]
// does that. ok is false when the request line has another form.
func SplitPath(r *http.Request, route Route) (service, path string, ok bool) {
	raw, _, _ := strings.Cut(r.RequestURI, "?")
	raw, ok = strings.CutPrefix(raw, "/api/"+string(route)+"/")
	if !ok {
		return "", "", false
	}
	service, path, _ = strings.Cut(raw, "/")
	return service, path, service != ""
}

// validPath says whether a raw path after the service can be appended to an
// origin and mean the same to every server: only characters that RFC 3986
// allows in a path, no dot segment, no empty first segment, no scheme, and no
// slash, backslash or control character behind any number of encodings. Where
// the service takes slashes that are encoded once ([catalog.Service.EncodedSlashes]),
// the path must be as plain to a server that takes them for separators.
func validPath(raw string, encodedSlashes bool) bool {
	if encodedSlashes && catalog.HasEncodedSlash(raw) {
		// An empty segment, or one of parameters only, is dropped by some and kept by others.
		opened := catalog.OpenSlashes(raw)
		if len(raw) > maxPath || strings.Contains("/"+opened, "//") || strings.HasSuffix(opened, "/") && !strings.HasSuffix(raw, "/") ||
			strings.Contains(opened, ";") || strings.Contains(strings.ToLower(opened), "%3b") {
			return false
		}
		return validPath(opened, false)
	}
	if raw == "" {
		return true
	}
	if raw[0] == '/' || len(raw) > maxPath {
		return false
	}
	encoded := false
	for i := range len(raw) {
		switch c := raw[i]; {
		case c == '%':
			encoded = true
		case !pathByte(c):
			return false
		}
	}
	if hasDotSegment(raw) {
		return false
	}
	// "https:/..." is some server's absolute URL; "models/m:generate" is not.
	if first, _, more := strings.Cut(raw, "/"); more && strings.HasSuffix(first, ":") {
		return false
	}
	return !encoded || validEncodedPath(raw)
}

// validEncodedPath checks what raw becomes when it is decoded again and again,
// as a chain of careless servers would.
func validEncodedPath(raw string) bool {
	const most = 4
	slashes := strings.Count(raw, "/")
	path := raw
	for level := range most {
		decoded, changed, whole := unescape(path)
		if !whole && level == 0 {
			return false // a % that begins no escape
		}
		if !changed {
			return true
		}
		if strings.Count(decoded, "/") != slashes || hasDotSegment(decoded) || !utf8.ValidString(decoded) {
			return false
		}
		for i := range len(decoded) {
			if c := decoded[i]; c < ' ' || c == 0x7f || c == '\\' {
				return false
			}
		}
		path = decoded
	}
	return false
}

// unescape decodes the valid percent-escapes of s and leaves the rest. whole is
// false when a % was left that begins no escape.
func unescape(s string) (decoded string, changed, whole bool) {
	whole = true
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
			whole = false
			b.WriteByte('%')
			continue
		}
		b.WriteByte(unhex(s[i+1])<<4 | unhex(s[i+2]))
		changed = true
		i += 2
	}
	return b.String(), changed, whole
}

// hasDotSegment finds "." and "..", also with parameters ("..;x") or spaces
// behind them, which some servers cut off before they resolve the segment.
func hasDotSegment(path string) bool {
	for len(path) > 0 {
		segment, rest, _ := strings.Cut(path, "/")
		if segment != "" && segment[0] == '.' {
			segment, _, _ = strings.Cut(segment, ";")
			segment = strings.TrimRight(segment, " ")
			if segment == "." || segment == ".." {
				return true
			}
		}
		path = rest
	}
	return false
}

// pathByte says whether c may stand unescaped in a path: pchar of RFC 3986,
// and the slash.
func pathByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '/', '-', '.', '_', '~', '!', '$', '&', '\'', '(', ')', '*', '+', ',', ';', '=', ':', '@':
		return true
	}
	return false
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c <= 'F':
		return c - 'A' + 10
	default:
		return c - 'a' + 10
	}
}
