package main_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// process is one `gatehouse serve`.
type process struct {
	api.Client
	cmd *exec.Cmd
}

// startServer runs the program and waits until it says where it listens.
func startServer(t *testing.T, program string, environ ...string) *process {
	t.Helper()
	cmd := exec.Command(program, "serve")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GATEHOUSE_ADDR=127.0.0.1:0", "GATEHOUSE_DATA=" + t.TempDir(), "GATEHOUSE_ENV=test",
		"JWT_SECRET=" + gatehousetest.JWTSecret, "ENCRYPTION_KEY=" + gatehousetest.EncryptionKey}, environ...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	p.BaseURL = listening(t, log)
	return p
}

// listening waits until a server's log says where it listens, and reads on, so
// that the server never waits for its log.
func listening(t *testing.T, log io.Reader) (address string) {
	t.Helper()
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		var line struct{ Msg, Address string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" {
			go func() { _, _ = io.Copy(io.Discard, log) }()
			return line.Address
		}
	}
	t.Fatal("the server did not start")
	return ""
}

// within asks until ok, at most the five seconds in which a change on one
// instance holds on all.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within five seconds: %s", what)
		}
	}
}

// TestTwoServersShareEverything runs two processes on one PostgreSQL and one
// Redis: what one changes, counts or records holds on the other.
func TestTwoServersShareEverything(t *testing.T) {
	program := program(t)
	fake := gatehousetest.OpenAI(t, gatehousetest.Key("sk-first-0123456789abcdef"))
	shared := []string{
		"DATABASE_URL=" + gatehousetest.Postgres(t), "REDIS_URL=" + gatehousetest.Redis(t).URL(), "REDIS_TIMEOUT=2s",
		"ORGANIZATIONS_FROM_TOKENS=true", "SERVICE_HOSTS=openai=" + fake.URL, "CHAT_IP_LIMIT=1000/1m", "CHAT_ORG_LIMIT=100/1h",
	}
	one, two := startServer(t, program, shared...), startServer(t, program, shared...)
	caller := access.NewCaller("acme", access.User, "u_1", access.Owner, access.Operator)
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), caller, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	one.Token, two.Token = token, token
	ctx := t.Context()

	chat := func(p *process) (int, string) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.BaseURL+"/api/chat/openai/v1/models", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		return answer.StatusCode, answer.Header.Get("Gatehouse-Error")
	}

	// A credential stored on one is used by the other, at once.
	c, err := one.CreateCredential(ctx, api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": fake.Key()}})
	if err != nil {
		t.Fatal(err)
	}
	if status, code := chat(two); status != http.StatusOK {
		t.Fatalf("the other server: %d %s", status, code)
	}

	// A rotation on one reaches the other, which had the old key open.
	fake.SetKeys("sk-second-0123456789abcdef")
	if _, err := one.RotateCredential(ctx, c.ID, api.CredentialRotate{Credentials: map[string]string{"apiKey": "sk-second-0123456789abcdef"}}); err != nil {
		t.Fatal(err)
	}
	if status, _ := chat(one); status != http.StatusOK {
		t.Errorf("after a rotation, on the same server: %d", status)
	}
	within(t, "the rotated key on the other server", func() bool { status, _ := chat(two); return status == http.StatusOK })

	// So does switching it off.
	if _, err := two.UpdateCredential(ctx, c.ID, api.CredentialUpdate{Disabled: api.Some(true)}); err != nil {
		t.Fatal(err)
	}
	within(t, "the disabled credential on the first server", func() bool { _, code := chat(one); return code == "credential_disabled" })

	// And disabling the member by the command line, beside the running servers.
	for _, verb := range []string{"disable", "enable"} {
		cmd := exec.Command(program, "member", verb, "acme", "u_1")
		cmd.Env = append(shared, "GATEHOUSE_DATA="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, p := range []*process{one, two} {
			within(t, "member "+verb, func() bool {
				_, err := p.GetRateLimit(ctx)
				var refused *api.CallError
				return errors.As(err, &refused) == (verb == "disable")
			})
		}
	}

	// Both count against one limit: 100 in all, whoever is asked.
	status, err := one.ResetRateLimit(ctx, "org", "acme")
	if err != nil || status.Used != 0 {
		t.Fatalf("%+v, %v", status, err)
	}
	within(t, "the reset on the other server", func() bool { o, err := two.GetRateLimit(ctx); return err == nil && o.Organization.Used == 0 })
	admitted := 0
	for i := range 120 {
		p := one
		if i%2 == 1 {
			p = two
		}
		if status, _ := chat(p); status != http.StatusTooManyRequests {
			admitted++
		}
	}
	if admitted != 100 {
		t.Errorf("two servers admitted %d of a limit of 100", admitted)
	}
	for _, p := range []*process{one, two} {
		o, err := p.GetRateLimit(ctx)
		if err != nil || o.Organization.Used != 100 || o.Store != "redis" || o.Degraded {
			t.Errorf("%+v, %v", o, err)
		}
	}

	// Both write one trail, and each reads all of it.
	var exceeded int64
	within(t, "the denials of both servers in the trail", func() bool {
		exceeded = countEvents(ctx, t, one, url.Values{"action": {"limit.exceed"}})
		return exceeded >= 2
	})
	if n := countEvents(ctx, t, two, url.Values{"action": {"credential.rotate"}}); n != 1 {
		t.Errorf("the other server reads %d rotations, want 1", n)
	}
}

func countEvents(ctx context.Context, t *testing.T, p *process, query url.Values) int64 {
	t.Helper()
	list, err := p.ListEvents(ctx, query)
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	for _, e := range list.Events {
		n += max(e.Count, 1)
	}
	return n
}

// TestStaysUpWithoutRedis starts a server whose Redis is not there, and one
// whose database has gone: the first serves, the second says so.
func TestStaysUpWithoutRedis(t *testing.T) {
	program := program(t)
	p := startServer(t, program, "REDIS_URL=redis://127.0.0.1:1", "ORGANIZATIONS_FROM_TOKENS=true")
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), access.NewCaller("acme", access.User, "u_1", access.Owner), "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	p.Token = token
	within(t, "the degraded limiter in the status", func() bool {
		o, err := p.GetRateLimit(t.Context())
		return err == nil && o.Degraded && o.Store == "memory"
	})
	answer, err := http.Get(p.BaseURL + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(body), "degraded") {
		t.Errorf("%d %s, %v; want ready and degraded", answer.StatusCode, body, err)
	}
}
