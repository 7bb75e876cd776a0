package ratelimit_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Hundreds of requests, which do not stand in one value any more: they fill and
// leave the ring, some are given back, and the answers stay the oracle's.
func TestLongQueuesAnswerLikeOracle(t *testing.T) {
	server := startRedis(t)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		r := ratelimit.NewRedis(client(t, server), ratelimit.RedisOptions{
			Prefix: fmt.Sprintf("long-%d:", run), Timeout: patient, MaxDenials: -1,
		}).Scripted()
		kinds := [][]ratelimit.Limit{
			{{Requests: rapid.IntRange(10, 300).Draw(t, "limit"), Window: time.Duration(rapid.SampledFrom([]int{50, 1000, 60_000}).Draw(t, "window")) * time.Millisecond}},
		}
		if rapid.Bool().Draw(t, "two windows") {
			kinds[0] = append(kinds[0], ratelimit.Limit{Requests: rapid.IntRange(1, 60).Draw(t, "other limit"), Window: 20 * time.Millisecond})
		}
		if rapid.Bool().Draw(t, "also a lowered limit") { // which counts in the same window
			lowered := slices.Clone(kinds[0])
			lowered[0].Requests = rapid.IntRange(1, lowered[0].Requests).Draw(t, "lowered")
			kinds = append(kinds, lowered)
		}
		want := newOracle()
		now := epoch
		gives := rapid.Bool().Draw(t, "gives back")
		burst := rapid.SampledFrom([]int{0, 1, 3, 9}).Draw(t, "gaps")
		for range rapid.IntRange(1, 40).Draw(t, "calls") {
			var asked []ratelimit.Asked
			var steps []step
			decisions := make([]ratelimit.Decision, 16)
			for i := range decisions {
				switch rapid.IntRange(0, 60).Draw(t, "advance") {
				case 0:
					now = now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "pause")) * time.Millisecond)
				case 1:
					if gives {
						break // what was given back no longer holds time still
					}
					now = now.Add(-time.Duration(rapid.IntRange(1, 20).Draw(t, "back")) * time.Millisecond)
				default:
					now = now.Add(time.Duration(rapid.IntRange(0, burst).Draw(t, "gap")) * time.Millisecond)
				}
				s := step{now: now, subjects: []ratelimit.Subject{{Type: "ip", Key: "a", Limits: kinds[i%len(kinds)]}}, peek: i == 7}
				steps = append(steps, s)
				asked = append(asked, ratelimit.Asked{Now: now, Subjects: s.subjects, Take: !s.peek, Decision: &decisions[i]})
			}
			if err := r.Together(asked); err != nil {
				t.Fatal(err)
			}
			for i, s := range steps {
				if diff := cmp.Diff(want.perform(s), decisions[i], answer); diff != "" {
					t.Fatalf("%d: %+v (-oracle +redis):\n%s", i, s, diff)
				}
			}
			if gives {
				admitted := want.admitted[name(steps[0].subjects[0])]
				if len(admitted) == 0 {
					continue
				}
				last := admitted[len(admitted)-1] // only what still counts can be given back
				counting := slices.IndexFunc(admitted, func(at int64) bool { return last-at < kinds[0][0].Window.Milliseconds() })
				i := rapid.IntRange(counting, len(admitted)-1).Draw(t, "which")
				if err := r.GiveBack("ip", "a", admitted[i]); err != nil {
					t.Fatal(err)
				}
				want.admitted[name(steps[0].subjects[0])] = slices.Delete(admitted, i, i+1)
			}
		}
	})
}

// A value that is damaged, not ours or half gone is begun anew, and harms neither
// Redis's other requests nor the requests after it.
func TestDamagedValuesAreBegunAnew(t *testing.T) {
	server := startRedis(t)
	r := server.open(ratelimit.RedisOptions{Timeout: patient, MaxDenials: -1, MaxExact: 100, Prefix: "p:"})
	org := subject("organization", "acme", "1000/1h")
	sound := 0
	for i, damage := range [][]string{
		{"DEL", "@KEY:r"},
		{"SET", "@KEY:r", "x"},
		{"LPUSH", "@KEY:r2", "x"},
		{"SET", "@KEY", "x"},
		{"SET", "@KEY", `""`},
		{"SETRANGE", "@KEY", "0", `"\x07"`},
		{"SETRANGE", "@KEY", "5", `"\xff\xff\xff\xff\xff\xff\xff"`},
		{"SETRANGE", "@KEY", "1", `"\x00\x00\x00\x00"`},
		{"SETRANGE", "@KEY", "30", `"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"`},
		{"APPEND", "@KEY", "x"},
		{"APPEND", "@KEY", "xxxxx"},
		{"EVAL", `"redis.call('DEL',KEYS[1]) redis.call('LPUSH',KEYS[1],'x')"`, "1", "@KEY"},
		{"EVAL", `"redis.call('DEL',KEYS[1]) redis.call('LPUSH',KEYS[1],'x')"`, "1", "@KEY:r"},
		{"EVAL", `"redis.call('DEL',KEYS[1]) redis.call('LPUSH',KEYS[1],'x')"`, "1", "@KEY:w"},
		{"HSET", "@KEY:w", "60000", "x", "stamps", "x", "y", "z"},
		{"EVAL", `"redis.call('DEL',KEYS[1]) redis.call('SET',KEYS[1],'x')"`, "1", "@KEY:w60000"},
		{"EVAL", `"redis.call('DEL',KEYS[1]) redis.call('RPUSH',KEYS[1],'x','y','z')"`, "1", "@KEY:w60000"},
	} {
		for _, limit := range []string{"90/1m", "200/1m", "90/1h 200/1m"} {
			key := fmt.Sprintf("%d-%d", i, len(limit))
			ip := subject("ip", key, strings.Fields(limit)...)
			for range 60 {
				take(t, r, epoch, ip)
			}
			server.do(strings.Split(strings.ReplaceAll(strings.Join(damage, "\n"), "@KEY", "p:{ip:"+key+"}"), "\n")...)
			for range 70 {
				if d := take(t, r, epoch, ip, org); d.Admitted {
					sound++
				}
			}
			if err := r.GiveBack("ip", key, time.Now().UnixMilli()); err != nil {
				t.Errorf("%v: give back: %v", damage, err)
			}
			if d := take(t, r, epoch, ip); d.Statuses[0].Used > 131 {
				t.Errorf("%v: %+v", damage, d.Statuses[0])
			}
			if err := r.Reset(t.Context(), "ip", key); err != nil {
				t.Errorf("%v: reset: %v", damage, err)
			}
			if d := take(t, r, epoch, ip); !d.Admitted || d.Statuses[0].Used != 1 {
				t.Errorf("%v: after a reset %+v", damage, d)
			}
		}
		if err := r.Reset(t.Context(), "organization", "acme"); err != nil {
			t.Fatal(err)
		}
	}
	if sound == 0 {
		t.Error("nothing was admitted beside the damaged values")
	}
}

// One subject's damage begins that one anew, and leaves the other of the decision what it counts:
// whichever is damaged, also where one counts in sub-buckets.
func TestDamageIsNobodyElses(t *testing.T) {
	server := startRedis(t)
	for i, test := range []struct{ limit, other, damage string }{
		{"1000/1h", "60/1h", "DEL @KEY:r"},
		{"5000/1h", "60/1h", "DEL @KEY:w3600000"},
		{"5000/1h", "60/1h", "RPUSH @KEY:w3600000 x y"},
		{"1000/1h", "60/1h", "DEL @KEY:r\nRPUSH @KEY:r x"},
	} {
		for _, first := range []bool{true, false} {
			r := ratelimit.NewRedis(client(t, server), ratelimit.RedisOptions{Timeout: patient, Prefix: "p:", MaxDenials: -1})
			ip, org := subject("ip", fmt.Sprintf("%d-%t", i, first), test.limit), subject("organization", fmt.Sprintf("%d-%t", i, first), test.other)
			both := []ratelimit.Subject{ip, org}
			if !first {
				both[0], both[1] = org, ip
			}
			for range 55 {
				if d := take(t, r, time.Now(), both...); !d.Admitted {
					t.Fatalf("%v: %+v", test, d)
				}
			}
			damage := strings.ReplaceAll(test.damage, "@KEY", "p:{ip:"+ip.Key+"}")
			for line := range strings.SplitSeq(damage, "\n") {
				server.do(strings.Fields(line)...)
			}
			admitted := 0
			for range 30 {
				if take(t, r, time.Now(), both...).Admitted {
					admitted++
				}
			}
			if admitted != 5 {
				t.Errorf("%v, first %t: %d were admitted after 55 of 60", test, first, admitted)
			}
		}
	}
}
