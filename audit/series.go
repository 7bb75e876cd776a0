package audit

import (
	"time"

	"github.com/gatehouse-io/gatehouse/store"
)

// maxSeries bounds how many series of denials are told apart at once, and
// maxSeriesOf how many of one organization, so that a flood in one takes nothing
// from the others. Past either, denials are counted per organization, action and
// reason: a flood from a million addresses costs bounded memory and rows, and
// loses no count.
const (
	maxSeries   = 10000
	maxSeriesOf = 1000
)

// maxTargetsOf bounds how many targets that were asked for are told apart of denials that
// are alike but for them: whoever makes up ids opens no more series than that at a time,
// and past it the denials of their caller name no target.
const maxTargetsOf = 16

// seriesKey is what makes two denials alike. What the client writes as it likes,
// such as its user agent, is not in it.
type seriesKey struct {
	organization string
	action       Action
	actor        string
	reason       string
	permission   string
	route        string
	ip           string
	target       Target
	part         Target // of the target, such as a version of a credential
}

type series struct {
	event Event // the latest, which stands for the repeats
	since time.Time
	count int64 // repeats not written yet
}

// seriesTable counts denials. Its owner locks it.
type seriesTable struct {
	open    map[seriesKey]*series
	of      map[string]int    // open series by organization
	targets map[seriesKey]int // open series with a target, by their key without it
}

func (t *seriesTable) start(key seriesKey, s *series) {
	t.open[key] = s
	t.of[key.organization]++
	if bare := key.bare(); bare != key {
		t.targets[bare]++
	}
}

// bare gives the key without its targets.
func (k seriesKey) bare() seriesKey {
	k.target, k.part = Target{}, Target{}
	return k
}

func (t *seriesTable) close(key seriesKey) {
	delete(t.open, key)
	if bare := key.bare(); bare != key {
		if t.targets[bare]--; t.targets[bare] == 0 {
			delete(t.targets, bare)
		}
	}
	if t.of[key.organization]--; t.of[key.organization] == 0 {
		delete(t.of, key.organization)
	}
}

func keyOf(e Event) seriesKey {
	k := seriesKey{
		organization: e.Organization, action: e.Action, actor: e.Actor.ID, reason: e.Reason, permission: e.Permission,
		route: e.Request.Route, ip: e.Request.IP,
	}
	if len(e.Targets) > 0 {
		k.target = e.Targets[0]
	}
	if len(e.Targets) > 1 {
		k.part = e.Targets[1]
	}
	return k
}

// count takes one denial and reports whether it is the first of its series
// and is to be written by itself; room says whether the spool can take it.
func (t *seriesTable) count(e Event, room bool) (first bool) {
	key := keyOf(e)
	s, known := t.open[key]
	if bare := key.bare(); !known && e.TargetAsked && bare != key && t.targets[bare] >= maxTargetsOf {
		key, e.Targets = bare, nil
		s, known = t.open[key]
	}
	if !known && (len(t.open) >= maxSeries || t.of[e.Organization] >= maxSeriesOf || !room) {
		key = seriesKey{organization: e.Organization, action: e.Action, reason: e.Reason}
		e.Request, e.Targets, e.Personal, e.Metadata = Request{}, nil, nil, map[string]any{"merged": true}
		e.Actor, e.Permission = Actor{Type: "anonymous", ID: "several"}, ""
		if s, known = t.open[key]; !known {
			t.start(key, &series{event: e, since: e.OccurredAt, count: 1})
			return false
		}
	}
	if known {
		s.event = e
		s.count++
		return false
	}
	t.start(key, &series{event: e, since: e.OccurredAt})
	return true
}

// due moves the repeats of every series that is older than age to the queue,
// as far as there is room, and closes series without repeats.
func (t *seriesTable) due(now time.Time, age time.Duration, queue *queue, room int) {
	for key, s := range t.open {
		if now.Sub(s.since) < age {
			continue
		}
		if s.count == 0 {
			t.close(key)
			continue
		}
		if queue.length >= room {
			continue // counted on, written when there is room
		}
		queue.push(s.take(now))
	}
}

// settle moves the repeats of one organization's series to the queue, as far as
// there is room, so that what is read is complete. The series stay open.
func (t *seriesTable) settle(organization string, now time.Time, queue *queue, room int) {
	for _, s := range t.open {
		if s.count > 0 && s.event.Organization == organization && queue.length < room {
			queue.push(s.take(now))
		}
	}
}

// end moves all repeats to the queue and closes every series.
func (t *seriesTable) end(queue *queue) {
	for key, s := range t.open {
		if s.count > 0 {
			queue.push(s.take(s.since))
		}
		t.close(key)
	}
}

func (s *series) take(now time.Time) Event {
	e := s.event
	e.ID = store.NewID("evt")
	e.Count = s.count
	s.since, s.count = now, 0
	return e
}
