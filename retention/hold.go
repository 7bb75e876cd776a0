package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// The bounds of holds.
const (
	MaxHolds  = 100  // that an organization has at a time
	maxReason = 1000 // bytes
	maxID     = 256  // bytes of an actor's or a target's id
)

// Scope says what a hold keeps: what all of its parts say that are set. One alone
// is enough, and Everything says that none is meant to be.
type Scope struct {
	Class      Class     `json:"class,omitempty"`
	Actor      string    `json:"actor,omitempty"`  // who did it: an actor's id, a member
	Target     string    `json:"target,omitempty"` // the id of what it was done to, such as a credential
	Action     string    `json:"action,omitempty"` // such as credential.reveal, or credential.*
	From       time.Time `json:"from,omitzero"`    // at or after
	To         time.Time `json:"to,omitzero"`      // before
	Everything bool      `json:"everything,omitempty"`
}

// whole reports whether the scope is all of a class, or of all classes.
func (s *Scope) whole() bool {
	return s.Actor == "" && s.Target == "" && s.Action == "" && s.From.IsZero() && s.To.IsZero()
}

// Hold is a legal hold: what its scope says stays, whatever policies say.
type Hold struct {
	ID           string
	Organization string
	Reason       string // for people; may be personal data
	Scope        Scope
	CreatedAt    time.Time
	CreatedBy    string
	ExpiresAt    time.Time // zero: it ends when it is released
	ReleasedAt   time.Time // zero: it was not
	ReleasedBy   string
}

// Active reports whether the hold holds at now.
func (h *Hold) Active(now time.Time) bool {
	return h.ReleasedAt.IsZero() && (h.ExpiresAt.IsZero() || now.Before(h.ExpiresAt))
}

var actionForm = regexp.MustCompile(`^([a-z]{1,32}\.[a-z_]{1,32}|[a-z]{1,32}\.\*)$`)

// ofAction reports whether the scope's action is this one, or how it begins.
func (s *Scope) ofAction(a audit.Action) bool {
	noun, any := strings.CutSuffix(s.Action, "*")
	return s.Action == string(a) || any && strings.HasPrefix(string(a), noun)
}

func (s *Scope) check() []fault.Field {
	var wrong []fault.Field
	say := func(name, message string) {
		wrong = append(wrong, fault.Field{Name: "scope." + name, Message: message})
	}
	if s.Class != "" && !s.Class.Known() {
		say("class", "must be one of "+classNames())
	}
	for _, id := range []struct{ name, value string }{{"actor", s.Actor}, {"target", s.Target}} {
		if len(id.value) > maxID || strings.ContainsFunc(id.value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			say(id.name, "must be an id of at most "+strconv.Itoa(maxID)+" bytes")
		}
		if strings.HasSuffix(id.value, "*") {
			say(id.name, "must be a whole id: what begins like it would not be held")
		}
	}
	if t, ok := tables()[s.Class]; ok {
		for _, of := range []struct{ name, value, column string }{{"actor", s.Actor, t.actor}, {"target", s.Target, t.target}, {"action", s.Action, ""}} {
			if of.value != "" && of.column == "" {
				say(of.name, "must be left out with the class "+string(s.Class)+", whose rows have none: nothing would be held")
			}
		}
	}
	if s.Action != "" && (!actionForm.MatchString(s.Action) || !slices.ContainsFunc(audit.Actions(), s.ofAction)) {
		say("action", "must be an action of docs/audit.md such as credential.create, or a noun and .* such as credential.*: nothing else would be held")
	}
	if !s.From.IsZero() && !s.To.IsZero() && !s.From.Before(s.To) {
		say("from", "must be before to")
	}
	if s.Everything && (s.Class != "" || !s.whole()) {
		say("everything", "must stand alone")
	}
	if !s.Everything && s.Class == "" && s.whole() {
		wrong = append(wrong, fault.Field{Name: "scope", Message: "must name an actor, a target, an action, a time, a class, or everything"})
	}
	return wrong
}

// Hold places a legal hold in the caller's organization. It needs hold:manage.
// reason is required, at most 1,000 bytes; expires may be zero. Errors: Invalid and
// [ErrTooManyHolds].
func (r *Retention) Hold(ctx context.Context, caller access.Caller, reason string, scope Scope, expires time.Time) (Hold, error) {
	if err := access.Allow(caller, access.HoldManage, caller.Organization); err != nil {
		return Hold{}, err
	}
	now := store.At(r.opts.Now())
	wrong := scope.check()
	reason = strings.TrimSpace(reason)
	if reason == "" || len(reason) > maxReason || strings.ContainsRune(reason, 0) {
		wrong = append(wrong, fault.Field{Name: "reason", Message: "must say why, in at most " + strconv.Itoa(maxReason) + " bytes"})
	}
	if !expires.IsZero() && !expires.After(now.Time) {
		wrong = append(wrong, fault.Field{Name: "expiresAt", Message: "must be in the future"})
	}
	if len(wrong) > 0 {
		return Hold{}, fault.InvalidFields(wrong...)
	}
	scope.From, scope.To = store.At(scope.From).Time, store.At(scope.To).Time
	h := Hold{
		ID: store.NewID("hold"), Organization: caller.Organization, Reason: reason, Scope: scope,
		CreatedAt: now.Time, CreatedBy: caller.ID, ExpiresAt: store.At(expires).Time,
	}
	text, err := json.Marshal(scope)
	if err != nil {
		return Hold{}, err
	}
	err = r.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		active, err := activeHolds(ctx, tx, caller.Organization, now.Time)
		if err != nil {
			return err
		}
		if len(active) >= MaxHolds {
			return ErrTooManyHolds
		}
		_, err = tx.Exec(ctx, `INSERT INTO retention_holds (organization, id, reason, scope, created_at, created_by, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
			h.Organization, h.ID, h.Reason, string(text), now, h.CreatedBy, store.At(h.ExpiresAt))
		if err != nil {
			return err
		}
		return r.trail.Append(ctx, tx, caller, h.event(audit.RetentionHold))
	})
	return h, err
}

// event tells of the hold. Its reason, in people's own words, and whom it is about
// can be personal data: they stand on the erasable side row.
func (h *Hold) event(action audit.Action) audit.Event {
	metadata := map[string]any{}
	for name, value := range map[string]string{"class": string(h.Scope.Class), "action": h.Scope.Action, "target": h.Scope.Target} {
		if value != "" {
			metadata[name] = value
		}
	}
	for name, at := range map[string]time.Time{"from": h.Scope.From, "to": h.Scope.To, "expiresAt": h.ExpiresAt} {
		if !at.IsZero() {
			metadata[name] = at.Format(time.RFC3339Nano)
		}
	}
	personal := map[string]string{"holdReason": h.Reason}
	if h.Scope.Actor != "" {
		personal["holdActor"] = h.Scope.Actor
	}
	return audit.Event{
		Organization: h.Organization, Action: action, Outcome: audit.Success, Permission: access.HoldManage.String(),
		Targets: []audit.Target{{Type: "hold", ID: h.ID}}, Metadata: metadata, Personal: personal,
	}
}

// Release ends a hold of the caller's organization. What it alone held goes with
// the next sweep. It needs hold:manage, and gives [ErrHoldNotFound]; releasing twice
// is no error.
func (r *Retention) Release(ctx context.Context, caller access.Caller, id string) error {
	if err := access.Allow(caller, access.HoldManage, caller.Organization); err != nil {
		return err
	}
	if !store.IsID("hold", id) {
		return ErrHoldNotFound
	}
	now := store.At(r.opts.Now())
	return r.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		all, err := readHolds(ctx, tx, `organization = $1 AND id = $2`, caller.Organization, id)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return ErrHoldNotFound
		}
		n, err := tx.Exec(ctx, `UPDATE retention_holds SET released_at = $1, released_by = $2 WHERE organization = $3 AND id = $4 AND released_at IS NULL`,
			now, caller.ID, caller.Organization, id)
		if err != nil || n == 0 {
			return err
		}
		return r.trail.Append(ctx, tx, caller, all[0].event(audit.RetentionRelease))
	})
}

// Holds gives the holds of the caller's organization, the newest first: at most
// 500, those that ended among them where ended is set. It needs retention:read.
func (r *Retention) Holds(ctx context.Context, caller access.Caller, ended bool) (all []Hold, err error) {
	if err := access.Allow(caller, access.RetentionRead, caller.Organization); err != nil {
		return nil, err
	}
	err = r.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		if !ended {
			all, err = activeHolds(ctx, tx, caller.Organization, r.opts.Now())
			return err
		}
		all, err = readHolds(ctx, tx, `organization = $1 ORDER BY id DESC LIMIT 500`, caller.Organization)
		return err
	})
	return all, err
}

func readHolds(ctx context.Context, tx *store.Tx, condition string, args ...any) (all []Hold, err error) {
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var h Hold
		var scope string
		var created, expires, released store.Time
		var by *string
		if err := scan(&h.Organization, &h.ID, &h.Reason, &scope, &created, &h.CreatedBy, &expires, &released, &by); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(scope), &h.Scope); err != nil {
			return fmt.Errorf("retention: a stored hold cannot be read: %w", err)
		}
		h.CreatedAt, h.ExpiresAt, h.ReleasedAt = created.Time, expires.Time, released.Time
		if by != nil {
			h.ReleasedBy = *by
		}
		all = append(all, h)
		return nil
	}, `SELECT organization, id, reason, scope, created_at, created_by, expires_at, released_at, released_by FROM retention_holds WHERE `+condition, args...)
	return all, err
}

// activeHolds gives the holds that hold at now, the newest first.
func activeHolds(ctx context.Context, tx *store.Tx, organization string, now time.Time) ([]Hold, error) {
	return readHolds(ctx, tx, `organization = $1 AND released_at IS NULL AND (expires_at IS NULL OR expires_at > $2) ORDER BY id DESC`,
		organization, store.At(now))
}

// holdsOf are the active holds that can hold something of one class.
type holdsOf struct {
	class    Class
	all      []Hold
	versions []Hold // of [Expired]: those that keep versions of credentials, or their tests
	tests    []Hold // of [Versions]: those that keep the tests in them
}

func of(c Class, active []Hold) holdsOf {
	h := holdsOf{class: c}
	for _, one := range active {
		if one.Scope.Class == "" || one.Scope.Class == c {
			h.all = append(h.all, one)
		}
		if k := one.Scope.Class; c == Expired && (k == "" || k == Versions || k == Tests) {
			h.versions = append(h.versions, one)
		}
		if c == Versions && one.Scope.Class == Tests {
			h.tests = append(h.tests, one)
		}
	}
	return h
}

// whole reports whether all of the class is held.
func (h holdsOf) whole() bool {
	return slices.ContainsFunc(h.all, func(one Hold) bool { return one.Scope.whole() })
}

// event reports whether an event of the class is held. One that cannot be read is.
func (h holdsOf) event(c *ledger.Candidate) bool {
	var targets []audit.Target
	read := false
	for i := range h.all {
		s := &h.all[i].Scope
		if s.Actor != "" && s.Actor != c.Actor || !s.From.IsZero() && c.OccurredAt.Before(s.From) || !s.To.IsZero() && !c.OccurredAt.Before(s.To) {
			continue
		}
		if s.Action != "" && !s.ofAction(audit.Action(c.Action)) {
			continue
		}
		if s.Target != "" {
			if !read {
				e, err := audit.Read(c.Canonical, nil)
				if err != nil {
					return true
				}
				targets, read = e.Targets, true
			}
			if !slices.ContainsFunc(targets, func(t audit.Target) bool { return t.ID == s.Target }) {
				continue
			}
		}
		return true
	}
	return false
}

// HeldEvents gives events of the caller's organization that were set aside for
// holds, at most limit (1 to 500; 50 when 0), by class and place. after is the
// cursor that the page before gave. It needs audit:read, as the trail does.
func (r *Retention) HeldEvents(ctx context.Context, caller access.Caller, limit int, after string) (all []ledger.HeldEvent, next string, err error) {
	if err := access.Allow(caller, access.AuditRead, caller.Organization); err != nil {
		return nil, "", err
	}
	if limit == 0 {
		limit = 50
	}
	class, place, wrong := "", int64(-1), []fault.Field(nil)
	if limit < 1 || limit > 500 {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to 500"})
	}
	if after != "" {
		if class, place, err = heldCursor(after); err != nil {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
		}
	}
	if len(wrong) > 0 {
		return nil, "", fault.InvalidFields(wrong...)
	}
	all, err = r.ledger.HeldEvents(ctx, caller.Organization, class, place, limit+1)
	if err == nil && len(all) > limit {
		all = all[:limit]
		last := all[limit-1]
		next = last.Class + ":" + strconv.FormatInt(last.Index, 10)
	}
	return all, next, err
}

func heldCursor(text string) (class string, place int64, err error) {
	class, number, _ := strings.Cut(text, ":")
	place, err = strconv.ParseInt(number, 10, 64)
	if err == nil && (place < 0 || !Class(class).Events()) {
		err = errors.New("not a cursor")
	}
	return class, place, err
}
