package masterkey

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Options says with which master secrets a database is opened.
type Options struct {
	Environment string        // such as "production"; a database belongs to one
	Secret      seal.Secret   // ENCRYPTION_KEY: seals where the database knows no key yet, and is what [Keys.Stage] stages
	Old         []seal.Secret // ENCRYPTION_KEYS_OLD: may open, never made to seal
	Readings    []Reading     // what else the entries of Old may stand for
	Fallback    seal.Secret   // JWT_SECRET: may open, and seals where the database knows no key yet and Secret is empty
	Columns     []Column      // every column that holds sealed values

	// Instance names a running instance, for people, and puts it on the list
	// of those that must hold a key before it seals. Empty for a command.
	Instance string
	Version  string // the program's, for the list

	// Incomplete opens the keys even where a secret is missing, for commands
	// that tell of it or mend it.
	Incomplete bool

	Iterations int           // of a key made now; seal.MinIterations when 0
	Poll       time.Duration // how often to look at the keys; 2 s when 0
	Lease      time.Duration // how long a worker that says nothing keeps others out; 10 s when 0
	Now        func() time.Time
	Logger     *slog.Logger
	Warn       func(fault.Warning) // told of secrets that do not do what they seem to; Logger when nil
}

// Keys is the keyring of a database and what looks after it. [Keys.Run] must be
// running for an instance to notice a switch.
type Keys struct {
	db   *store.DB
	log  *audit.Log
	opts Options
	ring *seal.Keyring
	id   string        // of this process, as instance and as worker
	wake chan struct{} // a rotation was started here

	listed atomic.Bool // this process may be on the list of instances

	mu      sync.Mutex
	sources map[seal.KeyID]Source
	tried   map[seal.KeyID]bool // records that no secret here matches
	used    map[int]bool        // which of Options.Old opened something
	told    map[seal.KeyID]bool // of which a log line told that the secret is missing
}

// Open gives the keys of the database: on a new one it makes the first master
// key, otherwise it recognises the given secrets by their check values. A wrong
// or missing secret, or another environment, is an error that names the key or
// the environment that is needed.
//
// An instance is put on the list of those that run; [Keys.Run] takes it off at its
// end, or [Keys.Leave] where it never runs.
func Open(ctx context.Context, db *store.DB, log *audit.Log, opts Options) (*Keys, error) {
	if opts.Iterations == 0 {
		opts.Iterations = seal.MinIterations
	}
	if opts.Poll == 0 {
		opts.Poll = poll
	}
	if opts.Lease == 0 {
		opts.Lease = leaseFor
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Warn == nil {
		opts.Warn = func(w fault.Warning) { w.Log(opts.Logger) }
	}
	for i := range opts.Columns {
		if err := opts.Columns[i].check(); err != nil {
			return nil, err
		}
	}
	ring, err := seal.NewKeyring(seal.Options{})
	if err != nil {
		return nil, err
	}
	k := &Keys{
		db: db, log: log, opts: opts, ring: ring, id: store.NewID("ins"), wake: make(chan struct{}, 1),
		sources: make(map[seal.KeyID]Source), tried: make(map[seal.KeyID]bool), used: make(map[int]bool), told: make(map[seal.KeyID]bool),
	}
	st, err := k.readOrMake(ctx)
	if err != nil {
		return nil, fmt.Errorf("the master keys could not be read: %w", err)
	}
	if err := st.belongsTo(opts.Environment); err != nil {
		return nil, err
	}
	if err := k.take(st); err != nil {
		return nil, err
	}
	if !opts.Incomplete {
		if err := k.complete(ctx, st); err != nil {
			return nil, err
		}
		k.warn(st)
	}
	if opts.Instance != "" {
		if err := k.register(ctx); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// Ring gives the keyring, which follows the database while [Keys.Run] runs.
func (k *Keys) Ring() *seal.Keyring { return k.ring }

// BelongsTo gives an error where the database is another environment's; nil where it has no
// keys yet, and so belongs to none.
func BelongsTo(ctx context.Context, db *store.DB, environment string) error {
	st, err := readState(ctx, db)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	return st.belongsTo(environment)
}

// Exist reports whether the database has master keys yet. Where it has none,
// [Open] makes the first.
func Exist(ctx context.Context, db *store.DB) (bool, error) {
	_, err := readState(ctx, db)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// state is what the database says of its keys.
type state struct {
	environment string
	sealing     seal.KeyID
	records     []record // by id, which is by age
}

func (st *state) belongsTo(environment string) error {
	if st.environment == environment {
		return nil
	}
	return fault.Mistakef("use that environment's database, or set GATEHOUSE_ENV="+st.environment,
		"this database belongs to the environment %q, and GATEHOUSE_ENV says %q", st.environment, environment)
}

func (st *state) find(id seal.KeyID) *record {
	for i := range st.records {
		if st.records[i].ID == id {
			return &st.records[i]
		}
	}
	return nil
}

func readState(ctx context.Context, db *store.DB) (st state, err error) {
	err = db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		st, err = readStateIn(ctx, tx)
		return err
	})
	return st, err
}

func readStateIn(ctx context.Context, tx *store.Tx) (state, error) {
	var st state
	if err := tx.Row(ctx, `SELECT environment, sealing_key FROM instance WHERE id = 1`).Scan(&st.environment, &st.sealing); err != nil {
		return st, err
	}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var r record
		var created, activated, retired store.Time
		if err := scan(&r.ID, &r.Salt, &r.Iterations, &r.Check, &created, &activated, &retired); err != nil {
			return err
		}
		r.createdAt, r.activatedAt, r.retiredAt = created.Time, activated.Time, retired.Time
		st.records = append(st.records, r)
		return nil
	}, `SELECT id, salt, iterations, check_value, created_at, activated_at, retired_at FROM master_keys ORDER BY id`)
	return st, err
}

func (k *Keys) readOrMake(ctx context.Context) (state, error) {
	st, err := readState(ctx, k.db)
	if errors.Is(err, store.ErrNotFound) {
		if err = k.makeFirst(ctx); err == nil || errors.Is(err, store.ErrExists) {
			return readState(ctx, k.db) // another instance may have been first
		}
	}
	return st, err
}

func (k *Keys) makeFirst(ctx context.Context) error {
	record, err := newRecord(k.opts.primary(), k.opts.Iterations)
	if err != nil {
		return err
	}
	now := store.At(k.opts.Now())
	return k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO instance (id, environment, sealing_key, created_at) VALUES (1, $1, $2, $3)`,
			k.opts.Environment, record.ID, now)
		if err != nil {
			return err
		}
		if err := insertRecord(ctx, tx, record, now, now); err != nil {
			return err
		}
		return k.log.Append(ctx, tx, system(), keyEvent(audit.KeyCreate, record.ID, nil))
	})
}

func newRecord(secret seal.Secret, iterations int) (seal.KeyRecord, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return seal.KeyRecord{}, err
	}
	return seal.NewKeyRecord(seal.KeyID(id), secret, iterations)
}

func insertRecord(ctx context.Context, tx *store.Tx, r seal.KeyRecord, created, activated store.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO master_keys (id, salt, iterations, check_value, created_at, activated_at) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.ID, r.Salt, r.Iterations, r.Check, created, activated)
	return err
}

func keyEvent(action audit.Action, id seal.KeyID, metadata map[string]any) audit.Event {
	return audit.Event{
		Action: action, Outcome: audit.Success, Organization: access.InstanceOrganization,
		Targets: []audit.Target{{Type: "key", ID: id.String()}}, Metadata: metadata,
	}
}

// take makes the keyring follow the database: keys whose secret is here are
// held, retired ones dropped, and the one that the database names seals.
func (k *Keys) take(st state) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range st.records {
		r := &st.records[i]
		if !r.retiredAt.IsZero() {
			if r.ID != st.sealing {
				k.ring.Remove(r.ID)
				delete(k.sources, r.ID)
			}
			continue
		}
		if k.ring.Holds(r.ID) || k.tried[r.ID] {
			continue
		}
		if err := k.try(r); err != nil {
			return err
		}
	}
	if k.ring.Holds(st.sealing) {
		return k.ring.SetSealing(st.sealing)
	}
	return nil
}

// complete says which secret is missing: of the key that seals, or of one that
// values still hang on.
func (k *Keys) complete(ctx context.Context, st state) error {
	const mend = "give the secret that it was made of in ENCRYPTION_KEY or ENCRYPTION_KEYS_OLD"
	if !k.ring.Holds(st.sealing) {
		return fault.Mistakef(mend+k.near(st, st.sealing), "this database is sealed under %s, which is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD", st.sealing)
	}
	for i := range st.records {
		r := &st.records[i]
		if r.state(st.sealing) != Opening || k.ring.Holds(r.ID) {
			continue
		}
		// Only here, where a secret is missing, are rows looked at on start.
		left, err := k.where(ctx, r.ID, 1)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			return fault.Mistakef(mend+", or see `gatehouse keys status`"+k.near(st, r.ID), "values in this database are still sealed under %s, which is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD", r.ID)
		}
		k.tell("retire it with `gatehouse keys retire`", "nothing is sealed under this old master key any more", "key", r.ID.String())
	}
	return nil
}

// tell warns of one thing.
func (k *Keys) tell(mend, what string, details ...any) {
	k.opts.Warn(fault.Warning{Mistake: fault.Mistake{What: what, Mend: mend}, Details: details})
}

// warn tells of secrets that do not do what they seem to.
func (k *Keys) warn(st state) {
	k.mu.Lock()
	defer k.mu.Unlock()
	own := !k.opts.Secret.IsZero() && !k.opts.Secret.Equal(k.opts.Fallback)
	known := false
	for _, source := range k.sources {
		known = known || source == FromKey
	}
	if own && !known {
		k.tell("`gatehouse keys stage` and `gatehouse keys rotate` move to it", "ENCRYPTION_KEY is not a key of this database yet, so that nothing is sealed under it", "sealing", st.sealing)
	}
	if own && known && k.sources[st.sealing] == FromFallback {
		k.tell("`gatehouse keys rotate` moves them to ENCRYPTION_KEY", "credentials are still sealed under JWT_SECRET", "sealing", st.sealing)
	}
	for i := range k.opts.Old {
		if !k.used[i] && !k.opts.Old[i].IsZero() {
			k.tell("", "a key in ENCRYPTION_KEYS_OLD opens nothing in this database and can be taken out", "position", i+1)
		}
	}
}
