package server_test

import (
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A credential is named as it is, or percent-encoded; one whose name is exactly what was sent
// is meant by it.
func TestCredentialNamesBeyondASCII(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u1", access.Owner)
	ids := make(map[string]string)
	for _, name := range []string{"Büro", "事務所", "a%62", "ab", "50% off"} {
		ids[name] = c.store("openai", map[string]string{"apiKey": openai.Key()}, "name", name)
	}
	for _, test := range []struct{ sent, used string }{
		{"Büro", "Büro"}, {"B%C3%BCro", "Büro"}, {"%E4%BA%8B%E5%8B%99%E6%89%80", "事務所"}, {"50% off", "50% off"}, {"50%25%20off", "50% off"},
		{"a%62", "a%62"}, {"%61b", "ab"}, {"a%2562", "a%62"},
		{"B\xfcro", ""}, {"B%FCro", ""}, {"B%C3%BCro%", ""}, {"ab%0A", ""}, {"%", ""}, {"B%25C3%25BCro", ""},
	} {
		before := len(c.events("action", "chat.request"))
		a := c.do("POST", chatPath, chatBody, "Gatehouse-Credential", test.sent)
		if test.used == "" {
			if a.Status/100 != 4 {
				t.Errorf("%q: %d %s; want none", test.sent, a.Status, a.Body)
			}
			continue
		}
		visit := c.await(before+1, "action", "chat.request")[0]
		if a.Status != 200 || !slices.ContainsFunc(visit.Targets, func(to api.EventTarget) bool { return to.ID == ids[test.used] }) {
			t.Errorf("%q: %d %s, %+v; want the credential %q", test.sent, a.Status, a.Body, visit.Targets, test.used)
		}
	}
}
