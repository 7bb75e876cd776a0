package instance

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// Config is everything an instance can be told, from the environment. The help
// texts are what `gatehouse serve --help` prints.
type Config struct {
	JWTSecret   string `env:"JWT_SECRET" help:"Secret that the host application signs tokens with (HS256), at least 32 bytes. Required."`
	JWTIssuer   string `env:"JWT_ISSUER" help:"Where set, a token's iss must be this."`
	JWTAudience string `env:"JWT_AUDIENCE" help:"Where set, a token's aud must hold this."`
	AuthIssuers string `env:"AUTH_ISSUERS" help:"Further issuers of JWTs, by their published keys (JWKS): a JSON file, or the JSON itself, see docs/access.md. Default: none."`

	EncryptionKey     string `env:"ENCRYPTION_KEY" help:"Master secret of the vault, at least 32 bytes. Falls back to JWT_SECRET, which is not meant to stay so. To change it see gatehouse keys --help."`
	EncryptionKeysOld string `env:"ENCRYPTION_KEYS_OLD" help:"Master secrets that may still open and never seal, separated by commas or line breaks. JWT_SECRET need not be among them."`

	Addr        string `env:"GATEHOUSE_ADDR" envDefault:"127.0.0.1:8080" help:"Address to listen on."`
	Domain      string `env:"GATEHOUSE_DOMAIN" help:"Serves each service at the root of {service}.DOMAIN, for SDKs whose base URL takes no path. Default: none."`
	PublicURL   string `env:"GATEHOUSE_URL" help:"This instance as callers reach it, such as https://gatehouse.example.com: links in answers lead there. Default: the host that was asked, with https where a trusted proxy says so."`
	MetricsAddr string `env:"GATEHOUSE_METRICS_ADDR" help:"Address that serves /metrics for Prometheus, without a token: keep it inside. Default: none."`
	EnvoyAddr   string `env:"GATEHOUSE_ENVOY_ADDR" help:"Address that serves Envoy's rate limit service over gRPC, without a token: keep it inside. Default: none."`
	Data        string `env:"GATEHOUSE_DATA" envDefault:"./data" help:"Folder for everything kept on disk."`
	Environment string `env:"GATEHOUSE_ENV" envDefault:"production" help:"Name of the environment; a database belongs to one."`
	DatabaseURL string `env:"DATABASE_URL" help:"postgres://..., or the path of a SQLite file. Default: gatehouse.db in GATEHOUSE_DATA."`

	RedisURL     string        `env:"REDIS_URL" help:"redis://[user:password@]host:port, or rediss:// for TLS: limits are shared by all instances. A cluster by some of its nodes: redis://a:6379?addr=b:6379. Default: limits in memory."`
	RedisTimeout time.Duration `env:"REDIS_TIMEOUT" envDefault:"25ms" help:"How long one decision may wait for Redis before memory decides."`
	WithoutRedis string        `env:"LIMITS_WITHOUT_REDIS" envDefault:"share" help:"While Redis is away each instance admits its share of what is left (share), the limit by itself (full), or nothing (deny)."`

	ExactUpTo int `env:"LIMITS_EXACT_UP_TO" envDefault:"4096" help:"Up to how many requests a limit's window is exact, 1 to 65536; a larger limit may deny early by a 256th of its window. The same on all instances."`

	OrganizationsFromTokens bool          `env:"ORGANIZATIONS_FROM_TOKENS" envDefault:"false" help:"Make an organization on the first valid token that names it."`
	CredentialReveal        bool          `env:"CREDENTIAL_REVEAL" envDefault:"false" help:"Let owners read credentials back in the clear."`
	SecretStaleMax          time.Duration `env:"SECRET_STALE_MAX" envDefault:"60s" help:"How long opened secrets are used while the database is away."`

	CredentialTestEvery   Age      `env:"CREDENTIAL_TEST_EVERY" envDefault:"24h" help:"How often each stored credential is opened and tested with its provider; 0: never."`
	ExpiryWarnings        []Age    `env:"EXPIRY_WARNINGS" envDefault:"30d,7d,1d" help:"How long before a credential's expiry its organization is warned, separated by commas; 0: not at all."`
	CredentialUnusedAfter Age      `env:"CREDENTIAL_UNUSED_AFTER" envDefault:"90d" help:"After how long without use a credential is warned of; 0: never."`
	CredentialRotateAfter Age      `env:"CREDENTIAL_ROTATE_AFTER" envDefault:"90d" help:"How old a credential's values get before a rotation is asked for; 0: any age."`
	WebhookHosts          []string `env:"WEBHOOK_HOSTS" help:"Origins that webhooks may reach although they are private or plain http: http://10.0.0.5:8080,... Default: none."`
	AuditSinkURL          string   `env:"AUDIT_SINK_URL" help:"Where the events that belong to no tenant are delivered, as signed webhooks. Default: nowhere."`
	AuditSinkSecret       string   `env:"AUDIT_SINK_SECRET" help:"What they are signed under: whsec_ and the base64 of 24 to 64 bytes (Standard Webhooks)."`

	TrustedProxies   []string        `env:"TRUSTED_PROXIES" help:"Addresses or CIDR ranges whose X-Forwarded-For is believed, separated by commas. Default: none."`
	ChatIPLimit      ratelimit.Limit `env:"CHAT_IP_LIMIT" envDefault:"100/1m" help:"Requests per window for each client address on chat and proxy routes."`
	ChatOrgLimit     ratelimit.Limit `env:"CHAT_ORG_LIMIT" envDefault:"1000/1h" help:"Requests per window for each organization on chat and proxy routes."`
	IPv6Prefix       int             `env:"CHAT_IPV6_PREFIX" envDefault:"64" help:"How long the prefix is by which IPv6 clients are told apart, 32 to 64: 48 where one client holds more."`
	TestLimit        ratelimit.Limit `env:"CREDENTIAL_TEST_LIMIT" envDefault:"20/1m" help:"Tests of credentials per window for each organization."`
	StreamsPerOrg    int             `env:"CHAT_STREAMS_PER_ORG" envDefault:"256" help:"Streams that an organization may have open at once on this instance; 0 is any number."`
	TestReuse        time.Duration   `env:"CREDENTIAL_TEST_REUSE" envDefault:"0s" help:"How long the result of a test of values that are not stored is given again without asking the provider; at most 5m."`
	AuthFailureLimit ratelimit.Limit `env:"AUTH_FAILURE_LIMIT" envDefault:"30/1m" help:"Refused tokens per window before an address is shut out."`

	ChatUpstream string   `env:"CHAT_UPSTREAM" help:"Origin of your own chat backend, served at /api/chat/app/."`
	ChatHosts    string   `env:"CHAT_HOSTS" help:"OpenAI-compatible hosts of your own: name=origin,..."`
	HostsUsage   []string `env:"CHAT_HOSTS_USAGE" help:"Names out of CHAT_HOSTS that take stream_options.include_usage (vLLM, Ollama and others), separated by commas: their streams are asked for usage."`
	ServicesFile string   `env:"GATEHOUSE_SERVICES" help:"JSON file with services of your own, see docs/services.md. Default: none."`
	GitHubHosts  []string `env:"GITHUB_HOSTS" help:"GitHub Enterprise Server addresses that organizations may name in github's baseUrl, separated by commas. Default: none."`
	ServiceHosts string   `env:"SERVICE_HOSTS" help:"Another origin for a service of the catalogue: name=origin,... For mocks and egress proxies."`

	UpstreamFirstByte time.Duration `env:"UPSTREAM_FIRST_BYTE_TIMEOUT" envDefault:"5m" help:"How long a service may take to begin its answer."`
	UpstreamIdle      time.Duration `env:"UPSTREAM_IDLE_TIMEOUT" envDefault:"5m" help:"How long a service may be silent inside an answer."`
	UpstreamTotal     time.Duration `env:"UPSTREAM_TOTAL_TIMEOUT" envDefault:"1h" help:"How long an answer may take from the request to its end, streams too."`
	StreamHeartbeat   time.Duration `env:"STREAM_HEARTBEAT" envDefault:"0s" help:"After how long a silence inside an event stream the caller gets a comment, for proxies that cut silent connections; 0s: never."`
	RequestBody       int64         `env:"REQUEST_BODY_MIB" envDefault:"512" help:"MiB that the body of one request on chat and proxy routes may have; above 10 it is kept on disk until it is sent."`
	BodySpool         int64         `env:"BODY_SPOOL_MIB" envDefault:"4096" help:"MiB of such bodies on disk at once, in GATEHOUSE_DATA/spool; an organization may take a quarter."`
	UpstreamRetries   int           `env:"UPSTREAM_RETRIES" envDefault:"1" help:"How often a request that may be sent again is, 0 to 5: where nothing of it was sent, or where it is idempotent and the service answers 502, 503, 504 or breaks off. At most a tenth of an organization's requests to a host."`
	BreakerFailures   int           `env:"UPSTREAM_BREAKER_FAILURES" envDefault:"10" help:"How many requests of one credential to one host must fail within 10 seconds, if they are half of all, to stop them for 10 seconds; 0: none do."`
	ForwardHeaders    []string      `env:"UPSTREAM_FORWARD_HEADERS" help:"Headers that pass to and from a service beside those of the catalogue: stripe=X-Trace-Id,stripe=X-Acme-*,... Default: none."`
	ForwardClientIPs  []string      `env:"UPSTREAM_FORWARD_CLIENT_IP" help:"Services, or app, that are told the caller's address in X-Forwarded-For, separated by commas. Default: none."`

	UsageSpool int64 `env:"USAGE_SPOOL_MIB" envDefault:"64" help:"MiB of usage that may wait on disk for the database; when they are full, chat answers 503."`

	AuditCheckpoints     string        `env:"AUDIT_CHECKPOINTS" help:"Where signed checkpoints of the audit trail go, so that a rewrite of the whole database shows: stdout, file: and a path, or webhook: to AUDIT_SINK_URL. Default: none."`
	AuditCheckpointEvery time.Duration `env:"AUDIT_CHECKPOINT_EVERY" envDefault:"1h" help:"The least time between two of them, at least 1s."`

	StopGrace  time.Duration `env:"GATEHOUSE_STOP_GRACE" envDefault:"30s" help:"How long running requests may go on after a stop signal."`
	DrainDelay time.Duration `env:"GATEHOUSE_DRAIN_DELAY" envDefault:"0s" help:"How long after a stop signal everything is still served while /readyz says 503, so that a load balancer sends no more."`
	LogLevel   string        `env:"GATEHOUSE_LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error."`

	TraceUpstreams []string `env:"GATEHOUSE_TRACE_UPSTREAMS" help:"Services, and app, whose requests carry a traceparent of ours, separated by commas. The caller's own trace headers never go out. Default: none."`

	// Listen holds the addresses of GATEHOUSE_LISTEN_SERVICE variables by service.
	Listen map[string]string

	// Bounds holds the texts of GATEHOUSE_BOUNDS_SERVICE variables by service.
	Bounds map[string]string

	// OTLP is what the standard OTEL_ variables say.
	OTLP telemetry.OTLP

	unknown  []string       // names of variables that begin as ours do and are none
	misspelt []misspelt     // names that are nearly a setting's
	files    []fileVariable // that others read, and this program does not

	dev bool
}

// FromEnvironment reads the configuration. Every mistake is in the error, each
// naming its variable and the mend, never the value.
func FromEnvironment(environ map[string]string) (Config, error) {
	var c Config
	err := env.ParseWithOptions(&c, env.Options{Environment: environ})
	var aggregate env.AggregateError
	var mistakes []error
	if errors.As(err, &aggregate) {
		for _, e := range aggregate.Errors {
			mistakes = append(mistakes, c.parseMistake(e))
		}
	} else if err != nil {
		mistakes = append(mistakes, errors.New("the environment could not be read"))
	}
	c.Listen, c.Bounds = make(map[string]string), make(map[string]string)
	for name, value := range environ {
		for prefix, into := range map[string]map[string]string{listenPrefix: c.Listen, boundsPrefix: c.Bounds} {
			if service, ok := strings.CutPrefix(name, prefix); ok && value != "" {
				into[strings.ToLower(strings.ReplaceAll(service, "_", "-"))] = value
			}
		}
	}
	c.unknown, c.misspelt, c.files = unknownVariables(environ), misspeltVariables(environ), fileVariables(environ)
	c.OTLP, err = telemetry.ReadOTLP(environ)
	return c, errors.Join(append(mistakes, err)...)
}

// DefaultLimits gives CHAT_IP_LIMIT and CHAT_ORG_LIMIT where they are not set.
func DefaultLimits() (ip, organization ratelimit.Limit) {
	c, _ := FromEnvironment(map[string]string{}) // nothing that is set can be wrong
	return c.ChatIPLimit, c.ChatOrgLimit
}

// parseMistake says which variable could not be read and what it must be.
// The library's own text would repeat the value.
// The variable keeps its default, so that Check finds no second fault in it.
func (c *Config) parseMistake(err error) error {
	var parse env.ParseError
	if !errors.As(err, &parse) {
		return errors.New("a variable could not be read")
	}
	field, _ := reflect.TypeFor[Config]().FieldByName(parse.Name)
	name := field.Tag.Get("env")
	var defaults Config
	if env.ParseWithOptions(&defaults, env.Options{Environment: map[string]string{}}) == nil {
		reflect.ValueOf(c).Elem().FieldByIndex(field.Index).Set(reflect.ValueOf(defaults).FieldByIndex(field.Index))
	}
	switch field.Type {
	case reflect.TypeFor[ratelimit.Limit]():
		return fmt.Errorf("%s must be a number of requests and a window, such as 100/1m", name)
	case reflect.TypeFor[Age](), reflect.TypeFor[[]Age]():
		return fmt.Errorf("%s %w", name, errAge)
	case reflect.TypeFor[time.Duration]():
		return fmt.Errorf("%s must be a duration, such as 30s or 5m", name)
	case reflect.TypeFor[int](), reflect.TypeFor[int64]():
		return fmt.Errorf("%s must be a whole number", name)
	case reflect.TypeFor[bool]():
		return fmt.Errorf("%s must be true or false", name)
	}
	return fmt.Errorf("%s cannot be read", name)
}

// Format implements [fmt.Formatter], so that no verb prints the secrets in c.
func (Config) Format(s fmt.State, _ rune) { _, _ = io.WriteString(s, "instance.Config(withheld)") }

// LogValue implements [slog.LogValuer], to the same end.
func (Config) LogValue() slog.Value { return slog.StringValue("instance.Config(withheld)") }

// Database gives DATABASE_URL, or its default in the data folder.
func (c *Config) Database() string {
	if c.DatabaseURL != "" {
		return c.DatabaseURL
	}
	return "sqlite:" + filepath.Join(c.Data, "gatehouse.db") // a path, whatever the folder is called
}

// NewDatabase reports whether the database is a SQLite file that is not there yet.
func (c *Config) NewDatabase() bool {
	path, file := store.FilePath(c.Database())
	if !file {
		return false
	}
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// Describe lists every variable with its default and meaning, for --help.
func Describe() string {
	var b strings.Builder
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		name := f.Tag.Get("env")
		if name == "" {
			continue
		}
		if d := f.Tag.Get("envDefault"); d != "" {
			name += "=" + d
		}
		fmt.Fprintf(&b, "  %s\n      %s\n", name, f.Tag.Get("help"))
	}
	fmt.Fprintf(&b, "  %sSERVICE\n      What requests to one service may take, where it differs: %sOPENAI=first-byte=10m,idle=10m,total=2h,heartbeat=15s,body-mib=50.\n", boundsPrefix, boundsPrefix)
	fmt.Fprintf(&b, "  %sSERVICE\n      Address that serves one service at its root, for SDKs whose base URL takes no path: %sSTRIPE=127.0.0.1:9001.\n", listenPrefix, listenPrefix)
	for _, v := range telemetry.OTLPHelp() {
		fmt.Fprintf(&b, "  %s\n      %s\n", v[0], v[1])
	}
	return b.String()
}
