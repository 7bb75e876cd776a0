package vault

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// maxFailover is how many credentials may step in for one.
const maxFailover = 4

// Bounds are what a credential may be used for, and what steps in for it. They
// stand in the row in the clear: whoever can write to the database can change
// them, as they can disable a credential.
type Bounds struct {
	Scope    *catalog.Scope // nil: the service's default
	Failover []string       // names of credentials of the same service, in the order that they are tried
}

// check gives what is wrong with the bounds of a credential of this name.
func (b Bounds) check(name string) []fault.Field {
	var wrong []fault.Field
	if b.Scope != nil {
		for _, p := range b.Scope.Check() {
			wrong = append(wrong, fault.Field{Name: strings.TrimSuffix("scope."+p.Field, "."), Message: p.Message})
		}
	}
	if len(b.Failover) > maxFailover {
		wrong = append(wrong, fault.Field{Name: "failover", Message: fmt.Sprintf("must name at most %d credentials", maxFailover)})
	}
	for i, other := range b.Failover {
		if len(checkName(other)) > 0 || other == name || slices.Contains(b.Failover[:i], other) {
			wrong = append(wrong, fault.Field{Name: fmt.Sprintf("failover[%d]", i), Message: "must be the name of another credential of the service, each once"})
		}
	}
	return wrong
}

// columns gives the bounds as the row holds them; nil is NULL.
func (b Bounds) columns() (scope, failover *string, err error) {
	text := func(v any) (*string, error) {
		data, err := json.Marshal(v)
		s := string(data)
		return &s, err
	}
	if b.Scope != nil {
		if scope, err = text(b.Scope); err != nil {
			return nil, nil, err
		}
	}
	if len(b.Failover) > 0 {
		failover, err = text(b.Failover)
	}
	return scope, failover, err
}

// readBounds reads what columns gave. A scope that was altered and is none any
// more lets nothing pass.
func readBounds(scope, failover *string) Bounds {
	var b Bounds
	if scope != nil {
		b.Scope = new(catalog.Scope)
		if json.Unmarshal([]byte(*scope), b.Scope) != nil || len(b.Scope.Check()) > 0 {
			b.Scope = &catalog.Scope{Paths: []string{"/**"}, Methods: []string{"none"}}
		}
	}
	if failover != nil && json.Unmarshal([]byte(*failover), &b.Failover) != nil {
		b.Failover = nil
	}
	return b
}

// tellBounds adds to an event's metadata and personal data what changed of the
// bounds. Members are persons, so they stand on the erasable side row.
func tellBounds(old, next Bounds, metadata map[string]any) (personal map[string]string) {
	if a, b := scopeText(old.Scope), scopeText(next.Scope); a != b {
		metadata["scope"] = b
		if next.Scope != nil && len(next.Scope.Members) > 0 {
			metadata["scopeMembers"] = len(next.Scope.Members)
		}
	}
	if old.Scope != nil || next.Scope != nil {
		if a, b := members(old.Scope), members(next.Scope); a != b {
			metadata["scopeMembersChanged"] = true
			if len(b) > maxMembersTold {
				b = fmt.Sprintf("%d members", len(next.Scope.Members))
			}
			personal = map[string]string{"members": b}
		}
	}
	if !slices.Equal(old.Failover, next.Failover) {
		metadata["failover"] = len(next.Failover) // names are personal data
	}
	return personal
}

// maxMembersTold is how long the list of members in an event is, in bytes.
const maxMembersTold = 1000

// scopeText gives a scope without its members, for events.
func scopeText(s *catalog.Scope) string {
	if s == nil {
		return "default"
	}
	bare := catalog.Scope{Methods: s.Methods, Paths: s.Paths, Models: s.Models, Roles: s.Roles}
	text, err := json.Marshal(bare)
	if err != nil { // strings always marshal
		return "unreadable"
	}
	return string(text)
}

func members(s *catalog.Scope) string {
	if s == nil {
		return ""
	}
	return strings.Join(s.Members, ", ")
}
