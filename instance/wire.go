package instance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/server"
	"github.com/gatehouse-io/gatehouse/vault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// wiring is an [Instance] while its rooms are made, and what one step hands to a
// later one that the Instance has no use for.
type wiring struct {
	*Instance
	c   Config
	log *slog.Logger

	authenticator *auth.Authenticator
	services      *catalog.Catalog
	upstream      *url.URL // CHAT_UPSTREAM; nil: none
	out           *outside
}

// wire puts the rooms together, top to bottom. The background writers start when
// no step can fail any more: none of them must run on a database that is closed.
func (in *Instance) wire(ctx context.Context, c Config, log *slog.Logger) error {
	w := &wiring{Instance: in, c: c, log: log}
	for _, step := range []func(context.Context) error{
		w.makeTrail, w.makeKeys, w.makeTenants, w.makeVault, w.makeUpkeep, w.makeLimits, w.makeTelemetry, w.makeEdge,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	in.start(ctx)
	return nil
}

// makeTrail makes the trail, which everything below writes to, the counters, and the
// record of what is used, over a spool on disk.
func (w *wiring) makeTrail(context.Context) (err error) {
	w.Audit = audit.New(w.DB, audit.Options{Logger: w.log})
	w.metrics = telemetry.NewMetrics()
	w.metrics.Gauge("gatehouse_audit_waiting", "Audit events that wait for the disk.", func() float64 {
		waiting, _ := w.Audit.Backlog()
		return float64(waiting)
	})
	w.metrics.Gauge("gatehouse_audit_lost", "Audit events that the database refused for good since the start.", func() float64 {
		_, lost := w.Audit.Backlog()
		return float64(lost)
	})
	w.Usage, err = w.newMeter(w.c, w.log)
	return err
}

// makeKeys opens the master keys: a wrong one, or another environment's database,
// ends here. From now on this instance is one that a rotation waits for.
func (w *wiring) makeKeys(ctx context.Context) error {
	opts := w.c.keyOptions(w.log)
	opts.Instance, opts.Version = processName(), Version
	keys, err := masterkey.Open(ctx, w.DB, w.Audit, opts)
	if err != nil {
		return err
	}
	w.Keys = keys
	w.c.warnOfOthers(ctx, keys, w.log)
	w.onClose(func() error {
		keys.Leave(context.WithoutCancel(ctx))
		return nil
	})
	return nil
}

// makeTenants makes the tenants and what knows who may act in them.
func (w *wiring) makeTenants(context.Context) error {
	w.Orgs = org.New(w.DB, w.Audit, org.Options{
		FromTokens:    w.c.OrganizationsFromTokens,
		StaleMax:      w.c.staleMax(),
		Destroy:       Destroy,
		Forget:        w.forget,
		MemberDeleted: w.memberDeleted,
		Logger:        w.log,
	})
	w.Tokens = auth.NewTokens(w.DB, w.Audit, w.Orgs, auth.TokensOptions{StaleMax: w.c.staleMax(), Logger: w.log})
	issuers, err := w.c.issuers()
	if err != nil {
		return err
	}
	w.issuers = auth.NewIssuers(issuers, auth.IssuersOptions{Logger: w.log})
	w.authenticator = auth.New(w.Orgs, auth.Options{
		Secret: []byte(w.c.JWTSecret), Issuer: w.c.JWTIssuer, Audience: w.c.JWTAudience, Issuers: w.issuers, Tokens: w.Tokens,
	})
	return nil
}

// makeVault makes the catalogue, the ways out, and the vault over them.
func (w *wiring) makeVault(context.Context) (err error) {
	if w.services, err = w.c.services(); err != nil {
		return err
	}
	tellServices(w.log, w.services)
	if w.upstream, err = w.c.chatUpstream(); err != nil {
		return err
	}
	if w.out, err = newOutside(w.services, w.upstream); err != nil {
		return err
	}
	w.Vault = vault.New(w.DB, w.Audit, w.services, w.Keys.Ring(), w.c.vaultOptions(w.out, w.log))
	return nil
}

// vaultOptions gives the vault its settings, in a server as in a command.
func (c *Config) vaultOptions(out *outside, log *slog.Logger) vault.Options {
	return vault.Options{
		Environment: c.Environment,
		Reveal:      c.CredentialReveal,
		StaleMax:    c.staleMax(),
		Probe:       out.probe,
		TestReuse:   c.TestReuse,
		Logger:      log,
	}
}

// makeUpkeep makes what seals the trail, how long it is kept, and what looks after
// stored credentials and tells of it.
func (w *wiring) makeUpkeep(ctx context.Context) error {
	w.Ledger = w.newLedger(ctx, w.c, w.log)
	w.Retention = w.newRetention(w.log)

	checks := w.c.checkOptions()
	checks.Tested = w.metrics.CredentialTested
	checks.Found = func(kind vault.FindingKind) { w.metrics.CredentialFound(string(kind)) }
	w.checker = w.Vault.Checker(checks)
	operator, err := w.c.operatorSink()
	if err != nil {
		return err
	}
	w.webhooks, err = webhook.New(w.DB, w.Audit, w.Vault.WebhookSecrets(), webhook.Options{
		AllowedOrigins: w.c.webhookOrigins(),
		Loopback:       w.c.dev,
		Attempted:      w.metrics.WebhookAttempted,
		Operator:       operator,
		Logger:         w.log,
	})
	if err != nil {
		return err
	}
	w.metrics.Gauge("gatehouse_audit_sink_lag_seconds", "The age of the oldest event that this instance tries to deliver to a sink.", func() float64 {
		return w.webhooks.SinkLag().Seconds()
	})
	w.checkpoints, err = w.newExport(w.c)
	return err
}

// makeLimits makes the limits: in memory, or on Redis with memory to fall back on.
func (w *wiring) makeLimits(ctx context.Context) error {
	limiter, memory, err := w.newLimiter(w.c)
	if err != nil {
		return err
	}
	w.limiter = limiter
	w.metrics.Gauge("gatehouse_limit_degraded", "1 while limits are decided from this instance's memory because Redis is away.", func() float64 {
		if w.limitsDegraded() {
			return 1
		}
		return 0
	})
	w.limits = policy.New(w.meterLimiter(limiter, memory), w.DB, w.Audit, policy.Defaults{
		IP:           []ratelimit.Limit{w.c.ChatIPLimit},
		Organization: []ratelimit.Limit{w.c.ChatOrgLimit},
		Tests:        []ratelimit.Limit{w.c.TestLimit},
	}, policy.Options{
		IPv6Prefix:   w.c.IPv6Prefix,
		KnownService: knownService(w.services),
		Observed:     w.metrics.Observed,
		Logger:       w.log,
	})
	return w.limits.Load(ctx)
}

// makeTelemetry makes what is exported by OpenTelemetry, once there is everything
// that the gauges ask.
func (w *wiring) makeTelemetry(ctx context.Context) (err error) {
	w.otel, err = w.newOTel(ctx, w.c)
	w.onClose(w.closeOTel)
	return err
}

// makeEdge makes the server, and by it the gateway.
func (w *wiring) makeEdge(ctx context.Context) error {
	proxies, err := w.c.trustedProxies()
	if err != nil {
		return err
	}
	bounds, err := w.c.serviceBounds()
	if err != nil {
		return err
	}
	stop, cut := context.WithCancel(context.WithoutCancel(ctx))
	w.cut = cut
	w.onClose(func() error { cut(); return nil })
	w.Server, err = server.New(server.Config{
		DB:             w.DB,
		Audit:          w.Audit,
		Ledger:         w.Ledger,
		Retention:      w.Retention,
		Orgs:           w.Orgs,
		Tokens:         w.Tokens,
		Auth:           w.authenticator,
		Catalog:        w.services,
		Vault:          w.Vault,
		Keys:           w.Keys,
		Limits:         w.limits,
		Usage:          w.Usage,
		Checker:        w.checker,
		Webhooks:       w.webhooks,
		LimitsDegraded: w.limitsDegraded,
		Gateway: func(problem func(http.ResponseWriter, *http.Request, error) int) (*gateway.Gateway, error) {
			return w.newGateway(stop, bounds, problem)
		},
		Metrics:        w.metrics,
		OTel:           w.otel,
		AuthFailures:   w.c.AuthFailureLimit,
		TrustedProxies: proxies,
		Domain:         w.c.Domain,
		PublicOrigin:   w.c.publicOrigin(),
		Version:        Version,
		Logger:         w.log,
	})
	return err
}

// newGateway makes the gateway, which is handed the vault as an opener. What it
// serves is cut when stop ends; problem answers with an error.
func (w *wiring) newGateway(stop context.Context, bounds map[string]gateway.Bounds, problem func(http.ResponseWriter, *http.Request, error) int) (*gateway.Gateway, error) {
	g, err := gateway.New(gateway.Options{
		Catalog:                w.services,
		Opener:                 opener{w.Vault, w.metrics},
		Problem:                problem,
		Logger:                 w.log,
		Stop:                   stop,
		Bounds:                 w.c.bounds(),
		Services:               bounds,
		SpoolDir:               w.c.spoolDir(),
		MaxSpool:               w.c.BodySpool << 20,
		StreamsPerOrganization: w.c.StreamsPerOrg,
		AskUsage:               trimmed(w.c.HostsUsage),
		AppUpstream:            w.upstream,
		AppKey:                 appKey(w.c.JWTSecret),
		DialContext:            w.out.dialer.DialContext,
		Retries:                w.c.UpstreamRetries,
		BreakerFailures:        w.c.BreakerFailures,
		TellClientIP:           trimmed(w.c.ForwardClientIPs),
		Observe:                observer(w.metrics),
		Attempted:              attempted(w.otel),
	})
	if err != nil {
		return nil, err
	}
	w.onClose(func() error { g.Close(); return nil })
	w.meterBodies(g)
	w.metrics.Gauge("gatehouse_breakers_open", "Breakers that let nothing pass at the moment, each of one organization's credential and host.",
		func() float64 { return float64(g.OpenBreakers()) })
	return g, nil
}

// start starts the background writers. Nothing in it can fail.
func (in *Instance) start(ctx context.Context) {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	in.onClose(func() error {
		in.cut() // first: what is cut is recorded and counted by those below
		late := in.Server.Running()
		stop()
		in.runs.Wait()
		return in.unwritten(late)
	})
	for _, run := range []func(context.Context){
		in.Audit.Run, in.Ledger.Run, in.Retention.Run, in.Keys.Run, in.Orgs.Run, in.Tokens.Run, in.issuers.Run,
		in.Usage.Run, in.Vault.Run, in.limits.Run, in.checker.Run, in.webhooks.Run,
	} {
		in.runs.Go(func() { run(running) })
	}
	if in.checkpoints != nil {
		in.runs.Go(func() { in.Ledger.RunExport(running, in.checkpoints) })
	}
}

// appKey gives the key that signs identity headers for CHAT_UPSTREAM, so that
// the upstream needs nothing but the JWT secret it has: HMAC-SHA256 of a fixed
// text under that secret.
func appKey(jwtSecret string) []byte {
	h := hmac.New(sha256.New, []byte(jwtSecret))
	h.Write([]byte("gatehouse-upstream-key-v1"))
	return h.Sum(nil)
}
