// Package masterkey looks after the master keys of an instance: it opens the
// keyring at start, stages a new key, moves everything sealed to it while reads
// and writes go on, proves that nothing is left behind, and retires the old one.
//
//	keys, err := masterkey.Open(ctx, db, trail, masterkey.Options{Environment: "production", Secret: secret, Columns: columns})
//	v := vault.New(db, trail, services, keys.Ring(), ...)
//	go keys.Run(ctx)
//
// # Which key seals
//
// The database says so, and it knows each key by a record that tells whether a
// secret is the right one (package seal). Secrets given to an instance only
// open until their key's record is there ([Keys.Stage]) and the database has
// switched to it ([Keys.Rotate]), which it does only once every live instance
// holds it. Instances look every [Options.Poll] and say what they hold.
//
// # Sealed columns
//
// Every column that holds sealed values is a [Column], given by the room that
// owns it and collected where the rooms are wired. Rotation, its proof,
// verification and the deletion of an organization go by that list. A column
// of the database whose name ends in _sealed and that is not on the list stops
// [Keys.Retire].
//
// To add one: name it ..._sealed; give its Column; call [Admit] in the
// transaction that writes it.
//
// # Rotation
//
// A worker reads rows that are not under the sealing key, wraps their data keys
// anew, and writes each back only where it is still as it was read. The worker
// holds a lease in the database; one that is killed is followed by another,
// which starts over and finds only what is left. Nothing but time hangs on the
// lease or on any clock: two workers at once do the same work twice.
//
// # The proof
//
// [Keys.Retire] counts, in the transaction that retires a key, what still names
// it. [Admit] makes every writer look at the key in its own transaction.
// Transactions are serializable, so that a value is either counted or refused,
// however long its writer was held up.
package masterkey

import (
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
)

// The errors that callers meet, each safe to show.
var (
	ErrUnknownKey = fault.New(fault.NotFound, "key_not_found", "There is no such master key.")
	ErrNoNewKey   = fault.New(fault.Conflict, "key_not_given", "There is no new master key to stage: set ENCRYPTION_KEY to the new secret, and put the old one into ENCRYPTION_KEYS_OLD.")
	ErrNotHeld    = fault.New(fault.Conflict, "key_not_held", "This process does not hold the secret of that key; give it in ENCRYPTION_KEY or ENCRYPTION_KEYS_OLD.")
	ErrSeals      = fault.New(fault.Conflict, "key_seals", "This key seals; stage another and rotate to it first.")
	ErrNotLost    = fault.New(fault.Conflict, "key_not_lost", "The secret of this key is here, so it is not lost: rotate instead.")
	ErrRotating   = fault.New(fault.Conflict, "rotation_running", "A rotation to another key is running; wait for its end, or stop it.")

	// ErrSuperseded is for whoever was about to write a value that would never
	// open again: see [Admit].
	ErrSuperseded = fault.New(fault.Unavailable, "key_superseded", "The master key or the organization's own keys were retired meanwhile; try again shortly.").After(time.Second)
)

// The times of a running instance.
const (
	poll     = 2 * time.Second  // how often it looks at the keys
	beat     = 5 * time.Second  // how often it says that it lives
	liveFor  = 30 * time.Second // how long its word counts
	leaseFor = 10 * time.Second // how long a worker's lease lasts
	forgetIn = 24 * time.Hour   // when one that does not live any more is taken off the list
)

// system is the caller behind what Gatehouse does by itself.
func system() access.Caller {
	return access.SystemCaller(access.InstanceOrganization, access.Operator)
}

// State says what a master key is for at the moment.
type State string

// The states of a key.
const (
	Staged  State = "staged"  // known, and has never sealed anything
	Sealing State = "sealing" // seals
	Opening State = "opening" // sealed once, and opens what is still under it
	Retired State = "retired" // nothing is under it; not held by anybody
)

// Source says where a process has a key's secret from.
type Source string

// The sources of secrets, by their variables.
const (
	FromKey      Source = "ENCRYPTION_KEY"
	FromOld      Source = "ENCRYPTION_KEYS_OLD"
	FromFallback Source = "JWT_SECRET"
)

// record is a key as the database has it.
type record struct {
	seal.KeyRecord
	createdAt, activatedAt, retiredAt time.Time
}

func (r *record) state(sealing seal.KeyID) State {
	switch {
	case !r.retiredAt.IsZero():
		return Retired
	case r.ID == sealing:
		return Sealing
	case r.activatedAt.IsZero():
		return Staged
	}
	return Opening
}
