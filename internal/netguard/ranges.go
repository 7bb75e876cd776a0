package netguard

import "net/netip"

// forbidden4 is every IPv4 block that is not an ordinary public host: the IANA
// IPv4 Special-Purpose Address Registry, multicast, and what clouds keep to
// themselves.
var forbidden4 = prefixes(
	"0.0.0.0/8",          // this network, RFC 791
	"10.0.0.0/8",         // private use, RFC 1918
	"100.64.0.0/10",      // carrier-grade NAT, RFC 6598; Alibaba Cloud metadata is in it
	"127.0.0.0/8",        // loopback, RFC 1122
	"168.63.129.16/32",   // Azure's host agent, on every virtual machine
	"169.254.0.0/16",     // link local, RFC 3927; metadata of most clouds is in it
	"172.16.0.0/12",      // private use, RFC 1918
	"192.0.0.0/24",       // IETF protocol assignments, RFC 6890; Oracle Cloud metadata is in it
	"192.0.2.0/24",       // documentation, RFC 5737
	"192.31.196.0/24",    // AS112, RFC 7535
	"192.52.193.0/24",    // AMT relays, RFC 7450
	"192.88.99.0/24",     // 6to4 relays, RFC 7526
	"192.168.0.0/16",     // private use, RFC 1918
	"192.175.48.0/24",    // AS112, RFC 7534
	"198.18.0.0/15",      // benchmarking, RFC 2544
	"198.51.100.0/24",    // documentation, RFC 5737
	"203.0.113.0/24",     // documentation, RFC 5737
	"224.0.0.0/4",        // multicast, RFC 1112
	"240.0.0.0/4",        // reserved, RFC 1112
	"255.255.255.255/32", // limited broadcast, RFC 919
)

// global6 is the one block that IANA gives global unicast addresses from.
// Everything outside is forbidden without being listed: loopback, mapped and
// compatible IPv4, NAT64 (64:ff9b::/96 and 64:ff9b:1::/48, which lead to IPv4
// hosts of the translator's choosing), discard-only 100::/64, segment routing
// 5f00::/16, unique local fc00::/7, link local, site local and multicast.
var global6 = netip.MustParsePrefix("2000::/3")

// forbidden6 is what is special inside global6: the IANA IPv6 Special-Purpose
// Address Registry.
var forbidden6 = prefixes(
	"2001::/23",         // IETF protocol assignments, RFC 2928: Teredo, benchmarking, ORCHID, ...
	"2001:db8::/32",     // documentation, RFC 3849
	"2002::/16",         // 6to4, RFC 3056: holds any IPv4 address
	"2620:4f:8000::/48", // AS112, RFC 7534
	"3fff::/20",         // documentation, RFC 9637
)

func prefixes(list ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, s := range list {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

// Forbidden reports whether addr is anything but an ordinary public host: private,
// loopback, link local, multicast, reserved, a tunnel or translator that could
// lead to one of these, an address with a zone, or no address at all. An
// IPv4-mapped IPv6 address is judged as the IPv4 address it holds. A NAT64 prefix
// of a network's own (RFC 6052) cannot be told from other addresses: where there
// is one, the network must keep it from private IPv4.
func Forbidden(addr netip.Addr) bool {
	if !addr.IsValid() || addr.Zone() != "" {
		return true
	}
	addr = addr.Unmap()
	if addr.Is4() {
		return within(addr, forbidden4)
	}
	return !global6.Contains(addr) || within(addr, forbidden6) || isISATAP(addr)
}

// isISATAP reports whether the interface identifier is one of RFC 5214, which
// holds an IPv4 address in any prefix: 0:5efe or 200:5efe, then the address.
func isISATAP(addr netip.Addr) bool {
	b := addr.As16()
	return (b[8] == 0 || b[8] == 2) && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}

func within(addr netip.Addr, blocks []netip.Prefix) bool {
	for _, b := range blocks {
		if b.Contains(addr) {
			return true
		}
	}
	return false
}
