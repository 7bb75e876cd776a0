// Package ledger makes the trail tamper-evident: each organization and class of
// events has a Merkle log, whose blocks are signed.
//
//	l := ledger.New(db, trail, v.SigningKeys(), ledger.Options{Environment: "production"})
//	go l.Run(ctx)
//	report, err := l.Verify(ctx, caller, ledger.VerifyOptions{Organization: "acme"})
//
// # What is hashed
//
// The leaves are the canonical bytes of events, exactly as they are stored, hashed
// as RFC 6962 (section 2.1) has it. [Checkpoint] is what is signed, as a signed note
// with Ed25519 (C2SP signed-note and tlog-checkpoint, golang.org/x/mod/sumdb/note):
// any tool for those reads it.
//
// # Sealing
//
// Writers of events know nothing of logs: they insert rows, and read none. Once a
// second one instance, which holds a lease, takes the rows that are committed and
// have no place in a log yet, by that mark and not by their ids, since commits
// arrive late. It gives them the next places, writes the block and the tree's new
// hashes, and signs, in one transaction. Before it goes on from a block it checks
// that block's signature and that the tree still hashes to its root, so that it
// never signs what was altered since; such a log is left unsealed, and said so.
// The lease saves work and nothing else: a run of the sealer writes the lease's row
// first, so that two never seal at once.
//
// # The instance's own log
//
// Every block of every log is a leaf of one further log, of the reserved
// organization and the class "ledger". Its checkpoint vouches for all: a log that is
// cut short or gone is missed there. Only what was cut everywhere at once, back to
// one instant, looks like an older database; against that stands a checkpoint kept
// elsewhere ([Ledger.Checkpoint], [VerifyOptions.Checkpoints]).
//
// # What retention may take
//
// Events leave a log from its head only, behind a signed record (prefix.go).
// Blocks and hashes stay, so that the log still verifies and no later proof changes.
package ledger

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/lease"
	"github.com/gatehouse-io/gatehouse/store"
)

// The errors that callers meet, each safe to show.
var (
	ErrNoEvent  = fault.New(fault.NotFound, "event_not_found", "There is no such event.")
	ErrUnsealed = fault.New(fault.Unavailable, "event_not_sealed", "The event is not sealed yet; try again in a few seconds.").After(2 * time.Second)
	ErrNoLog    = fault.New(fault.NotFound, "log_not_found", "Nothing of that organization and class is sealed yet.")
	ErrRotated  = fault.New(fault.Conflict, "key_rotated", "The signing key was rotated by somebody else meanwhile.")
	ErrAltered  = fault.New(fault.Conflict, "log_altered", "The log is not what was signed; `gatehouse audit verify` says where.")
)

// Class is the class of the instance's own log, which no event has.
const Class = "ledger"

// Options sets up a [Ledger]. Only Environment is required.
type Options struct {
	Environment string        // stands in every checkpoint, and binds it
	Every       time.Duration // how often rows are looked for; 1 s when 0
	Lease       time.Duration // after how long without a word another instance seals; 10 s when 0
	Batch       int           // how many events of one log one block takes at most; 4,096 when 0
	Now         func() time.Time
	Logger      *slog.Logger
}

// Ledger seals the trail, proves it and verifies it. Its methods may be called by
// several goroutines at once.
type Ledger struct {
	db     *store.DB
	trail  *audit.Log
	sealer Sealer
	opts   Options
	lease  *lease.Lease // of the one that seals
	server store.ServerClock

	failing atomic.Bool // this process's last run failed

	mu     sync.Mutex
	key    *signingKey // the last that signed here
	after  logID       // where the last look for unsealed rows ended
	health Health
	skewed bool // the clock was not the database server's at the last look
	vouch  bool // it was, then

	exported     Exported
	exportedNote string // the last
}

// New gives a ledger over db, whose own events go to trail.
func New(db *store.DB, trail *audit.Log, sealer Sealer, opts Options) *Ledger {
	if opts.Every == 0 {
		opts.Every = time.Second
	}
	if opts.Lease == 0 {
		opts.Lease = 10 * time.Second
	}
	if opts.Batch == 0 {
		opts.Batch = 4096
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Ledger{db: db, trail: trail, sealer: sealer, opts: opts, server: db.Now}
	l.lease = lease.New(db, lease.Options{Table: lease.Sealer, For: opts.Lease, Now: opts.Now, May: l.clockIsRight})
	return l
}

// system is the caller behind what Gatehouse does by itself.
func system() access.Caller {
	return access.SystemCaller(access.InstanceOrganization, access.Operator)
}

// logID names a log.
type logID struct{ organization, class string }

// instanceLog is the log of all blocks.
func instanceLog() logID { return logID{access.InstanceOrganization, Class} }

func (l *Ledger) origin(id logID) string {
	return origin(l.opts.Environment, id.organization, id.class)
}
