package instance

import "time"

// ClockFinding gives what the doctor says of a clock that is off by this much,
// read in a round trip that took this long.
func ClockFinding(off, roundTrip time.Duration) Finding {
	var d diagnosis
	now := time.Unix(1_800_000_000, 0)
	d.clock("Redis", now.Add(roundTrip/2+off), now, now.Add(roundTrip))
	return d.findings[0]
}

// PastFinding gives what the doctor says where the newest event is this long after
// what the clock says.
func PastFinding(ahead time.Duration) Finding {
	var d diagnosis
	now := time.Unix(1_800_000_000, 0)
	d.past("the newest event is", now.Add(ahead), now)
	return d.findings[0]
}
