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
	through, _ := t.through(sent, location)
	return through
}

// through gives the path, with query and fragment, by which a link of the
// upstream's leads through the gateway, if it does.
func (t *transfer) through(sent *http.Request, link string) (string, bool) {
	ref, err := url.Parse(link)
	if err != nil || ref.Opaque != "" || ref.User != nil {
		return "", false
	}
	base, err := url.Parse(t.upstream.scheme + "://" + t.upstream.host + sent.URL.Opaque)
	if err != nil {
		return "", false
	}
	target, under := base.ResolveReference(ref), t.upstream.base
	if !sameOrigin(target, base) {
		home := t.home()
		if ref.Scheme == "" && home != nil { // as whoever sees the provider's own answers reads it
			target.Scheme = home.Scheme
		}
		switch {
		case home != nil && sameOrigin(target, home):
			under = strings.TrimSuffix(home.EscapedPath(), "/")
		case t.upstream.injection != nil && t.upstream.injection.LeadsBack(target):
			under = ""
		default:
			return "", false
		}
	}
	path, ok := strings.CutPrefix(target.EscapedPath(), under)
	if !ok || path != "" && path[0] != '/' {
		return "", false
	}
	path = strings.TrimPrefix(path, "/")
	if !validPath(path, t.takesEncodedSlashes()) {
		return "", false
	}
	rest := url.URL{RawQuery: target.RawQuery, Fragment: target.Fragment, RawFragment: target.RawFragment}
	return t.visit.prefix() + "/" + path + rest.String(), true
}

// home is where the provider believes itself to be: behind an egress proxy, its
// links do not name the host that we ask.
func (t *transfer) home() *url.URL {
	if t.upstream.injection == nil {
		return nil
	}
	return t.upstream.injection.Home()
}

// prefix is what stands before a path of the service on the address that the
// caller asked.
func (v Visit) prefix() string {
	if v.AtRoot {
		return ""
	}
	return "/api/" + string(v.Route) + "/" + v.Service
}

// origin is the address that the caller asked, or "" where an old client does not say, for
// which links are relative to it.
func (t *transfer) origin() string {
	switch {
	case t.visit.Origin != "" && !t.visit.AtRoot:
		return t.visit.Origin
	case t.r.Host == "": // HTTP/1.0
		return ""
	case t.visit.Secure:
		return "https://" + t.r.Host
	}
	return "http://" + t.r.Host
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
