package audit

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

var actionForm = regexp.MustCompile(`^([a-z]{1,32}\.[a-z_]{1,32}|[a-z]{0,32}(\.[a-z_]{0,32})?\*)$`)

// search is a filter that has been found to be right.
type search struct {
	organization  string
	class         Class
	actions       []Action // nil: all
	actor, target word
	outcome       Outcome
	from, to      time.Time
	limit         int
	count         bool
	after         *place // where the page before ended
	begun         *begun // of an export
	tag           [cursorTag]byte
}

// word is what an id is compared with.
type word struct {
	text   string
	prefix bool
	set    bool
}

func wordOf(value string) word {
	text, prefix := strings.CutSuffix(value, "*")
	return word{text: bounded(text, maxID), prefix: prefix, set: value != ""}
}

func (w word) matches(id string) bool {
	return id == w.text || w.prefix && strings.HasPrefix(id, w.text)
}

// place is where an event stands among those of its organization.
type place struct {
	at store.Time
	id string
}

// search says which of the filter's fields are wrong, or gives what to look for.
func (f Filter) search() (search, error) {
	var wrong []fault.Field
	s := search{
		organization: f.Organization, class: Class(f.Class), outcome: Outcome(f.Outcome), actor: wordOf(f.Actor), target: wordOf(f.Target),
		from: f.From, to: f.To, limit: f.Limit, count: f.Count,
	}
	if f.Class != "" && !slices.Contains(Classes(), s.class) {
		wrong = append(wrong, fault.Field{Name: "class", Message: "must be control, access, security or system"})
	}
	if f.Action != "" {
		if !actionForm.MatchString(f.Action) {
			wrong = append(wrong, fault.Field{Name: "action", Message: "must be an action such as credential.create, or how it begins and *, such as credential.*"})
		}
		s.actions = actionsOf(f.Action)
	}
	switch s.outcome {
	case "", Success, Denied, Failure, Partial:
	default:
		wrong = append(wrong, fault.Field{Name: "outcome", Message: "must be success, denied, failure or partial"})
	}
	if s.limit == 0 {
		s.limit = DefaultLimit
	}
	if s.limit < 0 || s.limit > MaxLimit {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)})
	}
	if !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To) {
		wrong = append(wrong, fault.Field{Name: "from", Message: "must be before to"})
	}
	s.tag = f.tag()
	if f.Cursor != "" {
		after, err := s.decodeCursor(f.Cursor)
		if err != nil {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page of the same organization and filter"})
		}
		s.after = &after
	}
	if len(wrong) > 0 {
		return search{}, fault.InvalidFields(wrong...)
	}
	return s, nil
}

// actionsOf gives the actions that a filter's value picks. One that is not in the
// list is picked too: an event of a later version may have it.
func actionsOf(value string) []Action {
	begin, prefix := strings.CutSuffix(value, "*")
	if !prefix {
		return []Action{Action(value)}
	}
	if begin == "" {
		return nil
	}
	picked := []Action{}
	for _, a := range Actions() {
		if strings.HasPrefix(string(a), begin) {
			picked = append(picked, a)
		}
	}
	return picked
}

// A cursor is the microseconds of the last event that a page looked at, a tag of
// what was looked for, and the event's id. The tag keeps a cursor from being used
// with another organization or filter, where it would silently leave events out; it
// guards nothing, since each query names its organization itself.
const cursorTag = 8

func (f Filter) tag() (tag [cursorTag]byte) {
	text, err := json.Marshal([]any{f.Organization, f.Class, f.Action, f.Actor, f.Target, f.Outcome, f.From.UnixMicro(), f.To.UnixMicro()})
	if err != nil { // strings and numbers always marshal
		return tag
	}
	sum := sha256.Sum256(text)
	copy(tag[:], sum[:])
	return tag
}

func (s *search) encodeCursor(p place) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(p.at.UnixMicro()))
	return base64.RawURLEncoding.EncodeToString(append(append(b, s.tag[:]...), p.id...))
}

var errCursor = errors.New("not a cursor of this search")

func (s *search) decodeCursor(text string) (place, error) {
	const head = 8 + cursorTag
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) < head || len(b) > 128 || [cursorTag]byte(b[8:head]) != s.tag || !store.IsID("evt", string(b[head:])) {
		return place{}, errCursor
	}
	return place{store.Time{Time: time.UnixMicro(int64(binary.BigEndian.Uint64(b)))}, string(b[head:])}, nil
}

// Matcher gives what says whether the filter picks an event, for events that are
// not read from the database. Organization, Limit, Cursor and Count do not count.
// Errors: Invalid.
func (f Filter) Matcher() (func(*Event) bool, error) {
	f.Cursor = ""
	s, err := f.search()
	if err != nil {
		return nil, err
	}
	return func(e *Event) bool {
		return (s.class == "" || e.Class == s.class) && (s.actions == nil || slices.Contains(s.actions, e.Action)) &&
			(s.outcome == "" || e.Outcome == s.outcome) && (!s.actor.set || s.actor.matches(e.Actor.ID)) &&
			(!s.target.set || slices.ContainsFunc(e.Targets, func(t Target) bool { return s.target.matches(t.ID) })) &&
			(s.from.IsZero() || !e.OccurredAt.Before(s.from)) && (s.to.IsZero() || e.OccurredAt.Before(s.to))
	}, nil
}
