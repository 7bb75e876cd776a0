package ledger

import (
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// typed is a table that verification reads, and what of each row SQLite must hold as a
// number; what says of which log it is must be text. PostgreSQL holds nothing else there.
type typed struct {
	table   string
	kind    Kind
	numbers string // columns
	null    string // the one of them that may be NULL
	names   string // as text: class, place, event, block of a finding
	whose   string // the column with the organization that the row is about
}

var typedTables = []typed{
	{"events", ColumnAltered, "occurred_at recorded_at log_index", "log_index", "class, log_index, id, NULL", "organization"},
	{"ledger_blocks", BlockAltered, "number first count sealed_at", "", "class, first, NULL, number", "organization"},
	{"ledger_logs", LogAltered, "size blocks created_at updated_at", "", "class, NULL, NULL, NULL", "organization"},
	{"ledger_prefixes", RecordInvalid, "size created_at", "", "class, NULL, NULL, NULL", "organization"},
	{"ledger_held", HeldAltered, "log_index size", "", "class, log_index, NULL, NULL", "organization"},
	{"ledger_entries", EntryAltered, "log_index number", "", "log_class, NULL, NULL, number", "log_organization"},
	{"ledger_keys", KeyAltered, "created_at retired_at", "retired_at", "'" + Class + "', NULL, NULL, NULL", "organization"},
}

// maxDamaged bounds what is told of each table.
const maxDamaged = 10

// damaged tells of what cannot be read, in a log or in what belongs to it, so that who
// damages a row does not make its alteration an error of ours. It names the rows where it can. An
// error is one of looking for them.
func (v *verification) damaged(ctx context.Context, id logID, cause error) error {
	if v.unread { // all of it was told then
		return nil
	}
	v.unread = true
	before := len(v.report.Findings)
	for _, t := range typedTables {
		err := v.viewOf(ctx, t, func(tx *store.Tx) error { return v.damagedRows(ctx, tx, t) })
		switch {
		case errors.Is(err, store.ErrDamaged):
			v.ofLog(LogMissing, id, -1, "the table %s is gone, or cannot be read", t.table)
		case err != nil:
			return err
		}
	}
	if len(v.report.Findings) == before {
		what := "something that belongs to it"
		for _, table := range [...]string{"ledger_tiles", "event_persons"} {
			if strings.Contains(cause.Error(), table) {
				what = "the table " + table
			}
		}
		v.ofLog(LogAltered, id, -1, "%s cannot be read: the database was changed by something other than Gatehouse", what)
	}
	return nil
}

// viewOf runs fn with the sight of what is verified, or of the instance's own.
func (v *verification) viewOf(ctx context.Context, t typed, fn func(*store.Tx) error) error {
	if t.table == "ledger_entries" || t.table == "ledger_keys" {
		return v.ledger.db.View(ctx, access.InstanceOrganization, fn)
	}
	return v.view(ctx, fn)
}

// damagedRows finds the rows of a table that hold something else than numbers.
func (v *verification) damagedRows(ctx context.Context, tx *store.Tx, t typed) error {
	if !tx.TakesAnyType() {
		return tx.Each(ctx, func(func(...any) error) error { return nil }, `SELECT 1 FROM `+t.table+` LIMIT 1`)
	}
	var wrong []string
	for column := range strings.FieldsSeq(t.numbers) {
		condition := `typeof(` + column + `) <> 'integer'`
		if column == t.null {
			condition += ` AND ` + column + ` IS NOT NULL`
		}
		wrong = append(wrong, condition)
	}
	class, _, _ := strings.Cut(t.names, ",")
	wrong = append(wrong, `typeof(`+t.whose+`) <> 'text'`, `typeof(`+class+`) <> 'text'`)
	where, args := `(`+strings.Join(wrong, " OR ")+`)`, []any{}
	if only := v.only(); only != "" && only != access.InstanceOrganization {
		where, args = where+` AND `+t.whose+` = $1`, append(args, only)
	}
	return tx.Each(ctx, func(scan func(...any) error) error {
		var f Finding
		var place, event, block *string
		if err := scan(&f.Organization, &f.Class, &place, &event, &block); err != nil {
			return err
		}
		number := func(text *string) int64 {
			if text == nil {
				return -1
			}
			n, err := strconv.ParseInt(*text, 10, 64)
			if err != nil {
				return -1
			}
			return n
		}
		f.Kind, f.Index, f.Block, f.Detail = t.kind, number(place), number(block), "a row of "+t.table+" holds something else where a number or a name belongs"
		if event != nil {
			f.Event = *event
		}
		if t.kind == EntryAltered {
			v.listed(EntryAltered, instanceLog(), -1, "an entry of the list of blocks, of %s/%s, holds something else where a number belongs", forLine(f.Organization), forLine(f.Class))
			return nil
		}
		v.find(f)
		return nil
	}, `SELECT `+t.whose+`, `+t.names+` FROM `+t.table+` WHERE `+where+` ORDER BY rowid LIMIT `+strconv.Itoa(maxDamaged), args...)
}
