// Package envoy answers Envoy's rate limit service, envoy.service.ratelimit.v3,
// with the decisions that requests through Gatehouse meet.
//
// An Envoy in front of an application asks before it lets a request pass. What
// it asks about is descriptors, lists of keys and values; these keys are read,
// all others and the domain are not:
//
//	remote_address  the client's address
//	organization    the organization's id
//	service         a service of the catalogue, for policies about it
//	path            the path of the service, for policies about it; a query is cut off
//
// All descriptors of a request are about that one request: its address and its
// organization are decided on together, and both are counted or neither is. A
// descriptor's own status is about the subjects that it names itself. A request
// that names neither passes. Limits come from Gatehouse alone: an override that a
// descriptor carries is not read.
//
// A request counts once. It is only looked at, and not counted, where every
// descriptor that names an address or an organization has a hits_addend of 0, which
// overrides the request's own as Envoy documents; that of the request cannot say so,
// since 0 is what it is where nothing was said. Some with 0 and some without, more
// than 1, and negative hits are InvalidArgument.
//
// A denied request is OVER_LIMIT, and so is one that a policy blocks, which has
// the header gatehouse-limit: blocked in the answer. Errors are InvalidArgument
// for a request that cannot be read and Unavailable while the limiter does not
// answer; Envoy lets such requests pass unless failure_mode_deny says otherwise.
//
// There is no token on this port: whoever reaches it decides for anybody.
package envoy

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
	"github.com/gatehouse-io/gatehouse/policy"
)

// The bounds of one question.
const (
	maxMessage     = 64 << 10 // bytes
	maxDescriptors = 16
)

// NewHandler gives a handler of gRPC over HTTP/2 that decides by limits.
// decided, which may be nil, is told of each decision that counts.
func NewHandler(limits *policy.Limits, decided func(outcome, store string)) http.Handler {
	if decided == nil {
		decided = func(string, string) {}
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage))
	servicev3.RegisterRateLimitServiceServer(server, &service{
		limits: limits, decided: decided,
		caller: access.NewCaller(access.InstanceOrganization, access.System, "envoy", access.Operator),
	})
	return server
}

type service struct {
	servicev3.UnimplementedRateLimitServiceServer
	limits  *policy.Limits
	decided func(outcome, store string)
	caller  access.Caller
}

// ShouldRateLimit implements the service.
func (s *service) ShouldRateLimit(ctx context.Context, in *servicev3.RateLimitRequest) (*servicev3.RateLimitResponse, error) {
	check, err := read(in)
	if err != nil {
		return nil, err
	}
	out := &servicev3.RateLimitResponse{OverallCode: servicev3.RateLimitResponse_OK}
	if !check.Addr.IsValid() && check.Organization == "" {
		for range in.GetDescriptors() {
			out.Statuses = append(out.Statuses, &servicev3.RateLimitResponse_DescriptorStatus{Code: servicev3.RateLimitResponse_OK})
		}
		return out, nil
	}
	if check.Addr.IsValid() {
		ctx = audit.WithRequest(ctx, &audit.Request{IP: check.Addr.String()})
	}
	var r policy.Request
	if err := s.limits.Check(ctx, s.caller, netip.Addr{}, check, time.Now(), &r); err != nil {
		if f, ok := fault.As(err); ok {
			return nil, status.Error(codes.Unavailable, f.Message)
		}
		return nil, status.Error(codes.Unavailable, "the rate limiter does not answer")
	}
	if check.Consume {
		s.decided(string(r.Outcome), r.Decision.Store)
	}
	if !r.Decision.Admitted {
		out.OverallCode = servicev3.RateLimitResponse_OVER_LIMIT
	}
	for _, d := range in.GetDescriptors() {
		out.Statuses = append(out.Statuses, statusOf(d, &r))
	}
	out.ResponseHeadersToAdd = headers(&r)
	return out, nil
}

// read takes what is known out of the descriptors.
func read(in *servicev3.RateLimitRequest) (c policy.Check, err error) {
	bad := func(message string) error { return status.Error(codes.InvalidArgument, message) }
	if in.GetHitsAddend() > 1 {
		return c, bad("hits_addend must be 0 or 1")
	}
	if n := len(in.GetDescriptors()); n == 0 || n > maxDescriptors {
		return c, bad("1 to " + strconv.Itoa(maxDescriptors) + " descriptors are needed")
	}
	looks, counts := 0, 0 // descriptors with a subject, by what they ask for
	set := func(to *string, value string) error {
		if *to != "" && *to != value {
			return bad("two descriptors contradict each other")
		}
		*to = value
		return nil
	}
	address := ""
	for _, d := range in.GetDescriptors() {
		if d.GetHitsAddend().GetValue() > 1 {
			return c, bad("hits_addend must be 0 or 1")
		}
		if d.GetIsNegativeHits() {
			return c, bad("negative hits are not taken: what was counted stays counted")
		}
		subject := false
		for _, e := range d.GetEntries() {
			switch e.GetKey() {
			case "remote_address":
				subject, err = true, set(&address, e.GetValue())
			case "organization":
				subject, err = true, set(&c.Organization, e.GetValue())
			case "service":
				err = set(&c.Service, e.GetValue())
			case "path":
				err = set(&c.Path, policy.PathOf(e.GetValue()))
			}
			if err != nil {
				return c, err
			}
		}
		switch {
		case !subject:
		case d.GetHitsAddend() != nil && d.GetHitsAddend().GetValue() == 0:
			looks++
		default:
			counts++
		}
	}
	if looks > 0 && counts > 0 {
		return c, bad("all descriptors are about one request: hits_addend must be 0 in each with a remote_address or an organization, or in none")
	}
	c.Consume = looks == 0
	if address != "" {
		if c.Addr, err = netip.ParseAddr(address); err != nil {
			return c, bad("remote_address must be an address")
		}
	}
	if c.Organization != "" && !access.ValidOrganization(c.Organization) {
		return c, bad("organization must be an organization's id")
	}
	return c, nil
}

// statusOf tells where the tightest of the descriptor's own subjects stands.
func statusOf(d *ratelimitv3.RateLimitDescriptor, r *policy.Request) *servicev3.RateLimitResponse_DescriptorStatus {
	out := &servicev3.RateLimitResponse_DescriptorStatus{Code: servicev3.RateLimitResponse_OK}
	found := false
	for _, e := range d.GetEntries() {
		class := policy.IPIndex
		switch e.GetKey() {
		case "remote_address":
		case "organization":
			class = policy.OrganizationIndex
		default:
			continue
		}
		s := r.Standing(class)
		if s == nil || found && uint32(s.Remaining) >= out.LimitRemaining {
			continue
		}
		found = true
		out.LimitRemaining = uint32(s.Remaining)
		out.CurrentLimit = &servicev3.RateLimitResponse_RateLimit{
			Name: s.Limit.String(), RequestsPerUnit: uint32(s.Limit.Requests), Unit: unitOf(s.Limit.Window),
		}
		out.DurationUntilReset = durationpb.New(max(0, s.Reset.Sub(r.Decision.Now)))
		if s.Full && !r.Decision.Admitted {
			out.Code = servicev3.RateLimitResponse_OVER_LIMIT
		}
	}
	return out
}

// unitOf gives the unit that is exactly the window, UNKNOWN where none is.
func unitOf(window time.Duration) servicev3.RateLimitResponse_RateLimit_Unit {
	switch window {
	case time.Second:
		return servicev3.RateLimitResponse_RateLimit_SECOND
	case time.Minute:
		return servicev3.RateLimitResponse_RateLimit_MINUTE
	case time.Hour:
		return servicev3.RateLimitResponse_RateLimit_HOUR
	case 24 * time.Hour:
		return servicev3.RateLimitResponse_RateLimit_DAY
	}
	return servicev3.RateLimitResponse_RateLimit_UNKNOWN
}

// headers are for Envoy to put on its answer to the client.
func headers(r *policy.Request) (all []*corev3.HeaderValue) {
	add := func(key, value string) { all = append(all, &corev3.HeaderValue{Key: key, Value: value}) }
	for class, prefix := range [...]string{policy.IPIndex: "x-ratelimit-", policy.OrganizationIndex: "x-ratelimit-org-"} {
		if s := r.Standing(class); s != nil {
			add(prefix+"limit", strconv.Itoa(s.Limit.Requests))
			add(prefix+"remaining", strconv.Itoa(s.Remaining))
			add(prefix+"reset", wiretime.Text(s.Reset))
		}
	}
	if wait := r.Decision.RetryAfter; wait > 0 {
		add("retry-after", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
		add("retry-after-ms", strconv.FormatInt(wait.Milliseconds(), 10))
	}
	if r.Outcome == policy.Blocked || r.Outcome == policy.Exempted {
		add("gatehouse-limit", string(r.Outcome))
	}
	return all
}
