package netguard_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gatehouse-io/gatehouse/internal/netguard"
)

// The IANA registries of special-purpose addresses, entry by entry, with those
// that are marked globally reachable too: none of them is an API's host. Then
// multicast, and what is special elsewhere.
var registry = []struct{ block, name string }{
	{"0.0.0.0/8", "This network"}, {"0.0.0.0/32", "This host on this network"}, {"10.0.0.0/8", "Private-Use"},
	{"100.64.0.0/10", "Shared Address Space"}, {"127.0.0.0/8", "Loopback"}, {"169.254.0.0/16", "Link Local"},
	{"172.16.0.0/12", "Private-Use"}, {"192.0.0.0/24", "IETF Protocol Assignments"}, {"192.0.0.0/29", "IPv4 Service Continuity Prefix"},
	{"192.0.0.8/32", "IPv4 dummy address"}, {"192.0.0.9/32", "Port Control Protocol Anycast"}, {"192.0.0.10/32", "TURN Anycast"},
	{"192.0.0.170/31", "NAT64/DNS64 Discovery"}, {"192.0.2.0/24", "TEST-NET-1"}, {"192.31.196.0/24", "AS112-v4"},
	{"192.52.193.0/24", "AMT"}, {"192.88.99.0/24", "Deprecated 6to4 Relay Anycast"}, {"192.88.99.2/32", "6a44-relay anycast"},
	{"192.168.0.0/16", "Private-Use"}, {"192.175.48.0/24", "Direct Delegation AS112 Service"}, {"198.18.0.0/15", "Benchmarking"},
	{"198.51.100.0/24", "TEST-NET-2"}, {"203.0.113.0/24", "TEST-NET-3"}, {"240.0.0.0/4", "Reserved"}, {"255.255.255.255/32", "Limited Broadcast"},
	{"224.0.0.0/4", "Multicast"}, {"168.63.129.16/32", "Azure's host agent"},

	{"::1/128", "Loopback Address"}, {"::/128", "Unspecified Address"}, {"64:ff9b::/96", "IPv4-IPv6 Translation"},
	{"64:ff9b:1::/48", "IPv4-IPv6 Translation"}, {"100::/64", "Discard-Only Address Block"}, {"100:0:0:1::/64", "Dummy IPv6 Prefix"},
	{"2001::/23", "IETF Protocol Assignments"}, {"2001::/32", "TEREDO"}, {"2001:1::1/128", "Port Control Protocol Anycast"},
	{"2001:1::2/128", "TURN Anycast"}, {"2001:1::3/128", "DNS-SD SRP Anycast"}, {"2001:2::/48", "Benchmarking"}, {"2001:3::/32", "AMT"},
	{"2001:4:112::/48", "AS112-v6"}, {"2001:10::/28", "Deprecated ORCHID"}, {"2001:20::/28", "ORCHIDv2"}, {"2001:30::/28", "Drone Remote ID"},
	{"2001:db8::/32", "Documentation"}, {"2002::/16", "6to4"}, {"2620:4f:8000::/48", "Direct Delegation AS112 Service"},
	{"3fff::/20", "Documentation"}, {"5f00::/16", "Segment Routing (SRv6) SIDs"}, {"fc00::/7", "Unique-Local"}, {"fe80::/10", "Link-Local Unicast"},
	{"::/96", "IPv4-compatible (deprecated)"}, {"::ffff:0:0:0/96", "IPv4-translated (deprecated)"}, {"fec0::/10", "Site-local (deprecated)"}, {"ff00::/8", "Multicast"},
}

func TestRegistries(t *testing.T) {
	for _, entry := range registry {
		block := netip.MustParsePrefix(entry.block)
		for _, addr := range []netip.Addr{block.Addr(), last(block)} {
			if !netguard.Forbidden(addr) {
				t.Errorf("%s of %s (%s) may be called", addr, block, entry.name)
			}
		}
	}
}

func last(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// A forbidden IPv4 address is forbidden in every form that holds it, and so are
// most forms of a public one: what stands behind a translator is its choice.
func TestFormsOfIPv4(t *testing.T) {
	for _, v4 := range []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "172.16.0.1", "100.100.100.200", "0.0.0.0", "8.8.8.8"} {
		a := netip.MustParseAddr(v4).As4()
		high, low := binary.BigEndian.Uint16(a[:2]), binary.BigEndian.Uint16(a[2:])
		forms := map[string]string{
			"mapped":           fmt.Sprintf("::ffff:%x:%x", high, low),
			"compatible":       fmt.Sprintf("::%x:%x", high, low),
			"translated":       fmt.Sprintf("::ffff:0:%x:%x", high, low),
			"NAT64":            fmt.Sprintf("64:ff9b::%x:%x", high, low),
			"NAT64, local":     fmt.Sprintf("64:ff9b:1::%x:%x", high, low),
			"NAT64, local, 48": fmt.Sprintf("64:ff9b:1:%x:%x:%x::", high, low>>8, (low&0xff)<<8),
			"6to4":             fmt.Sprintf("2002:%x:%x::1", high, low),
			"Teredo server":    fmt.Sprintf("2001:0:%x:%x::1", high, low),
			"Teredo client":    fmt.Sprintf("2001:0:4136:e378:8000:63bf:%x:%x", ^high, ^low),
			"ISATAP":           fmt.Sprintf("2606:4700::5efe:%x:%x", high, low),
			"ISATAP, global":   fmt.Sprintf("2606:4700::200:5efe:%x:%x", high, low),
		}
		for name, form := range forms {
			addr, err := netip.ParseAddr(form)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			public := v4 == "8.8.8.8" && name == "mapped"
			if netguard.Forbidden(addr) == public {
				t.Errorf("%s of %s, %s: forbidden is %v", name, v4, addr, !public)
			}
		}
	}
}
