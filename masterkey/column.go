package masterkey

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Column is a column of the database that holds sealed values, or NULL. Its
// name ends in _sealed, and its values hang on the organization's salt in
// organization_keys.
//
//	masterkey.Column{
//		Table: "webhook_endpoints", Name: "secret_sealed", Key: []string{"organization", "id"},
//		Context: func(environment string, r masterkey.Row) seal.Context {
//			return webhookContext(environment, r.Text("organization"), r.Text("id"))
//		},
//	}
//
// Writing one takes [Admit].
type Column struct {
	Table string
	Name  string
	Key   []string // the columns of the primary key, in order, organization first
	With  []string // further columns that Context reads

	// Context gives what the value of a row is bound to: the same context that
	// the room seals and opens it with.
	Context func(environment string, r Row) seal.Context
}

// suffix is how the names of sealed columns end.
const suffix = "_sealed"

// String gives "table.column".
func (c *Column) String() string { return c.Table + "." + c.Name }

// check tells what is wrong with a Column: a mistake in the program.
func (c *Column) check() error {
	if c.Table == "" || !strings.HasSuffix(c.Name, suffix) || len(c.Key) == 0 || c.Key[0] != "organization" || c.Context == nil {
		return fmt.Errorf("masterkey: the sealed column %s is not described in full", c)
	}
	return nil
}

// Row holds the columns that a [Column] names, of one row.
type Row struct {
	column *Column
	values []any // of Key, then of With
}

func (r Row) value(name string) any {
	for i, key := range r.column.Key {
		if key == name {
			return r.values[i]
		}
	}
	for i, with := range r.column.With {
		if with == name {
			return r.values[len(r.column.Key)+i]
		}
	}
	panic("masterkey: " + r.column.String() + " does not name " + name) // a mistake in the program
}

// Text gives a column of text, "" where it holds none. It panics on a name that
// the [Column] does not have.
func (r Row) Text(name string) string {
	switch v := r.value(name).(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

// Int gives a column of whole numbers, 0 where it holds none. It panics on a
// name that the [Column] does not have.
func (r Row) Int(name string) int64 {
	n, _ := r.value(name).(int64)
	return n
}

// key gives the values of the primary key.
func (r Row) key() []any { return r.values[:len(r.column.Key)] }

// name gives the values of the primary key for people: acme/cred_.../3.
func (r Row) name() string {
	parts := make([]string, len(r.column.Key))
	for i, v := range r.key() {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, "/")
}

// sealedRow is a row with its sealed value, which may be malformed, and its
// organization's salt, which may be gone.
type sealedRow struct {
	Row
	sealed []byte
	salt   []byte
}

// Which rows a page holds, by the key that they are sealed under.
const (
	anyKey    = ""
	underKey  = " = "
	underElse = " <> "
)

// keyIDOf is the SQL for the id of the key that a column's value is under.
func keyIDOf(column string) string { return "substr(" + column + ", 5, 16)" }

// page gives at most limit rows that come after the primary key after, in its
// order. It reads rows of all organizations.
func (c *Column) page(ctx context.Context, tx *store.Tx, which string, key seal.KeyID, after []any, limit int) ([]sealedRow, error) {
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	prefixed := func(names []string) string { return "t." + strings.Join(names, ", t.") }
	query := "SELECT " + prefixed(append(append([]string{}, c.Key...), c.With...)) + ", t." + c.Name + ", k.salt FROM " + c.Table +
		" t LEFT JOIN organization_keys k ON k.organization = t.organization WHERE t." + c.Name + " IS NOT NULL"
	if which != anyKey {
		query += " AND " + keyIDOf("t."+c.Name) + which + arg(key[:])
	}
	if after != nil {
		places := make([]string, len(after))
		for i, v := range after {
			places[i] = arg(v)
		}
		query += " AND (" + prefixed(c.Key) + ") > (" + strings.Join(places, ", ") + ")"
	}
	query += " ORDER BY " + prefixed(c.Key) + " LIMIT " + strconv.Itoa(limit)

	var rows []sealedRow
	err := tx.Each(ctx, func(scan func(...any) error) error {
		runtime.Gosched() // requests go first
		r := sealedRow{Row: Row{column: c, values: make([]any, len(c.Key)+len(c.With))}}
		dest := make([]any, 0, len(r.values)+2)
		for i := range r.values {
			dest = append(dest, &r.values[i])
		}
		if err := scan(append(dest, &r.sealed, &r.salt)...); err != nil {
			return err
		}
		rows = append(rows, r)
		return nil
	}, query, args...)
	return rows, err
}

// replaceStatement is the SQL that puts a value in place of one that is still as
// it was read: of the new value, the primary key, and the old value.
func (c *Column) replaceStatement() string {
	query := "UPDATE " + c.Table + " SET " + c.Name + " = $1 WHERE "
	for i, name := range c.Key {
		query += name + " = $" + strconv.Itoa(i+2) + " AND "
	}
	return query + c.Name + " = $" + strconv.Itoa(len(c.Key)+2)
}

// replacing gives the arguments of that statement that put sealed in place of r's
// value.
func (r *sealedRow) replacing(sealed seal.Sealed) []any {
	args := make([]any, 0, len(r.column.Key)+2)
	return append(append(append(args, sealed), r.key()...), r.sealed)
}

// prepare gives what the keyring needs to open r.
func (r *sealedRow) prepare(environment string) (seal.Context, seal.OrganizationSalt, error) {
	if r.salt == nil {
		return seal.Context{}, seal.OrganizationSalt{}, errNoSalt
	}
	salt, err := seal.ParseOrganizationSalt(r.salt)
	return r.column.Context(environment, r.Row), salt, err
}

// errNoSalt says that a row's organization has no salt: it was deleted.
var errNoSalt = errors.New("the organization has no salt")

// Admit must be called in every transaction that writes a sealed value, after
// the organization's salt is there: it gives [ErrSuperseded] where the value
// would be lost, because its master key was retired or its organization deleted
// since it was sealed. Either may have happened however short the time was, or
// long: an instance can be held up for hours between sealing and writing.
func Admit(ctx context.Context, tx *store.Tx, organization string, sealed seal.Sealed) error {
	var retired store.Time
	err := tx.Row(ctx, `SELECT m.retired_at FROM master_keys m, organization_keys o WHERE m.id = $1 AND o.organization = $2`,
		sealed.KeyID(), organization).Scan(&retired)
	if errors.Is(err, store.ErrNotFound) {
		return ErrSuperseded.Because(errors.New("no such key, or the organization has no salt"))
	}
	if err == nil && !retired.IsZero() {
		return ErrSuperseded.Because(fmt.Errorf("%v is retired", sealed.KeyID()))
	}
	return err
}

// GivenUp reports whether the master key that sealed is under was retired. Nothing
// is under a key that retires, unless it is lost: then the value never opens again.
func GivenUp(ctx context.Context, tx *store.Tx, sealed seal.Sealed) (bool, error) {
	var retired store.Time
	err := tx.Row(ctx, `SELECT retired_at FROM master_keys WHERE id = $1`, sealed.KeyID()).Scan(&retired)
	if errors.Is(err, store.ErrNotFound) { // no key of this database
		return false, nil
	}
	return !retired.IsZero(), err
}

// Destroy deletes the organization's rows of every sealed table, its salt among
// them, and gives how many there were.
func Destroy(ctx context.Context, tx *store.Tx, columns []Column, organization string) (rows int64, err error) {
	tx.Destroys()
	for i := range columns {
		n, err := tx.Exec(ctx, "DELETE FROM "+columns[i].Table+" WHERE organization = $1", organization)
		if err != nil {
			return 0, err
		}
		rows += n
	}
	return rows, nil
}
