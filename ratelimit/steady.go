package ratelimit

import "time"

// steady is a clock that nobody sets: that of this process when it was made, and from then on
// the monotonic one. Stamps are taken by it: by the wall clock, one that is set back by an hour
// would leave every full subject full for an hour.
type steady struct{ began, wall time.Time } // the same instant; wall without its monotonic reading

func newSteady() steady {
	now := time.Now()
	return steady{now, now.Round(0)}
}

// at gives an instant on the steady clock, and by how many whole milliseconds the wall clock is ahead of
// that. An instant without a monotonic reading, which is no clock's, stays as it is.
func (c steady) at(now time.Time) (instant time.Time, ahead time.Duration) {
	// How long it is since then by the wall clock, less how long it is; for an instant of no clock
	// these are the same.
	ahead = (now.Round(0).Sub(c.wall) - now.Sub(c.began)).Round(time.Millisecond)
	if ahead == 0 {
		return now, 0
	}
	return now.Add(-ahead), ahead
}

// now is the instant that it is.
func (c steady) now() time.Time {
	instant, _ := c.at(time.Now())
	return instant
}

// shift moves what the decision says of instants, not of waits.
func (d *Decision) shift(by time.Duration) {
	if by == 0 {
		return
	}
	d.Now = d.Now.Add(by)
	for i := range d.Statuses {
		d.Statuses[i].Reset = d.Statuses[i].Reset.Add(by)
	}
}
