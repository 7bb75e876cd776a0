package seal

import (
	"cmp"
	"context"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// Options are the bounds of a [Keyring]. Zero means the default.
type Options struct {
	// Derivations is how many PBKDF2 run at a time; default GOMAXPROCS.
	Derivations int
	// Waiting is how many more may wait in line; past it the answer is
	// [ErrBusy]. Callers that want the same key share one place. Default 32
	// for each of Derivations, which is about half a second.
	Waiting int
	// OrganizationKeys is how many derived keys are kept, at about 300 bytes
	// each; default 16,384.
	OrganizationKeys int
	// DataKeys is how many unwrapped data keys are kept, at about 2 KB
	// each; default 4,096.
	DataKeys int
}

// Keyring seals and opens. It holds the master keys, one of which seals while
// the others only open, and caches derived keys. It is safe for concurrent use
// and starts no goroutine that outlives a derivation.
type Keyring struct {
	deriver *deriver
	opened  *dataKeys

	mu      sync.RWMutex
	keys    map[KeyID]MasterKey
	sealing KeyID // zero until SetSealing
}

// NewKeyring gives a keyring that holds keys, none of which seals until
// [Keyring.SetSealing]. Two keys of one id give [ErrDuplicateKey].
func NewKeyring(options Options, keys ...MasterKey) (*Keyring, error) {
	derivations := cmp.Or(max(options.Derivations, 0), runtime.GOMAXPROCS(0))
	k := &Keyring{
		deriver: newDeriver(
			derivations,
			cmp.Or(max(options.Waiting, 0), 32*derivations),
			cmp.Or(max(options.OrganizationKeys, 0), 16_384),
		),
		opened: newDataKeys(cmp.Or(max(options.DataKeys, 0), 4_096)),
		keys:   make(map[KeyID]MasterKey),
	}
	for _, key := range keys {
		if err := k.Add(key); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Add makes the keyring hold one more key, which only opens. It gives
// [ErrDuplicateKey] if one of its id is there, [ErrKeyRecord] for the zero
// MasterKey.
func (k *Keyring) Add(key MasterKey) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if key.id.IsZero() {
		return ErrKeyRecord
	}
	if _, found := k.keys[key.id]; found {
		return ErrDuplicateKey
	}
	k.keys[key.id] = key
	return nil
}

// SetSealing makes the key of this id the one that seals, or gives
// [UnknownKeyError].
func (k *Keyring) SetSealing(id KeyID) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, found := k.keys[id]; !found {
		return UnknownKeyError{id}
	}
	k.sealing = id
	return nil
}

// Remove makes the keyring forget a key and everything derived from it: what is
// sealed under it does not open any more. The key that seals cannot be removed;
// one that the keyring does not hold is none to remove. Both change nothing.
func (k *Keyring) Remove(id KeyID) {
	k.mu.Lock()
	if id == k.sealing {
		k.mu.Unlock()
		return
	}
	delete(k.keys, id)
	k.mu.Unlock()
	k.deriver.forget(func(key organizationKeyID) bool { return key.master == id })
	k.opened.forget(func(key *dataKey) bool { return Sealed(key.header[:]).keyID() == id })
}

// Sealing gives the id of the key that seals; false if none was set.
func (k *Keyring) Sealing() (KeyID, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.sealing, !k.sealing.IsZero()
}

// Holds reports whether the keyring can open what is sealed under this key.
func (k *Keyring) Holds(id KeyID) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	_, found := k.keys[id]
	return found
}

// KeyIDs gives the ids of the keys that the keyring holds, in order.
func (k *Keyring) KeyIDs() []KeyID {
	k.mu.RLock()
	defer k.mu.RUnlock()
	ids := make([]KeyID, 0, len(k.keys))
	for id := range k.keys {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b KeyID) int { return slices.Compare(a[:], b[:]) })
	return ids
}

// sealingKey gives the key that seals, or [ErrNoSealingKey].
func (k *Keyring) sealingKey() (MasterKey, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, found := k.keys[k.sealing]
	if !found {
		return MasterKey{}, ErrNoSealingKey
	}
	return key, nil
}

// Seal encrypts plaintext under the sealing key for exactly this context. The
// first call for an organization derives its key; see the package comment for
// what that costs. Errors: [ErrContext], [ErrSalt], [ErrTooLarge],
// [ErrNoSealingKey], [ErrBusy], or ctx's while waiting.
func (k *Keyring) Seal(ctx context.Context, c Context, salt OrganizationSalt, plaintext []byte) (Sealed, error) {
	c, err := c.canonical()
	if err != nil {
		return nil, err
	}
	if salt.IsZero() {
		return nil, ErrSalt
	}
	if len(plaintext) > MaxPlaintext {
		return nil, ErrTooLarge
	}
	var dataKey [keySize]byte
	_, _ = rand.Read(dataKey[:]) // never fails, see crypto/rand
	defer clear(dataKey[:])
	payload, err := newAEAD(dataKey[:])
	if err != nil {
		return nil, err
	}
	sealed, err := k.wrap(ctx, c, salt, dataKey[:], len(plaintext))
	if err != nil {
		return nil, err
	}
	return payload.Seal(sealed, nil, plaintext, c.appendPayloadData(nil)), nil
}

// wrap gives everything of a sealed value that stands before the payload, with
// room for one of a plaintext of this size.
func (k *Keyring) wrap(ctx context.Context, c Context, salt OrganizationSalt, dataKey []byte, size int) (Sealed, error) {
	master, err := k.sealingKey()
	if err != nil {
		return nil, err
	}
	organizationKey, err := k.deriver.organizationKey(ctx, master, c.Organization, salt)
	if err != nil {
		return nil, err
	}
	var versionSalt [SaltSize]byte
	_, _ = rand.Read(versionSalt[:]) // never fails, see crypto/rand
	aead, err := wrapAEAD(organizationKey, versionSalt[:])
	if err != nil {
		return nil, err
	}
	iterations := uint32(master.iterations) // at most MaxIterations

	sealed := make(Sealed, 0, Overhead+size)
	sealed = append(sealed, magic...)
	sealed = append(sealed, suite1)
	sealed = append(sealed, master.id[:]...)
	sealed = binary.BigEndian.AppendUint32(sealed, iterations)
	sealed = append(sealed, versionSalt[:]...)
	return aead.Seal(sealed, nil, dataKey, c.appendWrapData(nil, master.id, iterations, versionSalt[:])), nil
}

// Open decrypts what was sealed in the same context and with the same salt.
// Errors: [ErrNotOpened], [UnknownKeyError], [ErrMalformed], [ErrUnsupported],
// [ErrIterations], [ErrContext], [ErrSalt], [ErrBusy], or ctx's while waiting.
func (k *Keyring) Open(ctx context.Context, c Context, salt OrganizationSalt, sealed Sealed) (Secret, error) {
	plaintext, err := k.openAppend(ctx, nil, c, salt, sealed)
	if err != nil {
		return Secret{}, err
	}
	return ownSecret(plaintext), nil
}

// openAppend is [Keyring.Open] for hot paths: it appends the plaintext to dst,
// which must not overlap sealed, and gives the result; with room in dst and
// the data key cached it does not allocate. What it gives is a bare secret.
func (k *Keyring) openAppend(ctx context.Context, dst []byte, c Context, salt OrganizationSalt, sealed Sealed) ([]byte, error) {
	if err := sealed.check(); err != nil {
		return nil, err
	}
	if salt.IsZero() {
		return nil, ErrSalt
	}
	key, generation := k.opened.get(sealed, &salt)
	if key != nil {
		if data := key.additionalData(&c); data != nil {
			plaintext, err := key.aead.Open(dst, nil, sealed[offsetPayload:], data)
			if err != nil {
				return nil, ErrNotOpened
			}
			return plaintext, nil
		}
	}
	c, err := c.canonical()
	if err != nil {
		return nil, err
	}
	var payload cipher.AEAD
	if key != nil {
		payload = key.aead
	} else if payload, err = k.unwrapAEAD(ctx, c, salt, sealed); err != nil {
		return nil, err
	}
	data := c.appendPayloadData(nil)
	plaintext, err := payload.Open(dst, nil, sealed[offsetPayload:], data)
	if err != nil {
		return nil, ErrNotOpened
	}
	k.opened.put(newDataKey(payload, c, salt, sealed, data), generation)
	return plaintext, nil
}

// Check reports whether a value would open, with the errors of [Keyring.Open].
// It keeps nothing of it: neither the plaintext nor its data key.
func (k *Keyring) Check(ctx context.Context, c Context, salt OrganizationSalt, sealed Sealed) error {
	if err := sealed.check(); err != nil {
		return err
	}
	if salt.IsZero() {
		return ErrSalt
	}
	c, err := c.canonical()
	if err != nil {
		return err
	}
	payload, err := k.unwrapAEAD(ctx, c, salt, sealed)
	if err != nil {
		return err
	}
	plaintext, err := payload.Open(nil, nil, sealed[offsetPayload:], c.appendPayloadData(nil))
	clear(plaintext)
	if err != nil {
		return ErrNotOpened
	}
	return nil
}

func (k *Keyring) unwrapAEAD(ctx context.Context, c Context, salt OrganizationSalt, sealed Sealed) (cipher.AEAD, error) {
	key, err := k.unwrap(ctx, c, salt, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return newAEAD(key)
}

// unwrap gives the data key of a well-formed sealed value.
func (k *Keyring) unwrap(ctx context.Context, c Context, salt OrganizationSalt, sealed Sealed) ([]byte, error) {
	keyID, iterations := sealed.KeyID(), sealed.Iterations()
	k.mu.RLock()
	master, found := k.keys[keyID]
	k.mu.RUnlock()
	if !found {
		return nil, UnknownKeyError{keyID}
	}
	// A key always seals with its record's count, so another is a forgery,
	// and is refused before it can cost a derivation.
	if iterations != master.iterations {
		return nil, ErrNotOpened
	}
	organizationKey, err := k.deriver.organizationKey(ctx, master, c.Organization, salt)
	if err != nil {
		return nil, err
	}
	versionSalt := sealed[offsetSalt:offsetWrap]
	aead, err := wrapAEAD(organizationKey, versionSalt)
	if err != nil {
		return nil, err
	}
	data := c.appendWrapData(nil, keyID, uint32(iterations), versionSalt) // at most MaxIterations
	key, err := aead.Open(nil, nil, sealed[offsetWrap:offsetPayload], data)
	if err != nil {
		return nil, ErrNotOpened
	}
	return key, nil
}

// Rewrap gives the same value under the sealing key: its data key is wrapped
// anew with a fresh salt and IV, its payload is copied byte for byte and not
// decrypted. A value that is under the sealing key already comes back as it
// is, unchecked. Errors are those of [Keyring.Open] and [ErrNoSealingKey].
func (k *Keyring) Rewrap(ctx context.Context, c Context, salt OrganizationSalt, sealed Sealed) (Sealed, error) {
	if err := sealed.check(); err != nil {
		return nil, err
	}
	if salt.IsZero() {
		return nil, ErrSalt
	}
	c, err := c.canonical()
	if err != nil {
		return nil, err
	}
	master, err := k.sealingKey()
	if err != nil {
		return nil, err
	}
	if sealed.KeyID() == master.id {
		return sealed, nil
	}
	key, err := k.unwrap(ctx, c, salt, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	rewrapped, err := k.wrap(ctx, c, salt, key, len(sealed)-Overhead)
	if err != nil {
		return nil, err
	}
	return append(rewrapped, sealed[offsetPayload:]...), nil
}

// Forget drops every cached key of the organization, also those being derived
// at the moment. Call it when an organization or its salt is deleted.
func (k *Keyring) Forget(organization string) {
	// Organization keys first: see dataKeys.put.
	k.deriver.forget(func(id organizationKeyID) bool { return id.organization == organization })
	k.opened.forget(func(key *dataKey) bool { return key.context.Organization == organization })
}

// Stats are counts for metrics.
type Stats struct {
	OrganizationKeys int    // cached now
	DataKeys         int    // cached now
	Running          int    // derivations running now
	Waiting          int    // derivations in line now
	Derived          uint64 // derivations ever started
	Refused          uint64 // calls that got ErrBusy
}

// Stats gives the counts of this moment.
func (k *Keyring) Stats() Stats {
	k.deriver.mu.Lock()
	defer k.deriver.mu.Unlock()
	return Stats{
		OrganizationKeys: len(k.deriver.keys.entries),
		DataKeys:         k.opened.len(),
		Running:          k.deriver.running,
		Waiting:          len(k.deriver.pending),
		Derived:          k.deriver.started,
		Refused:          k.deriver.refused,
	}
}

// String gives the number of keys and which one seals.
func (k *Keyring) String() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return fmt.Sprintf("keyring(%d keys, sealing %v)", len(k.keys), k.sealing)
}

// GoString is as [Keyring.String].
func (k *Keyring) GoString() string { return k.String() }
