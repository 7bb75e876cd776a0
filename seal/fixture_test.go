package seal_test

import (
	"bytes"
	"sync"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
)

// Two organizations, two master keys and one context. Making a key takes a
// derivation of its own, so each is made once.
var (
	masterA = seal.NewSecret("first master secret of the tests, 40 bytes")
	masterB = seal.NewSecret("second master secret of the tests, 40 bytes")

	saltA = seal.OrganizationSalt(bytes.Repeat([]byte{0xa0}, seal.SaltSize))
	saltB = seal.OrganizationSalt(bytes.Repeat([]byte{0xb0}, seal.SaltSize))

	recordA = sync.OnceValue(func() seal.KeyRecord { return mustRecord(seal.KeyID{15: 1}, masterA) })
	recordB = sync.OnceValue(func() seal.KeyRecord { return mustRecord(seal.KeyID{15: 2}, masterB) })
	keyA    = sync.OnceValue(func() seal.MasterKey { return mustKey(recordA(), masterA) })
	keyB    = sync.OnceValue(func() seal.MasterKey { return mustKey(recordB(), masterB) })

	credential = seal.Context{
		Environment:  "production",
		Organization: "acme",
		Kind:         "credential",
		ID:           "cred_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8",
		Version:      3,
		Fields:       []string{"apiKey", "organization"},
	}
)

func mustRecord(id seal.KeyID, secret seal.Secret) seal.KeyRecord {
	record, err := seal.NewKeyRecord(id, secret, seal.MinIterations)
	if err != nil {
		panic(err)
	}
	return record
}

func mustKey(record seal.KeyRecord, secret seal.Secret) seal.MasterKey {
	key, err := seal.NewMasterKey(record, secret)
	if err != nil {
		panic(err)
	}
	return key
}

// newKeyring gives a keyring that holds keys A and B and seals under A.
func newKeyring(tb testing.TB) *seal.Keyring {
	tb.Helper()
	return newKeyringWith(tb, seal.Options{})
}

func newKeyringWith(tb testing.TB, options seal.Options) *seal.Keyring {
	tb.Helper()
	keyring, err := seal.NewKeyring(options, keyA(), keyB())
	if err != nil {
		tb.Fatal(err)
	}
	if err := keyring.SetSealing(keyA().ID()); err != nil {
		tb.Fatal(err)
	}
	return keyring
}
