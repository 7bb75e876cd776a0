package catalog

import (
	"net/url"
	"slices"
	"strings"
)

// otherHost is a host of the provider's own beside the usual one, and the calls
// that it alone takes: SDKs know of it, and a caller who replaces the base URL of
// one sends them to the same place as all others.
type otherHost struct {
	origin url.URL
	calls  []PathPattern
}

// takes reports whether a request of method to path goes there; the path stands as
// on the request line.
func (o *otherHost) takes(method, path string) bool {
	if strings.IndexByte(path, '%') >= 0 {
		plain, err := url.PathUnescape(path)
		if err != nil {
			return false
		}
		path = plain
	}
	for _, call := range o.calls {
		if call.Matches(method, path) {
			return true
		}
	}
	return false
}

// takesSome reports whether a request of any method to path goes there.
func (o *otherHost) takesSome(path string) bool {
	return slices.ContainsFunc(scopeMethods, func(method string) bool { return o.takes(method, path) })
}

// alsoAt makes a further host of a compiled-in service, whose origin and patterns are
// literals.
func alsoAt(origin string, calls ...string) otherHost {
	u, err := parseOrigin(origin)
	if err != nil {
		panic("catalog: " + err.Error())
	}
	o := otherHost{origin: *u}
	for _, text := range calls {
		p, err := ParsePathPattern(text)
		if err != nil {
			panic("catalog: " + text + ": " + err.Error())
		}
		o.calls = append(o.calls, p)
	}
	return o
}
