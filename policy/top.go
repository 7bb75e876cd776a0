package policy

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// The bounds of what is remembered of offenders.
const (
	topSpan     = time.Hour
	topCounters = 256
	maxTop      = 100
)

// Top gives the subjects that this instance refused most within the last hour,
// at most [maxTop]. It is the operator's to look at.
func (l *Limits) Top(_ context.Context, caller access.Caller) ([]ratelimit.Offender, error) {
	if err := access.Allow(caller, access.LimitRead, access.InstanceOrganization); err != nil {
		return nil, err
	}
	return l.top.Top(l.now(), maxTop), nil
}
