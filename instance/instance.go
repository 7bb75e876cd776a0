// Package instance is one running Gatehouse: its configuration, the wiring of
// all rooms in one function ([Open]), and its life from start to stop ([Instance.Serve]).
//
// The command line and the tests start instances the same way:
//
//	config, err := instance.FromEnvironment(environ)
//	in, err := instance.Open(ctx, config, os.Stderr)
//	listeners, err := in.Listen()
//	err = in.Serve(ctx, listeners) // until ctx ends
//	err = in.Close()
package instance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/envoy"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/retention"
	"github.com/gatehouse-io/gatehouse/server"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// Version is the program's version; a release sets it when it is built.
var Version = "dev"

// Instance is an opened Gatehouse. Close it when it is done with.
type Instance struct {
	Config    Config // without the master keys
	Log       *slog.Logger
	DB        *store.DB
	Audit     *audit.Log
	Ledger    *ledger.Ledger
	Retention *retention.Retention
	Usage     *usage.Meter
	Orgs      *org.Directory
	Tokens    *auth.Tokens
	Vault     *vault.Vault
	Keys      *masterkey.Keys
	Server    *server.Server

	checker  *vault.Checker
	webhooks *webhook.Webhooks
	issuers  *auth.Issuers

	metrics  *telemetry.Metrics
	otel     *telemetry.OTel // nil: nothing is exported
	flushLog func()
	limiter  ratelimit.Limiter
	limits   *policy.Limits
	redis    *ratelimit.Redis   // nil without REDIS_URL
	cut      context.CancelFunc // ends what still runs after the grace
	stopRuns context.CancelFunc
	runs     sync.WaitGroup
}

// Open checks the configuration, opens the database and wires all rooms. Log
// lines go to w. It starts the background writers, and listens nowhere.
func Open(ctx context.Context, c Config, w io.Writer) (*Instance, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	level, err := c.logLevel()
	if err != nil {
		return nil, err
	}
	log, flushLog := telemetry.NewLogger(w, level, server.RequestID)
	c.warn(log)

	// The data folder and the database.
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return nil, fmt.Errorf("GATEHOUSE_DATA cannot be made: %w", err)
	}
	db, err := store.Open(ctx, c.Database(), log)
	if err != nil {
		return nil, err
	}
	if err := warnBypass(ctx, db, log); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	in := &Instance{Config: c, Log: log, DB: db, flushLog: flushLog}
	if err := in.wire(ctx, c, log); err != nil {
		in.closeOTel()
		return nil, errors.Join(err, db.Close())
	}
	// The keyring has its own copies now; those of the configuration go with the next collection.
	in.Config.EncryptionKey, in.Config.EncryptionKeysOld = "", nil
	return in, nil
}

// wire puts the rooms together, top to bottom.
func (in *Instance) wire(ctx context.Context, c Config, log *slog.Logger) error {
	// The trail, which everything below writes to, and the counters.
	in.Audit = audit.New(in.DB, audit.Options{Logger: log})
	in.metrics = telemetry.NewMetrics()
	in.metrics.Gauge("gatehouse_audit_waiting", "Audit events that wait for the disk.", func() float64 {
		waiting, _ := in.Audit.Backlog()
		return float64(waiting)
	})
	in.metrics.Gauge("gatehouse_audit_lost", "Audit events that the database refused for good since the start.", func() float64 {
		_, lost := in.Audit.Backlog()
		return float64(lost)
	})
	in.metrics.Gauge("gatehouse_limit_degraded", "1 while limits are decided from this instance's memory because Redis is away.", func() float64 {
		if in.limitsDegraded() {
			return 1
		}
		return 0
	})

	// What is used, over a spool on disk.
	var err error
	if in.Usage, err = in.newMeter(c, log); err != nil {
		return err
	}

	// The master keys: a wrong one, or another environment's database, ends here.
	opts := c.keyOptions(log)
	opts.Instance, opts.Version = processName(), Version
	keys, err := masterkey.Open(ctx, in.DB, in.Audit, opts)
	if err != nil {
		return err
	}
	in.Keys = keys

	// Tenants and who may act in them.
	in.Orgs = org.New(in.DB, in.Audit, org.Options{
		FromTokens: c.OrganizationsFromTokens, StaleMax: c.staleMax(), Destroy: Destroy, Forget: in.forget, MemberDeleted: in.memberDeleted, Logger: log,
	})
	in.Tokens = auth.NewTokens(in.DB, in.Audit, in.Orgs, auth.TokensOptions{StaleMax: c.staleMax(), Logger: log})
	issuers, err := c.issuers()
	if err != nil {
		return err
	}
	in.issuers = auth.NewIssuers(issuers, auth.IssuersOptions{Logger: log})
	authenticator := auth.New(in.Orgs, auth.Options{
		Secret: []byte(c.JWTSecret), Issuer: c.JWTIssuer, Audience: c.JWTAudience, Issuers: in.issuers, Tokens: in.Tokens,
	})

	// The catalogue, the ways out, and the vault.
	services, err := c.services()
	if err != nil {
		return err
	}
	tellServices(log, services)
	upstream, err := c.chatUpstream()
	if err != nil {
		return err
	}
	out, err := newOutside(services, upstream)
	if err != nil {
		return err
	}
	in.Vault = vault.New(in.DB, in.Audit, services, keys.Ring(), vault.Options{
		Environment: c.Environment, Reveal: c.CredentialReveal, StaleMax: c.staleMax(), Probe: out.probe, TestReuse: c.TestReuse, Logger: log,
	})

	// What seals the trail, and how long it is kept.
	in.Ledger = in.newLedger(ctx, c, log)
	in.Retention = in.newRetention(log)

	// What looks after stored credentials, and tells of it.
	checks := c.checkOptions()
	checks.Tested, checks.Found = in.metrics.CredentialTested, func(kind vault.FindingKind) { in.metrics.CredentialFound(string(kind)) }
	in.checker = in.Vault.Checker(checks)
	operator, err := c.operatorSink()
	if err != nil {
		return err
	}
	in.webhooks, err = webhook.New(in.DB, in.Audit, in.Vault.WebhookSecrets(), webhook.Options{
		AllowedOrigins: c.webhookOrigins(), Loopback: c.dev, Attempted: in.metrics.WebhookAttempted, Operator: operator, Logger: log,
	})
	if err != nil {
		return err
	}
	in.metrics.Gauge("gatehouse_audit_sink_lag_seconds", "The age of the oldest event that this instance tries to deliver to a sink.", func() float64 {
		return in.webhooks.SinkLag().Seconds()
	})

	// The limits: in memory, or on Redis with memory to fall back on.
	limiter, memory, err := in.newLimiter(c)
	if err != nil {
		return err
	}
	in.limiter = limiter
	in.limits = policy.New(in.meterLimiter(limiter, memory), in.DB, in.Audit, policy.Defaults{
		IP: []ratelimit.Limit{c.ChatIPLimit}, Organization: []ratelimit.Limit{c.ChatOrgLimit},
		Tests: []ratelimit.Limit{c.TestLimit},
	}, policy.Options{IPv6Prefix: c.IPv6Prefix, KnownService: knownService(services), Observed: in.metrics.Observed, Logger: log})
	if err := in.limits.Load(ctx); err != nil {
		return err
	}

	// What is exported by OpenTelemetry, once there is everything that the gauges ask.
	if in.otel, err = in.newOTel(ctx, c); err != nil {
		return err
	}

	// The gateway, which is handed the vault as an opener.
	stop, cut := context.WithCancel(context.WithoutCancel(ctx))
	in.cut = cut
	bounds, err := c.serviceBounds()
	if err != nil {
		return err
	}
	newGateway := func(problem func(http.ResponseWriter, *http.Request, error) int) (*gateway.Gateway, error) {
		g, err := gateway.New(gateway.Options{
			Catalog: services, Opener: opener{in.Vault, in.metrics}, Problem: problem, Logger: log, Stop: stop,
			Bounds: c.bounds(), Services: bounds, SpoolDir: c.spoolDir(), MaxSpool: c.BodySpool << 20,
			StreamsPerOrganization: c.StreamsPerOrg, AskUsage: c.hostsUsage(),
			AppUpstream: upstream, AppKey: appKey(c.JWTSecret), DialContext: out.dialer.DialContext,
			Retries: c.UpstreamRetries, BreakerFailures: c.BreakerFailures, TellClientIP: c.forwardClientIPs(), Observe: observer(in.metrics), Attempted: attempted(in.otel),
		})
		if err == nil {
			in.meterBodies(g)
			in.metrics.Gauge("gatehouse_breakers_open", "Breakers that let nothing pass at the moment, each of one organization's credential and host.",
				func() float64 { return float64(g.OpenBreakers()) })
		}
		return g, err
	}

	// The edge.
	proxies, err := c.trustedProxies()
	if err != nil {
		return err
	}
	in.Server, err = server.New(server.Config{
		DB: in.DB, Audit: in.Audit, Ledger: in.Ledger, Retention: in.Retention, Orgs: in.Orgs, Tokens: in.Tokens, Auth: authenticator, Catalog: services, Vault: in.Vault, Keys: in.Keys, Checker: in.checker, Webhooks: in.webhooks,
		Domain: c.Domain, PublicOrigin: c.publicOrigin(),
		Usage: in.Usage, Limits: in.limits, LimitsDegraded: in.limitsDegraded, Gateway: newGateway, Metrics: in.metrics, OTel: in.otel, AuthFailures: c.AuthFailureLimit, TrustedProxies: proxies,
		Version: Version, Logger: log,
	})
	if err != nil {
		return err
	}

	// The background writers.
	running, stopRuns := context.WithCancel(context.WithoutCancel(ctx))
	in.stopRuns = stopRuns
	in.runs.Go(func() { in.Audit.Run(running) })
	in.runs.Go(func() { in.Ledger.Run(running) })
	in.runs.Go(func() { in.Retention.Run(running) })
	if err := in.exportCheckpoints(running, c); err != nil {
		return err
	}
	in.runs.Go(func() { in.Keys.Run(running) })
	in.runs.Go(func() { in.Orgs.Run(running) })
	in.runs.Go(func() { in.Tokens.Run(running) })
	in.runs.Go(func() { in.issuers.Run(running) })
	in.runs.Go(func() { in.Usage.Run(running) })
	in.runs.Go(func() { in.Vault.Run(running) })
	in.runs.Go(func() { in.limits.Run(running) })
	in.runs.Go(func() { in.checker.Run(running) })
	in.runs.Go(func() { in.webhooks.Run(running) })
	return nil
}

// appKey gives the key that signs identity headers for CHAT_UPSTREAM, so that
// the upstream needs nothing but the JWT secret it has: HMAC-SHA256 of a fixed
// text under that secret.
func appKey(jwtSecret string) []byte {
	h := hmac.New(sha256.New, []byte(jwtSecret))
	h.Write([]byte("gatehouse-upstream-key-v1"))
	return h.Sum(nil)
}

func (c *Config) logLevel() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.LogLevel))); err != nil {
		return level, errors.New("GATEHOUSE_LOG_LEVEL must be debug, info, warn or error")
	}
	return level, nil
}

// warn says at start what is allowed and should not stay.
func (c *Config) warn(log *slog.Logger) {
	switch c.EncryptionKey {
	case "":
		log.Warn("ENCRYPTION_KEY is not set: credentials are sealed under JWT_SECRET, so whoever can sign tokens can open them; set a key of its own")
	case c.JWTSecret:
		log.Warn("ENCRYPTION_KEY and JWT_SECRET are the same, so whoever can sign tokens can open credentials; set a key of its own")
	}
	if c.RedisURL == "" && strings.HasPrefix(c.Database(), "postgres") {
		log.Warn("REDIS_URL is not set: each instance counts for itself, so that several admit several times the limits")
	}
	for _, port := range []struct{ variable, address string }{{"GATEHOUSE_METRICS_ADDR", c.MetricsAddr}, {"GATEHOUSE_ENVOY_ADDR", c.EnvoyAddr}} {
		if host, _, err := net.SplitHostPort(port.address); err == nil && !isLoopback(host) {
			log.Warn("this port asks for no token and is open beyond this machine: keep it inside your network", "variable", port.variable)
		}
	}
	if proxies, err := c.trustedProxies(); err == nil {
		for _, p := range proxies {
			if p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16 {
				log.Warn("TRUSTED_PROXIES holds a very wide range: whoever is in it chooses the address that limits and the trail go by", "range", p.String())
			}
		}
	}
	if c.CredentialReveal && !c.dev {
		log.Warn("CREDENTIAL_REVEAL is on: owners can read credentials in the clear")
	}
	if len(c.WebhookHosts) > 0 {
		log.Warn("WEBHOOK_HOSTS lets every organization's webhooks reach these origins", "origins", c.webhookOrigins())
	}
	if c.CredentialTestEvery == 0 {
		log.Warn("CREDENTIAL_TEST_EVERY is 0: no stored credential is opened or tested by itself, so that one that died is found by its users")
	}
	if c.ServiceHosts != "" {
		log.Warn("SERVICE_HOSTS sends keys of catalogue services to origins of your own", "services", entryNames(c.ServiceHosts))
	}
	if len(c.GitHubHosts) > 0 {
		log.Info("GITHUB_HOSTS lets organizations send GitHub tokens to servers of your own", "count", len(c.GitHubHosts))
	}
	if c.ChatHosts != "" {
		log.Info("CHAT_HOSTS adds services of your own", "services", entryNames(c.ChatHosts))
	}
}

// warnBypass says when the second line between tenants is not there.
func warnBypass(ctx context.Context, db *store.DB, log *slog.Logger) error {
	role, bypasses, err := db.Bypasses(ctx)
	if bypasses {
		log.Warn("the database role bypasses row-level security, so that nothing but Gatehouse's own queries keeps tenants apart; give DATABASE_URL a role of its own that is no superuser", "role", role)
	}
	return err
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// staleMax gives the rooms SECRET_STALE_MAX, whose 0 means never: theirs means
// their default.
func (c *Config) staleMax() time.Duration { return max(c.SecretStaleMax, time.Nanosecond) }

func entryNames(hosts string) []string {
	var names []string
	for entry := range strings.SplitSeq(hosts, ",") {
		name, _, _ := strings.Cut(entry, "=")
		names = append(names, strings.TrimSpace(name))
	}
	return names
}

// Slow clients: a header must arrive within headerTimeout; bodies and answers
// have deadlines of their own (package server), so that no timeout of the
// whole cuts a long stream.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10 // bytes
)

// Listener is an open port and what it serves.
type Listener struct {
	net.Listener
	Service string // a service at its root, for SDKs whose base URL takes no path; "" is the whole API
	Metrics bool   // /metrics instead
	Envoy   bool   // Envoy's rate limit service instead, over gRPC
}

// Listen opens the ports of the configuration, the API's first.
func (in *Instance) Listen() ([]Listener, error) {
	var all []Listener
	open := func(variable, address string, what Listener) error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("%s cannot be listened on: %w", variable, err)
		}
		what.Listener = l
		all = append(all, what)
		return nil
	}
	err := open("GATEHOUSE_ADDR", in.Config.Addr, Listener{})
	for _, service := range slices.Sorted(maps.Keys(in.Config.Listen)) {
		if err == nil {
			err = open(listenVariable(service), in.Config.Listen[service], Listener{Service: service})
		}
	}
	if err == nil && in.Config.MetricsAddr != "" {
		err = open("GATEHOUSE_METRICS_ADDR", in.Config.MetricsAddr, Listener{Metrics: true})
	}
	if err == nil && in.Config.EnvoyAddr != "" {
		err = open("GATEHOUSE_ENVOY_ADDR", in.Config.EnvoyAddr, Listener{Envoy: true})
	}
	if err != nil {
		for _, l := range all {
			err = errors.Join(err, l.Close())
		}
		return nil, err
	}
	return all, nil
}

// Serve answers on the listeners until ctx ends, and for Config.DrainDelay more,
// in which it says that it is not ready. Then it refuses new requests, gives
// running ones Config.StopGrace, cuts what is left, and returns.
func (in *Instance) Serve(ctx context.Context, listeners []Listener) error {
	var servers []*http.Server
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		hs := &http.Server{
			Handler: in.Server, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
			ErrorLog: slog.NewLogLogger(in.Log.Handler(), slog.LevelDebug),
		}
		switch {
		case l.Service != "":
			hs.Handler = in.Server.Service(l.Service)
		case l.Metrics:
			mux := http.NewServeMux()
			mux.Handle("GET /metrics", in.metrics.Handler())
			hs.Handler = mux
		case l.Envoy:
			hs.Handler = envoy.NewHandler(in.limits, in.metrics.Decision)
			hs.Protocols = new(http.Protocols)
			hs.Protocols.SetUnencryptedHTTP2(true)
		}
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
		in.cut() // streams that still run end with an error event
		if err = shutdown(context.WithoutCancel(ctx), servers, 5*time.Second); err != nil {
			err = nil
			for _, hs := range servers {
				err = errors.Join(err, hs.Close())
			}
		}
	}
	in.Log.Info("stopped")
	return errors.Join(broken, err)
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

// Close writes what is left of the trail and closes the database.
func (in *Instance) Close() error {
	in.cut()
	in.closeLimiter()
	in.stopRuns()
	in.runs.Wait()
	in.closeOTel()
	err := in.DB.Close()
	in.flushLog()
	return err
}
