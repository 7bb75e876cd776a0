package masterkey

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// A SealReport says what of a database opens under the keys at hand.
type SealReport struct {
	Values    map[seal.KeyID]int64 // values that there are, by the key that seals them
	Opened    map[seal.KeyID]int64 // values that opened, by the key that seals them
	Missing   map[seal.KeyID]int64 // values under keys that are not at hand
	Lost      map[seal.KeyID]int64 // values that were given up with their lost key ([Keys.Retire]): they are not meant to open
	Destroyed int64                // values of deleted organizations, whose salt is gone: they are not meant to open
	Broken    int64                // values that do not open though their key is at hand
	Examples  []string             // of the broken ones, at most maxExamples: table, organization, id and version
}

const maxExamples = 20

// Err gives nil where everything that is meant to open does, and otherwise what
// is wrong: the ids of the keys that are missing, and examples of what is
// broken.
func (r SealReport) Err() error {
	var all []error
	for _, id := range slices.SortedFunc(maps.Keys(r.Missing), func(a, b seal.KeyID) int { return cmp.Compare(a.String(), b.String()) }) {
		all = append(all, fmt.Errorf("%d values are sealed under key %s, which is neither ENCRYPTION_KEY nor among ENCRYPTION_KEYS_OLD", r.Missing[id], id))
	}
	if r.Broken > 0 {
		all = append(all, fmt.Errorf("%d values do not open though their key is at hand: they were altered or belong elsewhere, such as %v", r.Broken, r.Examples))
	}
	return errors.Join(all...)
}

// Total gives how many values opened.
func (r SealReport) Total() (n int64) {
	for _, opened := range r.Opened {
		n += opened
	}
	return n
}

// sealsPage is how many rows are read at once.
const sealsPage = 1000

// OpenSeals opens every sealed value of the columns in the database that tx
// reads and says what opened; tx must be across organizations. It opens at most
// perKey values of each column and key where perKey is not 0. progress may be
// nil. Nothing that it opens is kept. An error is the database's or ctx's.
//
// [Keys.Verify] is for a database that is served: it needs no transaction of that
// length, and skips what this counts.
func OpenSeals(ctx context.Context, tx *store.Tx, columns []Column, ring *seal.Keyring, environment string, perKey int64, progress func(values int64)) (SealReport, error) {
	r := SealReport{Values: make(map[seal.KeyID]int64), Opened: make(map[seal.KeyID]int64), Missing: make(map[seal.KeyID]int64), Lost: make(map[seal.KeyID]int64)}
	tables, err := tx.Tables(ctx)
	if err != nil {
		return r, err
	}
	deleted, err := deletedOrganizations(ctx, tx)
	if err != nil {
		return r, err
	}
	retired, err := retiredKeys(ctx, tx, tables)
	if err != nil {
		return r, err
	}
	var seen int64
	for i := range columns {
		c := &columns[i]
		if !slices.ContainsFunc(tables, func(t store.Table) bool { return t.Name == c.Table }) {
			continue // a database of an earlier version
		}
		tried := make(map[seal.KeyID]int64)
		var after []any
		for {
			rows, err := c.page(ctx, tx, anyKey, seal.KeyID{}, after, sealsPage)
			if err != nil {
				return r, err
			}
			for i := range rows {
				key := seal.Sealed(rows[i].sealed).KeyID()
				r.Values[key]++
				if tried[key]++; perKey > 0 && tried[key] > perKey {
					continue
				}
				if seen++; progress != nil {
					progress(seen)
				}
				if err := r.open(ctx, ring, environment, &rows[i], deleted, retired); err != nil {
					return r, err
				}
			}
			if len(rows) < sealsPage {
				break
			}
			after = rows[len(rows)-1].key()
		}
	}
	return r, nil
}

// KeysInUse gives the keys that something in columns is sealed under. Those that were
// given up with what is under them ([Keys.Retire]) are none of them.
func KeysInUse(ctx context.Context, tx *store.Tx, columns []Column) (map[seal.KeyID]bool, error) {
	tables, err := tx.Tables(ctx)
	if err != nil {
		return nil, err
	}
	retired, err := retiredKeys(ctx, tx, tables)
	if err != nil {
		return nil, err
	}
	used := make(map[seal.KeyID]bool)
	for i := range columns {
		c := &columns[i]
		if !slices.ContainsFunc(tables, func(t store.Table) bool { return t.Name == c.Table }) {
			continue // a database of an earlier version
		}
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var id []byte
			err := scan(&id)
			var key seal.KeyID
			if copy(key[:], id); len(id) == len(key) && !retired[key] {
				used[key] = true
			}
			return err
		}, "SELECT DISTINCT "+keyIDOf(c.Name)+" FROM "+c.Table+" WHERE "+c.Name+" IS NOT NULL")
		if err != nil {
			return nil, err
		}
	}
	return used, nil
}

func deletedOrganizations(ctx context.Context, tx *store.Tx) (map[string]bool, error) {
	deleted := make(map[string]bool)
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var id string
		err := scan(&id)
		deleted[id] = true
		return err
	}, `SELECT id FROM organizations WHERE deleted_at IS NOT NULL`)
	return deleted, err
}

// retiredKeys gives the keys that were retired. Nothing was under them then, but
// for those that were lost. A database of an earlier version has none.
func retiredKeys(ctx context.Context, tx *store.Tx, tables []store.Table) (map[seal.KeyID]bool, error) {
	retired := make(map[seal.KeyID]bool)
	if !slices.ContainsFunc(tables, func(t store.Table) bool {
		return t.Name == "master_keys" && slices.ContainsFunc(t.Columns, func(c store.Column) bool { return c.Name == "retired_at" })
	}) {
		return retired, nil
	}
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var id seal.KeyID
		err := scan(&id)
		retired[id] = true
		return err
	}, `SELECT id FROM master_keys WHERE retired_at IS NOT NULL`)
	return retired, err
}

// open tries one value and notes what came of it.
func (r *SealReport) open(ctx context.Context, ring *seal.Keyring, environment string, row *sealedRow, deleted map[string]bool, retired map[seal.KeyID]bool) error {
	if row.salt == nil && deleted[row.Text("organization")] {
		r.Destroyed++
		return nil
	}
	sealed := seal.Sealed(row.sealed)
	context, salt, err := row.prepare(environment)
	if err == nil {
		var value seal.Secret
		value, err = ring.Open(ctx, context, salt, sealed)
		value.Wipe()
	}
	var unknown seal.UnknownKeyError
	switch {
	case err == nil:
		r.Opened[sealed.KeyID()]++
	case errors.As(err, &unknown) && retired[unknown.KeyID]:
		r.Lost[unknown.KeyID]++
	case errors.As(err, &unknown):
		r.Missing[unknown.KeyID]++
	case errors.Is(err, seal.ErrBusy), ctx.Err() != nil:
		return err
	default:
		if r.Broken++; len(r.Examples) < maxExamples {
			r.Examples = append(r.Examples, row.column.Table+" "+row.name())
		}
	}
	return nil
}

// SealsUnder reports whether the master key that seals in db was made of secret,
// and its id; false where db has no key yet.
func SealsUnder(ctx context.Context, db *store.DB, secret seal.Secret) (seal.KeyID, bool, error) {
	st, err := readState(ctx, db)
	if errors.Is(err, store.ErrNotFound) {
		return seal.KeyID{}, false, nil
	}
	if err != nil {
		return seal.KeyID{}, false, err
	}
	r := st.find(st.sealing)
	return st.sealing, r != nil && r.Matches(secret), nil
}
