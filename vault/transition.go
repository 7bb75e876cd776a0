package vault

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/store"
)

// transition is one change of a credential, worked out over the state that was
// read. Another change in between makes it void, and it is worked out again.
type transition struct {
	next     Credential     // as it is to be; its Version is the active one
	made     *sealedVersion // a new version, numbered one above the latest; staged unless next names it
	until    time.Time      // how long a version that next replaces stays in grace; zero: it is destroyed at once
	destroy  []int64        // versions beside the active one that end with it
	reason   string         // of a new version, and of the event
	metadata map[string]any // of the event, beside what every event has
}

// deed is what a change is called in the trail, and the permission it needs.
type deed struct {
	action     audit.Action
	permission access.Permission
}

// errRaced says that the credential changed between reading and writing.
var errRaced = errors.New("the credential was changed meanwhile")

// changeAttempts bounds how often a change that lost a race is worked out
// again over the newer state.
const changeAttempts = 64

// yield lets other changes of a credential end before the next attempt.
func yield(ctx context.Context) error { return store.Wait(ctx, rand.N(20*time.Millisecond)) }

// afterwardsMaxFor bounds the recording of what has happened already.
const afterwardsMaxFor = 5 * time.Second

// afterwards gives the context in which that is recorded, also when the caller has left.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), afterwardsMaxFor)
}

// plan works out what is to become of the state that was read; nil changes
// nothing.
type plan func(cur current) (*transition, []catalog.Problem, error)

// change makes the transition that work plans over the current state, with its
// event, and gives the state that it made. Where another change was faster it is
// planned again, so that none is lost and each is whole.
func (v *Vault) change(ctx context.Context, caller access.Caller, id string, match store.Match, d deed, work plan) (current, []catalog.Problem, error) {
	key := rowKey{caller.Organization, id}
	for range changeAttempts {
		cur, err := v.readCurrent(ctx, key)
		if err != nil {
			return current{}, nil, public(err)
		}
		if !match.Allows(cur.Revision) {
			return current{}, nil, ErrStale
		}
		t, warnings, err := work(cur)
		if err != nil {
			return current{}, nil, public(err)
		}
		if t == nil {
			return cur, nil, nil // nothing changes, so nothing is told
		}
		err = v.write(ctx, caller, key, cur, t, d)
		if errors.Is(err, errRaced) {
			if err := yield(ctx); err != nil {
				return current{}, nil, err
			}
			continue
		}
		if err != nil {
			return current{}, nil, public(err)
		}
		v.forget(key.organization, cur.Service, cur.Name)
		v.forget(key.organization, cur.Service, t.next.Name)
		for _, other := range cur.others {
			v.previous.Forget(versionKey{key, other.Number})
		}
		cur, err = v.readCurrent(ctx, key)
		return cur, warnings, public(err)
	}
	return current{}, nil, ErrStale
}

// write makes the transition in one transaction with its event, or gives errRaced
// when old is not the current state any more.
func (v *Vault) write(ctx context.Context, caller access.Caller, key rowKey, old current, t *transition, d deed) error {
	now := store.At(v.opts.Now())
	var kept []byte
	if t.next.Version != old.Version {
		var err error
		if kept, err = t.takeExpiry(old); err != nil {
			return err
		}
	}
	scope, failover, err := t.next.columns()
	if err != nil {
		return err
	}
	return v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
		changed, err := tx.Exec(ctx, `UPDATE credentials SET name = $1, disabled = $2, expires_at = $3, version = $4,
			revision = $5, updated_at = $6, scope = $10, failover = $11 WHERE organization = $7 AND id = $8 AND revision = $9`,
			t.next.Name, t.next.disabled, store.At(t.next.ExpiresAt), t.next.Version, old.Revision+1, now,
			key.organization, key.id, old.Revision, scope, failover)
		if err != nil {
			return err
		}
		if changed == 0 {
			return errRaced
		}
		w := versionWriter{ctx: ctx, tx: tx, key: key, at: now, by: caller.ID}
		if err := w.turn(old, t, kept); err != nil {
			return err
		}
		e := audit.Event{
			Action: d.action, Outcome: audit.Success, Permission: d.permission.String(),
			Targets: []audit.Target{{Type: "credential", ID: key.id, Name: t.next.Name}}, Metadata: t.tell(old),
		}
		if e.Personal = tellBounds(old.Bounds, t.next.Bounds, e.Metadata); t.reason != "" {
			if e.Personal == nil {
				e.Personal = make(map[string]string)
			}
			e.Personal["reason"] = t.reason // free text may name people
		}
		return v.log.Append(ctx, tx, caller, e)
	})
}

// tell gives the metadata of the event: the version that it is about, the revision
// that it made, which puts a credential's changes in order, what became
// of other versions, and the new fingerprint where values changed.
func (t *transition) tell(old current) map[string]any {
	m := map[string]any{"service": old.Service, "version": t.next.Version, "revision": old.Revision + 1}
	gone := slices.Clone(t.destroy)
	if t.next.Version != old.Version {
		m["replaced"] = old.Version
		if t.until.IsZero() {
			gone = append(gone, old.Version)
		} else {
			m["replacedUntil"] = t.until.UTC().Format(time.RFC3339)
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		var numbers []string
		for _, n := range gone {
			numbers = append(numbers, strconv.FormatInt(n, 10))
		}
		m["destroyed"] = strings.Join(numbers, ",")
	}
	if t.made != nil {
		m["fingerprint"] = t.made.fingerprint
		m["valuesChanged"] = t.next.Version != old.Version
	}
	maps.Copy(m, differences(old.Credential, t.next))
	maps.Copy(m, t.metadata)
	return m
}

// differences tells what changed beside the values, for the event.
func differences(old, next Credential) map[string]any {
	d := make(map[string]any)
	if old.Name != next.Name {
		d["renamed"] = true // names are personal data and stand on the target
	}
	if old.disabled != next.disabled {
		d["disabled"] = next.disabled
	}
	if !old.ExpiresAt.Equal(next.ExpiresAt) {
		d["expiresAt"] = "never"
		if !next.ExpiresAt.IsZero() {
			d["expiresAt"] = next.ExpiresAt.UTC().Format(time.RFC3339)
		}
	}
	return d
}

// versionWriter writes the versions of one credential inside a transaction.
type versionWriter struct {
	ctx context.Context
	tx  *store.Tx
	key rowKey
	at  store.Time
	by  string
}

// turn writes what becomes of the versions, and test as the credential's last
// where another becomes the active one (nil: none). errRaced means that one of them is
// not in the state it was read in: the timer may have destroyed it.
func (w versionWriter) turn(old current, t *transition, test []byte) error {
	if t.made != nil {
		state := StateStaged
		if t.next.Version == old.latest+1 {
			state = StateActive
		}
		if err := w.insert(old.latest+1, *t.made, state, t.reason); err != nil {
			return err
		}
	}
	for _, n := range t.destroy {
		if err := w.destroy(n); err != nil {
			return err
		}
	}
	if t.next.Version == old.Version {
		return nil
	}
	if err := w.retire(old.Version, store.At(t.until)); err != nil {
		return err
	}
	if t.made == nil {
		if err := w.activate(t.next.Version); err != nil {
			return err
		}
	}
	// A test, and a provider's refusal, say nothing of another version.
	var last *string
	if test != nil {
		text := string(test)
		last = &text
	}
	_, err := w.tx.Exec(w.ctx, `UPDATE credentials SET fallback_at = NULL, last_test = $1 WHERE organization = $2 AND id = $3`,
		last, w.key.organization, w.key.id)
	return err
}

// insert writes version n and its line of history.
func (w versionWriter) insert(n int64, s sealedVersion, state State, reason string) error {
	_, err := w.tx.Exec(w.ctx, `INSERT INTO credential_versions
		(organization, credential_id, version, fields, hints, fingerprint, fields_sealed, created_at, created_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		w.key.organization, w.key.id, n, s.fields, s.hints, s.fingerprint, s.sealed, w.at, w.by)
	if err != nil {
		return err
	}
	if err := masterkey.Admit(w.ctx, w.tx, w.key.organization, s.sealed); err != nil {
		return err
	}
	var why, activatedBy *string
	var activatedAt store.Time
	if reason != "" {
		why = &reason
	}
	if state == StateActive {
		activatedAt, activatedBy = w.at, &w.by
	}
	_, err = w.tx.Exec(w.ctx, `INSERT INTO credential_version_history
		(organization, credential_id, version, state, fields, fingerprint, reason, created_at, created_by, activated_at, activated_by)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		w.key.organization, w.key.id, n, string(state), s.fields, s.fingerprint, why, w.at, w.by, activatedAt, activatedBy)
	return err
}

// retire ends version n as the active one. Until is when its grace ends; NULL
// destroys it at once.
func (w versionWriter) retire(n int64, until store.Time) error {
	err := w.one(`UPDATE credential_version_history SET state = 'retiring', retired_at = $1, retired_by = $2, destroy_at = $3,
		last_test = (SELECT last_test FROM credentials WHERE organization = $4 AND id = $5)
		WHERE organization = $4 AND credential_id = $5 AND version = $6 AND state = 'active'`,
		w.at, w.by, until, w.key.organization, w.key.id, n)
	if err != nil || !until.IsZero() {
		return err
	}
	return w.destroy(n)
}

// activate makes a staged version, or one in grace, the active one.
func (w versionWriter) activate(n int64) error {
	return w.one(`UPDATE credential_version_history SET state = 'active', activated_at = $1, activated_by = $2,
		retired_at = NULL, retired_by = NULL, destroy_at = NULL
		WHERE organization = $3 AND credential_id = $4 AND version = $5 AND state IN ('staged', 'retiring')`,
		w.at, w.by, w.key.organization, w.key.id, n)
}

// destroy ends version n: its sealed bytes are gone with its row.
func (w versionWriter) destroy(n int64) error {
	err := w.one(`UPDATE credential_version_history SET state = 'retired', destroy_at = NULL, destroyed_at = $1, destroyed_by = $2
		WHERE organization = $3 AND credential_id = $4 AND version = $5 AND state IN ('staged', 'retiring')`,
		w.at, w.by, w.key.organization, w.key.id, n)
	if err != nil {
		return err
	}
	w.tx.Destroys()
	return w.one(deleteVersion, w.key.organization, w.key.id, n)
}

const deleteVersion = `DELETE FROM credential_versions WHERE organization = $1 AND credential_id = $2 AND version = $3`

// one runs a statement that changes one row, or gives errRaced.
func (w versionWriter) one(statement string, args ...any) error {
	changed, err := w.tx.Exec(w.ctx, statement, args...)
	if err == nil && changed != 1 {
		err = errRaced
	}
	return err
}
