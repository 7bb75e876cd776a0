package store

import (
	"context"
	"time"
)

// MaxSkew is how far this machine's clock may be from the database server's before
// nothing is done by it that cannot be undone.
const MaxSkew = time.Hour

// clockTimeout is how long the question for the time may take; one that took longer would say
// nothing of now.
const clockTimeout = 5 * time.Second

// ServerClock asks for the time on the database server's clock, as [DB.Now] does.
type ServerClock func(context.Context) (now time.Time, has bool, err error)

// SkewError says that this machine's clock is not the database server's.
type SkewError struct{ Server time.Time } // what that says

func (e *SkewError) Error() string {
	return "this machine's clock is not the database server's, which says " + e.Server.UTC().Format(time.RFC3339) + ": set it right"
}

// Vouches reports whether the database server says that it is now, to within
// [MaxSkew]. Where it says another time that is a [SkewError]. Nobody vouches on SQLite,
// where there is no other clock, nor for a test's clock, which is not this machine's.
func (ask ServerClock) Vouches(ctx context.Context, now time.Time) (bool, error) {
	if time.Since(now).Abs() >= time.Minute { // asked first: the answer may take as long
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, clockTimeout)
	defer cancel()
	server, has, err := ask(ctx)
	if err != nil || !has {
		return false, err
	}
	if server.Sub(now).Abs() > MaxSkew {
		return false, &SkewError{server}
	}
	return true, nil
}
