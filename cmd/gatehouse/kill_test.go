package main_test

import (
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// killable is a `gatehouse serve` that is to be killed.
type killable struct {
	api.Client
	cmd *exec.Cmd
}

func startKillable(t *testing.T, program, token string, environ []string) *killable {
	t.Helper()
	cmd := exec.Command(program, "serve")
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "GATEHOUSE_ADDR=127.0.0.1:0", "GATEHOUSE_ENV=test",
		"JWT_SECRET=" + gatehousetest.JWTSecret, "ENCRYPTION_KEY=" + gatehousetest.EncryptionKey}, environ...)
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k := &killable{Client: api.Client{Token: token}, cmd: cmd}
	t.Cleanup(k.kill)
	k.BaseURL = listening(t, log)
	return k
}

// kill is kill -9.
func (k *killable) kill() {
	_ = k.cmd.Process.Kill() // it may be dead
	_ = k.cmd.Wait()
}

// TestKilledServerLosesAtMostASecondOfUsage kills servers with SIGKILL in the
// middle of their work, with the database at hand and away: what was answered a
// second before is counted, once.
func TestKilledServerLosesAtMostASecondOfUsage(t *testing.T) {
	t.Parallel()
	program := program(t)
	fake := gatehousetest.OpenAI(t)
	caller := access.NewCaller("acme", access.User, "u_1", access.Owner)
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), caller, "", "", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, away := range []bool{false, true} {
		name := "database at hand"
		if away {
			name = "database away"
		}
		t.Run(name, func(t *testing.T) {
			environ := []string{"GATEHOUSE_DATA=" + t.TempDir(), "ORGANIZATIONS_FROM_TOKENS=true", "SERVICE_HOSTS=openai=" + fake.URL,
				"CHAT_IP_LIMIT=100000/1m", "CHAT_ORG_LIMIT=100000/1h"}
			link := (*gatehousetest.Link)(nil)
			if away {
				link = gatehousetest.NewLink(t, gatehousetest.Postgres(t))
				environ = append(environ, "DATABASE_URL="+link.URL)
			}
			k := startKillable(t, program, token, environ)
			if _, err := k.CreateCredential(t.Context(), api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": fake.Key()}}); err != nil {
				t.Fatal(err)
			}
			var answered []time.Time // when each of a round was complete
			chat := func(k *killable) {
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, k.BaseURL+"/api/chat/openai/v1/chat/completions",
					strings.NewReader(`{"model":"gpt-fake-0","stream":true,"messages":[{"role":"user","content":"one two"}]}`))
				if err != nil {
					t.Fatal(err)
				}
				r.Header.Set("Authorization", "Bearer "+token)
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = answer.Body.Close() }()
				if body, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != http.StatusOK {
					t.Fatalf("%d %s %v", answer.StatusCode, body, err)
				}
				answered = append(answered, time.Now())
			}
			all, safe := 0, 0 // answered, and of them more than a second before the kill
			for round := range 3 {
				if round > 0 {
					k = startKillable(t, program, token, environ)
				}
				chat(k) // the credential is open from here on
				if away {
					link.Cut()
				}
				for end := time.Now().Add(1800 * time.Millisecond); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					chat(k)
				}
				killed := time.Now()
				k.kill()
				for _, at := range answered {
					all++
					if killed.Sub(at) > time.Second {
						safe++
					}
				}
				answered = nil
				if away {
					link.Mend()
				}
			}
			k = startKillable(t, program, token, environ)
			var row api.UsageRow
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
				report, err := k.GetUsage(t.Context(), nil)
				if err == nil && len(report.Rows) == 1 {
					row = report.Rows[0]
				}
				if files, _ := filepath.Glob(strings.TrimPrefix(environ[0], "GATEHOUSE_DATA=") + "/usage/*.spool"); len(files) == 0 || time.Now().After(end) {
					break
				}
			}
			t.Logf("%d of %d requests are counted; %d were answered more than a second before a kill", row.Requests, all, safe)
			if row.Requests > int64(all) || row.Requests < int64(safe) {
				t.Errorf("%d requests are counted of %d, of which at least %d must be", row.Requests, all, safe)
			}
			if row.Counted != row.Requests || *row.InputTokens != 2*row.Requests || *row.OutputTokens != 2*row.Requests {
				t.Errorf("%+v", row)
			}
		})
	}
}
