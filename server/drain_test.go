package server_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// After a stop signal the instance is not ready at once, and serves on for the
// delay, so that a load balancer that asks now and then loses no request.
func TestDraining(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "openai=" + openai.URL, "GATEHOUSE_DRAIN_DELAY": "1500ms", "GATEHOUSE_STOP_GRACE": "1m", "CHAT_IP_LIMIT": "100000/1m", "CHAT_ORG_LIMIT": "100000/1h",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	if a := c.get("/readyz"); a.Status != 200 {
		t.Fatalf("readyz before: %d %s", a.Status, a.Body)
	}

	// Clients go on until the load balancer has looked; none is refused.
	ctx, looked := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for ctx.Err() == nil {
				if a := c.do("POST", chatPath, chatBody); a.Status != 200 {
					t.Errorf("while draining: %d %s", a.Status, a.Body)
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.Stop() }()
	fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for {
		resp, err := fresh.Get(s.URL + "/readyz") // each time over a new connection, as a balancer does
		if err != nil {
			t.Errorf("the listener closed before it was seen not to be ready: %v", err)
			break
		}
		resp.Body.Close()
		if resp.StatusCode == 503 {
			break
		}
	}
	if a := c.get("/readyz"); a.Status != 503 || !strings.Contains(a.Body, "draining") {
		t.Errorf("readyz while draining: %d %s", a.Status, a.Body)
	}
	if a := c.get("/healthz"); a.Status != 200 {
		t.Errorf("healthz while draining: %d %s", a.Status, a.Body)
	}
	looked()
	clients.Wait()
	<-stopped
	if _, err := fresh.Get(s.URL + "/readyz"); err == nil {
		t.Error("the listener is open after the stop")
	}
}
