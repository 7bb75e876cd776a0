package seal_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
)

// What authenticates is made as docs/sealing.md says, by other code than the package's.
func TestAuthenticate(t *testing.T) {
	salt := bytes.Repeat([]byte{7}, seal.SaltSize)
	got, err := seal.Authenticate(masterA, "gatehouse/backup/2/signature", salt, seal.MinIterations, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	page := readDocs(t)
	stretched := docsPBKDF2(t, masterA.ExposeSecret(), page.label(t, "gatehouse/seal/1/authentication-key"), salt, seal.MinIterations)
	mac := hmac.New(sha256.New, docsHKDF(t, stretched, nil, page.label(t, "gatehouse/backup/2/signature")))
	mac.Write([]byte("message"))
	same(t, "the authentication", got, mac.Sum(nil))

	salt2 := bytes.Repeat([]byte{8}, seal.SaltSize)
	for name, other := range map[string]func() ([]byte, error){
		"another secret": func() ([]byte, error) {
			return seal.Authenticate(masterB, "gatehouse/backup/2/signature", salt, seal.MinIterations, []byte("message"))
		},
		"another purpose": func() ([]byte, error) {
			return seal.Authenticate(masterA, "gatehouse/backup/3/signature", salt, seal.MinIterations, []byte("message"))
		},
		"another salt": func() ([]byte, error) {
			return seal.Authenticate(masterA, "gatehouse/backup/2/signature", salt2, seal.MinIterations, []byte("message"))
		},
		"other iterations": func() ([]byte, error) {
			return seal.Authenticate(masterA, "gatehouse/backup/2/signature", salt, seal.MinIterations+1, []byte("message"))
		},
		"another message": func() ([]byte, error) {
			return seal.Authenticate(masterA, "gatehouse/backup/2/signature", salt, seal.MinIterations, []byte("massage"))
		},
	} {
		if b, err := other(); err != nil || bytes.Equal(b, got) {
			t.Errorf("%s authenticates as the same, or gives %v", name, err)
		}
	}
	for name, test := range map[string]struct {
		secret     seal.Secret
		salt       []byte
		iterations int
		want       error
	}{
		"no secret":       {seal.Secret{}, salt, seal.MinIterations, seal.ErrShortSecret},
		"a short secret":  {seal.NewSecret("short"), salt, seal.MinIterations, seal.ErrShortSecret},
		"a short salt":    {masterA, salt[1:], seal.MinIterations, seal.ErrSalt},
		"no salt":         {masterA, nil, seal.MinIterations, seal.ErrSalt},
		"few iterations":  {masterA, salt, seal.MinIterations - 1, seal.ErrIterations},
		"many iterations": {masterA, salt, seal.MaxIterations + 1, seal.ErrIterations},
	} {
		if _, err := seal.Authenticate(test.secret, "p", test.salt, test.iterations, nil); !errors.Is(err, test.want) {
			t.Errorf("%s gives %v, want %v", name, err, test.want)
		}
	}
}
