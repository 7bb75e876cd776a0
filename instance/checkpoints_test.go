package instance_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/ledger"
)

// Signed checkpoints reach the operator's sink as signed webhooks, also where the
// first attempt fails, and are what `gatehouse audit verify --checkpoint` reads.
func TestCheckpointsByWebhook(t *testing.T) {
	const secret = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	receiver, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	type message struct {
		id, body string
		signed   bool
	}
	var mu sync.Mutex
	var got []message
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !strings.Contains(string(body), `"type":"audit.checkpoint"`) {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if got = append(got, message{r.Header.Get("webhook-id"), string(body), receiver.Verify(body, r.Header) == nil}); len(got) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(sink.Close)
	instancetest.Serve(t, map[string]string{
		"AUDIT_SINK_URL": sink.URL, "AUDIT_SINK_SECRET": secret, "AUDIT_CHECKPOINTS": "webhook", "AUDIT_CHECKPOINT_EVERY": "1s",
	})
	var all []message
	for end := time.Now().Add(time.Minute); len(all) < 2; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("received %d checkpoints", len(all))
		}
		mu.Lock()
		all = slices.Clone(got)
		mu.Unlock()
	}
	var lines []string
	for _, m := range all {
		if !m.signed {
			t.Errorf("the signature is not taken: %s", m.body)
		}
		lines = append(lines, m.body)
	}
	if all[0].body == all[1].body && all[0].id != all[1].id {
		t.Error("a repeat has another webhook-id")
	}
	notes, _, err := ledger.ReadCheckpoints([]byte(strings.Join(lines, "\nwhat else was logged\n") + "\n"))
	if err != nil || len(notes) != len(all) {
		t.Fatalf("%d checkpoints are read: %v", len(notes), err)
	}
	var body struct{ Data struct{ Checkpoint string } }
	if err := json.Unmarshal([]byte(all[1].body), &body); err != nil || body.Data.Checkpoint != notes[1] {
		t.Errorf("%v in %s", err, all[1].body)
	}
	if origin, rest, _ := strings.Cut(notes[1], "\n"); !strings.HasSuffix(origin, "/_instance/ledger") || !strings.Contains(rest, "— "+origin+" ") {
		t.Errorf("it is the checkpoint of %q", origin)
	}
}
