package bench

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"text/tabwriter"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// TestAccuracy holds limiters against an exact window and prints a table. Each of
// them gets the same requests on a clock of the test, as many as the traffic makes;
// for each request an exact window, which has seen what that very limiter admitted
// before, says whether there was room:
//
//	false admissions   it was admitted although the window was full
//	false denials      it was denied although the window had room
//	most               the most admitted in any window, in % of the limit
//
// Gatehouse must have none of either, and 100.0 % at most.
func TestAccuracy(t *testing.T) {
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, traffic := range traffics(t) {
		fmt.Fprintf(out, "\n%s, %s\nrequests\tadmitted\tfalse admissions\tfalse denials\tmost\t limiter\n", traffic.name, traffic.limit)
		for _, candidate := range candidates() {
			var got score
			synctest.Test(t, func(t *testing.T) { got = play(t, traffic, candidate.open) })
			fmt.Fprintf(out, "%d\t%d\t%d\t%d\t%.1f %%\t %s\n", got.requests, got.admitted, got.falseAdmissions, got.falseDenials, got.most, candidate.name)
			if candidate.ours {
				got.check(t, traffic.name+": "+candidate.name, candidate.mayDeny)
			}
		}
	}
	if err := out.Flush(); err != nil {
		t.Fatal(err)
	}
}

// score is a row of the table.
type score struct {
	requests, admitted, falseAdmissions, falseDenials int

	most float64
}

// check holds a limiter of ours to its promise.
func (s *score) check(t *testing.T, name string, mayDeny bool) {
	t.Helper()
	if s.falseAdmissions != 0 || s.most > 100 || s.falseDenials != 0 && !mayDeny {
		t.Errorf("%s: %+v", name, *s)
	}
	if s.admitted == 0 || s.admitted == s.requests {
		t.Errorf("%s: admitted %d of %d: nothing is shown", name, s.admitted, s.requests)
	}
}

// play lets one key make the requests of a traffic, each at its instant.
func play(t *testing.T, traffic traffic, open func(*testing.T, ratelimit.Limit) func() bool) (s score) {
	admit := open(t, traffic.limit)
	start := time.Now()
	window := traffic.limit.Window.Milliseconds()
	var counted []int64 // what this limiter admitted, while it is in the window
	for _, at := range traffic.at {
		time.Sleep(time.Duration(at)*time.Millisecond - time.Since(start))
		for len(counted) > 0 && at-counted[0] >= window {
			counted = counted[1:]
		}
		room := len(counted) < traffic.limit.Requests
		s.requests++
		switch admitted := admit(); {
		case admitted:
			s.admitted++
			counted = append(counted, at)
			if !room {
				s.falseAdmissions++
			}
		case room:
			s.falseDenials++
		}
		s.most = max(s.most, 100*float64(len(counted))/float64(traffic.limit.Requests))
	}
	return s
}

// traffic is when the requests of one key are made, in milliseconds.
type traffic struct {
	name  string
	limit ratelimit.Limit
	at    []int64
}

// cutTrace is the first 2,000 requests, which stand in where the whole trace is not
// at hand.
const cutTrace = "../ratelimit/replay/testdata/azure-llm-conversation-2023-2000.csv"

// recorded is the traffic of a trace: the one that GATEHOUSE_TRACE names.
func recorded(t *testing.T, limit ratelimit.Limit) traffic {
	path, name := cutTrace, "Azure LLM conversations 2023 (first 2,000)"
	for _, whole := range []string{os.Getenv("GATEHOUSE_TRACE"), "../../shared/data/azure-llm-conversation-2023.csv"} {
		if _, err := os.Stat(whole); whole != "" && err == nil {
			path, name = whole, "Azure LLM conversations 2023"
			break
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	made := traffic{name: name, limit: limit}
	var first time.Time
	for i, line := range strings.Split(strings.TrimSpace(string(file)), "\n")[1:] {
		stamp, _, _ := strings.Cut(line, ",")
		at, err := time.Parse(time.DateTime, stamp)
		if err != nil {
			t.Fatalf("line %d: %v", i+2, err)
		}
		if i == 0 {
			first = at.Truncate(time.Millisecond)
		}
		made.at = append(made.at, at.Sub(first).Milliseconds())
	}
	return made
}
