package server

import (
	"testing"
	"time"
)

// The time of an operation begins with its request, not when its caller was made out.
func TestTimeOfAnOperation(t *testing.T) {
	now := time.Now()
	s := &Server{now: func() time.Time { return now }}
	for _, before := range []time.Duration{0, 10 * time.Second, time.Minute} {
		ctx, cancel := s.bounded(t.Context(), &exchange{start: now.Add(-before)})
		defer cancel()
		end, _ := ctx.Deadline()
		if left := end.Sub(now); left < operationTimeout-before-time.Second || left > operationTimeout-before+10*time.Second {
			t.Errorf("%v are left %v after the request", left, before)
		}
	}
}
