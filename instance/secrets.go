package instance

import "github.com/gatehouse-io/gatehouse/seal"

// MasterSecrets gives the secrets that may be master keys of the database: the
// one of ENCRYPTION_KEY, or of JWT_SECRET in its place, first.
func (c *Config) MasterSecrets() []seal.Secret {
	var all []seal.Secret
	for _, s := range append([]seal.Secret{c.masterSecret()}, c.oldSecrets()...) {
		if !s.IsZero() {
			all = append(all, s)
		}
	}
	return all
}
