package seal

import "context"

// SetDerive replaces the derivation of organization keys, so that a test can
// hold one up. f gets the real one. Call it before the keyring is used.
func (k *Keyring) SetDerive(f func(derive func() ([]byte, error)) ([]byte, error)) {
	k.deriver.derive = func(master MasterKey, salt OrganizationSalt) ([]byte, error) {
		return f(func() ([]byte, error) { return deriveOrganizationKey(master, salt) })
	}
}

// OpenAppend opens a sealed value behind what dst holds.
func (k *Keyring) OpenAppend(ctx context.Context, dst []byte, c Context, salt OrganizationSalt, sealed Sealed) ([]byte, error) {
	return k.openAppend(ctx, dst, c, salt, sealed)
}
