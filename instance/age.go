package instance

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/vault"
)

// Age is a duration that may be given in days, such as 90d, or as Go writes
// durations, such as 36h. 0 switches off what it is the age of.
type Age time.Duration

// maxAge keeps ages away from the ends of time.
const maxAge = 100 * 365 * 24 * time.Hour

var errAge = errors.New("must be days, such as 90d, or a duration, such as 36h; 0 switches it off")

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Age) UnmarshalText(text []byte) error {
	var d time.Duration
	if days, ok := strings.CutSuffix(string(text), "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return errAge
		}
		d = time.Duration(n) * 24 * time.Hour
	} else {
		var err error
		if d, err = time.ParseDuration(string(text)); err != nil {
			return errAge
		}
	}
	if d < 0 || d > maxAge {
		return errAge
	}
	*a = Age(d)
	return nil
}

// String gives the age as it can be set.
func (a Age) String() string { return vault.Days(time.Duration(a)) }
