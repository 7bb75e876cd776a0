package server_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A misspelt filter is refused on every route of the table: without it the answer
// would be about something else.
func TestUnknownParametersOnEveryRoute(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	c := as(t, s, "acme", "u1", access.Owner, access.Operator)
	looked := 0
	for operation := range document(t, c).operations() {
		method, path, _ := strings.Cut(operation, " ")
		// Providers and gateways in front have parameters of their own.
		if !strings.HasPrefix(path, "/api/") || strings.HasPrefix(path, "/api/chat/") || strings.HasPrefix(path, "/api/proxy/") || path == "/api/rate-limit/auth" {
			continue
		}
		looked++
		path = placeholders.ReplaceAllString(path, "x")
		for query, want := range map[string]string{"servce=openai": "servce", "gth_0123456789=1": "query"} {
			p := checkProblem(t, c.do(method, path+"?"+query, ""), 422, "invalid_request")
			if got := fieldsOf(p); !slices.Equal(got, []string{want}) {
				t.Errorf("%s?%s names %q", operation, query, got)
			}
		}
	}
	if looked < 80 {
		t.Errorf("only %d routes were looked at", looked)
	}
	for _, path := range []string{"/api/chat/echo/v1/models?servce=openai", "/api/proxy/stripe/v1/charges?limit=1&limit=2"} {
		if a := c.get(path); a.Status == 422 {
			t.Errorf("%s is refused: %s", path, a.Body)
		}
	}
}

// Of a parameter that takes one value no second is silently dropped; groupBy
// takes several.
func TestRepeatedParameters(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	for query, field := range map[string]string{
		"service=openai&service=stripe":  "service",
		"groupBy=&groupBy=model":         "groupBy",
		"groupBy=service&groupBy=tokens": "groupBy",
	} {
		if got := fieldsOf(checkProblem(t, c.get("/api/usage?"+query), 422, "invalid_request")); !slices.Equal(got, []string{field}) {
			t.Errorf("%s names %q", query, got)
		}
	}
	for _, query := range []string{"groupBy=service,model,hour", "groupBy=service&groupBy=model&groupBy=hour", "groupBy=service&groupBy=model,hour"} {
		if got := decode[api.UsageReport](t, c.get("/api/usage?"+query), 200).GroupBy; !slices.Equal(got, []string{"hour", "service", "model"}) {
			t.Errorf("%s is grouped by %q", query, got)
		}
	}
}
