package netguard

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Dialer makes guarded TCP connections. Make one with [NewDialer]; it is safe
// for concurrent use.
type Dialer struct {
	allowed  map[string]bool // host:port
	ports    []uint16
	resolver Resolver
	timeout  time.Duration
	dial     dialFunc
}

// NewDialer gives a guarded dialer. It fails when an allowed origin is not of
// the form scheme://host[:port]; any scheme will do, with a port where the
// scheme is not http or https.
func NewDialer(o Options) (*Dialer, error) {
	d := &Dialer{
		allowed:  make(map[string]bool),
		ports:    o.Ports,
		resolver: o.Resolver,
		timeout:  o.Timeout,
		dial:     o.dial,
	}
	if len(d.ports) == 0 {
		d.ports = []uint16{443}
	}
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	if d.timeout == 0 {
		d.timeout = DefaultTimeout
	}
	if d.dial == nil {
		d.dial = (&net.Dialer{}).DialContext
	}
	for _, raw := range o.AllowedOrigins {
		u, err := parseAllowed(raw)
		if err != nil {
			return nil, err
		}
		d.allowed[net.JoinHostPort(strings.ToLower(u.Hostname()), portOf(u))] = true
	}
	return d, nil
}

// DialContext connects to address, host:port, over TCP; network is "tcp",
// "tcp4" or "tcp6". Unless the operator allowed host:port, it resolves the host
// once, refuses when any address is [Forbidden], and connects to the addresses
// it checked, in turn. It gives [ErrForbiddenPort], [ErrForbiddenAddress], or
// what the resolver or the network says.
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return nil, errors.New("netguard: the address is not host:port")
	}
	if d.allowed[net.JoinHostPort(strings.ToLower(host), portText)] {
		return d.dial(ctx, network, address)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || !slices.Contains(d.ports, uint16(port)) {
		return nil, ErrForbiddenPort
	}
	addrs, err := d.check(ctx, host)
	if err != nil {
		return nil, err
	}
	return d.dialInTurn(ctx, network, addrs, uint16(port))
}

// check resolves host and gives its addresses when every one of them is public.
// One forbidden address refuses the host: a name that mixes both is an attack.
func (d *Dialer) check(ctx context.Context, host string) ([]netip.Addr, error) {
	var addrs []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{literal}
	} else if addrs, err = d.resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	checked := make([]netip.Addr, len(addrs))
	for i, a := range addrs {
		if Forbidden(a) {
			return nil, ErrForbiddenAddress
		}
		checked[i] = a.Unmap()
	}
	return checked, nil
}

func (d *Dialer) dialInTurn(ctx context.Context, network string, addrs []netip.Addr, port uint16) (net.Conn, error) {
	var failures []error
	addrs = addrs[:min(len(addrs), maxAddresses)]
	for i, a := range addrs {
		// Each attempt gets an equal share of what is left, so that one silent
		// address does not use up the others' time.
		attempt, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok {
			share := time.Until(deadline) / time.Duration(len(addrs)-i)
			attempt, cancel = context.WithTimeout(ctx, share)
		}
		conn, err := d.dial(attempt, network, netip.AddrPortFrom(a, port).String())
		cancel()
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(failures...)
}
