package retention

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Certificate says what one run removed of one class. Record is the signed note that
// says the same: docs/retention.md shows how to check it with nothing but a public
// key.
type Certificate struct {
	Organization   string
	Sweep          string // the run's id, the target of its event
	Class          Class
	PolicyRevision int64
	Kept           string    // how long the class was kept
	Before         time.Time // what was older was due

	// Of events: the places from First up to, not including, To were removed from
	// the log, but Held of them that were set aside; Root is that of the tree of the
	// first To events.
	First, To int64
	Root      string

	Removed        int64
	Held           int64
	Released       int64     // events that had been set aside, and went now
	Oldest, Newest time.Time // of what was removed: when events were sealed, rows ended
	Record         string
	UpdatedAt      time.Time
	Finished       bool // the run is over
}

// Contradicts reports whether the certificate says something else than its record, which
// is what was signed: then somebody altered its row. Before is not compared, nor, of events,
// when the oldest and the newest were sealed, which their record does not say.
func (c *Certificate) Contradicts() bool {
	said, notes := strings.Split(c.Record, "\n"), c.notes()
	for _, line := range notes {
		if !strings.HasPrefix(line, "before ") && !slices.Contains(said, line) && !c.early(line) {
			return true
		}
	}
	for _, line := range said { // nor may the row leave out what the record says
		name, _, _ := strings.Cut(line, " ")
		switch name {
		case "sweep", "policy", "kept", "first", "set", "oldest", "newest", "released", "removed":
			if !slices.Contains(notes, line) && line != "first 0" {
				return true
			}
		}
	}
	if c.Class.Events() {
		return len(said) < 3 || said[1] != strconv.FormatInt(c.To, 10) || said[2] != c.Root || !c.of(said[0])
	}
	return c.First != 0 || c.To != 0 || c.Held != 0 || c.Root != "" || !c.of(said[0])
}

func (c *Certificate) of(origin string) bool {
	return strings.HasSuffix(origin, "/"+c.Organization+"/"+string(c.Class)+"/removed")
}

// early reports whether the line is of where a run began that only released events: the
// records of earlier versions said 0 there.
func (c *Certificate) early(line string) bool {
	return c.Removed == 0 && c.Released > 0 && c.First == c.To && strings.HasPrefix(line, "first ")
}

func readCertificates(ctx context.Context, tx *store.Tx, condition string, args ...any) (all []Certificate, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var c Certificate
		var class string
		var before, oldest, newest, updated, finished store.Time
		err := scan(&c.Organization, &c.Sweep, &class, &c.PolicyRevision, &c.Kept, &before, &c.First, &c.To, &c.Removed, &c.Held, &c.Released,
			&oldest, &newest, &c.Root, &c.Record, &updated, &finished)
		c.Class, c.Before, c.Oldest, c.Newest, c.UpdatedAt, c.Finished = Class(class), before.Time, oldest.Time, newest.Time, updated.Time, !finished.IsZero()
		all = append(all, c)
		return err
	}, `SELECT c.organization, c.sweep_id, c.class, c.policy_revision, c.kept, c.cutoff, c.first, c.upto, c.removed, c.held, c.released,
		c.oldest, c.newest, c.root, c.record, c.updated_at, s.finished_at FROM retention_certificates c
		JOIN retention_sweeps s ON s.organization = c.organization AND s.id = c.sweep_id WHERE `+condition, args...)
	return all, err
}

func writeCertificate(ctx context.Context, tx *store.Tx, c *Certificate) error {
	before := int64(0) // nothing is due, and what was set aside is released
	if !c.Before.IsZero() {
		before = c.Before.UnixMicro()
	}
	_, err := tx.Exec(ctx, `INSERT INTO retention_certificates (organization, sweep_id, class, policy_revision, kept, cutoff, first, upto, removed, held, released,
		oldest, newest, root, record, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		ON CONFLICT (organization, sweep_id, class) DO UPDATE SET policy_revision = excluded.policy_revision, kept = excluded.kept, cutoff = excluded.cutoff,
		first = excluded.first, upto = excluded.upto, removed = excluded.removed, held = excluded.held, released = excluded.released,
		oldest = excluded.oldest, newest = excluded.newest, root = excluded.root, record = excluded.record, updated_at = excluded.updated_at`,
		c.Organization, c.Sweep, string(c.Class), c.PolicyRevision, c.Kept, before, c.First, c.To, c.Removed, c.Held, c.Released,
		store.At(c.Oldest), store.At(c.Newest), c.Root, c.Record, store.At(c.UpdatedAt))
	return err
}

// Certificates gives the certificates of an organization, the caller's own where it
// is empty, the newest first: at most limit (1 to 500; 50 when 0). after is the
// cursor that the page before gave. It needs retention:read.
func (r *Retention) Certificates(ctx context.Context, caller access.Caller, organization string, limit int, after string) (all []Certificate, next string, err error) {
	organization = ownOr(caller, organization)
	if err := access.Allow(caller, access.RetentionRead, organization); err != nil {
		return nil, "", err
	}
	var wrong []fault.Field
	if limit == 0 {
		limit = 50
	}
	if limit < 1 || limit > 500 {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to 500"})
	}
	sweep, class, _ := strings.Cut(after, ":")
	if after != "" && (!store.IsID("sweep", sweep) || !Class(class).Known()) {
		wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
	}
	if len(wrong) > 0 {
		return nil, "", fault.InvalidFields(wrong...)
	}
	condition, args := `c.organization = $1 ORDER BY c.sweep_id DESC, c.class DESC LIMIT $2`, []any{organization, limit + 1}
	if after != "" {
		condition, args = `c.organization = $1 AND (c.sweep_id, c.class) < ($3, $4) ORDER BY c.sweep_id DESC, c.class DESC LIMIT $2`, append(args, sweep, class)
	}
	err = r.db.View(ctx, organization, func(tx *store.Tx) error {
		all, err = readCertificates(ctx, tx, condition, args...)
		return err
	})
	if err == nil && len(all) > limit {
		all = all[:limit]
		next = all[limit-1].Sweep + ":" + string(all[limit-1].Class)
	}
	return all, next, err
}
