package server

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func request(peer string, forwarded ...string) *http.Request {
	return &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": forwarded}}
}

func TestClientIP(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("fd00::/8")}
	for name, test := range map[string]struct {
		peer      string
		forwarded []string
		want      string // "" for none
	}{
		"no header":                     {"203.0.113.7:1234", nil, "203.0.113.7"},
		"an untrusted peer's header":    {"203.0.113.7:1234", []string{"1.1.1.1"}, "203.0.113.7"},
		"a trusted peer without header": {"10.0.0.1:1234", nil, "10.0.0.1"},
		"a trusted peer":                {"10.0.0.1:1234", []string{"203.0.113.7"}, "203.0.113.7"},
		"forged on the left":            {"10.0.0.1:1234", []string{"1.1.1.1, 203.0.113.7"}, "203.0.113.7"},
		"forged as a trusted one":       {"10.0.0.1:1234", []string{"10.9.9.9, 203.0.113.7"}, "203.0.113.7"},
		"a chain of proxies":            {"10.0.0.1:1234", []string{"1.1.1.1, 203.0.113.7, 10.0.0.3, 10.0.0.2"}, "203.0.113.7"},
		"several lines":                 {"10.0.0.1:1234", []string{"1.1.1.1", "203.0.113.7", "10.0.0.2"}, "203.0.113.7"},
		"trusted all the way":           {"10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"garbage ends the walk":         {"10.0.0.1:1234", []string{"203.0.113.7, unknown, 10.0.0.2"}, "10.0.0.2"},
		"garbage alone":                 {"10.0.0.1:1234", []string{"unknown"}, "10.0.0.1"},
		"an empty hop":                  {"10.0.0.1:1234", []string{"203.0.113.7,,10.0.0.2"}, "10.0.0.2"},
		"an empty line":                 {"10.0.0.1:1234", []string{"203.0.113.7", "", "10.0.0.2"}, "203.0.113.7"},
		"an obfuscated hop":             {"10.0.0.1:1234", []string{"_hidden"}, "10.0.0.1"},
		"with a port":                   {"10.0.0.1:1234", []string{"203.0.113.7:5555"}, "203.0.113.7"},
		"IPv6":                          {"[fd00::1]:1234", []string{"2001:db8::7"}, "2001:db8::7"},
		"IPv6 in brackets":              {"[fd00::1]:1234", []string{"[2001:db8::7]"}, "2001:db8::7"},
		"IPv6 with a port":              {"[fd00::1]:1234", []string{"[2001:db8::7]:443"}, "2001:db8::7"},
		"IPv6 with a zone":              {"[fd00::1%eth0]:1234", []string{"fe80::7%eth1"}, "fe80::7"},
		"a mapped peer":                 {"[::ffff:10.0.0.1]:1234", []string{"203.0.113.7"}, "203.0.113.7"},
		"a mapped client":               {"10.0.0.1:1234", []string{"::ffff:203.0.113.7"}, "203.0.113.7"},
		"a mapped proxy":                {"10.0.0.1:1234", []string{"203.0.113.7, ::ffff:10.0.0.2"}, "203.0.113.7"},
		"tabs and spaces":               {"10.0.0.1:1234", []string{" 1.1.1.1 ,\t203.0.113.7 "}, "203.0.113.7"},
		"leading zeros":                 {"10.0.0.1:1234", []string{"203.0.113.007"}, "10.0.0.1"},
		"a socket without an address":   {"@", []string{"203.0.113.7"}, ""},
	} {
		got := clientIP(request(test.peer, test.forwarded...), proxies)
		var want netip.Addr
		if test.want != "" {
			want = netip.MustParseAddr(test.want)
		}
		if got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

// FuzzClientIP holds clientIP to what makes it safe: nobody but a trusted peer
// is believed, and what an untrusted client wrote on the left changes nothing.
func FuzzClientIP(f *testing.F) {
	f.Add("10.0.0.1:1234", "1.1.1.1, 203.0.113.7", "9.9.9.9, 10.0.0.2")
	f.Add("203.0.113.7:1", "1.1.1.1", "")
	f.Add("[::ffff:10.0.0.1]:1", "[2001:db8::7]:443", ",,")
	f.Add("@", "fe80::1%eth0", "]")
	f.Add("10.0.0.1:1", "203.0.113.7,", " ")
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, peer, forwarded, forged string) {
		got := clientIP(request(peer, forwarded), proxies)
		if got.Is4In6() || got.Zone() != "" {
			t.Fatalf("%v is not in its one form", got)
		}
		from := parseHop(peer)
		if !isTrusted(from, proxies) {
			if got != from {
				t.Fatalf("%v, though nobody trusts %v", got, from)
			}
			return
		}
		if !got.IsValid() {
			t.Fatal("a trusted peer, and no address")
		}
		if !isTrusted(got, proxies) {
			for name, r := range map[string]*http.Request{
				"in front": request(peer, forged+","+forwarded), "in a line of its own": request(peer, forged, forwarded),
			} {
				if other := clientIP(r, proxies); other != got {
					t.Fatalf("%q %s makes %v of %v", forged, name, other, got)
				}
			}
			if !strings.Contains(forwarded, ",") && parseHop(strings.TrimSpace(forwarded)) != got {
				t.Fatalf("%v out of %q", got, forwarded)
			}
		}
	})
}
