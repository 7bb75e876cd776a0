package gateway

import (
	"net/http"
	"net/url"
	"strings"
)

// location rewrites a Location header of the upstream's into a path through
// the gateway, so that whoever follows it comes back here. It gives "" where the
// header points to another origin, out of the base path, or to a path that we
// would refuse.
func (t *transfer) location(sent *http.Request, location string) string {
	ref, err := url.Parse(location)
	if err != nil || ref.Opaque != "" || ref.User != nil {
		return ""
	}
	base, err := url.Parse(t.upstream.scheme + "://" + t.upstream.host + sent.URL.Opaque)
	if err != nil {
		return ""
	}
	target := base.ResolveReference(ref)
	if !sameOrigin(target, base) {
		return ""
	}
	path, ok := strings.CutPrefix(target.EscapedPath(), t.upstream.base)
	if !ok || path != "" && path[0] != '/' {
		return ""
	}
	path = strings.TrimPrefix(path, "/")
	if !validPath(path) {
		return ""
	}
	through := url.URL{RawQuery: target.RawQuery, Fragment: target.Fragment, RawFragment: target.RawFragment}
	return "/api/" + string(t.visit.Route) + "/" + t.visit.Service + "/" + path + through.String()
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if port := u.Port(); port != "" {
		return port
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}
