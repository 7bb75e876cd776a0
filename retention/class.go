package retention

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Class is a class of data that is kept for one length of time.
type Class string

// The classes. The first four are those of events.
const (
	Control        Class = "control"
	Access         Class = "access"
	Security       Class = "security"
	System         Class = "system"
	Usage          Class = "usage"           // the hours of usage
	LimitHistory   Class = "limit-history"   // what rate limit policies said before
	Versions       Class = "versions"        // the lines of credential versions that are destroyed
	Tests          Class = "tests"           // what tests of such versions found
	Expired        Class = "expired"         // credentials that expired, with every version
	Deliveries     Class = "deliveries"      // webhook deliveries that ended
	DeletedMembers Class = "deleted-members" // personal data in the trail of members that were deleted
)

// Classes lists every class.
func Classes() []Class {
	return []Class{Control, Access, Security, System, Usage, LimitHistory, Versions, Tests, Expired, Deliveries, DeletedMembers}
}

// Known reports whether c is a class.
func (c Class) Known() bool { return slices.Contains(Classes(), c) }

// Events reports whether c is a class of events.
func (c Class) Events() bool {
	return c == Control || c == Access || c == Security || c == System
}

const day = 24 * time.Hour

// Keep is how long something is kept, in whole days; [Forever] is without an end.
// The zero value is no length at all.
type Keep int

// Forever keeps without an end. It is longer than any number of days.
const Forever Keep = 1<<31 - 1

// maxDays bounds a length: a hundred years.
const maxDays = 36_500

// String gives the form that [ParseKeep] reads: 90d, or forever.
func (k Keep) String() string {
	if k == Forever {
		return "forever"
	}
	return strconv.Itoa(int(k)) + "d"
}

var errKeep = errors.New("must be a number of days from 1d to 36500d such as 365d, or forever")

// ParseKeep reads a length such as 365d, or forever.
func ParseKeep(text string) (Keep, error) {
	if text == "forever" {
		return Forever, nil
	}
	digits, ok := strings.CutSuffix(text, "d")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 1 || n > maxDays || strconv.Itoa(n) != digits {
		return 0, errKeep
	}
	return Keep(n), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (k Keep) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (k *Keep) UnmarshalText(text []byte) (err error) {
	*k, err = ParseKeep(string(text))
	return err
}

// before gives the instant before which what is kept so long is due at now; false
// where nothing is ever due.
func (k Keep) before(now time.Time) (time.Time, bool) {
	if k == Forever || k < 1 {
		return time.Time{}, false
	}
	return now.Add(-time.Duration(k) * day), true
}

// byDefault gives how long a class is kept where nobody says.
func byDefault(c Class) Keep {
	switch c {
	case Control, Security, System, Usage, LimitHistory, Versions, Expired:
		return 365
	case Access:
		return 90
	case Tests:
		return 90
	case Deliveries, DeletedMembers:
		return 30
	}
	return Forever
}

// most gives how long a class is kept at most, whatever anybody says; false where
// there is no such bound.
func most(c Class) (Keep, bool) { return 30, c == Deliveries }

// Lengths are lengths by class.
type Lengths map[Class]Keep

// builtinFloors are the operator's floors where the operator says nothing: nobody
// wipes the trail by a policy.
func builtinFloors() Lengths {
	return Lengths{Control: 90, Security: 90, System: 30, Access: 7}
}
