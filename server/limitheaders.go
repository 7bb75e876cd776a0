package server

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
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
	err := s.cfg.Limits.Take(ctx, x.caller, x.start, limits)
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
	var states strings.Builder
	for class, prefix := range [...]string{policy.IPIndex: "X-Ratelimit-", policy.OrganizationIndex: "X-Ratelimit-Org-"} {
		status := limits.Standing(class)
		h[prefix+"Limit"] = []string{strconv.Itoa(status.Limit.Requests)}
		h[prefix+"Remaining"] = []string{strconv.Itoa(status.Remaining)}
		h[prefix+"Reset"] = []string{status.Reset.UTC().Format(api.TimeFormat)}
		if class > 0 {
			states.WriteString(", ")
		}
		states.WriteString(`"` + names.of(class, status.Limit) + `";r=` + strconv.Itoa(status.Remaining) + ";t=" + seconds(status.Reset.Sub(limits.Decision.Now)))
	}
	var policies strings.Builder
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
		if policies.Len() > 0 {
			policies.WriteString(", ")
		}
		policies.WriteString(`"` + name + `";q=` + strconv.Itoa(l.Requests) + ";w=" + seconds(l.Window))
	})
	h["Ratelimit-Policy"] = []string{policies.String()}
	h["Ratelimit"] = []string{states.String()}
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

// seconds rounds up to whole seconds, so that whoever waits that long is not early.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64(math.Ceil(max(d, 0).Seconds())), 10)
}

// milliseconds rounds up to whole milliseconds.
func milliseconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Millisecond-1)/time.Millisecond), 10)
}
