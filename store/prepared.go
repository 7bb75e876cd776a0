package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// prepared holds the statements of [Tx.ExecPrepared], by their text.
type prepared struct {
	mu         sync.Mutex
	statements map[string]*sql.Stmt
	wanted     []string
	wants      atomic.Bool // there are wanted ones
}

// ExecPrepared is [Tx.Exec] for a statement that runs very often and has one of
// few texts: from its second use on it is not parsed again. After an error the
// transaction is not committed, whatever becomes of the error, as PostgreSQL has it
// with every statement.
func (tx *Tx) ExecPrepared(ctx context.Context, query string, args ...any) (changed int64, err error) {
	defer func() {
		if err != nil {
			tx.failed = err
		}
	}()
	if tx.db.dialect == dialectPostgres { // its driver does the same for every statement
		return tx.Exec(ctx, query, args...)
	}
	known := tx.db.ready.get(query)
	if known == nil {
		return tx.Exec(ctx, query, args...)
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	// The driver starts a goroutine for each statement that can be canceled, which
	// costs as much as a small statement itself.
	whole := context.WithoutCancel(ctx)
	statement := tx.tx.StmtContext(whole, known)
	defer func() { _ = statement.Close() }() // of this transaction; known stays
	res, err := statement.ExecContext(whole, args...)
	if err != nil {
		return 0, tx.db.mapError(err)
	}
	return tx.changed(res)
}

// get gives the statement, or nil and remembers that it is wanted.
func (p *prepared) get(query string) *sql.Stmt {
	p.mu.Lock()
	defer p.mu.Unlock()
	known := p.statements[query]
	if known == nil && !slices.Contains(p.wanted, query) {
		p.wanted = append(p.wanted, query)
		p.wants.Store(true)
	}
	return known
}

// prepare prepares what is wanted. It must not be called inside a transaction:
// SQLite's pool for writing has one connection, which that transaction holds.
func (p *prepared) prepare(ctx context.Context, db *DB) {
	if !p.wants.Load() {
		return
	}
	p.mu.Lock()
	wanted := p.wanted
	p.wanted = nil
	p.wants.Store(false)
	p.mu.Unlock()
	for _, query := range wanted { // without the lock: a transaction may ask for it before it frees the connection
		statement, err := db.write.PrepareContext(ctx, orFail(db.bind(query))) //nolint:sqlclosecheck // close does
		if err != nil {                                                        // it runs unprepared, and says there what is wrong
			continue
		}
		p.mu.Lock()
		if p.statements == nil {
			p.statements = make(map[string]*sql.Stmt)
		}
		twice := p.statements[query]
		p.statements[query] = statement
		p.mu.Unlock()
		if twice != nil {
			_ = twice.Close() // database/sql waits for who uses it
		}
	}
}

// orFail gives the statement, of SQLite, without a way back: otherwise one of many
// rows copies each page that it changes, in order to undo just itself.
func orFail(query string) string {
	for _, verb := range [...]string{"INSERT", "UPDATE"} {
		if rest, ok := strings.CutPrefix(query, verb+" "); ok && !strings.HasPrefix(rest, "OR ") {
			return verb + " OR FAIL " + rest
		}
	}
	return query
}

func (p *prepared) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var err error
	for _, s := range p.statements {
		err = errors.Join(err, s.Close())
	}
	p.statements, p.wanted = nil, nil
	p.wants.Store(false)
	return err
}
