package webhook

import (
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
)

// Only a batch that was delivered is counted as such, not one that the end of this
// instance broke off.
func TestWhatABatchIsCountedAs(t *testing.T) {
	now := time.Now()
	for want, end := range map[string]batchEnd{
		"trail_delivered": (&dueSink{attempts: 3}).endOf(answer{status: 200}, audit.Positions{}, nil, false, now),
		"trail_retried":   (&dueSink{attempts: 3}).endOf(answer{failure: failedTimeout}, audit.Positions{}, nil, false, now),
		"":                (&dueSink{attempts: 3}).endOf(answer{failure: failedTimeout}, audit.Positions{}, nil, true, now),
	} {
		if end.outcome != want {
			t.Errorf("%+v is counted as %q, want %q", end, end.outcome, want)
		}
	}
}

// A batch shows that a sink takes more only where it was as large as one may be.
func TestSizeGrowsByFullBatches(t *testing.T) {
	w, k := &Webhooks{}, webhookKey{organization: "acme", id: "wh_1"}
	w.noteSize(k, 124, false, true)
	for range 100 {
		w.noteSize(k, 1, true, false)
		w.noteSize(k, 0, true, false) // retention took its events
		w.noteSize(k, 61, true, false)
	}
	if most := w.mostEvents(k); most != 62 {
		t.Errorf("after small batches the next may have %d events, want 62", most)
	}
	if w.noteSize(k, 62, true, false); w.mostEvents(k) != 69 {
		t.Errorf("after a full batch the next may have %d events, want 69", w.mostEvents(k))
	}
	for range 40 {
		w.noteSize(k, w.mostEvents(k), true, false)
	}
	if most := w.mostEvents(k); most != sinkBatch {
		t.Errorf("full batches bring it to %d", most)
	}
}
