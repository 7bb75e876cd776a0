package instance

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"log/slog"
	"net/http"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
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
