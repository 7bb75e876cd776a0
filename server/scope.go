package server

import (
	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/vault"
)

func scopeOf(s *api.Scope) *catalog.Scope {
	if s == nil {
		return nil
	}
	return &catalog.Scope{Methods: s.Methods, Paths: s.Paths, Models: s.Models, Members: s.Members, Roles: s.Roles}
}

func wireScope(s *catalog.Scope) *api.Scope {
	if s == nil {
		return nil
	}
	return &api.Scope{Methods: s.Methods, Paths: s.Paths, Models: s.Models, Members: s.Members, Roles: s.Roles}
}

// boundsOf takes the scope and the failover of an update over.
func boundsOf(in api.CredentialUpdate, ch *vault.Change) {
	if in.Scope.Set {
		var scope *catalog.Scope
		if !in.Scope.Null {
			scope = scopeOf(&in.Scope.Value)
		}
		ch.Scope = &scope
	}
	if in.Failover.Set {
		ch.Failover = &in.Failover.Value // nil for null
	}
}

// scopeEvent tells that a credential's scope denied a visit. It is a security
// event in place of the visit's own: nothing was opened, and nothing sent.
func scopeEvent(service string, result gateway.Result) audit.Event {
	return audit.Event{
		Action: audit.AccessDeny, Outcome: audit.Denied, Reason: gateway.ScopeDenied, Permission: access.CredentialUse.String(),
		Targets: []audit.Target{
			{Type: "credential", ID: result.CredentialID, Name: result.CredentialName}, {Type: "service", ID: service},
		},
		Metadata: map[string]any{"scope": result.Scope},
	}
}

// noteUpstream adds what an upstream needed beside one request, and what it said
// that it should not.
func noteUpstream(e *audit.Event, result gateway.Result) {
	if result.Retries > 0 {
		e.Metadata["retries"] = result.Retries
	}
	if from := result.FailedOver; from.ID != "" {
		e.Metadata["failedOverFrom"], e.Metadata["refusedStatus"] = from.ID, from.Status
	}
	if result.Scrubbed > 0 {
		e.Metadata["scrubbed"] = result.Scrubbed
	}
}
