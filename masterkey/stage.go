package masterkey

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Key is what may be told of a master key.
type Key struct {
	ID          seal.KeyID
	State       State
	Iterations  int // PBKDF2
	CreatedAt   time.Time
	ActivatedAt time.Time // when it first sealed; zero: never
	RetiredAt   time.Time // zero: it is not
	Source      Source    // where this process has its secret from; "" where it has not
	Rows        int64     // that hang on it; -1 where they were not counted
	Columns     []ColumnRows
}

// ColumnRows is how many rows of a column hang on a key.
type ColumnRows struct {
	Column string // table.column
	Rows   int64
}

func (k *Keys) keyOf(r *record, sealing seal.KeyID) Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	return Key{
		ID: r.ID, State: r.state(sealing), Iterations: r.Iterations, CreatedAt: r.createdAt, ActivatedAt: r.activatedAt,
		RetiredAt: r.retiredAt, Source: k.sources[r.ID], Rows: -1,
	}
}

// Stage makes the record of the secret in Options.Secret, so that instances
// that were given it hold it as a key. It seals nothing yet. It needs
// key:rotate. A secret that is a key already is left as it is, unless
// iterations is more than that key has: then the same secret becomes a new key.
// iterations is 0 for as many as the key that seals has.
func (k *Keys) Stage(ctx context.Context, caller access.Caller, iterations int) (Key, error) {
	if err := access.Allow(caller, access.KeyRotate, access.InstanceOrganization); err != nil {
		return Key{}, err
	}
	if iterations != 0 && (iterations < seal.MinIterations || iterations > seal.MaxIterations) {
		return Key{}, fault.InvalidFields(fault.Field{Name: "iterations", Message: "must be from 100000 to 10000000"})
	}
	if k.opts.Secret.IsZero() || k.opts.Secret.Equal(k.opts.Fallback) {
		return Key{}, ErrNoNewKey
	}
	if err := k.refresh(ctx); err != nil {
		return Key{}, err
	}
	st, err := readState(ctx, k.db)
	if err != nil {
		return Key{}, err
	}
	if iterations == 0 {
		if sealing := st.find(st.sealing); sealing != nil {
			iterations = max(sealing.Iterations, k.opts.Iterations)
		}
	}
	if r := k.newestOfSecret(st, iterations); r != nil {
		return k.keyOf(r, st.sealing), nil
	}
	record, err := newRecord(k.opts.Secret, iterations)
	if err != nil {
		return Key{}, err
	}
	err = k.insertStaged(ctx, caller, record, len(st.records))
	if errors.Is(err, errStagedMeanwhile) {
		return k.Stage(ctx, caller, iterations) // perhaps this very secret
	}
	if err != nil {
		return Key{}, err
	}
	if err := k.refresh(ctx); err != nil {
		return Key{}, err
	}
	if st, err = readState(ctx, k.db); err != nil {
		return Key{}, err
	}
	if r := st.find(record.ID); r != nil {
		return k.keyOf(r, st.sealing), nil
	}
	return Key{}, ErrUnknownKey
}

// newestOfSecret gives the newest record of the secret in Options.Secret that has so
// many iterations and is not retired; nil where there is none.
func (k *Keys) newestOfSecret(st state, iterations int) *record {
	for i := len(st.records) - 1; i >= 0; i-- {
		if r := &st.records[i]; r.retiredAt.IsZero() && r.Iterations >= iterations && k.source(r.ID) == FromKey {
			return r
		}
	}
	return nil
}

// insertStaged keeps a record and its event, while there are as many as before.
func (k *Keys) insertStaged(ctx context.Context, caller access.Caller, r seal.KeyRecord, before int) error {
	return k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		now, err := readStateIn(ctx, tx)
		if err != nil {
			return err
		}
		if len(now.records) != before {
			return errStagedMeanwhile
		}
		if err := insertRecord(ctx, tx, r, store.At(k.opts.Now()), store.Time{}); err != nil {
			return err
		}
		e := keyEvent(audit.KeyStage, r.ID, map[string]any{"iterations": r.Iterations})
		e.Permission = access.KeyRotate.String()
		return k.log.Append(ctx, tx, caller, e)
	})
}

var errStagedMeanwhile = errors.New("another key was staged meanwhile")

func (k *Keys) source(id seal.KeyID) Source {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.sources[id]
}
