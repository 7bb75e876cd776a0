package vault

import (
	"cmp"
	"context"
	"encoding/json"
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

// sealedRow is a sealed value with what it is bound to.
type sealedRow struct {
	context seal.Context
	salt    []byte // nil: there is none
	deleted bool   // the organization was deleted, and its salt with it
	sealed  []byte
}

// sealedQuery finds the values of one sealed column, and reads a row of it.
type sealedQuery struct {
	column SealedColumn
	query  string
	scan   func(scan func(...any) error, environment string) (sealedRow, error)
}

// sealedQueries gives how to find what is in every one of [SealedColumns], in the
// order of organizations, so that each one's key is derived once.
func sealedQueries() []sealedQuery {
	return []sealedQuery{
		{SealedColumn{"organization_keys", "fingerprint_key_sealed"},
			`SELECT organization, salt, fingerprint_key_sealed FROM organization_keys ORDER BY organization`,
			func(scan func(...any) error, environment string) (sealedRow, error) {
				var r sealedRow
				err := scan(&r.context.Organization, &r.salt, &r.sealed)
				r.context = fingerprintContext(environment, r.context.Organization)
				return r, err
			}},
		{SealedColumn{"credential_versions", "fields_sealed"},
			`SELECT v.organization, v.credential_id, v.version, v.fields, k.salt, o.deleted_at IS NOT NULL, v.fields_sealed FROM credential_versions v
				JOIN organizations o ON o.id = v.organization
				LEFT JOIN organization_keys k ON k.organization = v.organization ORDER BY v.organization, v.credential_id, v.version`,
			func(scan func(...any) error, environment string) (sealedRow, error) {
				var r sealedRow
				var organization, id, fields string
				var version int64
				if err := scan(&organization, &id, &version, &fields, &r.salt, &r.deleted, &r.sealed); err != nil {
					return r, err
				}
				var names []string
				_ = json.Unmarshal([]byte(fields), &names) // altered names do not open, which is what is to be found out
				r.context = credentialContext(environment, organization, id, version, names)
				return r, nil
			}},
	}
}

// VerifySeals opens every sealed value of the database that tx reads and says
// what opened; tx must be across organizations. It opens at most perKey values
// of each key where perKey is not 0. progress may be nil. Nothing that it opens
// is kept. An error is the database's or ctx's.
func VerifySeals(ctx context.Context, tx *store.Tx, ring *seal.Keyring, environment string, perKey int64, progress func(values int64)) (SealReport, error) {
	r := SealReport{Values: make(map[seal.KeyID]int64), Opened: make(map[seal.KeyID]int64), Missing: make(map[seal.KeyID]int64)}
	tables, err := tx.Tables(ctx)
	if err != nil {
		return r, err
	}
	var seen int64
	for _, q := range sealedQueries() {
		if !slices.ContainsFunc(tables, func(t store.Table) bool { return t.Name == q.column.Table }) {
			continue // a database of an earlier version
		}
		tried := make(map[seal.KeyID]int64)
		err := tx.Each(ctx, func(scan func(...any) error) error {
			row, err := q.scan(scan, environment)
			if err != nil {
				return err
			}
			key := seal.Sealed(row.sealed).KeyID()
			r.Values[key]++
			if tried[key]++; perKey > 0 && tried[key] > perKey {
				return nil
			}
			if seen++; progress != nil {
				progress(seen)
			}
			return r.open(ctx, ring, q.column.Table, row)
		}, q.query)
		if err != nil {
			return r, err
		}
	}
	return r, nil
}

// open tries one value and notes what came of it.
func (r *SealReport) open(ctx context.Context, ring *seal.Keyring, table string, row sealedRow) error {
	if row.salt == nil && row.deleted {
		r.Destroyed++
		return nil
	}
	sealed := seal.Sealed(row.sealed)
	salt, err := seal.ParseOrganizationSalt(row.salt)
	if err == nil {
		var value seal.Secret
		value, err = ring.Open(ctx, row.context, salt, sealed)
		value.Wipe()
	}
	var unknown seal.UnknownKeyError
	switch {
	case err == nil:
		r.Opened[sealed.KeyID()]++
	case errors.As(err, &unknown):
		r.Missing[unknown.KeyID]++
	case errors.Is(err, seal.ErrBusy), ctx.Err() != nil:
		return err
	default:
		if r.Broken++; len(r.Examples) < maxExamples {
			r.Examples = append(r.Examples, fmt.Sprintf("%s %s %s version %d", table, row.context.Organization, row.context.ID, row.context.Version))
		}
	}
	return nil
}

// SealsUnder reports whether the master key that seals in db was made of secret,
// and its id; false where db has no key yet.
func SealsUnder(ctx context.Context, db *store.DB, secret seal.Secret) (seal.KeyID, bool, error) {
	in, err := readInstance(ctx, db)
	if errors.Is(err, store.ErrNotFound) {
		return seal.KeyID{}, false, nil
	}
	if err != nil {
		return seal.KeyID{}, false, err
	}
	for _, record := range in.records {
		if record.ID == in.sealing {
			return in.sealing, record.Matches(secret), nil
		}
	}
	return in.sealing, false, nil
}
