package masterkey

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Status is what is known of the keys: the proof of a rotation among it.
type Status struct {
	Environment  string
	Keys         []Key // the oldest first
	Instances    []Instance
	Rotation     *Rotation    // the newest; nil where there was none
	Unknown      []ColumnRows // rows under no key of the database: they do not open
	Unregistered []string     // table.column of sealed columns that are nobody's: a mistake in the program
}

// Status counts every row of every sealed column by the key that it hangs on,
// in one consistent state of the database. It needs key:read.
func (k *Keys) Status(ctx context.Context, caller access.Caller) (Status, error) {
	if err := access.Allow(caller, access.KeyRead, access.InstanceOrganization); err != nil {
		return Status{}, err
	}
	unregistered, err := k.unregistered(ctx)
	if err != nil {
		return Status{}, err
	}
	var s Status
	err = k.db.ViewAcross(ctx, func(tx *store.Tx) error {
		st, err := readStateIn(ctx, tx)
		if err != nil {
			return err
		}
		s = Status{Environment: st.environment, Unregistered: unregistered}
		for i := range st.records {
			key := k.keyOf(&st.records[i], st.sealing)
			key.Rows = 0
			s.Keys = append(s.Keys, key)
		}
		for i := range k.opts.Columns {
			if err := s.count(ctx, tx, &k.opts.Columns[i]); err != nil {
				return err
			}
		}
		if s.Instances, err = k.instancesIn(ctx, tx); err != nil {
			return err
		}
		r, err := latestRotation(ctx, tx)
		if err == nil {
			s.Rotation = &r
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return nil
	})
	return s, err
}

// count adds the rows of one column to the keys that they hang on.
func (s *Status) count(ctx context.Context, tx *store.Tx, c *Column) error {
	unknown := int64(0)
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var id []byte
		var n int64
		if err := scan(&id, &n); err != nil {
			return err
		}
		for i := range s.Keys {
			if key := &s.Keys[i]; string(key.ID[:]) == string(id) {
				key.Rows += n
				key.Columns = append(key.Columns, ColumnRows{c.String(), n})
				return nil
			}
		}
		unknown += n
		return nil
	}, "SELECT "+keyIDOf(c.Name)+", count(*) FROM "+c.Table+" WHERE "+c.Name+" IS NOT NULL GROUP BY "+keyIDOf(c.Name))
	if unknown > 0 {
		s.Unknown = append(s.Unknown, ColumnRows{c.String(), unknown})
	}
	return err
}

// countElse counts the rows that are not under the key.
func (k *Keys) countElse(ctx context.Context, key seal.KeyID) (total int64, err error) {
	err = k.db.ViewAcross(ctx, func(tx *store.Tx) error {
		total = 0
		for i := range k.opts.Columns {
			c := &k.opts.Columns[i]
			var n int64
			err := tx.Row(ctx, "SELECT count(*) FROM "+c.Table+" WHERE "+c.Name+" IS NOT NULL AND "+keyIDOf(c.Name)+" <> $1", key[:]).Scan(&n)
			if err != nil {
				return err
			}
			total += n
		}
		return nil
	})
	return total, err
}

// where gives some rows under the key, at most limit of each column.
func (k *Keys) where(ctx context.Context, key seal.KeyID, limit int) (found []Finding, err error) {
	err = k.db.ViewAcross(ctx, func(tx *store.Tx) error {
		found = nil
		for i := range k.opts.Columns {
			rows, err := k.opts.Columns[i].page(ctx, tx, underKey, key, nil, limit)
			if err != nil {
				return err
			}
			for j := range rows {
				found = append(found, rows[j].finding(""))
			}
		}
		return nil
	})
	return found, err
}

// unregistered gives the columns of the database that are called sealed and are
// not on the list.
func (k *Keys) unregistered(ctx context.Context) ([]string, error) {
	all, err := k.db.Columns(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, c := range all {
		if strings.HasSuffix(c.Column, suffix) && !slices.ContainsFunc(k.opts.Columns, func(known Column) bool {
			return known.Table == c.Table && known.Name == c.Column
		}) {
			names = append(names, c.Table+"."+c.Column)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Retire ends a key, so that instances drop it and its secret can be destroyed.
// It does so only where nothing hangs on it: otherwise the error says where what
// is left is. It needs key:rotate. A key that is retired already is left so.
//
// lost gives up a key whose secret nobody has any more, with what hangs on it:
// those values stay where they are and never open again. It is refused where
// this process holds the secret.
//
// Errors: [ErrUnknownKey], [ErrSeals], key_in_use, [ErrNotLost],
// column_unregistered.
func (k *Keys) Retire(ctx context.Context, caller access.Caller, id seal.KeyID, lost bool) (Key, error) {
	if err := access.Allow(caller, access.KeyRotate, access.InstanceOrganization); err != nil {
		return Key{}, err
	}
	if err := k.refresh(ctx); err != nil {
		return Key{}, err
	}
	unregistered, err := k.unregistered(ctx)
	if err != nil {
		return Key{}, err
	}
	examples, err := k.where(ctx, id, 5)
	if err != nil {
		return Key{}, err
	}
	var key Key
	err = k.db.UpdateAcross(ctx, func(tx *store.Tx) error {
		st, err := readStateIn(ctx, tx)
		if err != nil {
			return err
		}
		r := st.find(id)
		if r != nil && !r.retiredAt.IsZero() {
			key = k.keyOf(r, st.sealing)
			return nil
		}
		if err := k.mayRetire(st, id, unregistered, lost); err != nil {
			return err
		}
		left, err := k.unused(ctx, tx, st, id, examples, lost)
		if err != nil {
			return err
		}
		now := store.At(k.opts.Now())
		tx.Destroys() // what was under it, where the log still holds that
		if _, err := tx.Exec(ctx, `UPDATE master_keys SET retired_at = $1 WHERE id = $2`, now, id); err != nil {
			return err
		}
		r.retiredAt = now.Time
		key = k.keyOf(r, st.sealing)
		key.Rows, key.Columns = left.Rows, left.Columns
		e := keyEvent(audit.KeyRetire, id, map[string]any{"lost": lost, "rows": left.Rows})
		e.Permission = access.KeyRotate.String()
		return k.log.Append(ctx, tx, caller, e)
	})
	if err != nil {
		return Key{}, err
	}
	return key, k.refresh(ctx)
}

// mayRetire says why a key cannot be retired, whatever hangs on it.
func (k *Keys) mayRetire(st state, id seal.KeyID, unregistered []string, lost bool) error {
	switch {
	case st.find(id) == nil:
		return ErrUnknownKey
	case id == st.sealing:
		return ErrSeals
	case len(unregistered) > 0:
		return fault.New(fault.Conflict, "column_unregistered", "The database has sealed columns that this program does not know, so that nothing is proved: "+strings.Join(unregistered, ", ")+".")
	case lost && k.ring.Holds(id):
		return ErrNotLost
	}
	return nil
}

// unused gives what hangs on the key, and says why it is still in use: by that,
// unless it is given up as lost, or by an instance that seals under it.
func (k *Keys) unused(ctx context.Context, tx *store.Tx, st state, id seal.KeyID, examples []Finding, lost bool) (Key, error) {
	left, err := k.left(ctx, tx, st, id)
	if err != nil {
		return Key{}, err
	}
	if left.Rows > 0 && !lost {
		return Key{}, inUse(id, left, examples)
	}
	instances, err := k.instancesIn(ctx, tx)
	if err != nil {
		return Key{}, err
	}
	if names := liveThat(instances, func(in Instance) bool { return in.Sealing == id }); len(names) > 0 {
		return Key{}, fault.New(fault.Conflict, "key_in_use", fmt.Sprintf("%s is what these running instances still seal under: %s. They look every two seconds.", id, strings.Join(names, ", ")))
	}
	return left, nil
}

// left counts what hangs on the key.
func (k *Keys) left(ctx context.Context, tx *store.Tx, st state, id seal.KeyID) (Key, error) {
	s := Status{Keys: []Key{k.keyOf(st.find(id), st.sealing)}}
	s.Keys[0].Rows = 0
	for i := range k.opts.Columns {
		if err := s.count(ctx, tx, &k.opts.Columns[i]); err != nil {
			return Key{}, err
		}
	}
	return s.Keys[0], nil
}

func inUse(id seal.KeyID, left Key, examples []Finding) error {
	var columns, rows []string
	for _, c := range left.Columns {
		columns = append(columns, fmt.Sprintf("%s %d", c.Column, c.Rows))
	}
	for _, f := range examples {
		rows = append(rows, f.Column+" "+f.Row)
	}
	text := fmt.Sprintf("%s still seals %d value(s): %s.", id, left.Rows, strings.Join(columns, ", "))
	if len(rows) > 0 {
		text += " Among them: " + strings.Join(rows, ", ") + "."
	}
	return fault.New(fault.Conflict, "key_in_use", text+" Rotate; values that a rotation leaves behind do not open, and `gatehouse keys verify` says why.")
}
