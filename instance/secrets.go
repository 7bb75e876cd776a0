package instance

import "github.com/gatehouse-io/gatehouse/seal"

// MasterSecrets gives the secrets that may be master keys of the database:
// ENCRYPTION_KEY, the old ones, and JWT_SECRET, which seals where there is no
// ENCRYPTION_KEY.
func (c *Config) MasterSecrets() []seal.Secret {
	var all []seal.Secret
	for _, s := range append(append([]string{c.EncryptionKey}, c.EncryptionKeysOld...), c.JWTSecret) {
		if s != "" {
			all = append(all, seal.NewSecret(s))
		}
	}
	return all
}
