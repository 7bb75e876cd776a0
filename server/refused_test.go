package server_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// What is refused though the permission is held is a denial in the trail too.
func TestRefusalsAreEvents(t *testing.T) {
	s := instancetest.Serve(t, nil)
	owner := as(t, s, "acme", "boss", access.Owner)
	id := owner.store("openai", map[string]string{"apiKey": "sk-abcdefghijklmnopqrstuvwx"})
	for range 3 {
		checkProblem(t, owner.do("POST", credentialsPath+"/"+id+"/reveal", `{"reason":"x"}`), 403, "reveal_disabled")
	}
	denials := owner.events("action", "access.deny")
	for _, e := range denials {
		if e.Reason != "reveal_disabled" || len(e.Targets) != 1 || e.Targets[0].ID != id || e.Request.Status != 403 {
			t.Errorf("%+v", e)
		}
	}
	if n := tally(denials); n != 3 {
		t.Errorf("%d of 3 refusals are in the trail", n)
	}
	explained := decode[api.AccessDecision](t, owner.do("POST", "/api/access/check", `{"permission":"credential:reveal"}`), 200)
	if explained.Allowed || explained.Reason != "switched_off" {
		t.Errorf("explained as %+v", explained)
	}
}

// A token makes, lists and ends no tokens, whatever role it has.
func TestTokenOfARoleMakesNoTokens(t *testing.T) {
	s := instancetest.Serve(t, nil)
	owner := as(t, s, "acme", "boss", access.Owner)
	_, another := owner.makeToken(map[string]any{"permissions": []string{"credential:list"}})
	admin, _ := owner.makeToken(map[string]any{"roles": []string{"admin"}})
	for _, a := range []answer{
		admin.do("POST", "/api/tokens", `{"name":"x","permissions":["credential:list"],"expiresAt":"2099-01-01T00:00:00Z"}`),
		admin.do("DELETE", "/api/tokens/"+another, ""),
		admin.do("POST", "/api/roles", `{"name":"via","permissions":["token:manage"]}`),
	} {
		checkProblem(t, a, 403, "permission_denied")
	}
	explained := decode[api.AccessDecision](t, admin.do("POST", "/api/access/check", `{"permission":"token:manage"}`), 200)
	if explained.Allowed || explained.Reason != "token_scope" {
		t.Errorf("explained as %+v", explained)
	}
}
