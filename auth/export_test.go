package auth

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
)

// ReadObject reads an object as a token's are read, and gives the names and raw
// values of its members.
func ReadObject(data []byte) (names []string, values [][]byte, err error) {
	members, err := readObject(data, nil)
	for _, m := range members {
		names, values = append(names, m.name), append(values, m.value)
	}
	return names, values, err
}

// ReadText gives a string's text.
func ReadText(value []byte) (string, bool) { return readText(value) }

// ReadTexts gives the texts of a list.
func ReadTexts(value []byte) ([]string, bool) { return readTexts(value) }

// NewServiceToken makes a service token that is in no database.
func NewServiceToken() string { return newServiceToken() }

// KeysIn gives how many keys of a key set verify algorithm, and how many are too
// weak.
func KeysIn(data []byte, algorithm string) (keys, weak int, err error) {
	all, weak, err := readKeySet(data, algorithm)
	return len(all), weak, err
}

// IsServiceToken reports whether token begins as one.
func IsServiceToken(token string) bool { return isServiceToken(token) }

// CheckServiceToken reports whether token has the form and the checksum of one.
func CheckServiceToken(token string) bool { return checkServiceToken(token) }

// Verify reads a JWT without asking whether its organization is known.
func (a *Authenticator) Verify(ctx context.Context, token string) (access.Caller, error) {
	return a.verify(ctx, token)
}
