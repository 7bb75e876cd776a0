package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A service's own port serves that service and nothing else, whatever stands on
// the request line.
func TestServicePort(t *testing.T) {
	stripe := gatehousetest.Stripe(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "stripe=" + stripe.URL, "GATEHOUSE_LISTEN_STRIPE": "127.0.0.1:0", "GATEHOUSE_METRICS_ADDR": "127.0.0.1:0",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("stripe", map[string]string{"secretKey": stripe.Key()})
	port := *c
	port.url = s.ServiceURLs["stripe"]
	if a := port.get("/v1/charges?limit=1"); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	} else {
		checkLimitHeaders(t, a.Header)
	}
	viewer := as(t, s, "acme", "u2", access.Viewer)
	viewer.url, viewer.http = port.url, port.http
	a := viewer.get("/v1/charges")
	checkProblem(t, a, 403, "permission_denied")
	checkSDKError(t, a)

	// Our own routes are paths of the provider's there.
	for _, path := range []string{credentialsPath, statusPath, "/healthz", "/openapi.json", "/", "/docs", "/api/chat/openai/v1/models"} {
		a := port.get(path)
		if seen := stripe.Requests(); a.Status != 404 || a.Header.Get("Gatehouse-Error") != "" || seen[len(seen)-1].RequestURI != path {
			t.Errorf("%s: %d %q", path, a.Status, a.Header)
		}
	}
	before := len(stripe.Requests())
	onPort := &instancetest.Server{Instance: s.Instance, URL: port.url}
	for _, target := range []string{
		"/../../api-credentials", "/..", "/../../chat/openai/v1/models", "http://example.com/api/api-credentials", "*", "//v1/charges", "/%2e%2e/x", "/\\x",
	} {
		method := "GET"
		if target == "*" {
			method = "PUT"
		}
		status, body := raw(t, onPort, fmt.Sprintf("%s %s HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\nAuthorization: Bearer %s\r\n\r\n", method, target, c.token))
		if status != http.StatusBadRequest || strings.Contains(body, `"credentials"`) {
			t.Errorf("%s: %d %s", target, status, body)
		}
	}
	if n := len(stripe.Requests()); n != before {
		t.Errorf("the provider saw %d hostile requests", n-before)
	}

	// The numbers have a port of their own, and name no tenant and no address.
	port.url = s.ServiceURLs["metrics"]
	metrics := port.get("/metrics")
	if metrics.Status != 200 || !strings.Contains(metrics.Body, `gatehouse_requests_total{class="2xx",route="/api/proxy/{service}/{path...}"}`) {
		t.Errorf("%d %.300s", metrics.Status, metrics.Body)
	}
	for _, word := range []string{"acme", "127.0.0.1", "api-credentials/cred_", stripe.Key(), "u1\""} {
		if strings.Contains(metrics.Body, word) {
			t.Errorf("the numbers tell %q", word)
		}
	}
	if a := c.get("/metrics"); a.Status != 404 {
		t.Errorf("/metrics on the main port: %d", a.Status)
	}
	if a := port.get(credentialsPath); a.Status != 404 {
		t.Errorf("the API on the port of the numbers: %d", a.Status)
	}

	// A stop closes it too, its health route included.
	s.Server.Stop()
	port.url = s.ServiceURLs["stripe"]
	checkProblem(t, port.get("/healthz"), 503, "server_stopping")
}
