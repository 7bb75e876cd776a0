package instance_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestClock(t *testing.T) {
	for _, test := range []struct {
		off, roundTrip time.Duration
		want           instance.Level
	}{
		{0, 0, instance.Fine},
		{900 * time.Millisecond, 0, instance.Fine},
		{2 * time.Second, 0, instance.Doubtful},
		{-2 * time.Second, 0, instance.Doubtful},
		{2 * time.Second, 3 * time.Second, instance.Fine}, // the round trip explains it
		{31 * time.Second, 10 * time.Millisecond, instance.Failed},
		{-time.Hour, 0, instance.Failed},
	} {
		if f := instance.ClockFinding(test.off, test.roundTrip); f.Level != test.want || (f.Mend == "") != (test.want == instance.Fine) {
			t.Errorf("off by %s in %s: %+v, want %s", test.off, test.roundTrip, f, test.want)
		}
	}
	for ahead, want := range map[time.Duration]instance.Level{
		-24 * time.Hour: instance.Fine, 0: instance.Fine, 900 * time.Millisecond: instance.Fine, 2 * time.Second: instance.Doubtful, time.Hour: instance.Failed,
	} {
		if f := instance.PastFinding(ahead); f.Check != "clock" || f.Level != want || (f.Mend == "") != (want == instance.Fine) {
			t.Errorf("sealed %s ahead: %+v, want %s", ahead, f, want)
		}
	}
}

// A clock that is behind what has happened is told of, also where the server sealed
// the trail by that very clock.
func TestDiagnoseClockBehindEvents(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		s := instancetest.Serve(t, map[string]string{"DATABASE_URL": url})
		c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Owner)}
		if _, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}}); err != nil {
			t.Fatal(err)
		}
		doctor := func() []instance.Finding {
			return diagnose(t, map[string]string{"DATABASE_URL": url, "GATEHOUSE_ENV": s.Config.Environment})
		}
		if f := doctor(); slices.ContainsFunc(f, func(f instance.Finding) bool { return f.Check == "clock" && f.Level != instance.Fine }) {
			t.Errorf("clocks that are right: %+v", f)
		}
		if err := s.DB.UpdateAcross(t.Context(), func(tx *store.Tx) error {
			_, err := tx.Exec(t.Context(), `UPDATE events SET occurred_at = occurred_at + $1 WHERE organization = 'acme'`, int64(800*24*time.Hour/time.Microsecond))
			return err
		}); err != nil {
			t.Fatal(err)
		}
		has(t, doctor(), "clock", instance.Failed, "the newest event is 19")
	})
}

// diagnose gives what the doctor says of a configuration.
func diagnose(t *testing.T, environ map[string]string) []instance.Finding {
	t.Helper()
	variables := map[string]string{"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey,
		"GATEHOUSE_DATA": filepath.Join(t.TempDir(), "data"), "GATEHOUSE_ADDR": "127.0.0.1:0"}
	for name, value := range environ {
		variables[name] = value
	}
	c, err := instance.FromEnvironment(variables)
	findings := instance.Diagnose(t.Context(), c, err)
	for _, f := range findings {
		for _, secret := range []string{gatehousetest.JWTSecret, gatehousetest.EncryptionKey, "CANARY"} {
			if strings.Contains(fmt.Sprint(f), secret) {
				t.Errorf("a finding holds a secret: %+v", f)
			}
		}
	}
	return findings
}

func has(t *testing.T, findings []instance.Finding, check string, level instance.Level, text string) {
	t.Helper()
	if !slices.ContainsFunc(findings, func(f instance.Finding) bool {
		return f.Check == check && f.Level == level && strings.Contains(f.Text, text)
	}) {
		t.Errorf("no finding %s %s %q among %+v", check, level, text, findings)
	}
}

func TestDiagnosePorts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() { // something that is not Gatehouse
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("HTTP/1.0 200 OK\r\n\r\n{\"status\":\"CANARY\"}"))
			_ = conn.Close()
		}
	}()
	has(t, diagnose(t, map[string]string{"GATEHOUSE_ADDR": l.Addr().String()}), "ports", instance.Failed, "something that is not Gatehouse")
	f := diagnose(t, map[string]string{"GATEHOUSE_ADDR": "0.0.0.0:0", "TRUSTED_PROXIES": "10.0.0.0/8"})
	has(t, f, "ports", instance.Doubtful, "open beyond this machine")
	has(t, f, "proxies", instance.Fine, "1 ranges")
	has(t, diagnose(t, map[string]string{"GATEHOUSE_ADDR": "192.0.2.1:1"}), "ports", instance.Failed, "cannot be listened on")
	has(t, diagnose(t, map[string]string{"TRUSTED_PROXIES": "10.0.0.0/4"}), "configuration", instance.Doubtful, "very wide range")
}

func TestDiagnoseRedis(t *testing.T) {
	evicting := gatehousetest.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "yes",
		"--user", "gatehouse", "on", ">CANARY-pass", "~*", "&*", "+@all")
	url := strings.Replace(evicting.URL(), "redis://", "redis://gatehouse:CANARY-pass@", 1)
	f := diagnose(t, map[string]string{"REDIS_URL": url})
	has(t, f, "redis", instance.Doubtful, "throws counters away")
	has(t, f, "redis", instance.Fine, "outlive a restart")
	has(t, diagnose(t, map[string]string{"REDIS_URL": strings.Replace(url, "CANARY-pass", "CANARY-wrong", 1)}), "redis", instance.Failed, "does not answer")

	cluster := gatehousetest.Redis(t, "--cluster-enabled", "yes")
	has(t, diagnose(t, map[string]string{"REDIS_URL": cluster.URL()}), "redis", instance.Failed, "") // no slot has a node yet
	c, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{cluster.Addr()}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Do(t.Context(), c.B().ClusterAddslotsrange().StartSlotEndSlot().StartSlotEndSlot(0, 16383).Build()).Error(); err != nil {
		t.Fatal(err)
	}
	for range 100 { // it takes the node a moment to say so
		if f = diagnose(t, map[string]string{"REDIS_URL": cluster.URL()}); slices.ContainsFunc(f, func(f instance.Finding) bool { return strings.Contains(f.Text, "state is ok") }) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	has(t, f, "redis", instance.Fine, "the cluster's state is ok (1 nodes)")
}

// The user that docs/limits.md gives Redis is enough for the doctor too.
func TestDiagnoseRedisOfTheDocumentedUser(t *testing.T) {
	text, err := os.ReadFile("../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\nACL SETUSER ")
	line, _, _ := strings.Cut(rest, "\n")
	if !found || !strings.Contains(line, "-@dangerous") {
		t.Fatalf("the document has no such user: %q", line)
	}
	rules := strings.Fields(strings.Replace(line, ">PASSWORD", ">CANARY-pass", 1))
	for _, more := range [][]string{nil, {"+cluster"}} {
		arguments := append(append([]string{"--user"}, rules...), more...)
		if more != nil {
			arguments = append(arguments, "--cluster-enabled", "yes")
		}
		url := strings.Replace(gatehousetest.Redis(t, arguments...).URL(), "redis://", "redis://gatehouse:CANARY-pass@", 1)
		f := diagnose(t, map[string]string{"REDIS_URL": url})
		has(t, f, "redis", instance.Fine, "was not seen")
		has(t, f, "redis", instance.Fine, " answers (")
		has(t, f, "redis", instance.Fine, "a round trip takes")
		has(t, f, "clock", instance.Fine, "Redis's clock")
		if more != nil {
			has(t, f, "redis", instance.Failed, "the cluster's state") // no slot has a node yet
			continue
		}
		for _, f := range f {
			if f.Check == "redis" && f.Level != instance.Fine {
				t.Errorf("%+v", f)
			}
		}
	}
}

// A data folder behind a link is looked into, and the link itself is no finding.
func TestDiagnoseLinkedFolder(t *testing.T) {
	folder := t.TempDir()
	data, link := filepath.Join(folder, "data"), filepath.Join(folder, "link")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(data, "dev.env")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(data, link); err != nil {
		t.Fatal(err)
	}
	has(t, diagnose(t, map[string]string{"GATEHOUSE_DATA": link}), "files", instance.Fine, "all 2 files and folders")
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	has(t, diagnose(t, map[string]string{"GATEHOUSE_DATA": link}), "files", instance.Failed, "dev.env (0644)")
}
