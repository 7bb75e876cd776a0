package vault

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// KeyOptions says with which master secrets a database is opened.
type KeyOptions struct {
	Environment string        // such as "production"; a database belongs to one
	Secret      seal.Secret   // ENCRYPTION_KEY: seals where the database knows no key yet
	Old         []seal.Secret // ENCRYPTION_KEYS_OLD: may open, never made to seal
	Iterations  int           // of a key made now; seal.MinIterations when 0
	Now         func() time.Time
	Logger      *slog.Logger
}

// OpenKeyring gives the keyring for the database: on a new one it makes the
// first master key of Secret, otherwise it recognises the given secrets by
// their check values. Which key seals is the database's word. A wrong secret
// or another environment is an error that names the key or the environment
// that is needed.
func OpenKeyring(ctx context.Context, db *store.DB, log *audit.Log, opts KeyOptions) (*seal.Keyring, error) {
	if opts.Iterations == 0 {
		opts.Iterations = seal.MinIterations
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	in, err := readInstance(ctx, db)
	if errors.Is(err, store.ErrNotFound) {
		if err = makeInstance(ctx, db, log, opts); err == nil || errors.Is(err, store.ErrExists) {
			in, err = readInstance(ctx, db) // another instance may have been first
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the master keys could not be read: %w", err)
	}
	if in.environment != opts.Environment {
		return nil, fmt.Errorf("this database belongs to the environment %q, and GATEHOUSE_ENV says %q; use that environment's database, or set GATEHOUSE_ENV=%s",
			in.environment, opts.Environment, in.environment)
	}
	return in.keyring(opts)
}

// HasKeys reports whether the database has master keys yet. Where it has none,
// [OpenKeyring] makes the first.
func HasKeys(ctx context.Context, db *store.DB) (bool, error) {
	_, err := readInstance(ctx, db)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// instance is what the database says of its keys.
type instance struct {
	environment string
	sealing     seal.KeyID
	records     []seal.KeyRecord
}

func readInstance(ctx context.Context, db *store.DB) (instance, error) {
	var in instance
	err := db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		in.records = nil
		if err := tx.Row(ctx, `SELECT environment, sealing_key FROM instance WHERE id = 1`).Scan(&in.environment, &in.sealing); err != nil {
			return err
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			var r seal.KeyRecord
			if err := scan(&r.ID, &r.Salt, &r.Iterations, &r.Check); err != nil {
				return err
			}
			in.records = append(in.records, r)
			return nil
		}, `SELECT id, salt, iterations, check_value FROM master_keys ORDER BY id`)
	})
	return in, err
}

func makeInstance(ctx context.Context, db *store.DB, log *audit.Log, opts KeyOptions) error {
	id, err := uuid.NewV7()
	if err != nil {
		return err
	}
	record, err := seal.NewKeyRecord(seal.KeyID(id), opts.Secret, opts.Iterations)
	if err != nil {
		return err
	}
	now := store.At(opts.Now())
	return db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO instance (id, environment, sealing_key, created_at) VALUES (1, $1, $2, $3)`,
			opts.Environment, record.ID, now)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO master_keys (id, salt, iterations, check_value, created_at) VALUES ($1, $2, $3, $4, $5)`,
			record.ID, record.Salt, record.Iterations, record.Check, now)
		if err != nil {
			return err
		}
		return log.Append(ctx, tx, access.NewCaller(access.InstanceOrganization, access.System, "gatehouse"), audit.Event{
			Action: audit.KeyCreate, Outcome: audit.Success, Targets: []audit.Target{{Type: "key", ID: record.ID.String()}},
		})
	})
}

func (in instance) keyring(opts KeyOptions) (*seal.Keyring, error) {
	ring, err := seal.NewKeyring(seal.Options{})
	if err != nil {
		return nil, err
	}
	secrets := append([]seal.Secret{opts.Secret}, opts.Old...)
	used := make([]bool, len(secrets))
	for _, record := range in.records {
		for i, secret := range secrets {
			key, err := seal.NewMasterKey(record, secret)
			if errors.Is(err, seal.ErrWrongSecret) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("the record of key %s: %w", record.ID, err)
			}
			used[i] = true
			if err := ring.Add(key); err != nil {
				return nil, err
			}
			break
		}
	}
	if err := ring.SetSealing(in.sealing); err != nil {
		return nil, fmt.Errorf("this database is sealed under key %s, which is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD; start with the secret that it was made of", in.sealing)
	}
	if i := slices.Index(used, false); i == 0 {
		opts.Logger.Warn("ENCRYPTION_KEY is not a key of this database yet; what it seals stays under the key in ENCRYPTION_KEYS_OLD", "sealing", in.sealing)
	} else if i > 0 {
		opts.Logger.Warn("a key in ENCRYPTION_KEYS_OLD opens nothing in this database and can be taken out", "position", i)
	}
	return ring, nil
}

// material is what an organization's seals hang on.
type material struct {
	salt        seal.OrganizationSalt
	fingerprint seal.Secret
}

// organizationKeys gives the organization's salt and fingerprint key, and makes
// them when they are asked for the first time.
func (v *Vault) organizationKeys(ctx context.Context, organization string) (material, error) {
	m, err := v.readOrganizationKeys(ctx, organization)
	if !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	salt := seal.NewOrganizationSalt()
	key := make([]byte, 32)
	rand.Read(key) // never fails (crypto/rand)
	sealed, err := v.ring.Seal(ctx, v.fingerprintContext(organization), salt, key)
	if err != nil {
		return material{}, err
	}
	err = v.db.Update(ctx, organization, func(tx *store.Tx) error {
		// Another instance may have been first; its row is the one that counts.
		_, err := tx.Exec(ctx, `INSERT INTO organization_keys (organization, salt, fingerprint_key_sealed, created_at)
			VALUES ($1, $2, $3, $4) ON CONFLICT (organization) DO NOTHING`, organization, salt, sealed, store.At(v.opts.Now()))
		return err
	})
	if err != nil {
		return material{}, err
	}
	return v.readOrganizationKeys(ctx, organization)
}

func (v *Vault) readOrganizationKeys(ctx context.Context, organization string) (material, error) {
	var m material
	var sealed seal.Sealed
	err := v.db.View(ctx, organization, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT salt, fingerprint_key_sealed FROM organization_keys WHERE organization = $1`, organization).
			Scan(&m.salt, &sealed)
	})
	if err != nil {
		return material{}, err
	}
	m.fingerprint, err = v.ring.Open(ctx, v.fingerprintContext(organization), m.salt, sealed)
	return m, err
}

func (v *Vault) fingerprintContext(organization string) seal.Context {
	return fingerprintContext(v.opts.Environment, organization)
}

func (v *Vault) credentialContext(organization, id string, version int64, fields []string) seal.Context {
	return credentialContext(v.opts.Environment, organization, id, version, fields)
}

func fingerprintContext(environment, organization string) seal.Context {
	return seal.Context{Environment: environment, Organization: organization, Kind: "fingerprint-key", ID: organization, Version: 1}
}

func credentialContext(environment, organization, id string, version int64, fields []string) seal.Context {
	return seal.Context{Environment: environment, Organization: organization, Kind: "credential", ID: id, Version: version, Fields: fields}
}

// fingerprintOf names the secret values of a credential without giving them
// away: HMAC-SHA256 under the organization's own key, cut to 128 bits.
func (m material) fingerprintOf(service *catalog.Service, fields map[string]string) string {
	h := hmac.New(sha256.New, m.fingerprint.ExposeSecretBytes())
	write := func(s string) {
		_ = binary.Write(h, binary.BigEndian, uint32(len(s))) // a hash takes every write
		h.Write([]byte(s))
	}
	write(service.Name)
	for _, f := range service.Fields { // in the catalogue's order
		if value, ok := fields[f.Name]; ok && f.Secret {
			write(f.Name)
			write(value)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
