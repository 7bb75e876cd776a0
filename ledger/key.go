package ledger

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Sealer seals and opens signing keys under the master key. Package vault has one.
type Sealer interface {
	Seal(ctx context.Context, id string, key []byte) (seal.Sealed, error)
	Open(ctx context.Context, id string, sealed seal.Sealed) (seal.Secret, error)
}

// Key is the public half of a key that signs checkpoints, or signed them.
type Key struct {
	ID        string // the first 8 bytes of the SHA-256 of Public, in hex
	Public    ed25519.PublicKey
	CreatedAt time.Time
	RetiredAt time.Time // zero: it signs
}

// What a sealed value of ledger_keys begins with. The private key is destroyed
// when it retires; the seal goes on to vouch for the public one, which anybody who
// can write to the database could otherwise put there.
const (
	sealedSeed   = 's'
	sealedPublic = 'p'
)

func keyID(public ed25519.PublicKey) string {
	sum := sha256.Sum256(public)
	return hex.EncodeToString(sum[:8])
}

// named is a key under the name of one log's origin, as signed notes want it: it
// is a [note.Signer] and a [note.Verifier].
type named struct {
	origin  string
	public  ed25519.PublicKey
	private ed25519.PrivateKey // nil: it verifies
}

// Name implements [note.Signer] and [note.Verifier].
func (n named) Name() string { return n.origin }

// KeyHash implements [note.Signer] and [note.Verifier]: C2SP signed-note, Ed25519.
func (n named) KeyHash() uint32 {
	h := sha256.New()
	h.Write([]byte(n.origin))
	h.Write([]byte{'\n', 1})
	h.Write(n.public)
	return binary.BigEndian.Uint32(h.Sum(nil))
}

// Sign implements [note.Signer].
func (n named) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(n.private, msg), nil }

// Verify implements [note.Verifier].
func (n named) Verify(msg, sig []byte) bool {
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(n.public, msg, sig)
}

// keyring is the keys of a database, each one vouched for by its seal.
type keyring []Key

// Verifier implements [note.Verifiers]: keys sign under the name of any log.
func (k keyring) Verifier(name string, hash uint32) (note.Verifier, error) {
	for i := range k {
		if n := (named{origin: name, public: k[i].Public}); n.KeyHash() == hash {
			return n, nil
		}
	}
	return nil, &note.UnknownVerifierError{Name: name, KeyHash: hash}
}

// open checks the signature of a note under its own origin and reads it.
func (k keyring) open(signed string) (Checkpoint, error) {
	n, err := note.Open([]byte(signed), k)
	if err != nil {
		return Checkpoint{}, err
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	for _, s := range n.Sigs {
		if s.Name == c.name() {
			return c, nil
		}
	}
	return Checkpoint{}, errors.New("no signature of the log itself")
}

// signer gives the key that signed a note which [keyring.open] took.
func (k keyring) signer(signed string) Key {
	for i := range k {
		if signedBy(signed, k[i].Public) {
			return k[i]
		}
	}
	return Key{}
}

// signedBy reports whether a note says that this key signed it.
func signedBy(signed string, public ed25519.PublicKey) bool {
	name, _, _ := strings.Cut(signed, "\n")
	var hash [4]byte
	binary.BigEndian.PutUint32(hash[:], named{origin: name, public: public}.KeyHash())
	// The first 4 bytes of the signature are its key's hash, so 30 bits of it are in 5 digits.
	return strings.Contains(signed, "\n— "+name+" "+base64.StdEncoding.EncodeToString(hash[:])[:5])
}

// signingKey is the key that signs, with its private half.
type signingKey struct {
	Key
	private ed25519.PrivateKey
}

func (k *signingKey) sign(c *Checkpoint) (string, error) {
	signed, err := note.Sign(&note.Note{Text: c.text()}, named{c.name(), k.Public, k.private})
	return string(signed), err
}

// storedKey is a row of ledger_keys.
type storedKey struct {
	Key
	sealed seal.Sealed
}

// errKey says that a signing key is not what its seal says.
var errKey = errors.New("is not what its seal says: it was put there by somebody else, or altered")

func (l *Ledger) readKeys(ctx context.Context) (all []storedKey, err error) {
	err = l.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var k storedKey
			var created, retired store.Time
			var public, sealed []byte
			if err := scan(&k.ID, &public, &sealed, &created, &retired); err != nil {
				return err
			}
			k.Public, k.sealed, k.CreatedAt, k.RetiredAt = public, sealed, created.Time, retired.Time
			all = append(all, k)
			return nil
		}, `SELECT id, public, key_sealed, created_at, retired_at FROM ledger_keys WHERE organization = $1 ORDER BY created_at, id`, access.InstanceOrganization)
	})
	return all, err
}

// check opens the key's seal and holds what is in it to the public key beside it.
// It gives the private key where that is there.
func (l *Ledger) check(ctx context.Context, k storedKey) (ed25519.PrivateKey, error) {
	sealed, err := seal.ParseSealed(k.sealed)
	if err != nil {
		return nil, errKey
	}
	secret, err := l.sealer.Open(ctx, k.ID, sealed)
	if errors.Is(err, seal.ErrNotOpened) || errors.Is(err, seal.ErrMalformed) || errors.Is(err, store.ErrNotFound) {
		return nil, errKey
	}
	if err != nil {
		return nil, err
	}
	defer secret.Wipe()
	content := secret.ExposeSecretBytes()
	if len(k.Public) != ed25519.PublicKeySize || len(content) != 1+ed25519.SeedSize || k.ID != keyID(k.Public) {
		return nil, errKey
	}
	switch content[0] {
	case sealedPublic:
		if !k.Public.Equal(ed25519.PublicKey(content[1:])) || k.RetiredAt.IsZero() {
			return nil, errKey
		}
		return nil, nil
	case sealedSeed:
		private := ed25519.NewKeyFromSeed(content[1:])
		if !k.Public.Equal(private.Public()) {
			return nil, errKey
		}
		return private, nil
	}
	return nil, errKey
}

// active gives the key that signs and makes the first one.
func (l *Ledger) active(ctx context.Context) (*signingKey, error) {
	for range 3 { // another instance may make it at the same time
		keys, err := l.readKeys(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range keys {
			if !k.RetiredAt.IsZero() {
				continue
			}
			private, err := l.check(ctx, k)
			if err != nil {
				return nil, fmt.Errorf("the signing key %s: %w", k.ID, err)
			}
			if private == nil {
				return nil, fmt.Errorf("the signing key %s %w", k.ID, errKey)
			}
			return &signingKey{k.Key, private}, nil
		}
		if _, err := l.newKey(ctx, system(), audit.KeyCreate, ""); err != nil && !errors.Is(err, store.ErrExists) {
			return nil, err
		}
	}
	return nil, errors.New("no signing key could be made")
}

// newKey makes a key that signs from now on, in place of the one with the id old.
func (l *Ledger) newKey(ctx context.Context, caller access.Caller, action audit.Action, old string) (Key, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, err
	}
	k := Key{ID: keyID(public), Public: public, CreatedAt: store.At(l.opts.Now()).Time}
	sealed, err := l.sealer.Seal(ctx, k.ID, append([]byte{sealedSeed}, private.Seed()...))
	if err != nil {
		return Key{}, err
	}
	var retired seal.Sealed
	var before Key
	if old != "" {
		keys, err := l.readKeys(ctx)
		if err != nil {
			return Key{}, err
		}
		for _, s := range keys {
			if s.ID == old {
				before = s.Key
			}
		}
		if retired, err = l.sealer.Seal(ctx, old, append([]byte{sealedPublic}, before.Public...)); err != nil {
			return Key{}, err
		}
	}
	err = l.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		// Not beside a run of the sealer: no block is signed by a key that has retired.
		if _, err := tx.Exec(ctx, `UPDATE ledger_sealer SET holder = holder WHERE organization = $1`, access.InstanceOrganization); err != nil {
			return err
		}
		if old != "" {
			tx.Destroys() // the private half
			n, err := tx.Exec(ctx, `UPDATE ledger_keys SET retired_at = $1, key_sealed = $2 WHERE organization = $3 AND id = $4 AND retired_at IS NULL`,
				store.At(k.CreatedAt), retired, access.InstanceOrganization, old)
			if err != nil {
				return err
			}
			if n == 0 {
				return ErrRotated
			}
			if err := masterkey.Admit(ctx, tx, access.InstanceOrganization, retired); err != nil {
				return err
			}
		}
		if old == "" {
			if err := l.begin(ctx, tx, &signingKey{k, private}); err != nil {
				return err
			}
		}
		if _, err := tx.Exec(ctx, `INSERT INTO ledger_keys (organization, id, public, key_sealed, created_at) VALUES ($1, $2, $3, $4, $5)`,
			access.InstanceOrganization, k.ID, []byte(public), sealed, store.At(k.CreatedAt)); err != nil {
			return err
		}
		if err := masterkey.Admit(ctx, tx, access.InstanceOrganization, sealed); err != nil {
			return err
		}
		e := audit.Event{Action: action, Outcome: audit.Success, Organization: access.InstanceOrganization, Permission: access.KeyRotate.String(),
			Targets: []audit.Target{{Type: "signing-key", ID: k.ID}}}
		if old != "" {
			e.Metadata = map[string]any{"retired": old}
		}
		return l.trail.Append(ctx, tx, caller, e)
	})
	return k, err
}

// begin makes the instance's own log, empty and signed by the first key, so that
// there is no key without it: somebody without the keys cannot make the trail begin
// anew. Where there is something of a log before there is a key, the keys were
// deleted.
func (l *Ledger) begin(ctx context.Context, tx *store.Tx, key *signingKey) error {
	var keys, left int64
	err := tx.Row(ctx, `SELECT (SELECT count(*) FROM ledger_keys WHERE organization = $1), (SELECT count(*) FROM (SELECT 1 FROM ledger_entries WHERE organization = $1 LIMIT 1) AS e) +
		(SELECT count(*) FROM (SELECT 1 FROM ledger_logs WHERE organization = $1 LIMIT 1) AS l)`, access.InstanceOrganization).Scan(&keys, &left)
	switch {
	case err != nil:
		return err
	case keys > 0: // another instance was first
		return store.ErrExists
	case left > 0:
		return ErrAltered.Because(errors.New("there are logs, and the keys that signed them are gone"))
	}
	note, err := key.sign(&Checkpoint{Origin: l.origin(instanceLog()), Root: emptyRoot, Block: -1, SealedAt: key.CreatedAt.Truncate(time.Millisecond)})
	if err != nil {
		return err
	}
	return writeHead(ctx, tx, instanceLog(), head{blockHash: noteHash(note), checkpoint: note}, key.CreatedAt)
}

// Keys gives the public keys, oldest first. Any caller may have them: they are
// for checking what Gatehouse signed. A key that its seal does not vouch for is
// an error.
func (l *Ledger) Keys(ctx context.Context) ([]Key, error) {
	stored, err := l.readKeys(ctx)
	if err != nil {
		return nil, err
	}
	var all []Key
	for _, k := range stored {
		if _, err := l.check(ctx, k); err != nil {
			return nil, fmt.Errorf("the signing key %s: %w", k.ID, err)
		}
		all = append(all, k.Key)
	}
	return all, nil
}

// RotateKey makes a new signing key, with which every block from now on is signed,
// and destroys the private half of the one before. It needs key:rotate.
func (l *Ledger) RotateKey(ctx context.Context, caller access.Caller) (Key, error) {
	if err := access.Allow(caller, access.KeyRotate, access.InstanceOrganization); err != nil {
		return Key{}, err
	}
	old, err := l.active(ctx)
	if err != nil {
		return Key{}, err
	}
	return l.newKey(ctx, caller, audit.KeyRotate, old.ID)
}

// Prepare makes the first signing key, and says whether the one that signs can be
// used. The sealer does the same when it first has something to sign.
func (l *Ledger) Prepare(ctx context.Context) error {
	_, err := l.signer(ctx)
	return err
}
