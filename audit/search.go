package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// How a search is made. Each index gives streams of events that are in the order
// of pages: all of the organization; those of one class and action; those of one
// term. A filter is turned into the streams of the narrowest index that it names
// (a prefix is a stream for each thing that begins like it), and their heads are
// merged. What the index does not know is compared row by row, and what a page
// compares is bounded, so that its cost does not grow with the trail.
const (
	maxStreams = 64     // that are merged; a prefix of more different ids is compared row by row
	lastLook   = 20_000 // rows that a page compares at most
	decodeLook = 2_000  // the same where each has to be decoded
)

// pageSizes are how many events of each stream are merged for a page. They are
// few, so that the texts of statements are.
var pageSizes = [...]int{1, 10, DefaultLimit, MaxLimit}

// streams is a search over the streams of one index.
type streams struct {
	*search
	args    []any
	terms   bool      // of event_terms, which are joined with events to compare
	each    []string  // the condition that makes each stream
	compare []compare // with what each row of events is compared
	match   bool      // whether targets are compared too, after decoding
}

// compare is a condition on a row of events, with a ? for each of args.
type compare struct {
	text string
	args []any
}

func (q *streams) arg(value any) string {
	q.args = append(q.args, value)
	return "$" + strconv.Itoa(len(q.args))
}

// plan chooses the index.
func (s *search) plan(ctx context.Context, tx *store.Tx) (*streams, error) {
	q := &streams{search: s, args: []any{s.organization}}
	found := false
	for _, w := range []struct {
		word
		kind byte
	}{{s.target, targetTerm}, {s.actor, actorTerm}} {
		if !w.set || found {
			continue
		}
		terms, all, err := s.terms(ctx, tx, w.kind, w.word)
		if err != nil {
			return nil, err
		}
		if !all {
			continue
		}
		found, q.terms = true, true
		for _, t := range terms {
			q.each = append(q.each, "t.term = "+q.arg(t))
		}
		if w.kind == actorTerm { // the index knows it
			s = &search{class: s.class, actions: s.actions, outcome: s.outcome, target: s.target}
		} else {
			s = &search{class: s.class, actions: s.actions, outcome: s.outcome, actor: s.actor}
		}
	}
	if !found && (s.class != "" || s.actions != nil) {
		classes, actions := Classes(), s.actions
		if s.class != "" {
			classes = []Class{s.class}
		}
		if actions == nil {
			actions = Actions()
		}
		if len(classes)*len(actions) <= 4*maxStreams {
			for _, class := range classes {
				c := q.arg(string(class))
				for _, action := range actions {
					q.each = append(q.each, "e.class = "+c+" AND e.action = "+q.arg(string(action)))
				}
			}
			found = true
			s = &search{outcome: s.outcome, actor: s.actor, target: s.target}
		}
	}
	if !found {
		q.each = []string{"1 = 1"}
	}
	q.comparing(s)
	return q, nil
}

// comparing notes what the index does not know.
func (q *streams) comparing(s *search) {
	add := func(text string, args ...any) { q.compare = append(q.compare, compare{text, args}) }
	if s.class != "" {
		add("e.class = ?", string(s.class))
	}
	if s.actions != nil {
		var list []any
		for _, a := range s.actions {
			list = append(list, string(a))
		}
		add("e.action IN (NULL"+strings.Repeat(", ?", len(list))+")", list...)
	}
	if s.outcome != "" {
		add("e.outcome = ?", string(s.outcome))
	}
	switch {
	case s.actor.prefix:
		add("substr(e.actor_id, 1, length(CAST(? AS TEXT))) = ?", s.actor.text, s.actor.text)
	case s.actor.set:
		add("e.actor_id = ?", s.actor.text)
	}
	q.match = s.target.set
}

// terms gives the terms that w picks; all is false where there are more than can
// be merged.
func (s *search) terms(ctx context.Context, tx *store.Tx, kind byte, w word) (terms [][]byte, all bool, err error) {
	text := append([]byte{kind}, w.text...)
	if !w.prefix {
		return [][]byte{text}, true, nil
	}
	// From one term the index leads to the next, whatever stands under each.
	err = tx.Each(ctx, func(scan func(...any) error) error {
		var t []byte
		err := scan(&t)
		terms = append(terms, t)
		return err
	}, `WITH RECURSIVE d(term) AS (
			SELECT (SELECT term FROM event_terms WHERE organization = $1 AND term >= $2 AND term < $3 ORDER BY term LIMIT 1)
			UNION ALL
			SELECT (SELECT t.term FROM event_terms t WHERE t.organization = $1 AND t.term > d.term AND t.term < $3 ORDER BY t.term LIMIT 1)
			FROM d WHERE d.term IS NOT NULL)
		SELECT term FROM d WHERE term IS NOT NULL LIMIT `+strconv.Itoa(maxStreams+1), s.organization, text, afterAll(text))
	if err != nil || len(terms) > maxStreams {
		return nil, false, err
	}
	if len(terms) == 0 {
		terms = append(terms, text) // a stream of nothing
	}
	for n := len(terms); n > 8 && n&(n-1) != 0; n++ { // few texts of statements: up to 8 streams, 16, 32, 64
		terms = append(terms, terms[0])
	}
	return terms, true, nil
}

// afterAll gives the first text that is past all that begin with text, whose first
// byte is a letter.
func afterAll(text []byte) []byte {
	end := slices.Clone(text)
	for i := len(end) - 1; ; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
}

// merged gives a query for the heads of all streams, at most each rows of every stream,
// down to the place low (nil: to the end). skip of each stream are left out.
func (q *streams) merged(low *place, each, skip int, compared bool) string {
	table, at, id := "events e", "e.occurred_at", "e.id"
	if q.terms {
		table, at, id = "event_terms t", "t.occurred_at", "t.event_id"
	}
	alias := at[:1]
	conditions := []string{"", alias + ".organization = $1"}
	switch {
	case q.after != nil && (q.to.IsZero() || q.after.at.Before(q.to)):
		conditions = append(conditions, fmt.Sprintf("(%s, %s) < (%s, %s)", at, id, q.arg(q.after.at), q.arg(q.after.id)))
	case !q.to.IsZero():
		conditions = append(conditions, at+" < "+q.arg(store.At(q.to)))
	}
	switch {
	case low != nil:
		conditions = append(conditions, fmt.Sprintf("(%s, %s) >= (%s, %s)", at, id, q.arg(low.at), q.arg(low.id)))
	case !q.from.IsZero():
		conditions = append(conditions, at+" >= "+q.arg(store.At(q.from)))
	}
	if compared && len(q.compare) > 0 {
		if q.terms {
			table += " CROSS JOIN events e"
			conditions = append(conditions, "e.organization = t.organization AND e.id = t.event_id")
		}
		for _, c := range q.compare {
			for _, value := range c.args {
				c.text = strings.Replace(c.text, "?", q.arg(value), 1)
			}
			conditions = append(conditions, c.text)
		}
	}
	pick := "SELECT " + at + " AS at, " + id + " AS id FROM " + table
	newest := " ORDER BY " + at + " DESC, " + id + " DESC"
	part := " LIMIT " + strconv.Itoa(each) + " OFFSET " + strconv.Itoa(skip)
	var all []string
	for _, stream := range q.each {
		conditions[0] = stream
		all = append(all, "SELECT * FROM ("+pick+" WHERE "+strings.Join(conditions, " AND ")+newest+part+") s")
	}
	between := " UNION ALL "
	if q.terms { // two streams may have the same event
		between = " UNION "
	}
	return strings.Join(all, between)
}

// compares reports whether some rows of the streams may not be picked.
func (q *streams) compares() bool { return len(q.compare) > 0 || q.match }

// low gives the place down to which at most look rows are in the streams; nil
// where there are fewer.
func (q *streams) low(ctx context.Context, tx *store.Tx, look int) (*place, error) {
	own := *q
	own.args = slices.Clone(q.args)
	var p place
	query := own.merged(nil, 1, max(1, look/len(q.each)), false)
	err := tx.Row(ctx, `SELECT at, id FROM (`+query+`) m ORDER BY at DESC, id DESC LIMIT 1`, own.args...).Scan(&p.at, &p.id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return &p, err
}

// read gives the events of a page, and where the next one goes on (nil: nowhere).
func (q *streams) read(ctx context.Context, tx *store.Tx) (found []Event, next *place, err error) {
	if !q.compares() {
		found, err = q.readTo(ctx, tx, nil)
		return q.cut(found, nil, err)
	}
	looks := []int{250, 1000, 5000, lastLook} // what is common is found early
	if q.match {
		looks = []int{decodeLook}
	}
	for _, look := range looks {
		low, err := q.low(ctx, tx, look)
		if err != nil {
			return nil, nil, err
		}
		found, err = q.readTo(ctx, tx, low)
		if err != nil || len(found) > q.limit || low == nil || look == looks[len(looks)-1] {
			return q.cut(found, low, err)
		}
	}
	return nil, nil, nil
}

// cut makes a page of what was found down to low.
func (q *streams) cut(found []Event, low *place, err error) ([]Event, *place, error) {
	if len(found) > q.limit {
		found = found[:q.limit]
		last := &found[q.limit-1]
		low = &place{store.At(last.OccurredAt), last.ID}
		if last.OccurredAt.IsZero() { // what is no time stands before all that is one; more of it than a page is passed over
			low.at = store.At(time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC))
		}
	}
	return found, low, err
}

// readTo gives the newest events down to low, one more than a page at most.
func (q *streams) readTo(ctx context.Context, tx *store.Tx, low *place) ([]Event, error) {
	own := *q
	own.args = slices.Clone(q.args)
	most := decodeLook + 1
	if !q.match {
		for _, size := range pageSizes {
			if most = size + 1; q.limit <= size {
				break
			}
		}
	}
	query := own.merged(low, most, 0, true)
	selected, more := columns, []any(nil)
	var late int
	if q.begun != nil {
		selected, more = columns+", "+own.late(tx), []any{&late}
	}
	var found []Event
	// CROSS JOIN keeps SQLite to this order: few places, each looked up.
	err := tx.Each(ctx, func(scan func(...any) error) error {
		if len(found) > q.limit {
			return errEnough
		}
		e, err := scanEvent(q.organization, scan, more...)
		if late != 0 {
			q.begun.late[e.ID] = true
		}
		if err == nil && (!q.match || slices.ContainsFunc(e.Targets, func(t Target) bool { return q.target.matches(t.ID) })) {
			found = append(found, e)
		}
		return err
	}, `SELECT `+selected+` FROM (SELECT at, id FROM (`+query+`) m ORDER BY at DESC, id DESC LIMIT `+strconv.Itoa(most)+`) f
		CROSS JOIN events e`+persons+` WHERE e.organization = $1 AND e.id = f.id ORDER BY f.at DESC, f.id DESC`, own.args...)
	if errors.Is(err, errEnough) {
		err = nil
	}
	return found, err
}

var errEnough = errors.New("enough events")

// count gives how many events the filter picks, wherever the page begins.
func (q *streams) count(ctx context.Context, tx *store.Tx) (n int64, capped bool, err error) {
	own, s := *q, *q.search
	s.after = nil
	own.search, own.args = &s, slices.Clone(q.args)
	var low *place
	if q.compares() {
		if low, err = own.low(ctx, tx, lastLook); err != nil {
			return 0, false, err
		}
	}
	if q.match {
		s.limit = MaxCount
		found, err := own.readTo(ctx, tx, low)
		return int64(len(found)), low != nil || len(found) > decodeLook, err
	}
	query := own.merged(low, MaxCount+1, 0, true)
	err = tx.Row(ctx, `SELECT count(*) FROM (SELECT * FROM (`+query+`) m LIMIT `+strconv.Itoa(MaxCount+1)+`) c`, own.args...).Scan(&n)
	return min(n, MaxCount), low != nil || n > MaxCount, err
}
