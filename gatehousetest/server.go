package gatehousetest

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/instance"
)

// The secrets that test servers use unless told otherwise.
const (
	JWTSecret     = "test-signing-secret-0123456789abcdefghijklmnop"
	EncryptionKey = "test-master-secret-0123456789abcdefghijklmnopq"
)

// GatehouseServer is a whole Gatehouse on a loopback port, wired as the command
// line wires it.
type GatehouseServer struct {
	*instance.Instance
	Config      instance.Config // as it was given; that of the Instance is without the master keys
	URL         string
	ServiceURLs map[string]string // of what has a port of its own: services, metrics and envoy
	Logs        *Buffer           // everything it logged

	stop func()
}

// Serve starts a Gatehouse with the variables of environ on top of secrets, a
// fresh SQLite database in a temporary folder, and organizations made by
// tokens. It is stopped when the test ends.
func Serve(t testing.TB, environ map[string]string) *GatehouseServer {
	t.Helper()
	variables := map[string]string{
		"JWT_SECRET": JWTSecret, "ENCRYPTION_KEY": EncryptionKey, "GATEHOUSE_ENV": "test",
		"GATEHOUSE_DATA": filepath.Join(t.TempDir(), "data"), "GATEHOUSE_ADDR": "127.0.0.1:0",
		"ORGANIZATIONS_FROM_TOKENS": "true", "GATEHOUSE_STOP_GRACE": "2s",
	}
	for name, value := range environ {
		variables[name] = value
	}
	config, err := instance.FromEnvironment(variables)
	if err != nil {
		t.Fatal(err)
	}
	return ServeConfig(t, config)
}

// ServeConfig starts a Gatehouse with exactly this configuration.
func ServeConfig(t testing.TB, config instance.Config) *GatehouseServer {
	t.Helper()
	s := &GatehouseServer{Config: config, Logs: new(Buffer)}
	in, err := instance.Open(t.Context(), config, s.Logs)
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := in.Listen()
	if err != nil {
		t.Fatal(err)
	}
	s.Instance, s.URL, s.ServiceURLs = in, "http://"+listeners[0].Addr().String(), make(map[string]string)
	for _, l := range listeners[1:] {
		if l.Metrics {
			l.Service = "metrics"
		}
		if l.Envoy {
			l.Service = "envoy"
		}
		s.ServiceURLs[l.Service] = "http://" + l.Addr().String()
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := in.Serve(ctx, listeners); err != nil {
			t.Errorf("serving: %v", err)
		}
		if err := in.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	}()
	s.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(s.stop)
	return s
}

// Stop stops the server as a signal would, and waits until it has.
func (s *GatehouseServer) Stop() { s.stop() }

// Token signs a token for an hour.
func (s *GatehouseServer) Token(t testing.TB, organization, sub string, roles ...access.Role) string {
	t.Helper()
	caller := access.NewCaller(organization, access.User, sub, roles...)
	token, err := auth.Sign([]byte(s.Config.JWTSecret), caller, s.Config.JWTIssuer, s.Config.JWTAudience, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Databases runs test once on SQLite and once on PostgreSQL, each with the URL
// of a fresh database.
func Databases(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("sqlite", func(t *testing.T) { test(t, filepath.Join(t.TempDir(), "gatehouse.db")) })
	t.Run("postgresql", func(t *testing.T) { test(t, Postgres(t)) })
}

// Buffer is a bytes.Buffer for several goroutines.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String gives what was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
