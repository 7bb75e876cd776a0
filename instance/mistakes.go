package instance

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// examples are values that stand in public documentation, so that anybody can
// sign with them. Compared without regard to case.
var examples = []string{
	"your-super-secret-jwt-key-change-this-in-production",
	"a-string-secret-at-least-256-bits-long",
	"your-256-bit-secret",
	"super-secret-jwt-token-with-at-least-32-characters-long",
	"example-master-secret-do-not-use-me-anywhere", // docs/sealing.md
}

// exampleParts mark a value as one that was meant to be replaced.
var exampleParts = []string{"change-this", "change_this", "changethis", "change-in-production", "change_in_production", "change-me", "change_me", "changeme", "your-super-secret", "your_super_secret", "your-secret", "your_secret", "your_jwt_secret", "replace-me", "replace_me"}

func isExample(secret string) bool {
	secret = strings.ToLower(secret)
	for _, e := range examples {
		if secret == e {
			return true
		}
	}
	for _, part := range exampleParts {
		if strings.Contains(secret, part) {
			return true
		}
	}
	return false
}

// isOneCharacter reports whether nothing but one character is in secret, spaces aside:
// as long as that may be, it is guessed at once.
func isOneCharacter(secret string) bool {
	var first rune
	for _, r := range secret {
		if unicode.IsSpace(r) {
			continue
		}
		if first != 0 && r != first {
			return false
		}
		first = r
	}
	return true
}

// Check gives every mistake in the configuration, each with its mend.
func (c *Config) Check() error {
	services, err := c.services()
	return errors.Join(
		c.checkSecrets(), mistakeOf(c.issuers()),
		c.checkListeners(services), err,
		c.checkRanges(), c.checkPlace(), store.CheckURL(c.Database()), mistakeOf(c.redis()), mistakeOf(c.withoutRedis()),
		c.checkUsage(), c.checkBounds(services), c.checkUpstream(services), c.checkOTel(services), mistakeOf(c.export(postNowhere)),
		c.checkHealth(), mistakeOf(c.operatorSink()),
		mistakeOf(c.trustedProxies()), mistakeOf(c.chatUpstream()), c.checkPublic(), mistakeOf(c.logLevel()),
	)
}

// mistakeOf is for what reads a setting when nobody needs its value yet.
func mistakeOf[T any](_ T, err error) error { return err }

func (c *Config) checkSecrets() error {
	const mend = "make one with `openssl rand -base64 48`"
	var mistakes []error
	add := func(mend, format string, args ...any) {
		mistakes = append(mistakes, fault.Mistakef(mend, format, args...))
	}
	switch file := c.fileFor("JWT_SECRET"); {
	case c.JWTSecret == "" && file != "":
		add(fromFile("JWT_SECRET", file), "JWT_SECRET is not set, and %s is not read", file)
	case c.JWTSecret == "":
		add("give the secret that your application signs tokens with, or "+mend, "JWT_SECRET is not set")
	case len(c.JWTSecret) < auth.MinSecret:
		add(mend, "JWT_SECRET is shorter than %d bytes", auth.MinSecret)
	case isExample(c.JWTSecret):
		add(mend, "JWT_SECRET is an example out of public documentation, so anybody can sign with it")
	case isOneCharacter(c.JWTSecret):
		add(mend, "JWT_SECRET is one character over and over, so anybody can guess it")
	}
	switch {
	case c.EncryptionKey == "":
	case len(c.EncryptionKey) < seal.MinSecret:
		add(mend, "ENCRYPTION_KEY is shorter than %d bytes", seal.MinSecret)
	case isExample(c.EncryptionKey):
		add(mend, "ENCRYPTION_KEY is an example out of public documentation")
	case isOneCharacter(c.EncryptionKey):
		add(mend, "ENCRYPTION_KEY is one character over and over, so anybody can guess it")
	}
	if old := strings.TrimSpace(c.EncryptionKeysOld); old != "" && len(c.EncryptionKeysOld) < seal.MinSecret {
		add("", "ENCRYPTION_KEYS_OLD is shorter than %d bytes; nothing in it can have been a key", seal.MinSecret)
	}
	return errors.Join(mistakes...)
}

// checkListeners looks at the addresses that are listened on. services may be nil, where
// their file has mistakes of its own.
func (c *Config) checkListeners(services *catalog.Catalog) error {
	mistakes := []error{c.checkAddress("GATEHOUSE_ADDR", c.Addr)}
	if c.MetricsAddr != "" {
		mistakes = append(mistakes, c.checkAddress("GATEHOUSE_METRICS_ADDR", c.MetricsAddr))
	}
	if c.EnvoyAddr != "" {
		mistakes = append(mistakes, c.checkAddress("GATEHOUSE_ENVOY_ADDR", c.EnvoyAddr))
	}
	for _, service := range slices.Sorted(maps.Keys(c.Listen)) {
		mistakes = append(mistakes, c.checkAddress(variableOf(listenPrefix, service), c.Listen[service]))
		mistakes = append(mistakes, checkOwnVariable(listenPrefix, service, services))
	}
	return errors.Join(mistakes...)
}

// checkRanges looks at the settings that are a number or a duration within bounds.
func (c *Config) checkRanges() error {
	var mistakes []error
	for _, setting := range [...]struct {
		variable, from, to string
		ok                 bool
	}{
		{"CREDENTIAL_TEST_REUSE", "0s", "5m", c.TestReuse >= 0 && c.TestReuse <= 5*time.Minute},
		{"REDIS_TIMEOUT", "1ms", "10s", c.RedisTimeout >= time.Millisecond && c.RedisTimeout <= 10*time.Second},
		{"CHAT_IPV6_PREFIX", "32", "64", c.IPv6Prefix >= 32 && c.IPv6Prefix <= 64},
		{"LIMITS_EXACT_UP_TO", "1", strconv.Itoa(ratelimit.MostExact), c.ExactUpTo >= 1 && c.ExactUpTo <= ratelimit.MostExact},
		{"SECRET_STALE_MAX", "0s", "1h", c.SecretStaleMax >= 0 && c.SecretStaleMax <= time.Hour},
		{"GATEHOUSE_STOP_GRACE", "0s", "1h", c.StopGrace >= 0 && c.StopGrace <= time.Hour},
	} {
		if !setting.ok {
			mistakes = append(mistakes, fmt.Errorf("%s must be from %s to %s", setting.variable, setting.from, setting.to))
		}
	}
	return errors.Join(mistakes...)
}

// checkPlace looks at what says where this instance is.
func (c *Config) checkPlace() error {
	var mistakes []error
	if c.Environment == "" || len(c.Environment) > 64 || strings.ContainsFunc(c.Environment, func(r rune) bool { return r <= ' ' || r > '~' }) {
		mistakes = append(mistakes, errors.New("GATEHOUSE_ENV must be 1 to 64 visible ASCII characters"))
	}
	if c.Data == "" {
		mistakes = append(mistakes, errors.New("GATEHOUSE_DATA must be a folder"))
	}
	return errors.Join(mistakes...)
}

func (c *Config) checkAddress(variable, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		return fmt.Errorf("%s must be host:port, such as 127.0.0.1:8080", variable)
	}
	if ip, err := netip.ParseAddr(host); c.dev && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fault.Mistakef("use `gatehouse serve` to be reached from elsewhere", "%s must be a loopback address in dev, such as 127.0.0.1:8080", variable)
	}
	return nil
}

func (c *Config) trustedProxies() ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	var mistakes []error
	for i, s := range c.TrustedProxies {
		s = strings.TrimSpace(s)
		prefix, err := netip.ParsePrefix(s)
		if prefix.Addr().Is4In6() && prefix.Bits() >= 96 { // clients' addresses are compared as IPv4
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		if addr, addrErr := netip.ParseAddr(s); addrErr == nil {
			addr = addr.Unmap()
			prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
		}
		if err != nil {
			mistakes = append(mistakes, fmt.Errorf("TRUSTED_PROXIES: entry %d must be an address or a CIDR range, such as 10.0.0.0/8", i+1))
			continue
		}
		if prefix.Bits() == 0 {
			mistakes = append(mistakes, fault.Mistakef("name your proxies", "TRUSTED_PROXIES: entry %d trusts every address, so that each client could choose its own", i+1))
			continue
		}
		prefixes = append(prefixes, prefix.Masked())
	}
	return prefixes, errors.Join(mistakes...)
}

func (c *Config) chatUpstream() (*url.URL, error) {
	if c.ChatUpstream == "" {
		return nil, nil
	}
	u, err := url.Parse(c.ChatUpstream)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("CHAT_UPSTREAM must be an origin, such as http://127.0.0.1:3000")
	}
	return u, nil
}

func (c *Config) withoutRedis() (ratelimit.Without, error) {
	switch c.WithoutRedis {
	case "share":
		return ratelimit.Share, nil
	case "full":
		return ratelimit.Full, nil
	case "deny":
		return ratelimit.Deny, nil
	}
	return 0, errors.New("LIMITS_WITHOUT_REDIS must be share, full or deny")
}
