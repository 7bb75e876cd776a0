// Package lease lets one of several processes do a piece of work at a time, by a row
// of the database that says which one does and until when.
//
//	l := lease.New(db, lease.Options{Table: lease.Sealer, For: 10 * time.Second, Now: time.Now})
//	held, err := l.Take(ctx) // again before each piece of work: it also holds on to it
//	...
//	l.Note(ctx, err) // what failed, for every process to see
//	l.Release(ctx)   // at the end, so that another goes on at once
//
// A lease saves work and guards nothing: between a Take and what is done after it the
// lease may end, as where the process stands still. Work that must not be done twice
// looks at the row's holder in its own transaction ([Lease.Holder]).
//
// # Whose clock
//
// Times are those of the processes, whose clocks differ. A holder whose clock is ahead
// makes a lease that seems long to others, so one is believed up to twice its length.
// One that ends later than that was made by a clock that was wrong, and counts for
// nothing: no jump of a clock keeps the others out for a year.
package lease

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// Table is a table whose one row, the instance's, holds a lease: holder, lease_until and
// last_error, and whatever else its room keeps there.
type Table int

// The tables that hold leases.
const (
	Sealer  Table = iota // of package ledger
	Sweeper              // of package retention
)

// name gives the table's name. That no other text can come into a statement is why
// Table is no string.
func (t Table) name() string {
	return [...]string{Sealer: "ledger_sealer", Sweeper: "retention_sweeper"}[t]
}

// Options sets up a [Lease]. All but May is required.
type Options struct {
	Table Table
	For   time.Duration // after how long without a word another process takes it
	Now   func() time.Time

	// May is asked before the lease is taken or made longer, and says whether this
	// process is fit to hold it; nil: it is.
	May func(ctx context.Context, now time.Time) (bool, error)
}

// Lease is one process's way to the lease of a table. Its methods may be called by
// several goroutines at once, for which it is the same holder.
type Lease struct {
	db   *store.DB
	opts Options
	id   string
}

// New gives the lease for this process, which does not hold it yet.
func New(db *store.DB, opts Options) *Lease {
	return &Lease{db: db, opts: opts, id: store.NewID("run")}
}

// Holder gives how the row names this process in its column holder.
func (l *Lease) Holder() string { return l.id }

// Take takes the lease or holds on to it, and reports whether it is this process's.
// While more than half of it is left that only reads.
func (l *Lease) Take(ctx context.Context) (bool, error) {
	now := l.opts.Now()
	var holder string
	var until store.Time
	err := l.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT holder, lease_until FROM `+l.opts.Table.name()+` WHERE organization = $1`, access.InstanceOrganization).Scan(&holder, &until)
	})
	if err != nil {
		return false, err
	}
	left := until.Sub(now)
	switch {
	case holder == l.id && left > l.opts.For/2 && left <= l.opts.For:
		return true, nil
	case holder != l.id && holder != "" && left > 0 && left <= 2*l.opts.For:
		return false, nil
	}
	if l.opts.May != nil {
		if may, err := l.opts.May(ctx, now); err != nil || !may {
			return false, err
		}
	}
	var taken int64
	err = l.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) (err error) {
		taken, err = tx.Exec(ctx, `UPDATE `+l.opts.Table.name()+` SET holder = $1, lease_until = $2 WHERE organization = $3 AND holder = $4 AND lease_until = $5`,
			l.id, store.At(now.Add(l.opts.For)), access.InstanceOrganization, holder, until.UnixMicro()) // unless another was faster
		return err
	})
	return taken > 0, err
}

// atMost is how long a word at the end may take, also where ctx has ended.
const atMost = 5 * time.Second

// Release lets another process take the lease at once. Where it fails, the lease ends
// by itself.
func (l *Lease) Release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atMost)
	defer cancel()
	_ = l.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE `+l.opts.Table.name()+` SET holder = '', lease_until = 0 WHERE organization = $1 AND holder = $2`, access.InstanceOrganization, l.id)
		return err
	})
}

// Note keeps what went wrong in the row's last_error, where every process can see it.
// Work that goes well empties the column itself, with what else it says there.
func (l *Lease) Note(ctx context.Context, failed error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), atMost)
	defer cancel()
	text := store.Text(failed.Error(), 1000)
	_ = l.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error { // the database may be what failed
		_, err := tx.Exec(ctx, `UPDATE `+l.opts.Table.name()+` SET last_error = $1 WHERE organization = $2`, text, access.InstanceOrganization)
		return err
	})
}
