package vault

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// State is where a version stands in its life.
type State string

// The states. A version is made staged or active; from staged it becomes active,
// from active retiring, from retiring active again or retired. From any of them
// but active it can be destroyed, which makes it retired.
const (
	StateStaged   State = "staged"   // sealed and not in use yet
	StateActive   State = "active"   // the one in use; each credential has exactly one
	StateRetiring State = "retiring" // replaced and in grace: it can be brought back, and serves where the provider refuses the active one
	StateRetired  State = "retired"  // destroyed: its sealed bytes are gone, this line of history stays
)

// The bounds of a credential's versions that can be opened beside the active one.
const (
	maxStaged   = 1
	maxRetiring = 3
)

// MaxGrace is the longest grace of a version that is replaced.
const MaxGrace = 30 * 24 * time.Hour

// The errors of versions, each safe to show.
var (
	ErrNoVersion       = fault.New(fault.NotFound, "version_not_found", "The credential has no such version.")
	ErrVersionGone     = fault.New(fault.Conflict, "version_destroyed", "This version was destroyed; only its line in the history is left.")
	ErrVersionActive   = fault.New(fault.Conflict, "version_active", "This version is the active one; rotate it, roll back, or delete the credential instead.")
	ErrVersionStaged   = fault.New(fault.Conflict, "version_staged", "The credential has a staged version already; activate it or delete it first.")
	ErrNotStaged       = fault.New(fault.Conflict, "version_not_staged", "This version is not staged; roll back to bring a version in grace back.")
	ErrNotInGrace      = fault.New(fault.Conflict, "version_not_in_grace", "There is no such version in grace to roll back to.")
	ErrVersionFailed   = fault.New(fault.Conflict, "version_failed_test", "The provider did not accept this version when it was last tested. Test it again, or send force to activate it all the same.")
	ErrTooManyVersions = fault.New(fault.Conflict, "too_many_versions", "The credential has "+strconv.Itoa(maxRetiring)+" versions in grace already; delete one of them, or send graceSeconds 0.")
)

// Version is what may be told of a version: who made it, when and why, and what
// became of it. A time that has not come is zero.
type Version struct {
	Number      int64
	State       State
	Fields      []string // names, sorted
	Fingerprint string   // see [Credential]
	Reason      string   // why it was made, as its maker said
	CreatedAt   time.Time
	CreatedBy   string
	ActivatedAt time.Time // the last time that it became active
	ActivatedBy string
	RetiredAt   time.Time // when another one took its place
	RetiredBy   string
	DestroyAt   time.Time // while it is retiring: when its grace ends
	DestroyedAt time.Time
	DestroyedBy string          // empty where the end of its grace did it
	LastTest    json.RawMessage // as the tester stored it, nil when never tested
}

// versionColumns of h, the history, and c, its credential, as scanVersion reads them.
const versionColumns = `h.version, h.state, h.fields, h.fingerprint, h.reason, h.created_at, h.created_by, h.activated_at, h.activated_by,
	h.retired_at, h.retired_by, h.destroy_at, h.destroyed_at, h.destroyed_by,
	CASE WHEN h.version = c.version THEN c.last_test ELSE h.last_test END`

const fromHistory = ` FROM credential_version_history h JOIN credentials c ON c.organization = h.organization AND c.id = h.credential_id `

func scanVersion(scan func(...any) error) (Version, error) {
	var v Version
	var fields string
	var reason, activatedBy, retiredBy, destroyedBy, test *string
	var created, activated, retired, destroy, destroyed store.Time
	err := scan(&v.Number, &v.State, &fields, &v.Fingerprint, &reason, &created, &v.CreatedBy, &activated, &activatedBy,
		&retired, &retiredBy, &destroy, &destroyed, &destroyedBy, &test)
	if err != nil {
		return Version{}, err
	}
	if json.Unmarshal([]byte(fields), &v.Fields) != nil {
		v.Fields = nil // an altered row must not hide the version
	}
	v.CreatedAt, v.ActivatedAt, v.RetiredAt, v.DestroyAt, v.DestroyedAt = created.Time, activated.Time, retired.Time, destroy.Time, destroyed.Time
	v.Reason, v.ActivatedBy, v.RetiredBy, v.DestroyedBy = textOf(reason), textOf(activatedBy), textOf(retiredBy), textOf(destroyedBy)
	if test != nil {
		v.LastTest = json.RawMessage(*test)
	}
	return v, nil
}

// textOf gives what a column held, "" for NULL.
func textOf(column *string) string {
	if column == nil {
		return ""
	}
	return *column
}

// VersionFilter picks a page of a credential's history.
type VersionFilter struct {
	Limit  int    // 1 to 200; 50 when 0
	Cursor string // NextCursor of the page before
}

// VersionPage is one page of a credential's history, the highest number first.
// NextCursor is empty on the last.
type VersionPage struct {
	Versions   []Version
	NextCursor string
}

// Versions gives the history of a credential: every version that it has and had,
// without opening any. It needs credential:list. Errors: Invalid, [ErrNotFound].
func (v *Vault) Versions(ctx context.Context, caller access.Caller, id string, f VersionFilter) (VersionPage, error) {
	if err := access.Allow(caller, access.CredentialList, caller.Organization); err != nil {
		return VersionPage{}, err
	}
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	var wrong []fault.Field
	if f.Limit < 1 || f.Limit > MaxLimit {
		wrong = append(wrong, errLimit)
	}
	before, err := versionCursor(f.Cursor)
	if err != nil {
		wrong = append(wrong, errCursor)
	}
	if len(wrong) > 0 {
		return VersionPage{}, fault.InvalidFields(wrong...)
	}
	slot, err := v.log.Reserve()
	if err != nil {
		return VersionPage{}, err
	}
	c, page, err := v.history(ctx, rowKey{caller.Organization, id}, before, f.Limit)
	if err != nil {
		slot.Release()
		return VersionPage{}, public(err)
	}
	slot.Record(ctx, caller, audit.Event{
		Action: audit.CredentialRead, Outcome: audit.Success, Permission: access.CredentialList.String(),
		Targets:  []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}},
		Metadata: map[string]any{"versions": len(page.Versions)},
	})
	return page, nil
}

// history gives the credential and the page of its versions numbered below before.
func (v *Vault) history(ctx context.Context, key rowKey, before int64, limit int) (Credential, VersionPage, error) {
	var page VersionPage
	c, _, err := v.readWith(ctx, key, func(tx *store.Tx, _ *Credential) error {
		page = VersionPage{}
		return tx.Each(ctx, func(scan func(...any) error) error {
			version, err := scanVersion(scan)
			page.Versions = append(page.Versions, version)
			return err
		}, `SELECT `+versionColumns+fromHistory+`WHERE h.organization = $1 AND h.credential_id = $2 AND h.version < $3
			ORDER BY h.version DESC LIMIT `+strconv.Itoa(limit+1), key.organization, key.id, before)
	})
	if err == nil && len(page.Versions) > limit {
		page.Versions = page.Versions[:limit]
		last := page.Versions[limit-1].Number
		page.NextCursor = base64.RawURLEncoding.EncodeToString([]byte("v" + strconv.FormatInt(last, 10)))
	}
	return c, page, err
}

// versionCursor gives the number that a cursor holds; every number is below that
// of an empty one.
func versionCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 1<<63 - 1, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimPrefix(string(text), "v"), 10, 64)
}

// current is the state of a credential that a change starts from.
type current struct {
	Credential
	sealed seal.Sealed
	latest int64     // the highest number that a version ever had
	others []Version // staged and retiring ones, the last to be replaced first
}

// readCurrent gives the state of a credential; [store.ErrNotFound] as read does.
func (v *Vault) readCurrent(ctx context.Context, key rowKey) (current, error) {
	var cur current
	var err error
	cur.Credential, cur.sealed, err = v.readWith(ctx, key, func(tx *store.Tx, _ *Credential) error {
		cur.others = nil
		err := tx.Row(ctx, `SELECT max(version) FROM credential_version_history WHERE organization = $1 AND credential_id = $2`,
			key.organization, key.id).Scan(&cur.latest)
		if err != nil {
			return err
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			other, err := scanVersion(scan)
			cur.others = append(cur.others, other)
			return err
		}, `SELECT `+versionColumns+fromHistory+`JOIN credential_versions v
			ON v.organization = h.organization AND v.credential_id = h.credential_id AND v.version = h.version
			WHERE v.organization = $1 AND v.credential_id = $2 AND h.version <> c.version`, key.organization, key.id)
	})
	slices.SortFunc(cur.others, func(a, b Version) int {
		if d := b.RetiredAt.Compare(a.RetiredAt); d != 0 {
			return d
		}
		return int(b.Number - a.Number)
	})
	return cur, err
}

// in gives the numbers of the versions in a state, of those beside the active one.
func (cur *current) in(state State) []int64 {
	var numbers []int64
	for _, o := range cur.others {
		if o.State == state {
			numbers = append(numbers, o.Number)
		}
	}
	return numbers
}

// version gives one of the versions beside the active one. Errors: [ErrNoVersion],
// [ErrVersionGone], [ErrVersionActive].
func (cur *current) version(number int64) (Version, error) {
	for _, o := range cur.others {
		if o.Number == number {
			return o, nil
		}
	}
	switch {
	case number < 1 || number > cur.latest:
		return Version{}, ErrNoVersion
	case number == cur.Version:
		return Version{}, ErrVersionActive
	}
	return Version{}, ErrVersionGone
}

// checkReason takes an optional reason. It may name people, so it stands with the
// version and, in an event, among what can be erased.
func checkReason(reason string) []fault.Field {
	if !utf8.ValidString(reason) || utf8.RuneCountInString(reason) > maxReason ||
		strings.ContainsFunc(reason, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return []fault.Field{{Name: "reason", Message: "must be at most " + strconv.Itoa(maxReason) + " printable characters"}}
	}
	return nil
}

func checkGrace(grace time.Duration) []fault.Field {
	if grace < 0 || grace > MaxGrace {
		return []fault.Field{{Name: "graceSeconds", Message: "must be from 0 to " + strconv.FormatInt(int64(MaxGrace/time.Second), 10)}}
	}
	return nil
}
