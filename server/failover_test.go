package server_test

import (
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// Another credential of the organization steps in where the one that is asked for
// names it, and the trail says which one served.
func TestFailoverIsTold(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	owner := as(t, s, "acme", "u1", access.Owner)
	first := owner.store("openai", map[string]string{"apiKey": openai.Key()})
	second := owner.store("openai", map[string]string{"apiKey": "sk-second-0123456789abcdefghij"}, "name", "second")
	as(t, s, "globex", "u9", access.Owner).store("openai", map[string]string{"apiKey": "sk-theirs-0123456789abcdefghij"}, "name", "theirs")
	owner.store("openai", map[string]string{"apiKey": "sk-third-0123456789abcdefghijk"}, "name", "third one") // not meant by the encoded name in the list
	openai.SetKeys(openai.Key(), "sk-second-0123456789abcdefghij", "sk-third-0123456789abcdefghijk")

	quota := func() { openai.Next(gatehousetest.OutOfQuota()) }
	quota()
	if a := owner.do("POST", chatPath, chatBody); a.Status != 429 {
		t.Fatalf("without a list: %d %s", a.Status, a.Body)
	}
	if a := owner.do("PUT", credentialsPath+"/"+first, `{"failover":["theirs","third%20one","second"]}`); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	if c := decode[api.Credential](t, owner.get(credentialsPath+"/"+first), 200); !slices.Equal(c.Failover, []string{"theirs", "third%20one", "second"}) {
		t.Errorf("the metadata say %v", c.Failover)
	}
	quota()
	if a := owner.do("POST", chatPath, chatBody); a.Status != 200 {
		t.Fatalf("with a list: %d %s", a.Status, a.Body)
	}
	sent := openai.Requests()
	if got := sent[len(sent)-1].Header.Get("Authorization"); got != "Bearer sk-second-0123456789abcdefghij" || len(sent) != 3 {
		t.Errorf("the provider saw %q, %d requests", got, len(sent))
	}
	visits := owner.events("action", "chat.request")
	e := visits[0]
	if e.Outcome != "success" || e.Metadata["failedOverFrom"] != first || e.Metadata["refusedStatus"] != 429.0 ||
		!slices.ContainsFunc(e.Targets, func(target api.EventTarget) bool { return target.ID == second }) {
		t.Errorf("the trail tells %+v", e)
	}
	if a := owner.do("PUT", credentialsPath+"/"+first, `{"failover":null}`); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	quota()
	if a := owner.do("POST", chatPath, chatBody); a.Status != 429 {
		t.Errorf("after the list was taken away: %d", a.Status)
	}
}
