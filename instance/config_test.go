package instance_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// good is a configuration without a mistake.
func good(changes ...string) map[string]string {
	environ := map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ADDR": "127.0.0.1:0",
	}
	for i := 0; i+1 < len(changes); i += 2 {
		environ[changes[i]] = changes[i+1]
	}
	return environ
}

// check reads and checks a configuration.
func check(environ map[string]string) error {
	c, err := instance.FromEnvironment(environ)
	if err != nil {
		return err
	}
	return c.Check()
}

// Each mistake names its variable, once, and never the value.
func TestMistakes(t *testing.T) {
	if err := check(good()); err != nil {
		t.Fatalf("a good configuration: %v", err)
	}
	const canary = "CANARY"
	for name, values := range map[string][]string{
		"JWT_SECRET": {"", canary, "your-super-secret-jwt-key-change-this-in-production", "a-string-secret-at-least-256-bits-long",
			"YOUR-256-BIT-SECRET", "please-change-me-please-change-me-please", "super-secret-jwt-token-with-at-least-32-characters-long",
			"super-secret-key-change-in-production", strings.Repeat("a", 48), strings.Repeat(" ", 48), strings.Repeat("é ", 32)},
		"ENCRYPTION_KEY":          {canary, "example-master-secret-do-not-use-me-anywhere", strings.Repeat("0", 64), strings.Repeat("\t ", 32), "changeme-changeme-changeme-changeme-changeme"},
		"ENCRYPTION_KEYS_OLD":     {canary, canary + "," + canary, "\n" + canary + "\n"},
		"GATEHOUSE_ADDR":          {canary, "127.0.0.1", "127.0.0.1:CANARY", "127.0.0.1:-1", "127.0.0.1:65536", "[::1", "::1:80"},
		"GATEHOUSE_METRICS_ADDR":  {canary, "127.0.0.1:CANARY"},
		"GATEHOUSE_ENV":           {"a b", "é", strings.Repeat("a", 65), "a\nCANARY"},
		"SECRET_STALE_MAX":        {canary, "60", "-1s", "61m"},
		"CREDENTIAL_TEST_EVERY":   {canary, "-1h", "10ms", "1.5d", "d", "99999d", "-1d", "1d1h"},
		"CREDENTIAL_UNUSED_AFTER": {canary, "-90d"},
		"CREDENTIAL_ROTATE_AFTER": {canary, "3 months"},
		"EXPIRY_WARNINGS":         {canary, "30d,CANARY", "30d;7d", "1d,2d,3d,4d,5d,6d,7d,8d,9d,10d,11d"},
		"AUDIT_CHECKPOINTS":       {canary, "file:", "webhook", "https://CANARY.example"},
		"WEBHOOK_HOSTS":           {canary, "https://u:CANARY@hooks.internal", "https://hooks.internal/CANARY", "hooks.internal:8443"},
		"GATEHOUSE_STOP_GRACE":    {canary, "-1s", "61m"},
		"DATABASE_URL":            {"mysql://u:CANARY@h/d", "postgres:CANARY", "postgres://u:p%CANARY@h:port/d"},
		"REDIS_URL": {canary, "http://CANARY", "redis://u:CANARY@127.0.0.1:port", "redis://u:CANARY@127.0.0.1:99999", "redis://u:CANARY@127.0.0.1:1?addr=127.0.0.1:0",
			"redis://127.0.0.1:1,127.0.0.1:2", "redis://u:CANARY@a:6379,b", "redis://u:CANARY@127.0.0.1:1:99", "redis://127.0.0.1:1?addr=a:1:2", "redis://u:CANARY@::1",
			"redis://127.0.0.1:1/-1", "redis://127.0.0.1:1?db=-1", "redis://127.0.0.1:1/0/1", "redis://127.0.0.1:1?bogus=CANARY", "redis://127.0.0.1:1?addr=a:1&CANARY",
			"redis://127.0.0.1:1#CANARY", "redis:127.0.0.1:1", "redis://127.0.0.1:1?dial_timeout=-1s"},
		"REDIS_TIMEOUT":             {canary, "0s", "11s", "25"},
		"LIMITS_EXACT_UP_TO":        {canary, "0", "-1", "65537", "4096.5"},
		"ORGANIZATIONS_FROM_TOKENS": {canary, "yes please"},
		"CREDENTIAL_REVEAL":         {canary},
		"CHAT_IP_LIMIT":             {canary, "0/1m", "-1/1m", "100", "100/", "/1m", "100/0s", "1e3/1m", "99999999999999999999/1m"},
		"CHAT_ORG_LIMIT":            {canary, "10/1 hour"},
		"AUTH_FAILURE_LIMIT":        {canary, "0/1m"},
		"TRUSTED_PROXIES":           {canary, "10.0.0.0/33", "10.0.0.0/8 CANARY", "localhost", "10.0.0.0/8,CANARY"},
		"CHAT_UPSTREAM":             {canary, "127.0.0.1:3000", "ftp://CANARY", "http://u:CANARY@h", "http://h/?CANARY", "http://h/#CANARY", "http://", "http://%zzCANARY"},
		"CHAT_HOSTS":                {canary, "x=CANARY", "x=http://u:CANARY@h", "X=http://h", "=http://h", "x=http://h,x=http://h", "x=http://h?k=CANARY"},
		"SERVICE_HOSTS":             {canary, "openai=CANARY", "openai=http://u:CANARY@h"},
		"CHAT_HOSTS_USAGE":          {canary, "openai"},
		"CHAT_STREAMS_PER_ORG":      {canary, "-1"},
		"USAGE_SPOOL_MIB":           {canary, "0", "-5", "1048577"},
		"GATEHOUSE_LOG_LEVEL":       {canary, "verbose"},
		"GATEHOUSE_LISTEN_CANARY":   {"127.0.0.1:0"},
		"GATEHOUSE_LISTEN_STRIPE":   {canary},
		"GATEHOUSE_LISTEN_SMTP":     {"127.0.0.1:0"}, // nothing of it is asked over HTTP
		"GATEHOUSE_BOUNDS_SMTP":     {"idle=1m"},
	} {
		for _, value := range values {
			err := check(good(name, value))
			if err == nil {
				t.Errorf("%s=%.60q is taken", name, value)
				continue
			}
			text := err.Error()
			if n := strings.Count(text, "\n") + 1; n != 1 || !strings.HasPrefix(text, name) {
				t.Errorf("%s=%.60q: %d mistakes, want one that begins with the name: %s", name, value, n, text)
			}
			if strings.Contains(strings.ReplaceAll(text, name, ""), canary) {
				t.Errorf("%s=%.60q: the value is in the mistake: %s", name, value, text)
			}
		}
	}
	if err := check(good("JWT_SECRET", "", "JWT_SECRET_FILE", "/run/secrets/"+canary)); err == nil || strings.Contains(err.Error(), canary) ||
		!strings.HasPrefix(err.Error(), "JWT_SECRET is not set, and JWT_SECRET_FILE is not read; ") {
		t.Errorf("a file in place of the secret: %v", err)
	}
	if err := check(good("GATEHOUSE_LISTEN_SMTP", "127.0.0.1:0")); strings.Contains(err.Error(), "smtp") || !strings.Contains(err.Error(), "stripe") {
		t.Errorf("offered in place of smtp: %v", err)
	}
	// All of several at once.
	for _, test := range []struct {
		environ map[string]string
		want    []string
	}{
		{good("JWT_SECRET", "x", "ENCRYPTION_KEY", "y", "TRUSTED_PROXIES", "a,b", "CHAT_HOSTS", "a,b", "SERVICE_HOSTS", "c"), []string{
			"JWT_SECRET ", "ENCRYPTION_KEY ", "TRUSTED_PROXIES: entry 1 ", "TRUSTED_PROXIES: entry 2 ",
			"CHAT_HOSTS: entry 1: ", "CHAT_HOSTS: entry 2: ", "SERVICE_HOSTS: entry 1: "}},
		// What the form is right of, and what it says is not, in one list.
		{good("CHAT_HOSTS", "openai=http://a,Bad,app=http://b", "SERVICE_HOSTS", "nosuch=http://x,stripe=ftp://y"), []string{
			"CHAT_HOSTS: entry 2: ", `CHAT_HOSTS: entry "openai": `, `CHAT_HOSTS: entry "app": `, "SERVICE_HOSTS: entry 2: ", `SERVICE_HOSTS: entry "nosuch": `}},
		// What the form is right of, and what it says is not, behind others whose form is wrong.
		{good("CHAT_HOSTS", "a", "SERVICE_HOSTS", "none=http://127.0.0.1:1", "GITHUB_HOSTS", "http://", "UPSTREAM_FORWARD_HEADERS", "a,b,local=X-A", "DATABASE_URL", "mysql://h/d"), []string{
			"CHAT_HOSTS: entry 1: ", "SERVICE_HOSTS: ", "GITHUB_HOSTS: entry 1: ", "UPSTREAM_FORWARD_HEADERS: entry 1 ", "UPSTREAM_FORWARD_HEADERS: entry 2 ", "DATABASE_URL "}},
	} {
		err := check(test.environ)
		if err == nil || strings.Count(err.Error(), "\n")+1 != len(test.want) {
			t.Errorf("want %d mistakes, got %v", len(test.want), err)
		}
		for _, want := range test.want {
			if err == nil || !strings.Contains("\n"+err.Error(), "\n"+want) {
				t.Errorf("%q is not among %v", want, err)
			}
		}
	}
}

// The forms of a REDIS_URL that are taken.
func TestRedisURLs(t *testing.T) {
	for _, url := range []string{
		"redis://127.0.0.1:6379", "redis://localhost", "redis://[::1]", "redis://[::1]:6379/15", "redis://u:p%40ss@h:1",
		"redis://a:6379?addr=b:6379&addr=c:6379", "redis://s:26379?master_set=main", "rediss://:p@h:1?skip_verify=true", "unix:///run/redis.sock?db=2",
		"redis://h:1?protocol=2&client_name=x&dial_timeout=1s&write_timeout=1s&max_retries=0&client_cache=0",
	} {
		if err := check(good("REDIS_URL", url)); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// What is not worth a mistake.
func TestTaken(t *testing.T) {
	for name, value := range map[string]string{
		"TRUSTED_PROXIES": " 10.0.0.0/8 , 127.0.0.1,fd00::/8,::ffff:192.0.2.0/120", "GATEHOUSE_ADDR": ":8080", "CHAT_UPSTREAM": "http://127.0.0.1:3000/base",
		"GATEHOUSE_LOG_LEVEL": "WARN", "CHAT_HOSTS": "local=http://127.0.0.1:11434/v1", "SERVICE_HOSTS": "openai=http://127.0.0.1:1, stripe=https://proxy.internal",
		"ENCRYPTION_KEY": "", "GATEHOUSE_STOP_GRACE": "0s", "REDIS_URL": "rediss://u:p@localhost:6379/1", "CHAT_IP_LIMIT": "1/1ms",
	} {
		if err := check(good(name, value)); err != nil {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
}

// A configuration cannot be printed or logged by accident.
func TestConfigHidesItsSecrets(t *testing.T) {
	c, err := instance.FromEnvironment(good("DATABASE_URL", "postgres://u:password-of-the-database@h/d"))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb, c, &c)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("start", "config", c, "pointer", &c)
	slog.New(slog.NewTextHandler(&out, nil)).Info("start", "config", c, "pointer", &c)
	for _, secret := range []string{gatehousetest.JWTSecret, gatehousetest.EncryptionKey, "password-of-the-database"} {
		if strings.Contains(out.String(), secret) || strings.Contains(out.String(), fmt.Sprintf("%x", secret)) {
			t.Errorf("a secret is printed: %s", out.String())
		}
	}
}

// Opening says what is allowed and should not stay.
func TestWarnings(t *testing.T) {
	for name, test := range map[string]struct {
		changes []string
		want    string
	}{
		"no encryption key":     {[]string{"ENCRYPTION_KEY", ""}, "whoever can sign tokens can open them"},
		"one key for both":      {[]string{"ENCRYPTION_KEY", gatehousetest.JWTSecret}, "ENCRYPTION_KEY and JWT_SECRET are the same"},
		"a misspelt name":       {[]string{"GATEHOUSE_METRIC_ADDR", "CANARY"}, `"variable":"GATEHOUSE_METRIC_ADDR","nearest":"GATEHOUSE_METRICS_ADDR"`},
		"a name of nothing":     {[]string{"GATEHOUSE_COLOUR_OF_LOGS", "CANARY"}, `"variable":"GATEHOUSE_COLOUR_OF_LOGS"}`},
		"a line break":          {[]string{"JWT_SECRET", gatehousetest.JWTSecret + "\n"}, `JWT_SECRET has something around it that is part of it, so that tokens which were signed without are answered 401; set it as your application has it","what":"a line break at its end"`},
		"a secret of the vault": {[]string{"JWT_SECRET", " " + gatehousetest.JWTSecret, "ENCRYPTION_KEY", ""}, `into ENCRYPTION_KEYS_OLD, since credentials are sealed under it","what":"white space"`},
		"double quotes":         {[]string{"ENCRYPTION_KEY", `"` + gatehousetest.EncryptionKey + `"`}, `ENCRYPTION_KEY has something around it that is part of it`},
		"single quotes":         {[]string{"JWT_SECRET", "'" + gatehousetest.JWTSecret + "'\n"}, `"what":"quotes"`},
		"a file":                {[]string{"ENCRYPTION_KEY", "", "ENCRYPTION_KEY_FILE", "/run/secrets/CANARY"}, `"variable":"ENCRYPTION_KEY_FILE"`},
		"another file":          {[]string{"FILE__REDIS_URL", "/run/secrets/CANARY"}, `REDIS_URL=\"$(cat \"$FILE__REDIS_URL\")\" gatehouse serve`},
		"reveal":                {[]string{"CREDENTIAL_REVEAL", "true"}, "CREDENTIAL_REVEAL is on"},
		"origins of one's own":  {[]string{"SERVICE_HOSTS", "stripe=http://127.0.0.1:1"}, "SERVICE_HOSTS sends keys"},
	} {
		text := logOfStart(t, append(test.changes, "GATEHOUSE_DATA", filepath.Join(t.TempDir(), "data"))...)
		if !strings.Contains(text, test.want) || strings.Contains(text, gatehousetest.JWTSecret) || strings.Contains(text, gatehousetest.EncryptionKey) || strings.Contains(text, "CANARY") {
			t.Errorf("%s: the log says %s, want %q", name, text, test.want)
		}
	}
}

// A data folder that others may read works, and should not stay so.
func TestOpenFolder(t *testing.T) {
	for mode, told := range map[os.FileMode]bool{0o755: true, 0o750: true, 0o700: false} {
		data := filepath.Join(t.TempDir(), "data")
		if err := errors.Join(os.Mkdir(data, 0o700), os.Chmod(data, mode)); err != nil {
			t.Fatal(err)
		}
		if text := logOfStart(t, "GATEHOUSE_DATA", data); strings.Contains(text, "chmod 700") != told {
			t.Errorf("%04o: %s", mode, text)
		}
	}
}

// Variables that begin as ours do and are known, or are Kubernetes' own.
func TestNoWarningOfKnownVariables(t *testing.T) {
	text := logOfStart(t, "GATEHOUSE_DATA", filepath.Join(t.TempDir(), "data"), "GATEHOUSE_LISTEN_STRIPE", "127.0.0.1:0", "GATEHOUSE_BOUNDS_OPENAI", "idle=1m",
		"JWT_SECRET_FILE", "/run/secrets/jwt", "GATEHOUSE_BACKUP_PASSPHRASE", "x", "GATEHOUSE_LOG_LEVEL", "info", "GATEHOUSE_SERVICE_HOST", "10.0.0.1", "GATEHOUSE_PORT_8080_TCP_ADDR", "10.0.0.1")
	if strings.Contains(text, "no setting") || strings.Contains(text, "_FILE") || strings.Contains(text, "around it") {
		t.Error(text)
	}
}

// logOfStart opens and closes an instance with these changes to a good environment, and gives
// what it logged.
func logOfStart(t *testing.T, changes ...string) string {
	t.Helper()
	c, err := instance.FromEnvironment(good(changes...))
	if err != nil {
		t.Fatal(err)
	}
	var log gatehousetest.Buffer
	in, err := instance.Open(t.Context(), c, &log)
	if err != nil {
		t.Fatal(err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	return log.String()
}

// Dev mode's secrets are made once, for its owner alone, and never overwritten.
func TestDevSecrets(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	read := func() (instance.Config, error) {
		c, err := instance.FromEnvironment(map[string]string{"GATEHOUSE_DATA": data, "GATEHOUSE_ADDR": "localhost:0"})
		if err != nil {
			t.Fatal(err)
		}
		return c.ForDev()
	}
	first, err := read()
	if err != nil {
		t.Fatal(err)
	}
	again, err := read()
	if err != nil || again.JWTSecret != first.JWTSecret || again.EncryptionKey != first.EncryptionKey || first.JWTSecret == first.EncryptionKey {
		t.Errorf("a second start has other secrets, or both are one: %v", err)
	}
	if err := first.Check(); err != nil {
		t.Errorf("dev mode's own configuration: %v", err)
	}
	path := filepath.Join(data, "dev-secrets.json")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("the secrets' file: %v, %v", info.Mode(), err)
	}
	for _, damaged := range []string{"", "{}", `{"jwtSecret":"short","encryptionKey":"short"}`, "\x00"} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(); err == nil || !strings.Contains(err.Error(), "is damaged") {
			t.Errorf("secrets that are %q: %v", damaged, err)
		}
		if kept, err := os.ReadFile(path); err != nil || string(kept) != damaged {
			t.Errorf("damaged secrets were overwritten: %q, %v", kept, err)
		}
	}
	if token, err := first.DevToken(time.Now()); err != nil || strings.Count(token, ".") != 2 {
		t.Errorf("the token is %q, %v", token, err)
	}
}
