package replay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/ratelimit/replay"
)

const trace = "testdata/azure-llm-conversation-2023-2000.csv"

// wholeTrace is the file that the cut is from, where there is one.
func wholeTrace() (path string, requests int) {
	for _, path := range []string{os.Getenv("GATEHOUSE_TRACE"), "../../../shared/data/azure-llm-conversation-2023.csv"} {
		if _, err := os.Stat(path); path != "" && err == nil {
			return path, 19366
		}
	}
	return trace, 2000
}

func limit(s string) ratelimit.Limit {
	l, err := ratelimit.ParseLimit(s)
	if err != nil {
		panic(err)
	}
	return l
}

func run(t testing.TB, csv string, options replay.Options) replay.Report {
	t.Helper()
	report, err := replay.Run(t.Context(), strings.NewReader(csv), options)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

// expect is the report by counting all admitted requests again for each one.
// The times are sorted.
func expect(times []time.Time, keys []string, l ratelimit.Limit) map[string]replay.Key {
	admitted := map[string][]int64{}
	report := map[string]replay.Key{}
	for i, at := range times {
		now, k := at.UnixMilli(), report[keys[i]]
		k.Key = keys[i]
		k.Requests++
		counted := 0
		for _, s := range admitted[keys[i]] {
			if now-s < l.Window.Milliseconds() {
				counted++
			}
		}
		if counted < l.Requests {
			k.Admitted++
			k.MaxInWindow = max(k.MaxInWindow, counted+1)
			admitted[keys[i]] = append(admitted[keys[i]], now)
		} else {
			k.Denied++
		}
		report[keys[i]] = k
	}
	return report
}

func byKey(report replay.Report) map[string]replay.Key {
	keys := map[string]replay.Key{}
	for _, k := range report.Keys {
		keys[k.Key] = k
	}
	return keys
}

// Real traffic, against counting by hand.
func TestRealTraffic(t *testing.T) {
	path, n := wholeTrace()
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var times []time.Time
	for _, line := range strings.Split(strings.TrimSpace(string(file)), "\n")[1:] {
		at, err := time.Parse(time.DateTime, line[:strings.IndexByte(line, ',')])
		if err != nil {
			t.Fatal(err)
		}
		times = append(times, at)
	}
	for _, text := range []string{"100/1m", "100/10s", "7/1.5s", "1000/1h", "1/1ms", "400/1m", "1000000/24h"} {
		l := limit(text)
		report := run(t, string(file), replay.Options{Limit: l})
		if report.Requests != n || report.Unsorted != 0 || report.Admitted+report.Denied != n || report.MaxInWindow > l.Requests {
			t.Errorf("%s: %+v", text, report)
		}
		if diff := cmp.Diff(expect(times, make([]string, len(times)), l), byKey(report)); diff != "" {
			t.Errorf("%s (-counted +report):\n%s", text, diff)
		}
	}
}

func TestRandomTraffic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := ratelimit.Limit{Requests: rapid.IntRange(1, 5).Draw(t, "requests"), Window: time.Duration(rapid.IntRange(1, 50).Draw(t, "window")) * time.Millisecond}
		var csv strings.Builder
		csv.WriteString("who,TIMESTAMP\n")
		var times []time.Time
		var keys []string
		now := time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)
		for range rapid.IntRange(0, 100).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "µs")) * time.Microsecond)
			key := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "key")
			times, keys = append(times, now), append(keys, key)
			fmt.Fprintf(&csv, "%s,%s\n", key, now.Format(rapid.SampledFrom([]string{time.RFC3339Nano, "2006-01-02 15:04:05.999999"}).Draw(t, "layout")))
		}
		report, err := replay.Run(t.Context(), strings.NewReader(csv.String()), replay.Options{Limit: l, KeyColumn: "who"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(expect(times, keys, l), byKey(report)); diff != "" {
			t.Fatalf("(-counted +report):\n%s", diff)
		}
	})
}

func TestReport(t *testing.T) {
	report := run(t, "\ufefftime,key,note\n"+
		"2026-11-23T08:41:00Z,b,\n2026-11-23T08:41:00Z,b,\"two\nlines\"\n2026-11-23 08:41:00.2,a,\n"+
		"2026-11-23T09:41:00.4+01:00,c,early zone\n2026-11-23T08:41:00.3Z,c,late\n",
		replay.Options{Limit: limit("1/250ms"), TimeColumn: "time", KeyColumn: "key"})
	b, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"limit":1,"windowSeconds":0.25,"requests":5,"admitted":3,"denied":2,"maxInWindow":1,"keys":[` +
		`{"key":"b","requests":2,"admitted":1,"denied":1,"maxInWindow":1},` +
		`{"key":"c","requests":2,"admitted":1,"denied":1,"maxInWindow":1},` +
		`{"key":"a","requests":1,"admitted":1,"denied":0,"maxInWindow":1}],"unsorted":1}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
}

func TestTimes(t *testing.T) {
	const same = "2023-11-14T22:13:20.123Z"
	for _, text := range []string{
		same, "2023-11-14T23:13:20.1239+01:00", "2023-11-14 22:13:20.1230000", "1700000000.123", "1700000000.1239999",
		"1700000000123", "1700000000123.9", "1700000000123456", " " + same + " ",
	} {
		// All within the millisecond: the second one is denied.
		report := run(t, "TIMESTAMP\n"+same+"\n"+text+"\n", replay.Options{Limit: limit("1/1ms")})
		if report.Denied != 1 || report.Unsorted != 0 {
			t.Errorf("%q is not %s: %+v", text, same, report)
		}
	}
}

func TestBadFiles(t *testing.T) {
	tests := []struct{ name, csv, want string }{
		{"empty", "", "the file is empty"},
		{"missing column", "time,tokens\n", `there is no column "TIMESTAMP"; the columns are ["time" "tokens"]`},
		{"missing key", "TIMESTAMP\n1\n", `there is no column "who"; the columns are ["TIMESTAMP"]`},
		{"truncated", "TIMESTAMP,who\n1,a\n2\n", "line 3: not as many fields"},
		{"truncated in a time", "who,TIMESTAMP\na,1767225600\nb,1767225601\nc,17672256", "line 4: column \"TIMESTAMP\": the file is cut off there"},
		{"too long", "TIMESTAMP,who\n1,a\n2,b,c\n", "line 3: not as many fields"},
		{"no time", "TIMESTAMP,who\n1,a\nsecret,b\n", `line 3: column "TIMESTAMP": not a time`},
		{"after two lines in one", "TIMESTAMP,who\n1,\"a\n\n\"\nx,b\n", `line 5: column "TIMESTAMP": not a time`},
		{"empty time", "TIMESTAMP,who\n,a\n", `line 2: column "TIMESTAMP": not a time`},
		{"before 1970", "TIMESTAMP,who\n-1,a\n", "line 2"},
		{"long before 1970", "TIMESTAMP,who\n1969-01-01 00:00:00,a\n", "line 2"},
		{"number too large", "TIMESTAMP,who\n100000000000000000,a\n", "line 2"},
		{"no such day", "TIMESTAMP,who\n2023-02-30 00:00:00,a\n", "line 2"},
		{"quote", "TIMESTAMP,who\n1,\"a\n", "line 2: extraneous or missing"},
		{"cut in a quote", "TIMESTAMP,who\n1,a\n2,\"b\n3,c\n4,d\n", "line 3: a quoted field does not end"},
		{"quote in a field", "TIMESTAMP,who\n1,a\n2,b\"c\n", "line 3: bare"},
		{"cut before the field", "TIMESTAMP,who\n1,a\n2,b\n3", "line 4: not as many fields"},
		{"two columns", "TIMESTAMP,who,TIMESTAMP\n1,a,2\n", `there are several columns "TIMESTAMP"`},
		{"not a number", "TIMESTAMP,who\n1,a\nNaN,a\n", "line 3: column"},
		{"with an exponent", "TIMESTAMP,who\n1,a\n1e3,a\n", "line 3: column"},
	}
	for _, test := range tests {
		report, err := replay.Run(t.Context(), strings.NewReader(test.csv), replay.Options{Limit: limit("1/1m"), KeyColumn: map[bool]string{true: "who"}[test.name != "missing column"]})
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") || report.Requests != 0 {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := replay.Run(t.Context(), strings.NewReader("TIMESTAMP\n"), replay.Options{}); !errors.Is(err, ratelimit.ErrInvalidLimit) {
		t.Errorf("no limit: %v", err)
	}
}

func TestManyKeysAreBounded(t *testing.T) {
	var csv bytes.Buffer
	csv.WriteString("TIMESTAMP,key\n")
	for i := range 3000 {
		fmt.Fprintf(&csv, "%d,key-%d\n%d,key-%d\n", i, i, i, i%7)
	}
	report := run(t, csv.String(), replay.Options{Limit: limit("1/24h"), KeyColumn: "key"})
	if len(report.Keys) != replay.MaxKeys || report.OmittedKeys != 3000-replay.MaxKeys || report.Admitted != 3000 || report.Keys[0].Denied < report.Keys[6].Denied || report.Keys[7].Denied != 0 {
		t.Errorf("%d keys, %d omitted, %+v", len(report.Keys), report.OmittedKeys, report.Keys[:8])
	}
}

// A million lines, in no order and many of the same millisecond, are what they are
// when they come in order.
func TestMillionLines(t *testing.T) {
	if testing.Short() {
		t.Skip("a million lines")
	}
	const n, keys, step = 1_000_000, 500, 611_953 // step has no divisor in common with n: every i once
	var shuffled, sorted bytes.Buffer
	for _, file := range []*bytes.Buffer{&shuffled, &sorted} {
		file.WriteString("TIMESTAMP,who\n")
	}
	line := func(file *bytes.Buffer, i int) {
		fmt.Fprintf(file, "%d,%d\n", 1_700_000_000_000+i/keys*7, i%keys) // each key once in a moment
	}
	for i := range n {
		line(&sorted, i)
		line(&shuffled, i*step%n)
	}
	options := replay.Options{Limit: limit("3/100ms"), KeyColumn: "who"}
	got, want := run(t, shuffled.String(), options), run(t, sorted.String(), options)
	if got.Requests != n || got.Unsorted == 0 || want.Unsorted != 0 || got.Denied == 0 || got.MaxInWindow != 3 {
		t.Errorf("%d requests, %d denied, %d unsorted, at most %d", got.Requests, got.Denied, got.Unsorted, got.MaxInWindow)
	}
	got.Unsorted = 0
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-sorted +shuffled):\n%s", diff)
	}
}

func TestProgressAndCancel(t *testing.T) {
	file, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	last := int64(-1)
	run(t, string(file), replay.Options{Limit: limit("1/1m"), Progress: func(n int64) {
		if n < last {
			t.Errorf("%d after %d", n, last)
		}
		last = n
	}})
	if last != int64(len(file)) {
		t.Errorf("told of %d bytes of %d", last, len(file))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := replay.Run(ctx, bytes.NewReader(file), replay.Options{Limit: limit("1/1m")}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func ExampleRun() {
	traffic := strings.NewReader(`time,client
2026-11-23T08:41:00.000Z,ada
2026-11-23T08:41:00.400Z,ada
2026-11-23T08:41:00.500Z,bob
2026-11-23T08:41:00.900Z,ada
2026-11-23T08:41:01.000Z,ada
`)
	limit, _ := ratelimit.ParseLimit("2/1s")
	report, err := replay.Run(context.Background(), traffic, replay.Options{Limit: limit, TimeColumn: "time", KeyColumn: "client"})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%d of %d admitted\n", report.Admitted, report.Requests)
	for _, k := range report.Keys {
		fmt.Printf("%s: %d denied, at most %d in a second\n", k.Key, k.Denied, k.MaxInWindow)
	}
	// Output:
	// 4 of 5 admitted
	// ada: 1 denied, at most 2 in a second
	// bob: 0 denied, at most 1 in a second
}

func FuzzRun(f *testing.F) {
	f.Add("TIMESTAMP,who\n1,a\n2023-11-14 22:13:20.1230000,b\n1700000000123456,a\n", "who")
	f.Add("\ufeffTIMESTAMP\n1700000000.1\n", "")
	f.Add("TIMESTAMP,who\n1,\"a\n", "who")
	f.Fuzz(func(t *testing.T, csv, key string) {
		report, err := replay.Run(t.Context(), strings.NewReader(csv), replay.Options{Limit: limit("2/1s"), KeyColumn: key})
		if err == nil && (report.Admitted+report.Denied != report.Requests || report.MaxInWindow > 2 || report.Requests > strings.Count(csv, "\n")+strings.Count(csv, "\r")+1) {
			t.Errorf("%+v", report)
		}
	})
}
