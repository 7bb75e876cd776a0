package audit_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// BenchmarkAccessEvents measures access events from the request to the disk, on
// SQLite with synchronous=FULL: what one visit costs the trail.
func BenchmarkAccessEvents(b *testing.B) {
	db, err := store.Open(b.Context(), filepath.Join(b.TempDir(), "gatehouse.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	log := audit.New(db, audit.Options{})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() { log.Run(ctx); close(done) }()
	caller := access.NewCaller("acme", access.User, "u_1", access.Developer)
	request := audit.WithRequest(b.Context(), &audit.Request{
		ID: "req_01a20896-bf5d-70ab-8436-8383c80a02ae", Method: "POST", Route: "/api/chat/{service}/{path...}",
		IP: "203.0.113.7", UserAgent: "OpenAI/Python 1.0", Status: 200,
	})
	b.ReportAllocs()
	for b.Loop() {
		slot, err := log.Reserve()
		for err != nil { // the spool is full: the disk sets the pace
			time.Sleep(time.Millisecond)
			slot, err = log.Reserve()
		}
		slot.Record(request, caller, audit.Event{
			Action: audit.ChatRequest, Outcome: audit.Success, Permission: "credential:use",
			Targets:  []audit.Target{{Type: "service", ID: "openai"}, {Type: "credential", ID: "cred_01a20896-bf3a-7619-a139-4d737fca75d1", Name: "Default"}},
			Metadata: map[string]any{"bytesIn": 1024, "bytesOut": 1024, "durationMs": 12, "version": 1},
		})
	}
	if err := log.Flush(ctx); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
	cancel()
	<-done
}
