package server_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// Whatever answer holds a credential has an ETag: a list's changes with what is
// in it, and a revealed one's is that of its metadata, good for If-Match.
func TestEveryAnswerWithACredentialHasAnETag(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	c := as(t, s, "acme", "u1", access.Owner)
	empty := c.get(credentialsPath).Header.Get("ETag")
	id := c.store("openai", map[string]string{"apiKey": firstKey})
	path := credentialsPath + "/" + id
	one := c.get(credentialsPath).Header.Get("ETag")
	if again := c.get(credentialsPath).Header.Get("ETag"); empty == "" || one == "" || one == empty || again != one {
		t.Errorf("lists: %s empty, %s with one, %s again", empty, one, again)
	}

	revealed := c.do("POST", path+"/reveal", `{"reason":"looking"}`)
	tag := revealed.Header.Get("ETag")
	if decode[api.RevealedCredential](t, revealed, 200); tag == "" || tag != c.get(path).Header.Get("ETag") {
		t.Errorf("revealed: %q, got: %q", tag, c.get(path).Header.Get("ETag"))
	}
	if a := c.do("PUT", path, `{"name":"other"}`, "If-Match", tag); a.Status != 200 {
		t.Errorf("a change of what was revealed: %d %s", a.Status, a.Body)
	}
	if changed := c.get(credentialsPath).Header.Get("ETag"); changed == one {
		t.Errorf("the list has the tag of before its credential was changed: %s", changed)
	}
}

// What a proxy that compresses makes of an ETag is good for If-Match like the ETag itself, and
// no better: an earlier state's is refused.
func TestWeakETagMatches(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	path := credentialsPath + "/" + c.store("openai", map[string]string{"apiKey": firstKey})
	weak := "W/" + c.get(path).Header.Get("ETag")
	if a := c.do("PUT", path, `{"name":"other"}`, "If-Match", `"900", `+weak); a.Status != 200 {
		t.Errorf("%s: %d %s", weak, a.Status, a.Body)
	}
	for _, tag := range []string{weak, "W/", `w/"2"`, `W/W/"2"`, `W/2`} {
		if a := c.do("PUT", path, `{"name":"third"}`, "If-Match", tag); a.Status != 412 {
			t.Errorf("%s: %d %s; want 412", tag, a.Status, a.Body)
		}
	}
}
