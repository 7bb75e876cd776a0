package netguard

import (
	"context"
	"net"
)

// WithDial replaces the last step, so that a test sees which address is dialled.
func WithDial(o Options, dial func(ctx context.Context, network, address string) (net.Conn, error)) Options {
	o.dial = dial
	return o
}
