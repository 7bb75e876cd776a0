package retention

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// table says where the rows of a class stand that has no log, and when one is due.
type table struct {
	name   string
	keys   string        // the columns that a row is named by
	at     string        // the column whose age counts
	lasts  time.Duration // what a row is about goes on for so long after that
	due    string        // beside the organization ($1) and the instant ($2); t is the row
	actor  string        // the column with who did it; empty where there is none
	target string        // the column with what it was done to
	set    string        // what is taken from the row; empty: the row goes
}

// tables are those of every class but the events' and [DeletedMembers].
func tables() map[Class]table {
	return map[Class]table{
		Usage: {
			name: "usage_hours", keys: "organization, hour, service, model, credential, member", at: "hour", lasts: time.Hour, due: "t.hour < $2",
			actor: "member", target: "credential",
		},
		LimitHistory: { // what a later state took the place of, or what told of a deletion
			name: "limit_policy_revisions", keys: "organization, id, revision", at: "changed_at",
			due: `t.changed_at < $2 AND (t.content IS NULL OR EXISTS (SELECT 1 FROM limit_policy_revisions n
				WHERE n.organization = t.organization AND n.id = t.id AND n.revision > t.revision AND n.changed_at < $2))`,
			actor: "changed_by", target: "id",
		},
		Versions: { // but the last, by which the next one is numbered
			name: "credential_version_history", keys: "organization, credential_id, version", at: "destroyed_at",
			due: `t.state = 'retired' AND t.destroyed_at < $2 AND EXISTS (SELECT 1 FROM credential_version_history n
				WHERE n.organization = t.organization AND n.credential_id = t.credential_id AND n.version > t.version)`,
			actor: "created_by", target: "credential_id",
		},
		Tests: {
			name: "credential_version_history", keys: "organization, credential_id, version", at: "destroyed_at",
			due:   `t.state = 'retired' AND t.destroyed_at < $2 AND t.last_test IS NOT NULL`,
			actor: "created_by", target: "credential_id", set: "last_test = NULL",
		},
		Deliveries: {
			name: "webhook_deliveries", keys: "organization, id", at: "created_at", due: `t.created_at < $2 AND t.status <> 'pending'`,
			target: "webhook_id",
		},
		Expired:        expiredTable(),
		DeletedMembers: membersTable(),
	}
}

// membersTable finds the deleted members whose personal data is due. Their rows
// stay: by them a member stays refused.
func membersTable() table {
	return table{
		name: "members", keys: "organization, id", at: "deleted_at",
		due: `t.deleted_at < $2 AND NOT EXISTS (SELECT 1 FROM retention_erasures n
			WHERE n.organization = t.organization AND n.member = t.id AND n.deleted_at = t.deleted_at)`,
		actor: "id", target: "id",
	}
}

// rows is the query for what is due of a table, with its arguments: the one that
// both the sweep and the preview run.
type rows struct {
	table
	where string
	args  []any
}

// dueRows gives the query for the rows of an organization that were due before an
// instant and that no hold keeps.
func (t table) dueRows(organization string, before time.Time, holds holdsOf) rows {
	q := rows{table: t, where: "t.organization = $1 AND " + t.due, args: []any{organization, store.At(before)}}
	arg := func(v any) string {
		q.args = append(q.args, v)
		return "$" + strconv.Itoa(len(q.args))
	}
	for i := range holds.all {
		if held := t.heldBy(&holds.all[i].Scope, "t.", arg); held != "" {
			q.where += " AND NOT (" + held + ")"
		}
	}
	for i := range holds.tests {
		if held := t.heldBy(&holds.tests[i].Scope, "t.", arg); held != "" {
			q.where += " AND NOT (" + held + " AND t.last_test IS NOT NULL)"
		}
	}
	for i := range holds.versions { // of a credential, which go with it
		s := &holds.versions[i].Scope
		held := tables()[Versions].heldBy(s, "v.", arg)
		if held == "" {
			continue
		}
		if s.Class == Tests {
			held += " AND v.last_test IS NOT NULL"
		}
		q.where += " AND NOT EXISTS (SELECT 1 FROM credential_version_history v WHERE v.organization = t.organization AND v.credential_id = t.id AND " + held + ")"
	}
	return q
}

// heldBy gives the condition for the rows that a hold of this scope keeps, with alias before each
// column; "" where it is about events only, or about somebody, and the rows are nobody's.
func (t table) heldBy(s *Scope, alias string, arg func(any) string) string {
	if s.Action != "" || s.Actor != "" && t.actor == "" {
		return ""
	}
	parts := []string{"1 = 1"}
	if s.Actor != "" {
		parts = append(parts, alias+t.actor+" = "+arg(s.Actor))
	}
	if s.Target != "" {
		parts = append(parts, alias+t.target+" = "+arg(s.Target))
	}
	switch {
	case s.From.IsZero():
	case t.lasts > 0:
		parts = append(parts, alias+t.at+" > "+arg(store.At(s.From.Add(-t.lasts))))
	default:
		parts = append(parts, alias+t.at+" >= "+arg(store.At(s.From)))
	}
	if !s.To.IsZero() {
		parts = append(parts, alias+t.at+" < "+arg(store.At(s.To)))
	}
	return strings.Join(parts, " AND ")
}

// first gives the query's text for columns of the oldest rows, at most limit.
func (q rows) first(columns string, limit int) string {
	return `SELECT ` + columns + ` FROM ` + q.name + ` t WHERE ` + q.where + ` ORDER BY t.` + q.at + `, ` + q.keys + ` LIMIT ` + strconv.Itoa(limit)
}

// span says how much there is, and from when to when.
type span struct {
	n              int64
	oldest, newest time.Time
}

// count looks at the oldest rows, at most limit.
func (q rows) count(ctx context.Context, tx *store.Tx, limit int) (s span, err error) {
	var oldest, newest store.Time
	err = tx.Row(ctx, `SELECT count(*), min(d.at), max(d.at) FROM (`+q.first("t."+q.at+" AS at", limit)+`) AS d`, q.args...).Scan(&s.n, &oldest, &newest)
	s.oldest, s.newest = oldest.Time, newest.Time
	return s, err
}

// remove takes the oldest rows away, at most limit.
func (q rows) remove(ctx context.Context, tx *store.Tx, limit int) (int64, error) {
	tx.Destroys()
	which := ` WHERE (` + q.keys + `) IN (` + q.first(q.keys, limit) + `)`
	if q.set != "" {
		return tx.Exec(ctx, `UPDATE `+q.name+` SET `+q.set+which, q.args...)
	}
	return tx.Exec(ctx, `DELETE FROM `+q.name+which, q.args...)
}

// dueEvents gives the events at the head of a class's log that were sealed before an
// instant, at most limit of them: the one question that both the sweep and the
// preview ask.
func dueEvents(ctx context.Context, tx *store.Tx, organization string, c Class, before, now time.Time, limit int64) (ledger.Sealed, error) {
	return ledger.SealedBefore(ctx, tx, organization, string(c), before, now, limit)
}
