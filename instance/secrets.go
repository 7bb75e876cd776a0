package instance

import (
	"strings"

	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
)

// MasterSecrets gives the secrets that may be master keys of the database:
// ENCRYPTION_KEY, the old ones, and JWT_SECRET, which seals where there is no
// ENCRYPTION_KEY.
func (c *Config) MasterSecrets() []seal.Secret {
	old, readings := c.oldSecrets()
	given := append(append([]seal.Secret{seal.NewSecret(c.EncryptionKey)}, old...), seal.NewSecret(c.JWTSecret))
	for _, r := range readings {
		given = append(given, r.Secret)
	}
	var all []seal.Secret
	for _, s := range given {
		if s.Len() >= seal.MinSecret {
			all = append(all, s)
		}
	}
	return all
}

// mostParts is of how many entries of ENCRYPTION_KEYS_OLD one secret may be made.
// Each reading costs a PBKDF2 where a key's secret is missing, and only there.
const mostParts = 16

// oldSecrets reads ENCRYPTION_KEYS_OLD: its entries, as they are written between commas
// and line breaks, and what else they may stand for. Whatever ENCRYPTION_KEY takes can
// be listed: a secret with commas in it is several entries in a row, and white space
// around an entry is part of it or not. Which of them was a key the database tells.
func (c *Config) oldSecrets() (entries []seal.Secret, readings []masterkey.Reading) {
	text := c.EncryptionKeysOld
	var from, to []int // where each entry begins and ends
	for start := 0; text != "" && start <= len(text); {
		end := len(text)
		if i := strings.IndexAny(text[start:], ",\n"); i >= 0 {
			end = start + i
		}
		from, to = append(from, start), append(to, end)
		start = end + 1
	}
	for i := range from {
		entry := text[from[i]:to[i]]
		if strings.TrimSpace(entry) == "" {
			entry = "" // behind a last comma or line break
		}
		entries = append(entries, seal.NewSecret(entry))
	}
	for parts := 1; parts <= min(mostParts, len(from)); parts++ { // the likeliest first
		for i := 0; i+parts <= len(from); i++ {
			written := text[from[i]:to[i+parts-1]]
			for j, s := range []string{written, strings.TrimSpace(written)} {
				if len(s) >= seal.MinSecret && (j == 0 && parts > 1 || j == 1 && s != written) {
					readings = append(readings, masterkey.Reading{Secret: seal.NewSecret(s), From: i, To: i + parts})
				}
			}
		}
	}
	return entries, readings
}
