package instance_test

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// TestFullDiskOfUsage fills the disk under the spool of usage alone: requests to
// services are refused and /readyz says why, from the start too, no usage is lost by a
// stop, and with room everything goes on by itself.
func TestFullDiskOfUsage(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	dir := filepath.Join(data, "usage")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("a small file system cannot be mounted here:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	fake := gatehousetest.OpenAI(t)
	environ := map[string]string{"GATEHOUSE_DATA": data, "SERVICE_HOSTS": "openai=" + fake.URL, "CHAT_IP_LIMIT": "100000/1m", "CHAT_ORG_LIMIT": "100000/1m"}
	s := instancetest.Serve(t, environ)
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Owner)}
	if _, err := c.CreateCredential(t.Context(), api.CredentialCreate{Service: "openai", Credentials: map[string]string{"apiKey": fake.Key()}}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.Token)
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	answered := int64(0)
	visit := func() int {
		t.Helper()
		status, body := get("/api/chat/openai/v1/models")
		switch {
		case status == http.StatusOK:
			answered++
		case status != http.StatusServiceUnavailable || !strings.Contains(body, "usage_unavailable"):
			t.Fatalf("a visit: %d %s", status, body)
		}
		return status
	}
	until := func(want int) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); visit() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("visits are not answered %d", want)
			}
		}
	}
	fill := func() {
		t.Helper()
		filler, err := os.Create(filepath.Join(dir, "filler"))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = filler.Write(make([]byte, 4096))
		}
		_ = filler.Close() // full, which is what it is for
	}

	until(http.StatusOK)
	if status, body := get("/readyz"); status != http.StatusOK || !strings.Contains(body, `"usage":"ok"`) {
		t.Errorf("with room: %d %s", status, body)
	}
	fill()
	until(http.StatusServiceUnavailable)
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, `"usage":"refused: the disk`) {
		t.Errorf("on a full disk: %d %s", status, body)
	}
	s.Stop()
	s = instancetest.Serve(t, environ)
	c = api.Client{BaseURL: s.URL, Token: c.Token}
	if status := visit(); status != http.StatusServiceUnavailable {
		t.Errorf("after a start on a full disk: %d", status)
	}
	if err := os.Remove(filepath.Join(dir, "filler")); err != nil {
		t.Fatal(err)
	}
	until(http.StatusOK)
	if status, body := get("/readyz"); status != http.StatusOK || !strings.Contains(body, `"usage":"ok"`) {
		t.Errorf("with room again: %d %s", status, body)
	}
	used, err := c.GetUsage(t.Context(), nil)
	if err != nil || len(used.Rows) != 1 || used.Rows[0].Requests != answered {
		t.Errorf("the usage of %d visits is %+v, %v", answered, used.Rows, err)
	}
	s.Stop()

	// A folder that nobody may write to is told at the start.
	if err := syscall.Mount("none", dir, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if in, err := instance.Open(context.Background(), s.Config, io.Discard); err == nil || !strings.Contains(err.Error(), "usage spool cannot be written to") {
		t.Errorf("a folder that is read-only: %v", err)
		if in != nil {
			_ = in.Close() // it should not be there
		}
	}
}
