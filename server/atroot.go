package server

import (
	"context"
	"net"
	"net/http"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
)

type atRootKey struct{}

// atRoot is by what a request came to one service at its root.
type atRoot uint8

const (
	atNoRoot atRoot = iota
	byPort
	byName
)

// servedAtRoot tells by what host or port the request came to one service at its root.
func servedAtRoot(r *http.Request) atRoot {
	at, _ := r.Context().Value(atRootKey{}).(atRoot)
	return at
}

// Service gives a handler that serves one service of the gateway at its root,
// for SDKs whose base URL takes no path.
func (s *Server) Service(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveAtRoot(w, r, name, byPort) })
}

func (s *Server) serveAtRoot(w http.ResponseWriter, r *http.Request, name string, at atRoot) {
	prefix := "/api/proxy/" + name
	if service, ok := s.cfg.Catalog.Service(name); name == catalog.AppName || ok && service.Chat {
		prefix = "/api/chat/" + name
	}
	inner := r.WithContext(context.WithValue(r.Context(), atRootKey{}, at))
	inner.RequestURI = prefix + r.RequestURI
	if !strings.HasPrefix(r.RequestURI, "/") { // absolute-form and * name no path of the service
		inner.RequestURI = prefix + "/%00"
	}
	s.serve(w, inner)
}

// serviceOfHost gives the name before the domain in {service}.{domain}, and
// whether the host has this form. A name that is no service's is told so by the
// gateway.
func serviceOfHost(host, domain string) (string, bool) {
	if domain == "" {
		return "", false
	}
	if name, port, err := net.SplitHostPort(host); err == nil && port != "" {
		host = name
	}
	host = strings.TrimSuffix(host, ".")
	cut := len(host) - len(domain) - 1
	if cut <= 0 || host[cut] != '.' || !strings.EqualFold(host[cut+1:], domain) {
		return "", false
	}
	name := strings.ToLower(host[:cut])
	if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		name = "unknown" // not to be taken for a path
	}
	return name, true
}

// secure reports whether the caller came by https: to this instance, or to a
// trusted proxy in front of it that says so.
func (s *Server) secure(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	said := r.Header.Get("X-Forwarded-Proto")
	return said != "" && strings.EqualFold(said, "https") && isTrusted(parseHop(r.RemoteAddr), s.cfg.TrustedProxies)
}
