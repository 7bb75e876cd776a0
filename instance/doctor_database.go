package instance

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// database looks at the database and what is kept in it.
func (d *diagnosis) database(ctx context.Context) {
	const check = "database"
	if err := d.config.CheckDatabaseFile(); err != nil {
		d.failed(check, err)
		return
	}
	connecting, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	db, err := store.Attach(connecting, d.config.Database())
	if err != nil { // whose text never holds the password
		if fault.Mistakes(err)[0].Mend != "" {
			d.failed(check, err)
		} else {
			d.add(check, Failed, "see that the server runs, and that DATABASE_URL names it, its database and its role", "%v", err)
		}
		return
	}
	defer func() { _ = db.Close() }() // nothing was written
	start := time.Now()
	server, err := db.Server(connecting)
	if err != nil {
		d.add(check, Failed, "see the database's own log", "it does not answer: %v", err)
		return
	}
	size, err := db.Size(connecting)
	if err != nil {
		d.add(check, Doubtful, "", "its size cannot be read: %v", err)
	}
	d.add(check, Fine, "", "%s answers within %s; %d MB", server, time.Since(start).Round(time.Millisecond), size>>20)
	before := time.Now() // the connection is there already
	if now, has, err := db.Now(connecting); has && err == nil {
		d.clock("PostgreSQL", now, before, time.Now())
	}
	if d.tables(connecting, db) {
		d.keys(ctx, db)
		d.trail(connecting, db)
	}
}

// The age of the oldest unsealed event from which on sealing lags.
const sealingLate = 30 * time.Second

// trail looks whether the trail is sealed.
func (d *diagnosis) trail(ctx context.Context, db *store.DB) {
	const check = "trail"
	h, err := ledger.ReadHealth(ctx, db, time.Now())
	newest, newestErr := ledger.Newest(ctx, db)
	switch {
	case errors.Join(err, newestErr) != nil:
		d.add("clock", Doubtful, "see the database's own log", "this machine's clock cannot be compared with what is in the database")
	case h.SealedAt.After(newest):
		d.past("the trail was last sealed", h.SealedAt, time.Now())
	case !newest.IsZero():
		d.past("the newest event is", newest, time.Now())
	}
	count := strconv.FormatInt(h.Unsealed, 10)
	if h.Unsealed == ledger.MostUnsealed {
		count += " or more"
	}
	switch {
	case err != nil:
		d.add(check, Failed, "see the database's own log", "its state cannot be read: %v", err)
	case h.LastError != "":
		d.add(check, Failed, "run `gatehouse audit verify`, and see the servers' logs", "the last run of the sealer failed: %s", h.LastError)
	case h.Unsealed == 0:
		d.add(check, Fine, "", "every event is sealed")
	case !h.Held && time.Since(h.Oldest) > sealingLate:
		d.add(check, Doubtful, "start `gatehouse serve`, which seals", "%s events are not sealed, and no server runs that would", count)
	case time.Since(h.Oldest) > sealingLate:
		d.add(check, Doubtful, "see the servers' logs; a database of an earlier version takes a while at its first start",
			"%s events wait to be sealed, the oldest for %s", count, time.Since(h.Oldest).Round(time.Second))
	default:
		d.add(check, Fine, "", "%s events wait to be sealed, the oldest for %s", count, time.Since(h.Oldest).Round(time.Millisecond))
	}
}

// tables looks at the schema, and reports whether it is this program's.
func (d *diagnosis) tables(ctx context.Context, db *store.DB) bool {
	const check = "database"
	current, newest, err := db.Migration(ctx)
	switch {
	case err != nil:
		d.add(check, Failed, "see the database's own log", "its version cannot be read: %v", err)
		return false
	case current > newest:
		d.add(check, Failed, "run the version that wrote it, or a later one", "its tables are of a newer Gatehouse than this")
		return false
	case current == 0:
		d.add(check, Doubtful, "`gatehouse serve` makes them", "it has no tables yet")
		return false
	case current < newest:
		d.add(check, Doubtful, "the next start of this version brings them up to date", "its tables are of version %d, and this program's are of %d", current, newest)
	default:
		d.add(check, Fine, "", "its tables are up to date (version %d)", current)
	}
	if err := db.TryWrite(ctx, access.InstanceOrganization); err == nil {
		d.add(check, Fine, "", "it can be written to")
	} else {
		mend := "see that the disk has room, that the role may write, and that DATABASE_URL names the primary"
		if db.Kind() != "postgresql" {
			mend = "see that the disk has room, and that the file, those beside it and its folder belong to the user that Gatehouse runs as"
		}
		d.add(check, Failed, mend, "it cannot be written to: %v", err)
	}
	d.rowSecurity(ctx, db)
	return current == newest
}

// rowSecurity looks whether PostgreSQL's second line between tenants stands.
func (d *diagnosis) rowSecurity(ctx context.Context, db *store.DB) {
	const check = "database"
	role, bypasses, err := db.Bypasses(ctx)
	missing, missingErr := db.Unsecured(ctx)
	switch {
	case db.Kind() != "postgresql":
	case errors.Join(err, missingErr) != nil:
		d.add(check, Failed, "", "row-level security cannot be looked at: %v", errors.Join(err, missingErr))
	case bypasses:
		d.add(check, Doubtful, "give Gatehouse a role of its own that owns the database and is no superuser", "the role %s bypasses row-level security", role)
	case len(missing) > 0:
		d.add(check, Failed, "restart `gatehouse serve`, which puts it on", "row-level security is off for %s", strings.Join(missing, ", "))
	default:
		d.add(check, Fine, "", "row-level security holds for every table of tenants (role %s)", role)
	}
}

// keys looks whether the master keys at hand are those of the database, and
// opens one value of each kind under each.
func (d *diagnosis) keys(ctx context.Context, db *store.DB) {
	const check = "keys"
	has, err := masterkey.Exist(ctx, db)
	if err != nil {
		d.add(check, Failed, "see the database's own log", "the master keys cannot be read: %v", err)
		return
	}
	if !has {
		d.add(check, Fine, "", "nothing is sealed yet; the first start makes a master key of ENCRYPTION_KEY")
		return
	}
	opts := d.config.keyOptions(slog.New(slog.DiscardHandler))
	opts.Warn = func(w fault.Warning) { d.warn(check, w) }
	keys, err := masterkey.Open(ctx, db, audit.New(db, audit.Options{}), opts)
	if err != nil {
		d.failed(check, err)
		return
	}
	d.servers(ctx, keys)
	if id, under, err := masterkey.SealsUnder(ctx, db, seal.NewSecret(d.config.JWTSecret)); err == nil && under {
		d.add(check, Doubtful, "set an ENCRYPTION_KEY of its own and move to it with `gatehouse keys stage` and `rotate`: see docs/keys.md",
			"key %s, which seals, is JWT_SECRET: whoever can sign tokens can open every credential", id)
	}
	var report masterkey.SealReport
	err = db.ViewAcross(ctx, func(tx *store.Tx) (err error) {
		report, err = masterkey.OpenSeals(ctx, tx, SealedColumns(), keys.Ring(), d.config.Environment, 1, nil)
		return err
	})
	if err != nil {
		d.add(check, Failed, "", "what is sealed cannot be read: %v", err)
		return
	}
	sealing, _ := keys.Ring().Sealing()
	for _, id := range slices.SortedFunc(maps.Keys(report.Values), func(a, b seal.KeyID) int { return cmp.Compare(a.String(), b.String()) }) {
		if opened := report.Opened[id]; opened > 0 {
			word := "opens"
			if id == sealing {
				word = "seals and opens"
			}
			d.add(check, Fine, "", "key %s %s: %d of its %d values tried", id, word, opened, report.Values[id])
		}
	}
	if len(report.Values) == 0 {
		d.add(check, Fine, "", "key %s seals; there is no value under it yet", sealing)
	}
	for _, id := range slices.SortedFunc(maps.Keys(report.Lost), func(a, b seal.KeyID) int { return cmp.Compare(a.String(), b.String()) }) {
		d.add(check, Doubtful, "store those credentials again; `gatehouse keys verify` names them", "%d values were given up with the lost key %s", report.Values[id], id)
	}
	if report.Err() != nil {
		for line := range strings.SplitSeq(report.Err().Error(), "\n") {
			d.add(check, Failed, "set the missing key in ENCRYPTION_KEYS_OLD; what is broken has to be stored again, or restored from a backup", "%s", line)
		}
	}
}
