package server

import (
	"net/http"
	"net/netip"
	"strings"
)

// clientIP gives the address of the end user. Without trusted proxies that is
// the peer. Behind them it is found in X-Forwarded-For by walking from the
// right, past trusted addresses only: everything left of the first untrusted
// one is the client's own writing. A hop that is no address ends the walk at the
// last address that a trusted proxy vouched for.
func clientIP(r *http.Request, trusted []netip.Prefix) netip.Addr {
	peer := parseHop(r.RemoteAddr)
	if !isTrusted(peer, trusted) {
		return peer
	}
	client := peer
	lines := r.Header["X-Forwarded-For"]
	for i := len(lines) - 1; i >= 0; i-- {
		rest := lines[i]
		for rest != "" {
			var hop string
			if cut := strings.LastIndexByte(rest, ','); cut >= 0 {
				hop, rest = rest[cut+1:], rest[:cut]
			} else {
				hop, rest = rest, ""
			}
			addr := parseHop(strings.TrimSpace(hop))
			if !addr.IsValid() {
				return client
			}
			client = addr
			if !isTrusted(addr, trusted) {
				return client
			}
		}
	}
	return client
}

// parseHop reads an address with or without a port; IPv6 with or without
// brackets. Mapped IPv4 addresses become IPv4, zones are dropped.
func parseHop(s string) netip.Addr {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		if withPort, err := netip.ParseAddrPort(s); err == nil {
			addr = withPort.Addr()
		} else if inner, ok := strings.CutPrefix(s, "["); ok {
			addr, _ = netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		}
	}
	return addr.Unmap().WithZone("")
}

func isTrusted(addr netip.Addr, trusted []netip.Prefix) bool {
	if !addr.IsValid() {
		return false
	}
	for _, p := range trusted {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
