package instance_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// TestFullDisk fills the disk under a running server's SQLite, a file system of its
// own: changes answer 503 and leave nothing behind, denials stand, /readyz says why;
// and once there is room, everything goes on, with each denial in the trail.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("none", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Skip("a small file system cannot be mounted here:", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := instancetest.Serve(t, map[string]string{"GATEHOUSE_DATA": filepath.Join(dir, "data")})
	t.Cleanup(s.Stop)
	ctx := t.Context()
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_1", access.Owner)}
	viewer := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u_2", access.Viewer)}
	ready := func() (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
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
	made, denied := 0, int64(0)
	create := func(c *api.Client) *api.CallError {
		t.Helper()
		var refused *api.CallError
		_, err := c.CreateCredential(ctx, api.CredentialCreate{Service: "openai", Name: fmt.Sprint("number ", made), Credentials: map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"}})
		switch {
		case err == nil:
			made++
			return nil
		case !errors.As(err, &refused):
			t.Fatal(err)
		}
		return refused
	}
	deny := func() {
		t.Helper()
		if refused := create(&viewer); refused == nil || refused.Status != http.StatusForbidden {
			t.Errorf("a denial is %v", refused)
		}
		denied++
	}
	if refused := create(&c); refused != nil {
		t.Fatal(refused)
	}
	deny()
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, `"database":"ok"`) {
		t.Errorf("with room: %d %s", status, body)
	}

	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = filler.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	var refused *api.CallError
	for range 3000 { // what the database has already taken of the disk is written over first
		if refused = create(&c); refused != nil {
			break
		}
	}
	if refused == nil || refused.Status != http.StatusServiceUnavailable || refused.Code != "database_unavailable" || refused.RetryAfter == 0 {
		t.Fatalf("a change on a full disk, after %d: %+v", made, refused)
	}
	for range 5 {
		deny()
	}
	status, body := 0, ""
	for range 100 { // until the next one fails: a small one may fit meanwhile
		create(&c)
		if status, body = ready(); strings.Contains(body, "the disk is full") {
			break
		}
	}
	if status != http.StatusOK || !strings.Contains(body, `"database":"read only: the disk is full"`) {
		t.Errorf("on a full disk: %d %s", status, body)
	}
	if _, err := c.ListCredentials(ctx, nil); err != nil {
		t.Error("what only reads:", err)
	}
	doctor := func() []instance.Finding {
		return diagnose(t, map[string]string{"GATEHOUSE_DATA": filepath.Join(dir, "data"), "GATEHOUSE_ENV": s.Config.Environment})
	}
	has(t, doctor(), "database", instance.Failed, "cannot be written to")

	if err := errors.Join(filler.Close(), os.Remove(filler.Name())); err != nil {
		t.Fatal(err)
	}
	has(t, doctor(), "database", instance.Fine, "can be written to")
	if refused := create(&c); refused != nil {
		t.Errorf("with room again: %v", refused)
	}
	if status, body := ready(); status != http.StatusOK || !strings.Contains(body, `"database":"ok"`) {
		t.Errorf("with room again: %d %s", status, body)
	}
	events := func(action, outcome string) (n int64) {
		t.Helper()
		cursor := ""
		for {
			page, err := c.ListEvents(ctx, url.Values{"action": {action}, "outcome": {outcome}, "limit": {"500"}, "cursor": {cursor}})
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range page.Events {
				n += max(1, e.Count)
			}
			if cursor = page.NextCursor; cursor == "" {
				return n
			}
		}
	}
	var got int64
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = events("access.deny", "denied"); got == denied {
			break
		}
	}
	if got != denied {
		t.Errorf("%d denials are in the trail, of %d", got, denied)
	}
	if n := events("credential.create", "success"); n != int64(made) {
		t.Errorf("%d changes are in the trail, and %d were acknowledged", n, made)
	}
}
