package seal

import (
	"context"
	"errors"
	"time"
)

// Warm derives, under the key that seals, the keys of those organizations whose
// keys under other master keys are cached: after a switch of the sealing key, so
// that requests do not wait for it one by one while values are rewrapped. It
// derives one at a time and rests as long as each took, so that it has half a
// core at most. It ends with ctx, or with the first error but [ErrBusy].
func (k *Keyring) Warm(ctx context.Context) error {
	master, err := k.sealingKey()
	if err != nil {
		return err
	}
	for _, id := range k.deriver.notUnder(master.id) {
		begin := time.Now()
		_, err := k.deriver.organizationKey(ctx, master, id.organization, id.salt)
		if err != nil && !errors.Is(err, ErrBusy) { // where many wait they derive what they need themselves
			return err
		}
		select {
		case <-ctx.Done():
			return waitError(ctx)
		case <-time.After(time.Since(begin)):
		}
	}
	return nil
}
