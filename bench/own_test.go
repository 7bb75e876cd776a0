package bench

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// BenchmarkOwnWork measures what the pipeline does itself: a request is handed to
// the server in memory, whose upstream answers over loopback, and by turns the same
// request goes to the same upstream by a bare http.Transport. own-p50-us is the
// difference of the medians: token, both limits, the key, headers, usage, the event
// and the log line. x_bare is the whole over the bare request.
func BenchmarkOwnWork(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, answerJSON)
	}))
	defer upstream.Close()
	s := instancetest.Serve(b, map[string]string{
		"CHAT_HOSTS": "up=" + upstream.URL, "CHAT_IP_LIMIT": "1000000/1m", "CHAT_ORG_LIMIT": "1000000/1m",
	})
	token := s.Token(b, "acme", "u_1", access.Owner)
	if _, err := (&api.Client{BaseURL: s.URL, Token: token}).CreateCredential(b.Context(), api.CredentialCreate{
		Service: "up", Credentials: map[string]string{"apiKey": "sk-bench-0123456789abcdefghijklmnopqrstuvwxyz"},
	}); err != nil {
		b.Fatal(err)
	}
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"` + strings.Repeat("q", 970) + `"}]}`)
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	through := func() {
		r := httptest.NewRequest("POST", "/api/chat/up"+jsonPath, bytes.NewReader(body))
		r.URL.Host = ""
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		s.Server.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Code, w.Body)
		}
	}
	bare := func() {
		r, _ := http.NewRequest("POST", upstream.URL+jsonPath, bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		answer, err := transport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
	var ours, theirs []float64
	timed := func(into *[]float64, do func()) {
		begin := time.Now()
		do()
		*into = append(*into, float64(time.Since(begin).Nanoseconds())/1000)
	}
	for range 200 {
		through()
		bare()
	}
	for b.Loop() {
		for range 200 {
			timed(&ours, through)
			timed(&theirs, bare)
		}
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	mine, other := ours[len(ours)/2], theirs[len(theirs)/2]
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(mine, "whole-p50-us")
	b.ReportMetric(other, "bare-p50-us")
	b.ReportMetric(mine-other, "own-p50-us")
	b.ReportMetric(mine/other, "x_bare")
}
