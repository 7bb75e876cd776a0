package seal_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/gatehouse-io/gatehouse/seal"
)

func Example() {
	ctx := context.Background()
	secret := seal.NewSecret("32 random bytes in base64 do best")

	// Once, at first start; the record goes to the database.
	id := seal.KeyID{0x01, 0x92, 0xe0, 0xa5, 0x7f, 0x9c, 0x7c, 0x3e, 0x9d, 0x6b, 0x3a, 0x1f, 0x00, 0xc4, 0xd2, 0xe8} // a UUIDv7
	record, err := seal.NewKeyRecord(id, secret, seal.MinIterations)
	if err != nil {
		panic(err)
	}

	// At every start.
	key, err := seal.NewMasterKey(record, secret)
	if err != nil {
		panic(err)
	}
	keyring, err := seal.NewKeyring(seal.Options{}, key)
	if err != nil {
		panic(err)
	}
	if err := keyring.SetSealing(record.ID); err != nil {
		panic(err)
	}

	// The salt is drawn when the organization is made and kept in its row.
	salt := seal.NewOrganizationSalt()
	c := seal.Context{
		Environment:  "production",
		Organization: "acme",
		Kind:         "credential",
		ID:           "cred_0192e0a6-1b2c-7d3e-8f40-5a6b7c8d9e0f",
		Version:      1,
		Fields:       []string{"apiKey"},
	}
	sealed, err := keyring.SealFields(ctx, c, salt, seal.Fields{"apiKey": seal.NewSecret("sk-example")})
	if err != nil {
		panic(err)
	}
	fields, err := keyring.OpenFields(ctx, c, salt, sealed)
	if err != nil {
		panic(err)
	}
	fmt.Println(fields)
	fmt.Println(fields["apiKey"].ExposeSecret())

	c.Organization = "umbrella"
	_, err = keyring.OpenFields(ctx, c, salt, sealed)
	fmt.Println(errors.Is(err, seal.ErrNotOpened))
	// Output:
	// map[apiKey:[secret]]
	// sk-example
	// true
}
