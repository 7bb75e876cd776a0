package vault_test

import (
	"net/http"
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/vault"
)

// A scope that was altered in the database and is none any more lets nothing pass: not what
// the service allows where there is no scope, nor what is left of it.
func TestAlteredScopeLetsNothingPass(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		service, _ := h.services.Service("openai")
		n := openai("", apiKey)
		n.Scope = &catalog.Scope{Paths: []string{"GET /v1/models"}}
		h.create(t, owner, n)
		passes := func(beside *house) (any bool) {
			t.Helper()
			o, err := beside.OpenForUse(t.Context(), owner, service, "")
			if err != nil || o.Scope == nil {
				t.Fatalf("%+v, %v", o, err)
			}
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
				for _, path := range []string{"/v1/models", "/v1/chat/completions", "/"} {
					any = any || o.Scope.AllowsMethod(method) && o.Scope.AllowsPath(method, path)
				}
			}
			return any
		}
		if !passes(h) {
			t.Fatal("a good scope lets nothing pass")
		}
		for _, altered := range []string{
			"", "GET /v1/models", `{"paths":["GET /v1/models"]`, `{"paths":"/**"}`, `{"paths":["/**"],"methods":7}`,
			`{"paths":["no pattern"]}`, `{"paths":["/**","v1"]}`, `{"paths":[]}`, `{"paths":["/**"],"methods":["fetch all"]}`,
		} {
			h.exec(t, `UPDATE credentials SET scope = $1`, altered)
			if passes(h.beside(t, url, vault.Options{})) { // one that remembers nothing
				t.Errorf("what was altered to %q lets something pass", altered)
			}
		}
	})
}
