package catalog_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// A success speaks for a key unless it says otherwise, as some hosts do with a status of 200.
func TestSuccessThatRefuses(t *testing.T) {
	for _, name := range []string{"openai", "github", "stripe", "mistral"} {
		s := service(t, name)
		in, err := s.Prepare(sound(name))
		if err != nil {
			t.Fatal(err)
		}
		for body, want := range map[string]catalog.Result{
			`{}`: catalog.Valid, `[]`: catalog.Valid, `{"data":[],"object":"list"}`: catalog.Valid, `{"id":1,"message":"hello"}`: catalog.Valid,
			`{"status":200,"data":[]}`:                                                  catalog.Valid,
			`{"success":false,"code":401,"message":"Authentication failed"}`:            catalog.Indeterminate,
			`{"code":401,"msg":"token expired"}`:                                        catalog.Indeterminate,
			`{"detail":"Invalid API key"}`:                                              catalog.Indeterminate,
			`{"message":"Please sign in to the network"}`:                               catalog.Indeterminate,
			`{"ok":false,"why":"x"}`:                                                    catalog.Indeterminate,
			`{"status":401,"data":null}`:                                                catalog.Indeterminate,
			`{"error":"` + strings.Repeat("x", catalog.MaxProbeBody-10):                 catalog.Indeterminate,
			`{"object":"list","data":["` + strings.Repeat("x", catalog.MaxProbeBody-24): catalog.Valid,
			`<html>`: catalog.Indeterminate, ``: catalog.Indeterminate, `{"data":[`: catalog.Indeterminate,
		} {
			if got := s.Read(in, http.StatusOK, http.Header{"Content-Type": {"application/json"}}, []byte(body)); got.Result != want {
				t.Errorf("%s answers %.60s: %s, want %s", name, body, got.Result, want)
			}
		}
	}
}
