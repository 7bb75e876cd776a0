package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// everyone is what a transaction across organizations is named for. It is the
// id of none: see [DB.Update].
const everyone = "*"

// organizationKey is the context key of whom a transaction is begun for.
type organizationKey struct{}

// namedFor gives a context under which transactions are begun for organization.
func namedFor(ctx context.Context, organization string) context.Context {
	return context.WithValue(ctx, organizationKey{}, organization)
}

// checkOrganization refuses what could be more in SQL than a name. It is no second
// say in which ids there may be (access.ValidOrganization): it takes any of those
// characters, as the instance's own id has them.
func checkOrganization(organization string) error {
	if organization == "" {
		return errors.New("store: a transaction needs an organization")
	}
	if organization == everyone {
		return nil
	}
	for i := range len(organization) {
		c := organization[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && c != '.' && c != '_' && c != '-' {
			return errors.New("store: a transaction is named for something that is no organization's id")
		}
	}
	return nil
}

// tenantConnector opens sessions of PostgreSQL whose transactions say for whom
// they are in the very message that begins them, so that row-level security
// costs no round trip.
type tenantConnector struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c tenantConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	session, ok := conn.(*stdlib.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("store: the driver gave a %T", conn), conn.Close())
	}
	return &tenantConn{Conn: session, opened: time.Now()}, nil
}

type tenantConn struct {
	*stdlib.Conn
	opened  time.Time
	waiting *pgx.Batch // statements of [Tx.ExecLater] that have not been sent; nil: none
}

// readOnlyFor is how long a session is kept that takes no writes: long enough for the
// reads of a server that takes none at all, and soon replaced after it does again.
const readOnlyFor = 5 * time.Second

// IsValid implements [driver.Validator]. A session keeps the default_transaction_read_only
// that it was opened with, and a balancer in front may keep one open to what is a standby now:
// either would answer all changes with an error for as long as it is in the pool. PostgreSQL
// reports both of each session by itself, from version 14 on.
func (c *tenantConn) IsValid() bool {
	session := c.Conn.Conn().PgConn()
	readOnly := session.ParameterStatus("default_transaction_read_only") == "on" || session.ParameterStatus("in_hot_standby") == "on"
	return !readOnly || time.Since(c.opened) < readOnlyFor
}

// BeginTx implements [driver.ConnBeginTx]. A transaction that is named for
// nobody sees no row of any organization.
func (c *tenantConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	organization, named := ctx.Value(organizationKey{}).(string)
	if !named {
		return c.Conn.BeginTx(ctx, opts)
	}
	if err := checkOrganization(organization); err != nil {
		return nil, err
	}
	session := c.Conn.Conn()
	if session.IsClosed() {
		return nil, driver.ErrBadConn
	}
	begin := "begin"
	if level := sql.IsolationLevel(opts.Isolation); level != sql.LevelDefault {
		begin += " isolation level " + level.String() // the standard's own words
	}
	if opts.ReadOnly {
		begin += " read only"
	}
	// Statements in one message: the server answers once.
	tx, err := session.BeginTx(ctx, pgx.TxOptions{BeginQuery: begin + "; " + setOrganization(organization)})
	if err != nil {
		return nil, err // a session that is in a transaction is not given out again (stdlib.Conn.ResetSession)
	}
	return tenantTx{ctx, c, tx}, nil
}

// setOrganization gives the statement that names the running transaction. The
// organization has been checked: it holds no quote and no backslash.
func setOrganization(organization string) string {
	return "set local gatehouse.organization = '" + organization + "'"
}

type tenantTx struct {
	ctx  context.Context
	conn *tenantConn
	tx   pgx.Tx
}

// Across runs fn with the sight of every organization, inside a transaction
// that is named for one: for the few statements of a tenant's own change that
// touch a row of the instance. After an error of fn the transaction is to be
// given up. It has no effect on SQLite.
func (tx *Tx) Across(ctx context.Context, fn func() error) error {
	if tx.db.dialect != dialectPostgres || tx.organization == everyone {
		return fn()
	}
	if _, err := tx.Exec(ctx, setOrganization(everyone)); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, setOrganization(tx.organization))
	return err
}

// The policy of every table that says whose its rows are. The setting is
// missing, or empty, outside of a transaction that is named: then no row is
// anybody's.
const (
	policyName = "gatehouse_organization"
	policyRule = `%[1]s = current_setting('gatehouse.organization', true) OR current_setting('gatehouse.organization', true) = '` + everyone + `'`
)

// tenantTables finds the tables that say whose their rows are, by the column
// organization (organizations itself: by its id), and whether row-level
// security holds for each, for the owner too.
const tenantTables = `SELECT c.relname, CASE WHEN c.relname = 'organizations' THEN 'id' ELSE 'organization' END,
	c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = '` + policyName + `')
	FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
	AND (c.relowner = (SELECT o.relowner FROM pg_class o WHERE o.relnamespace = c.relnamespace AND o.relname = 'organizations')
		OR c.relname = ANY($1)) -- what somebody else put beside our tables is not ours to guard
	AND (c.relname = 'organizations' OR EXISTS (SELECT 1 FROM pg_attribute a
		WHERE a.attrelid = c.oid AND a.attname = 'organization' AND NOT a.attisdropped))
	ORDER BY c.relname`

// ownTables names every table that a migration makes.
var ownTables = sync.OnceValues(func() (names []string, err error) {
	made := regexp.MustCompile(`(?i)CREATE TABLE (\w+)`)
	err = fs.WalkDir(migrations, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := migrations.ReadFile(path)
		for _, match := range made.FindAllSubmatch(text, -1) {
			names = append(names, string(match[1]))
		}
		return err
	})
	return names, err
})

// tenantTable is a table that says whose its rows are.
type tenantTable struct {
	name, column string
	secured      bool
}

func listTenantTables(ctx context.Context, q interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}) ([]tenantTable, error) {
	own, err := ownTables()
	if err != nil {
		return nil, err
	}
	rows, err := q.QueryContext(ctx, tenantTables, own)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err below tells of failures
	var all []tenantTable
	for rows.Next() {
		var t tenantTable
		if err := rows.Scan(&t.name, &t.column, &t.secured); err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, rows.Err()
}

// Unsecured gives the tables of organizations that PostgreSQL does not guard
// by row-level security. [Open] leaves none; on SQLite there are none to guard.
func (db *DB) Unsecured(ctx context.Context) ([]string, error) {
	if db.dialect != dialectPostgres {
		return nil, nil
	}
	tables, err := listTenantTables(ctx, db.read)
	if err != nil {
		return nil, db.mapError(err)
	}
	var names []string
	for _, t := range tables {
		if !t.secured {
			names = append(names, t.name)
		}
	}
	return names, nil
}

// secureLock is the key of the advisory lock under which policies are made.
const secureLock = 0x67617465686f7573 // "gatehous"

// secure puts every table of organizations under row-level security that is
// not yet, so that no migration has to think of it. It runs after them.
func (db *DB) secure(ctx context.Context) error {
	missing, err := db.Unsecured(ctx)
	if err != nil || len(missing) == 0 {
		return err
	}
	tx, err := db.write.BeginTx(ctx, nil)
	if err != nil {
		return db.mapError(err)
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if _, err := tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(secureLock)); err != nil {
		return db.mapError(err)
	}
	tables, err := listTenantTables(ctx, tx) // another start may have been first
	if err != nil {
		return db.mapError(err)
	}
	for _, t := range tables {
		if t.secured {
			continue
		}
		name := pgx.Identifier{t.name}.Sanitize()
		for _, statement := range []string{
			"DROP POLICY IF EXISTS " + policyName + " ON " + name,
			"CREATE POLICY " + policyName + " ON " + name + " USING (" + fmt.Sprintf(policyRule, t.column) + ")",
			"ALTER TABLE " + name + " ENABLE ROW LEVEL SECURITY",
			"ALTER TABLE " + name + " FORCE ROW LEVEL SECURITY",
		} {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("row-level security for %s: %w", t.name, db.mapError(err))
			}
		}
	}
	return db.mapError(tx.Commit())
}

// Bypasses reports whether the role that the database was opened as walks past
// row-level security (a superuser, or a role with BYPASSRLS), and names it.
// Never on SQLite.
func (db *DB) Bypasses(ctx context.Context) (role string, bypasses bool, err error) {
	if db.dialect != dialectPostgres {
		return "", false, nil
	}
	err = db.read.QueryRowContext(ctx, `SELECT rolname, rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user`).Scan(&role, &bypasses)
	return role, bypasses, db.mapError(err)
}
