package instance

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// newLimiter gives the limiter that c asks for, and the memory it has. Redis may be away at start.
func (in *Instance) newLimiter(c Config) (ratelimit.Limiter, *ratelimit.Memory, error) {
	memory := ratelimit.NewMemory(ratelimit.MemoryOptions{MaxExact: c.ExactUpTo, Overflow: policy.SharedWith})
	if c.RedisURL == "" {
		return memory, memory, nil
	}
	option, err := c.redis()
	if err != nil {
		return nil, nil, err
	}
	without, err := c.withoutRedis()
	if err != nil {
		return nil, nil, err
	}
	in.redis = ratelimit.OpenRedis(option, ratelimit.RedisOptions{Timeout: c.RedisTimeout, MaxExact: c.ExactUpTo})
	s := ratelimit.NewSwitch(in.redis, memory, ratelimit.SwitchOptions{OnChange: in.limiterChanged, Without: without})
	in.onClose(func() error {
		s.Close()
		in.redis.Close()
		return nil
	})
	return s, memory, nil
}

// limiterChanged logs and records that decisions went over from one store to
// the other.
func (in *Instance) limiterChanged(change ratelimit.Change) {
	event := audit.Event{Action: audit.LimitRecover, Outcome: audit.Success, OccurredAt: change.At}
	if change.Degraded {
		in.metrics.Switched(ratelimit.StoreMemory)
		event.Action, event.Outcome, event.Reason = audit.LimitDegrade, audit.Failure, "redis_unavailable"
		in.Log.Warn("Redis is away: limits are decided from this instance's memory", "error", change.Cause)
	} else {
		in.metrics.Switched(ratelimit.StoreRedis)
		event.Metadata = map[string]any{"lastedMs": change.Lasted.Milliseconds()}
		in.Log.Info("Redis is back: limits are shared again", "lasted", change.Lasted.String())
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	caller := access.NewCaller(access.InstanceOrganization, access.System, "limiter")
	err := in.DB.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return in.Audit.Append(ctx, tx, caller, event)
	})
	if err != nil {
		in.Log.Error("the limiter's switch could not be recorded", "action", event.Action, "error", err)
	}
}

// knownService says which services a policy may name: those of the catalogue,
// and the team's own backend.
func knownService(services *catalog.Catalog) func(string) bool {
	return func(name string) bool {
		_, known := services.Service(name)
		return known || name == catalog.AppName
	}
}

// limitsDegraded reports whether memory decides because Redis is away.
func (in *Instance) limitsDegraded() bool {
	s, ok := in.limiter.(*ratelimit.Switch)
	return ok && s.Degraded()
}
