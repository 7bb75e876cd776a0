package instance

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// meteredLimiter counts the decisions of a limiter.
type meteredLimiter struct {
	ratelimit.Limiter
	metrics *telemetry.LimitMetrics
}

// Take implements [ratelimit.Limiter].
func (l *meteredLimiter) Take(ctx context.Context, now time.Time, subjects []ratelimit.Subject, d *ratelimit.Decision) error {
	start := time.Now()
	if err := l.Limiter.Take(ctx, now, subjects, d); err != nil {
		l.metrics.Failed()
		return err
	}
	l.metrics.Decided(d.Store, time.Since(start))
	for i := range subjects {
		outcome := telemetry.LimitAdmitted
		switch {
		case d.Admitted:
		case d.Statuses[i].Full:
			outcome = telemetry.LimitDenied
		default:
			outcome = telemetry.LimitSpared
		}
		l.metrics.Subject(subjects[i].Type, outcome)
	}
	return nil
}

// meterLimiter gives a limiter whose decisions are counted, and adds how its
// stores stand to the metrics.
func (in *Instance) meterLimiter(limiter ratelimit.Limiter, memory *ratelimit.Memory) ratelimit.Limiter {
	m := in.metrics
	m.Gauge("gatehouse_limit_memory_keys", "Keys that the limiter holds in memory.", func() float64 { return float64(memory.Stats().Keys) })
	m.Gauge("gatehouse_limit_memory_bytes", "Bytes that these keys take, about.", func() float64 { return float64(memory.Bytes()) })
	m.Counter("gatehouse_limit_memory_pushed_out_total", "Keys that still counted and made room for others.", func() float64 { return float64(memory.Stats().PushedOut) })
	if s, ok := limiter.(*ratelimit.Switch); ok {
		m.Gauge("gatehouse_limit_breaker", "0 while Redis decides, 1 while it does within this instance's share, 2 while it is not asked.", func() float64 {
			switch status := s.Status(); {
			case status.HalfOpen:
				return 1
			case status.Degraded:
				return 2
			}
			return 0
		})
		m.Gauge("gatehouse_limit_instances", "Instances that were alive when Redis last answered.", func() float64 { return float64(s.Status().Instances) })
		m.Gauge("gatehouse_limit_owed_keys", "Keys with requests that Redis does not know of yet.", func() float64 { return float64(s.Status().Owed) })
		m.Gauge("gatehouse_limit_mirror_keys", "Keys of which it is kept what Redis last told.", func() float64 { return float64(s.Status().Mirrored) })
		m.Gauge("gatehouse_limit_remembered_denials", "Subjects whose denial is remembered.", func() float64 { return float64(in.redis.Stats().Remembered) })
		m.Counter("gatehouse_limit_remembered_total", "Decisions from a remembered denial, which cost Redis nothing.", func() float64 { return float64(in.redis.Stats().FromMemory) })
		m.Counter("gatehouse_limit_redis_calls_total", "Calls of Redis for decisions, each for 1 to 16 of them.", func() float64 { return float64(in.redis.Stats().Calls) })
	}
	return &meteredLimiter{limiter, m.NewLimitMetrics(policy.IP, policy.Organization, policy.CredentialTests)}
}
