package server_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// TestExportsLeft leaves exports half read: each frees its place, and the trail tells
// of it.
func TestExportsLeft(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	c.get(statusPath) // makes the organization
	caller := access.NewCaller("acme", access.System, "test", access.Owner)
	for range 20 { // more than what the kernel takes for a client that does not read
		err := s.DB.Update(t.Context(), "acme", func(tx *store.Tx) error {
			for range 1000 {
				err := s.Audit.Append(t.Context(), tx, caller, audit.Event{Action: audit.PolicyUpdate, Outcome: audit.Success,
					Targets: []audit.Target{{Type: "policy", ID: "pol_1", Name: "a policy with a name"}}, Request: audit.Request{Route: "/api/x", UserAgent: "curl/8.5", IP: "192.0.2.7"}})
				if err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	narrow := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetReadBuffer(4096)
		}
		return conn, err
	}}}
	begin := func(client *http.Client) *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/api/audit/export", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.token)
		answer, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	for range audit.MaxExports + 2 { // one after the other: a place that is not given back would be missed
		for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
			answer := begin(narrow)
			_, err := io.CopyN(io.Discard, answer.Body, 1000)
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK && err == nil {
				break
			}
			if answer.StatusCode != http.StatusTooManyRequests || time.Now().After(end) {
				t.Fatalf("an export answers %d, %v", answer.StatusCode, err)
			}
		}
	}
	told := 0
	for end := time.Now().Add(time.Minute); told < audit.MaxExports+2 && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		page, err := s.Audit.Events(t.Context(), caller, audit.Filter{Action: string(audit.AuditExport), Outcome: string(audit.Partial)})
		if err != nil {
			t.Fatal(err)
		}
		told = len(page.Events)
	}
	if told != audit.MaxExports+2 {
		t.Errorf("the trail tells of %d exports that were left, of %d", told, audit.MaxExports+2)
	}

	// One that is read slowly ends for a member who is disabled meanwhile.
	answer := begin(http.DefaultClient)
	if _, err := io.CopyN(io.Discard, answer.Body, 1000); err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("an export answers %d, %v", answer.StatusCode, err)
	}
	if err := s.Orgs.SetDisabled(t.Context(), access.NewCaller("acme", access.System, "test", access.Owner), "acme", "u1", true); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4500 * time.Millisecond) // the next look
	rest, err := io.ReadAll(answer.Body)
	if err == nil || bytes.Contains(rest, []byte(`"manifest"`)) {
		t.Errorf("the export of a disabled member goes on to its end: %d bytes, %v", len(rest), err)
	}
	_ = answer.Body.Close()
}
