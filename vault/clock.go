package vault

import (
	"context"
	"errors"
	"time"
)

var errClockBack = errors.New("this machine's clock went back meanwhile")

// mayActBy gives an error where what cannot be undone must not be done by the time now, which
// this machine's clock said a moment ago: where the database server has another
// ([store.SkewError]), or it was taken back since. On SQLite there is nothing to ask.
func (v *Vault) mayActBy(ctx context.Context, now time.Time) error {
	later := v.opts.Now()
	if later.Round(0).Before(now.Round(0)) { // by the wall clock: the monotonic one does not jump
		return errClockBack
	}
	_, err := v.server.Vouches(ctx, later)
	return err
}
