// Package seal encrypts what Gatehouse keeps: credentials above all.
//
// It derives keys, wraps and unwraps them, and defines the format of a sealed
// value to the byte. It does no I/O, reads no clock and stores nothing: the
// caller brings master secrets, key records, salts and contexts, and keeps
// what comes out. docs/sealing.md describes the format so that values can be
// recovered without this package.
//
// # From a master secret to a plaintext
//
//	master secret ── PBKDF2-HMAC-SHA256, 100,000 or more, organization's salt ──> organization key
//	organization key ── HKDF-SHA256, version's salt ──> wrapping key
//	wrapping key ── AES-256-GCM ──> data key (random, one per version)
//	data key ── AES-256-GCM ──> plaintext
//
// Every wrapping key and every data key encrypts one message, under a fresh
// random 96-bit IV. Both layers authenticate a [Context]: environment,
// organization, kind, id, version and names of the fields. A row that is moved
// to another tenant, credential, version or environment does not open.
//
// # Use
//
// At first start, make a record of the master secret and store it:
//
//	record, err := seal.NewKeyRecord(seal.KeyID(id), seal.NewSecret(os.Getenv("ENCRYPTION_KEY")), seal.MinIterations)
//
// At every start, check each secret against its record and make a keyring:
//
//	key, err := seal.NewMasterKey(record, secret) // ErrWrongSecret: not the secret of this database
//	keyring, err := seal.NewKeyring(seal.Options{}, key, oldKey)
//	err = keyring.SetSealing(record.ID)
//
// Then seal and open, always with the salt of the organization's row and the
// context of the value's row:
//
//	sealed, err := keyring.SealFields(ctx, c, salt, seal.Fields{"apiKey": apiKey})
//	fields, err := keyring.OpenFields(ctx, c, salt, sealed)
//
// To rotate, stage a new key on every instance, call [Keyring.SetSealing], and
// put every value through [Keyring.Rewrap]. The old key may go when no sealed
// column names it any more; see [Sealed]. [Keyring.Forget] belongs to the
// deletion of an organization.
//
// # Cost
//
// The PBKDF2 runs once per organization, master key and process; a keyring
// caches its result, runs no more than one per core, and lets a bounded number
// wait ([ErrBusy] past it). After that the first open of a value costs a few
// microseconds, and each further one about twice its bare AES-GCM.
//
// # Secrets
//
// A [Secret] does not print, log or marshal, and no error of this package
// holds a byte of a secret, a plaintext or a ciphertext. Memory is cleared
// where Go lets us, which is not everywhere: whoever reads the process's
// memory reads its keys.
package seal
