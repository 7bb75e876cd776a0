package server

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// decide takes the request's units, and gives the error to answer where it may
// not pass.
func (s *Server) decide(ctx context.Context, x *exchange, limits *policy.Request) error {
	x.request.Status = http.StatusTooManyRequests // of the event, should it be denied
	if limits.Blocks() {
		x.request.Status = http.StatusForbidden
	}
	err := s.cfg.Limits.Take(ctx, x.caller, s.now(), limits) // it may have taken long to come so far
	if limits.Outcome != "" {
		s.cfg.Metrics.Decision(string(limits.Outcome), limits.Decision.Store)
	}
	if err != nil {
		return err
	}
	if d := &limits.Decision; !d.Admitted {
		return fault.New(fault.Limited, "rate_limit_exceeded", limitMessage(limits)).After(d.RetryAfter)
	}
	return nil
}

// exemptHeader marks the answer to a request that was not counted.
const exemptHeader = "Gatehouse-Limit"

// setLimitHeaders tells where both subjects stand: the six headers of the
// contract, and RateLimit-Policy and RateLimit as in
// draft-ietf-httpapi-ratelimit-headers-10. Of several limits on a subject the
// tightest speaks; RateLimit-Policy lists all.
func (s *Server) setLimitHeaders(h http.Header, limits *policy.Request) {
	if limits.Standing(policy.OrganizationIndex) == nil {
		return // the limiter did not answer
	}
	if limits.Outcome == policy.Exempted {
		h.Set(exemptHeader, string(policy.Exempted))
	}
	names := newItemNames(limits)
	// One array for all values, and one buffer for each text: every answer passes here.
	values := make([]string, 0, 8)
	set := func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
	var room [128]byte
	states := room[:0]
	for class, prefix := range [...]struct{ limit, remaining, reset string }{
		policy.IPIndex:           {"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
		policy.OrganizationIndex: {"X-Ratelimit-Org-Limit", "X-Ratelimit-Org-Remaining", "X-Ratelimit-Org-Reset"},
	} {
		status := limits.Standing(class)
		set(prefix.limit, strconv.Itoa(status.Limit.Requests))
		set(prefix.remaining, strconv.Itoa(status.Remaining))
		set(prefix.reset, status.Reset.UTC().Format(api.TimeFormat))
		if class > 0 {
			states = append(states, ", "...)
		}
		states = append(append(append(states, '"'), names.of(class, status.Limit)...), `";r=`...)
		states = append(strconv.AppendInt(states, int64(status.Remaining), 10), ";t="...)
		states = strconv.AppendInt(states, wholeSeconds(status.Reset.Sub(limits.Decision.Now)), 10)
	}
	var space [128]byte
	policies := space[:0]
	var seen map[string]bool
	if names[policy.IPIndex] > 1 || names[policy.OrganizationIndex] > 1 {
		seen = make(map[string]bool)
	}
	limits.Limits(func(class int, l ratelimit.Limit) {
		name := names.of(class, l)
		if seen[name] { // the operator's and the organization's own are alike
			return
		}
		if seen != nil {
			seen[name] = true
		}
		if len(policies) > 0 {
			policies = append(policies, ", "...)
		}
		policies = append(append(append(policies, '"'), name...), `";q=`...)
		policies = append(strconv.AppendInt(policies, int64(l.Requests), 10), ";w="...)
		policies = strconv.AppendInt(policies, wholeSeconds(l.Window), 10)
	})
	set("Ratelimit-Policy", string(policies))
	set("Ratelimit", string(states))
}

// itemNames names the items of both fields: "ip" and "org", followed by the
// limit where there are several on a subject, as in "org-20/1s".
type itemNames [2]int

func newItemNames(limits *policy.Request) (n itemNames) {
	limits.Limits(func(class int, _ ratelimit.Limit) { n[class]++ })
	return n
}

func (n itemNames) of(class int, l ratelimit.Limit) string {
	name := policy.IP
	if class == policy.OrganizationIndex {
		name = policy.Organization
	}
	if n[class] > 1 {
		name += "-" + l.String()
	}
	return name
}

// wholeSeconds rounds up, so that whoever waits that long is not early.
func wholeSeconds(d time.Duration) int64 {
	return roundUp(max(d, 0), time.Second)
}

// milliseconds rounds up to whole milliseconds.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(roundUp(d, time.Millisecond), 10)
}

// roundUp gives d in whole units; of the longest time there is, too.
func roundUp(d, unit time.Duration) int64 {
	n := int64(d / unit)
	if d%unit > 0 {
		n++
	}
	return n
}
