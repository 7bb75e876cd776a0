// Package audit keeps the trail: who did what to which credential, and what
// was refused.
//
// # Classes
//
// Control events tell of changes. [Log.Append] writes one inside the change's
// own transaction, so that a change exists if and only if its event does.
//
// Access events tell of visits and reads. A [Slot] is reserved before the
// visit, which fails once the bounded spool is full; its Record hands the
// event to the writer, which puts events on disk in groups, within a second.
//
// Security events tell of denials. [Log.Security] never blocks and never
// fails: the first of a series is written at once, repeats are counted and
// written as one event with the exact count every [Options.Coalesce]. A denial
// stands even when it cannot be recorded.
//
// System events are what Gatehouse tells of itself: events that could not be recorded.
//
// # What is stored
//
// An event is kept as canonical bytes: JSON made once, with its fields in a
// fixed order, never re-serialized. They hold no personal data. IP address,
// user agent and names stand on a side row, and the canonical bytes hold a
// salted SHA-256 of that row, so that a person can be erased while every hash
// over the canonical bytes still holds.
//
// # The request behind an event
//
// The HTTP edge puts a [Request] into the context with [WithRequest]; events
// written under that context carry it.
package audit

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

type requestKey struct{}

// WithRequest gives a context whose events carry r.
func WithRequest(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// requestOf gives the request that [WithRequest] put into ctx, or an empty one.
func requestOf(ctx context.Context) Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return *r
	}
	return Request{}
}

// WithoutStatus gives a context whose events leave the answer's status out: the
// request carries the status that it has when all goes well, and of what goes
// wrong midway nobody knows yet with what it is answered.
func WithoutStatus(ctx context.Context) context.Context {
	r := requestOf(ctx)
	r.Status = 0
	return WithRequest(ctx, &r)
}

// actorOf gives the actor that stands for c.
func actorOf(c access.Caller) Actor {
	return Actor{Type: string(c.Type), ID: c.ID, TokenID: c.TokenID, Roles: c.RoleNames()}
}

// anonymous is the actor of a request that no caller could be made of.
func anonymous() Actor { return Actor{Type: "anonymous", ID: "anonymous"} }

// Bounds of an event's parts, in bytes; longer text is cut.
const (
	maxWord      = 64
	maxID        = 256
	maxUserAgent = 512
	maxPersonal  = 2048
	maxTargets   = 16
	maxRoles     = 64 // a member has 32 at most, and its token may say others
	maxCanonical = 8 << 10
)

// bounded cuts s to at most n bytes of valid UTF-8 without control characters,
// so that no event can be refused by a database for its text.
func bounded(s string, n int) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, store.Text(s, n)) // cut before the look at each rune: the text may be very long
}

// normal gives e with every text bounded.
func (e Event) normal() Event {
	e.Organization, e.Permission = bounded(e.Organization, maxID), bounded(e.Permission, maxWord)
	e.Reason = bounded(e.Reason, maxWord)
	e.Actor.Type, e.Actor.ID = bounded(e.Actor.Type, maxWord), bounded(e.Actor.ID, maxID)
	e.Actor.TokenID = bounded(e.Actor.TokenID, maxID)
	if len(e.Actor.Roles) > maxRoles || len(e.Targets) > maxTargets {
		e.Metadata = maps.Clone(e.Metadata)
		if e.Metadata == nil {
			e.Metadata = make(map[string]any)
		}
		e.Metadata["truncated"] = true
	}
	e.Actor.Roles = e.Actor.Roles[:min(len(e.Actor.Roles), maxRoles)]
	e.Actor.Roles = slices.Clone(e.Actor.Roles)
	for i, r := range e.Actor.Roles {
		e.Actor.Roles[i] = bounded(r, maxWord)
	}
	e.Targets = e.Targets[:min(len(e.Targets), maxTargets)]
	e.Targets = slices.Clone(e.Targets)
	for i, t := range e.Targets {
		e.Targets[i] = Target{Type: bounded(t.Type, maxWord), ID: bounded(t.ID, maxID), Name: bounded(t.Name, maxID)}
	}
	e.Request.ID, e.Request.Method = bounded(e.Request.ID, maxID), bounded(e.Request.Method, maxWord)
	e.Request.Route, e.Request.IP = bounded(e.Request.Route, maxID), bounded(e.Request.IP, maxWord)
	e.Request.UserAgent = bounded(e.Request.UserAgent, maxUserAgent)
	e.Personal = maps.Clone(e.Personal)
	for k, v := range e.Personal {
		e.Personal[k] = bounded(v, maxPersonal)
	}
	return e
}
