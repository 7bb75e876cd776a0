package envoy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	servicev3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const (
	ok   = servicev3.RateLimitResponse_OK
	over = servicev3.RateLimitResponse_OVER_LIMIT
)

// descriptor gives one of pairs of keys and values.
func descriptor(pairs ...string) *ratelimitv3.RateLimitDescriptor {
	d := new(ratelimitv3.RateLimitDescriptor)
	for i := 0; i+1 < len(pairs); i += 2 {
		d.Entries = append(d.Entries, &ratelimitv3.RateLimitDescriptor_Entry{Key: pairs[i], Value: pairs[i+1]})
	}
	return d
}

func dial(t *testing.T, s *instancetest.Server) servicev3.RateLimitServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(strings.TrimPrefix(s.ServiceURLs["envoy"], "http://"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return servicev3.NewRateLimitServiceClient(conn)
}

// operate makes a policy as an operator.
func operate(t *testing.T, s *instancetest.Server, body string) {
	t.Helper()
	r, err := http.NewRequest("POST", s.URL+"/api/rate-limit/policies", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.Token(t, "ops", "o", access.Operator))
	r.Header.Set("Content-Type", "application/json")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if a.StatusCode != 201 {
		text, _ := io.ReadAll(a.Body)
		t.Fatalf("%d %s", a.StatusCode, text)
	}
}

func header(out *servicev3.RateLimitResponse, key string) string {
	for _, h := range out.ResponseHeadersToAdd {
		if h.Key == key {
			return h.Value
		}
	}
	return ""
}

func TestShouldRateLimit(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"GATEHOUSE_ENVOY_ADDR": "127.0.0.1:0", "CHAT_IP_LIMIT": "3/1m", "CHAT_ORG_LIMIT": "4/90s"})
	operate(t, s, `{"effect":"block","cidr":"203.0.113.0/24","reason":"x"}`)
	operate(t, s, `{"effect":"exempt","organization":"vip","reason":"x"}`)
	operate(t, s, `{"effect":"limit","subject":"org","service":"app","path":"messages/*","limits":["1/1h"],"reason":"x"}`)
	operate(t, s, `{"effect":"block","service":"github","path":"repos/*/*/branches/*","reason":"x"}`)
	client := dial(t, s)
	ask := func(descriptors ...*ratelimitv3.RateLimitDescriptor) *servicev3.RateLimitResponse {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		out, err := client.ShouldRateLimit(ctx, &servicev3.RateLimitRequest{Domain: "edge", Descriptors: descriptors})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ip, org := descriptor("remote_address", "192.0.2.1"), descriptor("generic_key", "x", "organization", "acme")
	for i := range 3 {
		out := ask(ip, org)
		if out.OverallCode != ok || len(out.Statuses) != 2 || out.Statuses[0].LimitRemaining != uint32(2-i) || out.Statuses[1].LimitRemaining != uint32(3-i) {
			t.Fatalf("request %d: %v", i, out)
		}
		if header(out, "x-ratelimit-limit") != "3" || header(out, "x-ratelimit-org-limit") != "4" {
			t.Errorf("headers %v", out.ResponseHeadersToAdd)
		}
	}
	out := ask(ip, org)
	if out.OverallCode != over || out.Statuses[0].Code != over || out.Statuses[1].Code != ok || out.Statuses[1].LimitRemaining != 1 || header(out, "retry-after-ms") == "" {
		t.Errorf("over the address's limit: %v", out)
	}
	if l := out.Statuses[0].CurrentLimit; l.Unit != servicev3.RateLimitResponse_RateLimit_MINUTE || l.RequestsPerUnit != 3 || out.Statuses[0].DurationUntilReset.AsDuration() <= 0 {
		t.Errorf("the limit is told as %v", out.Statuses[0])
	}
	if l := out.Statuses[1].CurrentLimit; l.Unit != servicev3.RateLimitResponse_RateLimit_UNKNOWN || l.Name != "4/1m30s" {
		t.Errorf("a window without a unit is told as %v", l)
	}
	// One descriptor with both is the same request.
	if out := ask(descriptor("remote_address", "192.0.2.2", "organization", "acme")); out.OverallCode != ok || out.Statuses[0].LimitRemaining != 0 {
		t.Errorf("the organization's last: %v", out)
	}
	if out := ask(descriptor("remote_address", "203.0.113.9")); out.OverallCode != over || header(out, "gatehouse-limit") != "blocked" {
		t.Errorf("blocked: %v", out)
	}
	if out := ask(descriptor("organization", "vip")); out.OverallCode != ok || header(out, "gatehouse-limit") != "exempt" {
		t.Errorf("exempt: %v", out)
	}
	route := descriptor("organization", "beta", "service", "app", "path", "/messages/1?x=y")
	if a, b := ask(route), ask(route); a.OverallCode != ok || b.OverallCode != over {
		t.Errorf("under a path's limit: %v, %v", a, b)
	}
	for path, code := range map[string]servicev3.RateLimitResponse_Code{
		"/repos/o/r/branches/feature%2Fx?y": over, "/repos/o/r/branches/feature%252fx": over, "/repos/o/r%2Fbranches/x": over, "/repos/o/r/branches/feature/x": ok,
	} {
		if out := ask(descriptor("organization", "delta", "service", "github", "path", path)); out.OverallCode != code {
			t.Errorf("%s, of which a reading is blocked or none: %v", path, out)
		}
	}
	if out := ask(descriptor("generic_key", "x")); out.OverallCode != ok || len(out.Statuses) != 1 {
		t.Errorf("a request that names nobody: %v", out)
	}
	// Descriptors that say 0 look, at a full limit too, and use up nothing.
	with := func(hits uint64, pairs ...string) *ratelimitv3.RateLimitDescriptor {
		d := descriptor(pairs...)
		d.HitsAddend = wrapperspb.UInt64(hits)
		return d
	}
	for range 5 {
		look := ask(with(0, "remote_address", "192.0.2.77"), with(0, "organization", "gamma"), descriptor("service", "app"))
		if look.OverallCode != ok || look.Statuses[0].LimitRemaining != 3 || look.Statuses[1].LimitRemaining != 4 {
			t.Fatalf("a look: %v", look)
		}
	}
	if out := ask(with(0, "organization", "acme")); out.OverallCode != over || out.Statuses[0].Code != over {
		t.Errorf("a look at a full limit: %v", out)
	}
	if out := ask(with(1, "remote_address", "192.0.2.77"), descriptor("organization", "gamma"), with(0, "service", "app")); out.Statuses[0].LimitRemaining != 2 {
		t.Errorf("a hit after looks: %v", out)
	}
	// The counts are those of chat requests and of the status routes.
	c := api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u", access.Viewer)}
	if got, err := c.GetRateLimit(t.Context()); err != nil || got.Organization.Used != 4 {
		t.Errorf("the organization stands at %+v, %v", got.Organization, err)
	}

	for name, in := range map[string]*servicev3.RateLimitRequest{
		"no descriptor":      {},
		"two addresses":      {Descriptors: []*ratelimitv3.RateLimitDescriptor{ip, descriptor("remote_address", "192.0.2.9")}},
		"no address":         {Descriptors: []*ratelimitv3.RateLimitDescriptor{descriptor("remote_address", "10.0.0.0/8")}},
		"no organization":    {Descriptors: []*ratelimitv3.RateLimitDescriptor{descriptor("organization", "_instance")}},
		"several hits":       {HitsAddend: 2, Descriptors: []*ratelimitv3.RateLimitDescriptor{ip}},
		"some only look":     {Descriptors: []*ratelimitv3.RateLimitDescriptor{with(0, "remote_address", "192.0.2.1"), org}},
		"some say 1":         {Descriptors: []*ratelimitv3.RateLimitDescriptor{with(0, "remote_address", "192.0.2.1"), with(1, "organization", "acme")}},
		"negative hits":      {Descriptors: []*ratelimitv3.RateLimitDescriptor{{Entries: ip.Entries, HitsAddend: wrapperspb.UInt64(1), IsNegativeHits: true}}},
		"negative none":      {Descriptors: []*ratelimitv3.RateLimitDescriptor{{Entries: ip.Entries, HitsAddend: wrapperspb.UInt64(0), IsNegativeHits: true}}},
		"hits of descriptor": {Descriptors: []*ratelimitv3.RateLimitDescriptor{{Entries: ip.Entries, HitsAddend: wrapperspb.UInt64(5)}}},
	} {
		if _, err := client.ShouldRateLimit(t.Context(), in); status.Code(err) != codes.InvalidArgument || strings.Contains(err.Error(), "10.0.0.0") {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
}
