package ratelimit

import "time"

// steady is a clock that nobody sets: that of this process when it was made, and from then on
// the monotonic one. Stamps are taken by it: by the wall clock, one that is set back by an hour
// would leave every full subject full for an hour.
type steady struct{ began time.Time }

func newSteady() steady { return steady{time.Now()} }

// at gives an instant on the steady clock, and by how much the wall clock is ahead of that. An
// instant without a monotonic reading, which is no clock's, stays as it is.
func (c steady) at(now time.Time) (instant time.Time, ahead time.Duration) {
	wall := now.Round(0)
	if wall == now { //nolint:staticcheck // the same fields, not the same instant: Round takes the monotonic reading off
		return now, 0
	}
	instant = c.began.Add(now.Sub(c.began))
	return instant, wall.Sub(instant.Round(0)).Truncate(time.Millisecond)
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
