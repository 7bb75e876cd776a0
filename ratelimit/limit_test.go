package ratelimit_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

func TestParseLimit(t *testing.T) {
	tests := []struct {
		text string
		want ratelimit.Limit
		out  string
	}{
		{"100/1m", ratelimit.Limit{Requests: 100, Window: time.Minute}, "100/1m"},
		{"1000/1h", ratelimit.Limit{Requests: 1000, Window: time.Hour}, "1000/1h"},
		{"1000/60m", ratelimit.Limit{Requests: 1000, Window: time.Hour}, "1000/1h"},
		{"5/250ms", ratelimit.Limit{Requests: 5, Window: 250 * time.Millisecond}, "5/250ms"},
		{"007/1.5s", ratelimit.Limit{Requests: 7, Window: 1500 * time.Millisecond}, "7/1.5s"},
		{"1/1ms", ratelimit.Limit{Requests: 1, Window: time.Millisecond}, "1/1ms"},
		{"10/90s", ratelimit.Limit{Requests: 10, Window: 90 * time.Second}, "10/1m30s"},
		{"10/10m", ratelimit.Limit{Requests: 10, Window: 10 * time.Minute}, "10/10m"},
		{"10/1h0m5s", ratelimit.Limit{Requests: 10, Window: time.Hour + 5*time.Second}, "10/1h0m5s"},
		{"1000000/8784h", ratelimit.Limit{Requests: ratelimit.MaxRequests, Window: ratelimit.MaxWindow}, "1000000/8784h"},
	}
	for _, test := range tests {
		got, err := ratelimit.ParseLimit(test.text)
		if err != nil || got != test.want {
			t.Errorf("ParseLimit(%q) = %v, %v; want %v", test.text, got, err, test.want)
		}
		if got.String() != test.out {
			t.Errorf("ParseLimit(%q).String() = %q, want %q", test.text, got, test.out)
		}
	}
}

func TestParseLimitRefuses(t *testing.T) {
	for _, text := range []string{
		"", "/", "100", "100/", "/1m", "0/1m", "-1/1m", "+1/1m", "1.5/1m", "1e3/1m", "1000001/1m",
		"99999999999999999999/1m", "100/m", "100/1", "100/0s", "100/-1m", "100/+1m", "100/1us", "100/1500us", "100/8784h1ms",
		"100/9999999h", "100 / 1m", " 100/1m", "100/1m ", "100/1m/2", "１/1m", "100/" + strings.Repeat("0", 100) + "1m",
	} {
		got, err := ratelimit.ParseLimit(text)
		if !errors.Is(err, ratelimit.ErrInvalidLimit) || got != (ratelimit.Limit{}) {
			t.Errorf("ParseLimit(%q) = %v, %v; want ErrInvalidLimit", text, got, err)
			continue
		}
		if len(text) > 3 && strings.Contains(strings.TrimPrefix(err.Error(), "invalid limit: want REQUESTS/WINDOW, for example 100/1m"), text) {
			t.Errorf("ParseLimit(%q) repeats it: %v", text, err)
		}
	}
}

func TestLimitInJSON(t *testing.T) {
	var got struct{ Limit ratelimit.Limit }
	if err := json.Unmarshal([]byte(`{"Limit":"100/1m"}`), &got); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(got); err != nil || string(b) != `{"Limit":"100/1m"}` {
		t.Errorf("Marshal: %s, %v", b, err)
	}
	if err := json.Unmarshal([]byte(`{"Limit":"`+strings.Repeat("1", 1000)+`"}`), &got); !errors.Is(err, ratelimit.ErrInvalidLimit) {
		t.Errorf("Unmarshal of a long text: %v", err)
	}
	if _, err := json.Marshal(ratelimit.Limit{}); err == nil {
		t.Error("the zero limit was marshalled")
	}
}

func FuzzParseLimit(f *testing.F) {
	for _, text := range []string{"100/1m", "1/1ms", "1000000/8784h", "007/1.5s", "10/1h0m5s", "1/", "/1m", "-1/1m", "1/1m1m", "1/.5s"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		l, err := ratelimit.ParseLimit(text)
		if err != nil {
			if !errors.Is(err, ratelimit.ErrInvalidLimit) || l != (ratelimit.Limit{}) {
				t.Fatalf("%v, %v", l, err)
			}
			return
		}
		if err := l.Validate(); err != nil {
			t.Fatalf("parsed and not valid: %v", err)
		}
		again, err := ratelimit.ParseLimit(l.String())
		if err != nil || again != l {
			t.Fatalf("%v written as %q is read as %v, %v", l, l.String(), again, err)
		}
	})
}
