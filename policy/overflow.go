package policy

import (
	"net/netip"
	"strings"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// The networks whose new addresses share a bucket while an instance's memory is
// full of limited ones. A /24 is the least that is routed on the Internet by
// itself, and a /48 what one site is given (RFC 6177): smaller ones would let a
// single customer of a provider take a bucket for each address he has.
const (
	sharedBits4 = 24
	sharedBits6 = 48
)

// observedPrefix stands before the type of what observed policies count.
const observedPrefix = "observe-"

// SharedWith says, for ratelimit.MemoryOptions.Overflow, with whom a subject of
// [Limits] shares a bucket: an address with its network (a /24, for IPv6 a /48),
// under the policies that count for the same scope; organizations and all others
// with everybody of their type.
func SharedWith(s ratelimit.Subject) string {
	if s.Type != IP && s.Type != observedPrefix+IP {
		return ""
	}
	address, scope, _ := strings.Cut(s.Key, "|")
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	bits := sharedBits6
	if addr.Is4() {
		bits = sharedBits4
	}
	return netip.PrefixFrom(addr, bits).Masked().String() + "|" + scope
}
