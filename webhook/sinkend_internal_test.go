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
