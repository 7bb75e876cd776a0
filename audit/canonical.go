package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"
)

// SchemaVersion is the version of the canonical form. A change of the fields
// below is a new version; old events keep theirs, and are read as they are.
// Version 1 had neither recordedAt nor severity.
const SchemaVersion = 2

// canonicalEvent is the form that is hashed: no personal data, fields in this
// order, absent ones left out.
type canonicalEvent struct {
	Version      int               `json:"v"`
	ID           string            `json:"id"`
	OccurredAt   string            `json:"occurredAt"`
	RecordedAt   string            `json:"recordedAt,omitempty"`
	Organization string            `json:"organization"`
	Class        Class             `json:"class"`
	Action       Action            `json:"action"`
	Outcome      Outcome           `json:"outcome"`
	Reason       string            `json:"reason,omitempty"`
	Severity     Severity          `json:"severity,omitempty"`
	Actor        Actor             `json:"actor"`
	Targets      []canonicalTarget `json:"targets,omitempty"`
	Permission   string            `json:"permission,omitempty"`
	Request      *canonicalRequest `json:"request,omitempty"`
	Count        int64             `json:"count,omitempty"`
	Metadata     map[string]any    `json:"metadata,omitempty"`
	Personal     string            `json:"personal,omitempty"` // hex SHA-256 of salt and side row
}

type canonicalTarget struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

type canonicalRequest struct {
	ID     string `json:"id,omitempty"`
	Method string `json:"method,omitempty"`
	Route  string `json:"route,omitempty"`
	Status int    `json:"status,omitempty"`
}

// personalData is the erasable side row.
type personalData struct {
	IP        string            `json:"ip,omitempty"`
	UserAgent string            `json:"userAgent,omitempty"`
	Names     []string          `json:"names,omitempty"` // by position of the target
	More      map[string]string `json:"more,omitempty"`
}

const canonicalTime = "2006-01-02T15:04:05.000000Z"

func timeText(t time.Time) string {
	var b [len(canonicalTime)]byte
	return string(appendTime(b[:0], t))
}

// appendTime adds t as canonicalTime has it. Verification does so twice for each
// event, and digits are cheaper than a layout.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	year, month, day := t.Date()
	if year < 0 || year > 9999 {
		return t.AppendFormat(b, canonicalTime)
	}
	hour, minute, second := t.Clock()
	const form = "0000-00-00T00:00:00.000000Z"
	first := len(b)
	b = append(b, form...)
	for _, n := range [...]struct{ end, value int }{
		{4, year}, {7, int(month)}, {10, day}, {13, hour}, {16, minute}, {19, second}, {26, t.Nanosecond() / 1000},
	} {
		for i, rest := first+n.end-1, n.value; rest > 0; i, rest = i-1, rest/10 {
			b[i] += byte(rest % 10)
		}
	}
	return b
}

// row is an event as the tables hold it.
type row struct {
	event     Event
	canonical []byte
	salt      []byte // nil when there is no personal data
	personal  []byte
}

// encode gives the bytes of the rows of an event that is recorded at this time.
func encode(e Event, recorded time.Time) (row, error) {
	e.RecordedAt = recorded
	if e.Severity == "" {
		e.Severity = severityOf(&e)
	}
	r := row{event: e}
	c := canonicalEvent{
		Version: SchemaVersion, ID: e.ID, OccurredAt: timeText(e.OccurredAt), RecordedAt: timeText(recorded),
		Organization: e.Organization, Class: e.Class, Action: e.Action, Outcome: e.Outcome, Reason: e.Reason, Severity: e.Severity,
		Actor: e.Actor, Permission: e.Permission, Metadata: e.Metadata,
	}
	if e.Count > 1 {
		c.Count = e.Count
	}
	if q := e.Request; q.ID != "" || q.Method != "" || q.Route != "" || q.Status != 0 {
		c.Request = &canonicalRequest{ID: q.ID, Method: q.Method, Route: q.Route, Status: q.Status}
	}
	p := personalData{IP: e.Request.IP, UserAgent: e.Request.UserAgent, More: e.Personal}
	named := false
	for _, t := range e.Targets {
		c.Targets = append(c.Targets, canonicalTarget{t.Type, t.ID})
		p.Names = append(p.Names, t.Name)
		named = named || t.Name != ""
	}
	if !named {
		p.Names = nil
	}
	if p.IP != "" || p.UserAgent != "" || named || len(p.More) > 0 {
		data, err := p.append(nil)
		if err != nil {
			return row{}, err
		}
		r.personal = data
		r.salt = make([]byte, saltSize)
		rand.Read(r.salt) // never fails (crypto/rand)
		c.Personal = commitment(r.salt, data)
	}
	var err error
	r.canonical, err = c.bounded()
	return r, err
}

// bounded gives c's bytes, at most maxCanonical: the event is worth more than its
// metadata, and more than its last roles and targets. What was cut is said by the
// metadata's member truncated.
func (c *canonicalEvent) bounded() ([]byte, error) {
	data, err := c.append(nil)
	if err == nil && len(data) <= maxCanonical {
		return data, nil
	}
	c.Metadata = shortened(c.Metadata)
	if data, err = c.append(data[:0]); err == nil && len(data) <= maxCanonical {
		return data, nil
	}
	c.Actor.Roles, c.Targets = nil, c.Targets[:min(len(c.Targets), 2)]
	return c.append(data[:0])
}

// shortened gives the small members of metadata that is too much, or cannot be
// written as JSON.
func shortened(metadata map[string]any) map[string]any {
	const most, each = 1024, 256 // bytes
	kept, left := map[string]any{}, most
	for _, name := range slices.Sorted(maps.Keys(metadata)) {
		one, err := appendMetadata(nil, map[string]any{name: metadata[name]})
		if err == nil && len(one) <= min(each, left) {
			kept[name] = metadata[name]
			left -= len(one)
		}
	}
	kept["truncated"] = true
	return kept
}

// saltSize is how many random bytes stand before a side row where it is hashed.
const saltSize = 16

// commitment binds a side row to its event without giving it away: the salt
// is erased with the row.
func commitment(salt, data []byte) string {
	h := sha256.New()
	h.Write(salt)
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// decode gives the event back from its stored bytes; personal may be nil.
func decode(canonical, personal []byte) (Event, error) {
	var c canonicalEvent
	if err := json.Unmarshal(canonical, &c); err != nil {
		return Event{}, fmt.Errorf("audit: a stored event cannot be read: %w", err)
	}
	at, err := time.Parse(canonicalTime, c.OccurredAt)
	if err != nil {
		return Event{}, fmt.Errorf("audit: a stored event cannot be read: %w", err)
	}
	e := Event{
		Severity: c.Severity,
		ID:       c.ID, OccurredAt: at, Organization: c.Organization, Class: c.Class, Action: c.Action, Outcome: c.Outcome,
		Reason: c.Reason, Actor: c.Actor, Permission: c.Permission, Count: c.Count, Metadata: c.Metadata,
	}
	if c.RecordedAt != "" {
		if e.RecordedAt, err = time.Parse(canonicalTime, c.RecordedAt); err != nil {
			return Event{}, fmt.Errorf("audit: a stored event cannot be read: %w", err)
		}
	}
	if e.Severity == "" { // version 1
		e.Severity = severityOf(&e)
	}
	if c.Request != nil {
		e.Request = Request{ID: c.Request.ID, Method: c.Request.Method, Route: c.Request.Route, Status: c.Request.Status}
	}
	var p personalData
	if len(personal) > 0 {
		if err := json.Unmarshal(personal, &p); err != nil {
			return Event{}, fmt.Errorf("audit: the personal data of a stored event cannot be read: %w", err)
		}
	}
	e.Request.IP, e.Request.UserAgent, e.Personal = p.IP, p.UserAgent, p.More
	for i, t := range c.Targets {
		target := Target{Type: t.Type, ID: t.ID}
		if i < len(p.Names) {
			target.Name = p.Names[i]
		}
		e.Targets = append(e.Targets, target)
	}
	return e, nil
}
