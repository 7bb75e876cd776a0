package server_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// BenchmarkExport measures chat requests through a whole server with telemetry
// exported against one where it is off, by turns, and reports how many times as
// long they take as x_off.
func BenchmarkExport(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"model":"m","usage":{"prompt_tokens":2,"completion_tokens":2}}`)
	}))
	b.Cleanup(upstream.Close)
	environ := map[string]string{"CHAT_HOSTS": "local=" + upstream.URL, "CHAT_IP_LIMIT": "1000000/1m", "CHAT_ORG_LIMIT": "1000000/1m"}
	off := instancetest.Serve(b, environ)
	on, _ := traced(b, environ)
	var sides [2]*client
	for i, s := range []*instancetest.Server{off, on} {
		sides[i] = as(b, s, "acme", "u1", access.Developer)
		sides[i].store("local", map[string]string{"apiKey": "sk-0123456789abcdefghij"})
	}
	const turn = 50
	var took [2]time.Duration
	for b.Loop() {
		for i, c := range sides {
			start := time.Now()
			for range turn {
				r := c.request("POST", "/api/chat/local/v1/chat/completions", strings.NewReader(chatBody))
				resp, err := c.http.Do(r)
				if err != nil || resp.StatusCode != http.StatusOK {
					b.Fatal(resp, err)
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			took[i] += time.Since(start)
		}
	}
	b.ReportMetric(float64(took[1])/float64(took[0]), "x_off")
	b.ReportMetric(float64(took[0].Nanoseconds())/float64(b.N*turn), "ns/off")
	b.ReportMetric(0, "ns/op")
}
