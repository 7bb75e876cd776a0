package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/gatehouse-io/gatehouse/envoy"
)

// Slow clients: a header must arrive within headerTimeout; bodies and answers
// have deadlines of their own (package server), so that no timeout of the
// whole cuts a long stream.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10 // bytes
)

// cutTime is how long requests that outlasted the grace may take to end, and once
// more when their connections are closed.
const cutTime = time.Second

// Served is what a port serves.
type Served string

// All that a port can serve.
const (
	WholeAPI   Served = "api"
	OneService Served = "service" // at its root, for SDKs whose base URL takes no path
	Metrics    Served = "metrics" // at /metrics
	Envoy      Served = "envoy"   // Envoy's rate limit service, over gRPC
)

// Listener is an open port and what it serves.
type Listener struct {
	net.Listener
	Serves  Served
	Service string // the one of [OneService]
}

// Listen opens the ports of the configuration, the API's first.
func (in *Instance) Listen() ([]Listener, error) {
	var all []Listener
	open := func(variable, address string, what Listener) error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return notListened(variable, err)
		}
		what.Listener = l
		all = append(all, what)
		return nil
	}
	err := open("GATEHOUSE_ADDR", in.Config.Addr, Listener{Serves: WholeAPI})
	for _, service := range slices.Sorted(maps.Keys(in.Config.Listen)) {
		if err == nil {
			err = open(variableOf(listenPrefix, service), in.Config.Listen[service], Listener{Serves: OneService, Service: service})
		}
	}
	if err == nil && in.Config.MetricsAddr != "" {
		err = open("GATEHOUSE_METRICS_ADDR", in.Config.MetricsAddr, Listener{Serves: Metrics})
	}
	if err == nil && in.Config.EnvoyAddr != "" {
		err = open("GATEHOUSE_ENVOY_ADDR", in.Config.EnvoyAddr, Listener{Serves: Envoy})
	}
	if err != nil {
		for _, l := range all {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	return all, nil
}

// notListened says what to do about a port that is taken.
func notListened(variable string, err error) error {
	err = fmt.Errorf("%s cannot be listened on: %w", variable, err)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%w; another process has that port, perhaps a Gatehouse that still runs: stop it, or set %s to another one", err, variable)
	}
	return err
}

// Serve answers on the listeners until ctx ends, and for Config.DrainDelay more,
// in which it says that it is not ready. Then it refuses new requests, gives
// running ones Config.StopGrace, cuts what is left, and returns.
func (in *Instance) Serve(ctx context.Context, listeners []Listener) error {
	var servers []*http.Server
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		hs := in.httpServer(l)
		servers = append(servers, hs)
		go func() { failed <- hs.Serve(l) }()
	}
	var broken error
	select {
	case broken = <-failed: // one port is lost: the others stop in order
	case <-ctx.Done():
	}
	if broken == nil && in.Config.DrainDelay > 0 {
		in.Log.Info("draining: not ready, and still serving", "delay", in.Config.DrainDelay.String())
		in.Server.Drain()
		select {
		case broken = <-failed:
		case <-time.After(in.Config.DrainDelay):
		}
	}
	in.Log.Info("stopping", "grace", in.Config.StopGrace.String())
	in.Server.Stop()
	err := shutdown(context.WithoutCancel(ctx), servers, in.Config.StopGrace)
	if errors.Is(err, context.DeadlineExceeded) {
		in.cut() // streams that still run end with an error event, those that nobody reads without
		if err = shutdown(context.WithoutCancel(ctx), servers, cutTime); err != nil {
			err = nil
			for _, hs := range servers {
				err = errors.Join(err, hs.Close())
			}
		}
	}
	in.Server.Wait(cutTime) // requests whose connection was closed under them are not waited for by Shutdown
	in.served = true
	return errors.Join(broken, err)
}

// httpServer gives what answers on a listener.
func (in *Instance) httpServer(l Listener) *http.Server {
	hs := &http.Server{
		Handler: in.Server, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(in.Log.Handler(), slog.LevelDebug),
	}
	switch l.Serves {
	case WholeAPI:
	case OneService:
		hs.Handler = in.Server.Service(l.Service)
	case Metrics:
		mux := http.NewServeMux()
		mux.Handle("GET /metrics", in.metrics.Handler())
		hs.Handler = mux
	case Envoy:
		hs.Handler = envoy.NewHandler(in.limits, in.metrics.Decision)
		hs.Protocols = new(http.Protocols)
		hs.Protocols.SetUnencryptedHTTP2(true)
	}
	return hs
}

// shutdown lets running requests end within grace, on all servers at once.
func shutdown(ctx context.Context, servers []*http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, hs := range servers {
		all.Go(func() { errs[i] = hs.Shutdown(ctx) })
	}
	all.Wait()
	return errors.Join(errs...)
}
