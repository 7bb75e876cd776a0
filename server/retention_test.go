package server_test

import (
	"net/http"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// Retention over HTTP: what tenants and operators may do, and what they may not.
func TestRetention(t *testing.T) {
	s := instancetest.Serve(t, nil)
	owner, ops := as(t, s, "acme", "boss", access.Owner), as(t, s, "ops", "root", access.Operator)
	stranger := as(t, s, "globex", "boss", access.Owner)
	const policy, bounds, holds = "/api/retention/policy", "/api/retention/bounds", "/api/retention/holds"

	a := owner.get(policy)
	p := decode[api.RetentionPolicy](t, a, 200)
	if a.Header.Get("ETag") != `"0"` || len(p.Classes) != 11 || p.Classes[0].Keep != "365d" || p.Classes[1].Keep != "90d" {
		t.Errorf("the defaults: %s", a.Body)
	}
	a = owner.do("PUT", policy, `{"preset":"pci-dss","keep":{"access":"400d"}}`, "If-Match", `"0"`)
	if p = decode[api.RetentionPolicy](t, a, 200); a.Header.Get("ETag") != `"1"` || p.Classes[0].Keep != "366d" || p.Classes[1].Keep != "400d" || p.Preset != "pci-dss" {
		t.Errorf("after the change: %s", a.Body)
	}
	for name, c := range map[string]struct {
		by     *client
		method string
		path   string
		body   string
		status int
	}{
		"an older state":                {owner, "PUT", policy, `{}`, http.StatusPreconditionFailed},
		"under the floor":               {owner, "PUT", policy, `{"keep":{"security":"1d"}}`, 422},
		"no class":                      {owner, "PUT", policy, `{"keep":{"sk-canary":"1d"}}`, 422},
		"no length":                     {owner, "PUT", policy, `{"keep":{"access":"-1d"}}`, 422},
		"no preset":                     {owner, "PUT", policy, `{"preset":"sk-canary"}`, 422},
		"another organization's policy": {owner, "PUT", policy + "?organization=globex", `{}`, 403},
		"the instance's":                {owner, "GET", policy + "?organization=_instance", "", 403},
		"an owner's bounds":             {owner, "PUT", bounds, `{"floors":{},"ceilings":{}}`, 403},
		"a tenant's policy by ops":      {ops, "PUT", policy + "?organization=acme", `{}`, 403},
		"no reason":                     {owner, "POST", holds, `{"reason":" ","scope":{"actor":"u1"}}`, 422},
		"no scope":                      {owner, "POST", holds, `{"reason":"x","scope":{}}`, 422},
		"a past end":                    {owner, "POST", holds, `{"reason":"x","scope":{"actor":"u1"},"expiresAt":"2020-01-01T00:00:00Z"}`, 422},
		"an end in the year one":        {owner, "POST", holds, `{"reason":"x","scope":{"actor":"u1"},"expiresAt":"0001-01-01T00:00:00Z"}`, 422},
		"a time that ends it at once":   {owner, "POST", holds, `{"reason":"x","scope":{"from":"2020-01-01T00:00:00Z","to":"0001-01-01T00:00:00Z"}}`, 422},
		"an unknown parameter":          {owner, "GET", holds + "?organization=globex", "", 422},
		"a hold that is none":           {owner, "DELETE", holds + "/hold_1", "", 404},
		"no cursor":                     {owner, "GET", "/api/retention/certificates?cursor=x", "", 422},
		"no cursor of held":             {owner, "GET", "/api/retention/held?cursor=control:-1", "", 422},
	} {
		t.Run(name, func(t *testing.T) {
			var header []string
			if name == "an older state" {
				header = []string{"If-Match", `"0"`}
			}
			if got := c.by.do(c.method, c.path, c.body, header...); got.Status != c.status {
				t.Errorf("%d, want %d: %s", got.Status, c.status, got.Body)
			}
		})
	}

	if a := ops.do("PUT", policy+"?organization=_instance", `{"keep":{"control":"forever"}}`); a.Status != 200 {
		t.Errorf("the instance's own policy: %s", a.Body)
	}
	if a := ops.do("PUT", bounds, `{"floors":{"access":"500d"},"ceilings":{}}`); a.Status != 200 {
		t.Errorf("bounds: %s", a.Body)
	}
	if p = decode[api.RetentionPolicy](t, owner.get(policy), 200); p.Classes[1].Keep != "500d" || p.Classes[1].Because != "floor" {
		t.Errorf("a floor that came later: %+v", p.Classes[1])
	}

	h := decode[api.RetentionHold](t, owner.do("POST", holds, `{"reason":"Case 7","scope":{"actor":"u1","action":"credential.*"}}`), 201)
	if a := stranger.do("DELETE", holds+"/"+h.ID, ""); a.Status != 404 {
		t.Errorf("another organization's hold: %d", a.Status)
	}
	if all := decode[api.RetentionHolds](t, stranger.get(holds), 200); len(all.Holds) != 0 {
		t.Error("another organization sees the hold")
	}
	if a := owner.do("DELETE", holds+"/"+h.ID, ""); a.Status != 204 {
		t.Errorf("the release: %s", a.Body)
	}
	if all := decode[api.RetentionHolds](t, owner.get(holds+"?ended=true"), 200); len(all.Holds) != 1 || all.Holds[0].Active || all.Holds[0].ReleasedBy != "boss" {
		t.Errorf("after the release: %+v", all)
	}
	if p := decode[api.RetentionPreview](t, owner.do("POST", "/api/retention/preview", `{"preset":"gdpr"}`), 200); len(p.Classes) != 11 || p.Classes[1].Keep != "500d" {
		t.Errorf("the preview: %+v", p)
	}
	for _, action := range []string{"retention.update", "retention.hold", "retention.release"} {
		if events := owner.events("action", action); len(events) != 1 {
			t.Errorf("%d events %s, want 1", len(events), action)
		}
	}
}
