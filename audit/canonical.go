package audit

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// schemaVersion is the version of the canonical form. A change of the fields
// below is a new version; old events keep theirs.
const schemaVersion = 1

// canonicalEvent is the form that is hashed: no personal data, fields in this
// order, absent ones left out.
type canonicalEvent struct {
	Version      int               `json:"v"`
	ID           string            `json:"id"`
	OccurredAt   string            `json:"occurredAt"`
	Organization string            `json:"organization"`
	Class        Class             `json:"class"`
	Action       Action            `json:"action"`
	Outcome      Outcome           `json:"outcome"`
	Reason       string            `json:"reason,omitempty"`
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

// row is an event as the tables hold it.
type row struct {
	event     Event
	canonical []byte
	salt      []byte // nil when there is no personal data
	personal  []byte
}

// encode gives the rows' bytes. Metadata that is no JSON, or too much of it, is
// left out, and the event says so.
func encode(e Event) (row, error) {
	r := row{event: e}
	c := canonicalEvent{
		Version: schemaVersion, ID: e.ID, OccurredAt: e.OccurredAt.UTC().Format(canonicalTime),
		Organization: e.Organization, Class: e.Class, Action: e.Action, Outcome: e.Outcome, Reason: e.Reason,
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
		r.salt = make([]byte, 16)
		rand.Read(r.salt) // never fails (crypto/rand)
		c.Personal = commitment(r.salt, data)
	}
	data, err := c.append(nil)
	if err != nil || len(data) > maxCanonical { // the event is worth more than its metadata
		c.Metadata = map[string]any{"omitted": true}
		c.Actor.Roles = nil
		if data, err = c.append(nil); err != nil {
			return row{}, err
		}
	}
	r.canonical = data
	return r, nil
}

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
		ID: c.ID, OccurredAt: at, Organization: c.Organization, Class: c.Class, Action: c.Action, Outcome: c.Outcome,
		Reason: c.Reason, Actor: c.Actor, Permission: c.Permission, Count: c.Count, Metadata: c.Metadata,
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
