package main_test

import (
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// TestRedisByTLSAsUser runs servers on a Redis that takes TLS and a user who may do
// what docs/limits.md says and no more, by REDIS_URL alone: limits are decided
// there, also one of sub-buckets. With a wrong password, or without the authority
// that signed Redis's certificate, memory decides.
func TestRedisByTLSAsUser(t *testing.T) {
	t.Parallel()
	program := program(t)
	ca := gatehousetest.NewCA(t)
	certificate := ca.Certificate("localhost", "127.0.0.1")
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	port, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := port.Addr().String()
	_ = port.Close()
	_, tlsPort, _ := net.SplitHostPort(addr)
	gatehousetest.Redis(t, "--tls-port", tlsPort, "--tls-auth-clients", "no", "--tls-ca-cert-file", ca.File(),
		"--tls-cert-file", write("cert.pem", "CERTIFICATE", certificate.Certificate[0]), "--tls-key-file", write("key.pem", "PRIVATE KEY", key),
		"--user", "gatehouse", "on", ">a-password", "~gatehouse:limit:*", "-@all", "+@read", "+@write", "+@scripting", "+@connection", "+time", "-@dangerous")

	caller := access.NewCaller("acme", access.User, "u_1", access.Owner, access.Operator)
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), caller, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		url, authority, store string
	}{
		"right":           {"rediss://gatehouse:a-password@" + addr, ca.File(), "redis"},
		"wrong password":  {"rediss://gatehouse:wrong@" + addr, ca.File(), "memory"},
		"no such user":    {"rediss://nobody:a-password@" + addr, ca.File(), "memory"},
		"wrong authority": {"rediss://gatehouse:a-password@" + addr, gatehousetest.NewCA(t).File(), "memory"},
		"not TLS":         {"redis://gatehouse:a-password@" + addr, ca.File(), "memory"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startServer(t, program, "REDIS_URL="+test.url, "SSL_CERT_FILE="+test.authority, "REDIS_TIMEOUT=2s",
				"ORGANIZATIONS_FROM_TOKENS=true", "LIMITS_EXACT_UP_TO=50", "CHAT_IP_LIMIT=3/1m", "CHAT_ORG_LIMIT=100/1h")
			p.Token = token
			within(t, "decisions by "+test.store, func() bool {
				status, err := p.GetRateLimit(t.Context())
				return err == nil && status.Store == test.store
			})
			if test.store != "redis" {
				return
			}
			before, err := p.GetRateLimit(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d, err := p.CheckRateLimit(t.Context(), api.LimitCheck{Subjects: []api.LimitCheckSubject{{Type: "org", Key: "acme"}}}); err != nil || !d.Admitted || d.Store != "redis" {
				t.Fatalf("%+v, %v", d, err)
			}
			after, err := p.GetRateLimit(t.Context())
			if err != nil || after.Store != "redis" || after.Degraded || after.Organization.Used != before.Organization.Used+1 {
				t.Errorf("%+v, %v", after, err)
			}
			if _, err := p.ResetRateLimit(t.Context(), "org", "acme"); err != nil {
				t.Errorf("reset: %v", err)
			}
		})
	}
}
