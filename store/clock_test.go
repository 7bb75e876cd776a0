package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

func TestVouches(t *testing.T) {
	away := errors.New("away")
	for _, c := range []struct {
		off   time.Duration // of the server's clock from this machine's
		test  time.Duration // of the clock that is asked about from this machine's
		none  bool          // there is no server
		err   error
		right bool
		skew  bool
	}{
		{right: true},
		{off: 59 * time.Minute, right: true},
		{off: -59 * time.Minute, right: true},
		{off: 61 * time.Minute, skew: true},
		{off: -240 * time.Hour, skew: true},
		{off: -240 * time.Hour, test: time.Hour},
		{off: -240 * time.Hour, none: true},
		{none: true},
		{err: away},
	} {
		now := time.Now()
		ask := store.ServerClock(func(context.Context) (time.Time, bool, error) { return now.Add(c.off), !c.none, c.err })
		right, err := ask.Vouches(t.Context(), now.Add(c.test))
		var skew *store.SkewError
		if right != c.right || errors.As(err, &skew) != c.skew || !c.skew && !errors.Is(err, c.err) {
			t.Errorf("%+v: %v, %v", c, right, err)
		}
	}
}
