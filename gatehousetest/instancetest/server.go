// Package instancetest runs a whole Gatehouse inside a test:
//
//	s := instancetest.Serve(t, map[string]string{"CHAT_IP_LIMIT": "2/1h"})
//	... http.Get(s.URL + "/healthz")
//
// It stands apart from [gatehousetest], which knows no room of Gatehouse, so that the
// tests of a room are not built with all the others.
package instancetest

import (
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// Server is a whole Gatehouse on a loopback port, wired as the command
// line wires it.
type Server struct {
	*instance.Instance
	Config      instance.Config // as it was given; that of the Instance is without the master keys
	URL         string
	ServiceURLs map[string]string     // of what has a port of its own: services, metrics and envoy
	Logs        *gatehousetest.Buffer // everything it logged

	stop func()
}

// Serve starts a Gatehouse with the variables of environ on top of secrets, a
// fresh SQLite database in a temporary folder, and organizations made by
// tokens. It is stopped when the test ends.
func Serve(t testing.TB, environ map[string]string) *Server {
	t.Helper()
	variables := map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "test",
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
func ServeConfig(t testing.TB, config instance.Config) *Server {
	t.Helper()
	s := &Server{Config: config, Logs: new(gatehousetest.Buffer)}
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
		name := l.Service
		if l.Serves != instance.OneService {
			name = string(l.Serves)
		}
		s.ServiceURLs[name] = "http://" + l.Addr().String()
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
func (s *Server) Stop() { s.stop() }

// Token signs a token for an hour.
func (s *Server) Token(t testing.TB, organization, sub string, roles ...access.Role) string {
	t.Helper()
	caller := access.NewCaller(organization, access.User, sub, roles...)
	token, err := auth.Sign([]byte(s.Config.JWTSecret), caller, s.Config.JWTIssuer, s.Config.JWTAudience, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}
