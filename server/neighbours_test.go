package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// What is deleted takes nothing of its neighbours along: of another organization that has things of
// the same names, or of the same one. On SQLite, where statements alone keep tenants apart.
func TestDeletionsStayWhereTheyAre(t *testing.T) {
	s := instancetest.Serve(t, nil)
	type tenant struct {
		owner    *client
		policies []string
		ann, bob *client // tokens that they made
	}
	furnish := func(organization string) *tenant {
		n := &tenant{owner: as(t, s, organization, "boss", access.Owner)}
		decode[struct{}](t, n.owner.do("POST", "/api/roles", `{"name":"support","permissions":["limit:read"]}`), 201)
		for _, member := range []string{"ann", "bob"} {
			decode[struct{}](t, n.owner.do("PUT", "/api/members/"+member, `{"name":"A name","roles":["support","admin"]}`), 200)
		}
		for _, service := range []string{"openai", "stripe"} {
			p := decode[struct{ ID string }](t, n.owner.do("POST", "/api/rate-limit/policies", `{"effect":"limit","subject":"ip","service":"`+service+`","limits":["50/1m"],"reason":"a trial"}`), 201)
			n.policies = append(n.policies, p.ID)
		}
		read := map[string]any{"permissions": []string{"limit:read"}}
		n.ann, _ = as(t, s, organization, "ann", access.Admin).makeToken(read)
		n.bob, _ = as(t, s, organization, "bob", access.Admin).makeToken(read)
		return n
	}
	acme, globex := furnish("acme"), furnish("globex")
	whole := func(when string, n *tenant, policies int) {
		t.Helper()
		for _, id := range n.policies[len(n.policies)-policies:] {
			if a := n.owner.get("/api/rate-limit/policies/" + id); a.Status != http.StatusOK {
				t.Errorf("%s: a policy: %d %s", when, a.Status, a.Body)
			}
		}
		if a := n.owner.get("/api/roles"); !strings.Contains(a.Body, `"support"`) {
			t.Errorf("%s: the roles are %s", when, a.Body)
		}
		m := decode[struct {
			Name  string
			Roles []string
		}](t, n.owner.get("/api/members/bob"), 200)
		if m.Name != "A name" || len(m.Roles) != 2 {
			t.Errorf("%s: the member is %+v", when, m)
		}
		if a := n.bob.get("/api/rate-limit/policies"); a.Status != http.StatusOK {
			t.Errorf("%s: the token of another member: %d %s", when, a.Status, a.Body)
		}
	}
	whole("at first", acme, 2)
	if a := acme.owner.do("DELETE", "/api/rate-limit/policies/"+acme.policies[0], ""); a.Status != http.StatusNoContent {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := acme.owner.do("DELETE", "/api/members/ann", ""); a.Status != http.StatusNoContent {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if a := acme.ann.get("/api/rate-limit/policies"); a.Status != http.StatusUnauthorized && a.Status != http.StatusForbidden {
		t.Errorf("the token of a deleted member: %d %s", a.Status, a.Body)
	}
	whole("a policy and a member later", acme, 1)
	whole("a policy and a member of another later", globex, 2)
	if a := globex.ann.get("/api/rate-limit/policies"); a.Status != http.StatusOK {
		t.Errorf("the token of a namesake: %d %s", a.Status, a.Body)
	}
	if a := as(t, s, "acme", "root", access.Operator).do("DELETE", "/api/organizations/acme?confirm=acme", ""); a.Status >= 300 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	whole("an organization later", globex, 2)
}
