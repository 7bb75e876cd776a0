package audit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/store"
)

// fill writes n events of an organization, a second apart up to noon: visits of a
// hundred actors, one in a thousand of them a change by somebody rare.
func fill(t testing.TB, db *store.DB, organization string, n int) {
	t.Helper()
	const batch = 2000
	for first := 0; first < n; first += batch {
		events := make([]audit.Event, 0, batch)
		for i := first; i < min(n, first+batch); i++ {
			e := audit.Event{
				OccurredAt: noon.Add(-time.Duration(n-i) * time.Second), Organization: organization, Class: audit.Access, Action: audit.ChatRequest, Outcome: audit.Success,
				Actor: audit.Actor{Type: "user", ID: fmt.Sprintf("usr_%02d", i%100)}, Permission: "credential:use",
				Targets: []audit.Target{{Type: "service", ID: "openai"}, {Type: "credential", ID: fmt.Sprintf("cred_%d", i%10)}},
				Request: audit.Request{ID: fmt.Sprint("req_", i), Method: "POST", Route: "/api/chat/{service}/{path...}", Status: 200, IP: "192.0.2.7", UserAgent: "OpenAI/Python 1.0"},
			}
			if i%1000 == 0 {
				e.Class, e.Action, e.Actor.ID = audit.Control, audit.CredentialRotate, fmt.Sprintf("rare_%d", i/1000%5)
				e.Targets = []audit.Target{{Type: "credential", ID: fmt.Sprintf("cred_rare_%d", i/1000%5)}}
			}
			if i%200 == 0 {
				e.Outcome = audit.Failure
			}
			events = append(events, e)
		}
		if err := audit.Insert(t.Context(), db, events); err != nil {
			t.Fatal(err)
		}
	}
}
