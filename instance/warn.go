package instance

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

func (c *Config) logLevel() (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.LogLevel))); err != nil {
		return level, errors.New("GATEHOUSE_LOG_LEVEL must be debug, info, warn or error")
	}
	return level, nil
}

// warn says at start what there is to warn of, and what the operator opened.
func (c *Config) warn(log *slog.Logger) {
	for _, w := range c.warnings() {
		w.Log(log)
	}
	if len(c.GitHubHosts) > 0 {
		log.Info("GITHUB_HOSTS lets organizations send GitHub tokens to servers of your own", "count", len(c.GitHubHosts))
	}
	if c.ChatHosts != "" {
		log.Info("CHAT_HOSTS adds services of your own", "services", entryNames(c.ChatHosts))
	}
}

// tellFile says which SQLite file is the database, and warns of one that was made where a
// place was named: a name that is mistyped begins an empty database, with a key of its own.
func (c *Config) tellFile(log *slog.Logger, isNew bool) {
	path, file := store.FilePath(c.Database())
	if !file {
		return
	}
	if whole, err := filepath.Abs(path); err == nil {
		path = whole
	}
	if named := c.DatabaseURL != "" || filepath.Clean(c.Data) != "data"; isNew && named && !c.dev {
		log.Warn("made a new database; where there was one before, DATABASE_URL or GATEHOUSE_DATA names another place", "file", path)
		return
	}
	log.Info("the database is a file", "file", path, "new", isNew)
}

// warnings gives what there is to warn of; it holds no secret.
func (c *Config) warnings() []fault.Warning {
	var all []fault.Warning
	add := func(mend, what string, details ...any) {
		all = append(all, fault.Warning{Mistake: fault.Mistake{What: what, Mend: mend}, Details: details})
	}
	switch c.EncryptionKey {
	case "":
		add("set a key of its own", "ENCRYPTION_KEY is not set: credentials are sealed under JWT_SECRET, so whoever can sign tokens can open them")
	case c.JWTSecret:
		add("set a key of its own", "ENCRYPTION_KEY and JWT_SECRET are the same, so whoever can sign tokens can open credentials")
	}
	c.warnSecrets(add)
	if _, file := store.FilePath(c.Database()); c.RedisURL == "" && !file {
		add("", "REDIS_URL is not set: each instance counts for itself, so that several admit several times the limits")
	}
	for _, port := range []struct{ variable, address string }{{"GATEHOUSE_METRICS_ADDR", c.MetricsAddr}, {"GATEHOUSE_ENVOY_ADDR", c.EnvoyAddr}} {
		if host, _, err := net.SplitHostPort(port.address); err == nil && !isLoopback(host) {
			add("", "this port asks for no token and is open beyond this machine: keep it inside your network", "variable", port.variable)
		}
	}
	if proxies, err := c.trustedProxies(); err == nil {
		for _, p := range proxies {
			if p.Addr().Is4() && p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 16 {
				add("", "TRUSTED_PROXIES holds a very wide range: whoever is in it chooses the address that limits and the trail go by", "range", p.String())
			}
		}
	}
	c.warnMisspelt(add)
	for _, name := range c.unknown {
		if nearest := nearestVariable(name); nearest != "" {
			add("it may be meant to be the other one", "this variable is no setting and does nothing", "variable", name, "nearest", nearest)
		} else {
			add("`gatehouse serve --help` lists them", "this variable is no setting and does nothing", "variable", name)
		}
	}
	if c.CredentialReveal && !c.dev {
		add("", "CREDENTIAL_REVEAL is on: owners can read credentials in the clear")
	}
	if len(c.WebhookHosts) > 0 {
		add("", "WEBHOOK_HOSTS lets every organization's webhooks reach these origins", "origins", c.webhookOrigins())
	}
	if c.CredentialTestEvery == 0 {
		add("", "CREDENTIAL_TEST_EVERY is 0: no stored credential is opened or tested by itself, so that one that died is found by its users")
	}
	if c.ServiceHosts != "" {
		add("", "SERVICE_HOSTS sends keys of catalogue services to origins of your own", "services", entryNames(c.ServiceHosts))
	}
	return all
}

// warnFolder says when a data folder that was there already is open to others: what
// is made in it is not, but its names are, and what was put there by hand may be.
func warnFolder(folder string, log *slog.Logger) {
	if info, err := os.Stat(folder); err == nil && runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		log.Warn("GATEHOUSE_DATA is a folder that others on this machine may look into; chmod 700 it", "folder", folder, "mode", fmt.Sprintf("%04o", info.Mode().Perm()))
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
