package compare_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/policy/compare"
	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func trial(t testing.TB, policies ...policy.Stored) *policy.Trial {
	t.Helper()
	limit := func(s string) []ratelimit.Limit {
		l, err := ratelimit.ParseLimit(s)
		if err != nil {
			t.Fatal(err)
		}
		return []ratelimit.Limit{l}
	}
	for i := range policies {
		policies[i].Reason = "test"
	}
	set, err := policy.NewTrial(policy.Defaults{IP: limit("100/1m"), Organization: limit("3/10s")}, policies)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

const traffic = `time,client,org,service,path
100,192.0.2.1,acme,openai,/v1/chat
101,192.0.2.1,acme,openai,/v1/chat
102,192.0.2.1,acme,openai,/v1/images
103,192.0.2.1,acme,openai,/v1/images
101,192.0.2.2,beta,stripe,/v1/charges
101,192.0.2.3,vip,openai,/v1/chat
101,192.0.2.66,vip,openai,/v1/chat
`

var all = compare.Options{TimeColumn: "time", IPColumn: "client", OrganizationColumn: "org", ServiceColumn: "service", PathColumn: "path"}

func TestRun(t *testing.T) {
	today := trial(t)
	next := trial(t,
		policy.Stored{Draft: policy.Draft{Effect: "limit", Subject: "org", Service: "openai", Path: "v1/images/**", Limits: []string{"1/1m"}}},
		policy.Stored{Draft: policy.Draft{Effect: "exempt", Organization: "vip"}},
		policy.Stored{Draft: policy.Draft{Effect: "block", CIDR: "192.0.2.66"}},
		policy.Stored{Owner: "beta", Draft: policy.Draft{Effect: "block", Service: "stripe"}},
	)
	got, err := compare.Run(t.Context(), strings.NewReader(traffic), all, today, next)
	if err != nil {
		t.Fatal(err)
	}
	want := compare.Report{
		Requests: 7, Unsorted: 3, OnlyPassed: []int{2, 0},
		Sets: []compare.Counts{{Admitted: 6, Denied: 1}, {Admitted: 3, Denied: 1, Exempt: 1, Blocked: 2}},
		Subjects: []compare.Subject{
			{Key: "beta", Requests: 1, Sets: []compare.Counts{{Admitted: 1}, {Blocked: 1}}},
			{Key: "vip", Requests: 2, Sets: []compare.Counts{{Admitted: 2}, {Exempt: 1, Blocked: 1}}},
			{Key: "acme", Requests: 4, Sets: []compare.Counts{{Admitted: 3, Denied: 1}, {Admitted: 3, Denied: 1}}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	byAddress := all
	byAddress.OrganizationColumn = ""
	got, err = compare.Run(t.Context(), strings.NewReader(traffic), byAddress, trial(t))
	if err != nil || len(got.Subjects) != 4 || got.Sets[0].Admitted != 7 || got.OnlyPassed != nil {
		t.Errorf("without organizations: %+v, %v", got, err)
	}
	got, err = compare.Run(t.Context(), strings.NewReader(traffic), compare.Options{TimeColumn: "time"}, trial(t))
	if err != nil || len(got.Subjects) != 1 || got.Subjects[0].Key != compare.Everybody || got.Sets[0].Admitted != 3 {
		t.Errorf("with times alone: %+v, %v", got, err)
	}
}

// Recorded paths are read as those of requests are: an encoded slash is a separator, and a part of its segment.
func TestPathsWithEncodedSlashes(t *testing.T) {
	set := trial(t, policy.Stored{Draft: policy.Draft{Effect: "block", Service: "github", Path: "repos/*/*/branches/*"}})
	const file = "time,client,org,service,path\n" +
		"100,192.0.2.1,acme,github,/repos/o/r/branches/feature%2Fx?per_page=1\n" +
		"101,192.0.2.1,acme,github,/repos/o/r/branches/feature%252fx\n" +
		"102,192.0.2.1,acme,github,/repos/o/r%2Fbranches%2Fx\n" +
		"103,192.0.2.1,acme,github,/repos/o/r/branches/feature/x\n"
	got, err := compare.Run(t.Context(), strings.NewReader(file), all, set)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]compare.Counts{{Admitted: 1, Blocked: 3}}, got.Sets); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadTraces(t *testing.T) {
	for _, test := range []struct{ file, want string }{
		{"", "the file is empty"},
		{"when,client,org,service,path\n", `no column "time"`},
		{"time,client,service,path\n", `no column "org"`},
		{"time,client,org,service,path\n100,192.0.2.1,acme,openai,x\n101,192.0.2.1\n", "line 3: not as many fields"},
		{"time,client,org,service,path\nzebra,192.0.2.1,acme,openai,x\n", `line 2: column "time": not a time`},
		{"time,client,org,service,path\n-5,192.0.2.1,acme,openai,x\n", `line 2: column "time"`},
		{"time,client,org,service,path\n1,zebra,acme,openai,x\n", `line 2: column "client": not an IPv4 or IPv6 address`},
		{"time,client,org,service,path\n1,192.0.2.1,_zebra,openai,x\n", `line 2: column "org"`},
		{"time,client,org,service,path\n1,192.0.2.1,\"acme,openai,x\n", "line 2"},
	} {
		_, err := compare.Run(t.Context(), strings.NewReader(test.file), all, trial(t))
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "zebra") {
			t.Errorf("%q: %v, want %s", test.file, err, test.want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	cancel(stop)
	if _, err := compare.Run(ctx, strings.NewReader(traffic), all, trial(t)); !errors.Is(err, stop) {
		t.Errorf("after an interrupt: %v", err)
	}
}

// A million lines with duplicate times are read and decided on.
func TestManyLines(t *testing.T) {
	if testing.Short() {
		t.Skip("a million lines")
	}
	var b strings.Builder
	b.WriteString("time,client,org,service,path\n")
	for i := range 1_000_000 {
		fmt.Fprintf(&b, "%d,10.0.%d.%d,org%d,openai,v1/x\n", 1_000_000+i/1000, i%200, i%250, i%500)
	}
	got, err := compare.Run(t.Context(), strings.NewReader(b.String()), all, trial(t))
	if err != nil || got.Requests != 1_000_000 || len(got.Subjects) != 500 || got.Sets[0].Admitted+got.Sets[0].Denied != 1_000_000 {
		t.Errorf("%d requests, %v, %v", got.Requests, got.Sets, err)
	}
}

func TestBadPolicies(t *testing.T) {
	_, err := policy.NewTrial(policy.Defaults{}, []policy.Stored{
		{Draft: policy.Draft{Effect: "limit", Subject: "org", Limits: []string{"0/1s"}, Reason: "x"}},
		{Draft: policy.Draft{Effect: "block", CIDR: "192.0.2.1", Reason: "x"}},
		{Draft: policy.Draft{Effect: "exempt", CIDR: "192.0.2.1/32", Reason: "x"}},
		{Owner: "acme", Draft: policy.Draft{Effect: "exempt", CIDR: "192.0.2.1", Reason: "x"}},
	})
	f, ok := fault.As(err)
	var names []string
	if ok {
		for _, field := range f.Fields {
			names = append(names, field.Name)
		}
	}
	if diff := cmp.Diff([]string{"policies[0].limits[0]", "policies[2].cidr", "policies[3].effect"}, names); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// FuzzRun: no file makes it fail in another way than by an error.
func FuzzRun(f *testing.F) {
	f.Add(traffic)
	f.Add("time\n1700158546.68059\n2023-11-16 18:15:46.68059\n2023-11-16T18:15:46.680Z\n")
	f.Fuzz(func(t *testing.T, file string) {
		report, err := compare.Run(t.Context(), strings.NewReader(file), compare.Options{TimeColumn: "time"}, trial(t))
		if err == nil && report.Sets[0].Admitted+report.Sets[0].Denied != report.Requests {
			t.Errorf("%+v", report)
		}
	})
}

func ExampleRun() {
	limit := func(s string) []ratelimit.Limit { l, _ := ratelimit.ParseLimit(s); return []ratelimit.Limit{l} }
	today, _ := policy.NewTrial(policy.Defaults{IP: limit("100/1m"), Organization: limit("3/10s")}, nil)
	tomorrow, _ := policy.NewTrial(policy.Defaults{IP: limit("100/1m"), Organization: limit("2/10s")}, nil)
	report, err := compare.Run(context.Background(), strings.NewReader(traffic), all, today, tomorrow)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	fmt.Println(report.Sets[0].Passed(), report.Sets[1].Passed(), report.OnlyPassed)
	// Output: 6 5 [1 0]
}
