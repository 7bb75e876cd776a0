package catalog_test

import (
	"net/url"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/catalog"
)

func TestPathPatterns(t *testing.T) {
	for _, test := range []struct {
		pattern, method, path string
		want                  bool
	}{
		{"/v1/messages", "POST", "/v1/messages", true},
		{"/v1/messages", "POST", "/v1/messages/", false},
		{"/v1/messages", "POST", "/v1//messages", false},
		{"/v1/messages", "POST", "//v1/messages", false},
		{"/v1/messages", "POST", "/V1/Messages", false},
		{"/v1/messages", "POST", "/v1/messages/batches", false},
		{"/v1/messages", "POST", "/v1", false},
		{"/v1/messages", "POST", "", false},
		{"POST /v1/messages", "POST", "/v1/messages", true},
		{"POST /v1/messages", "DELETE", "/v1/messages", false},
		{"GET /v1/models", "HEAD", "/v1/models", true},
		{"HEAD /v1/models", "GET", "/v1/models", false},
		{"GET /v1/models/*", "GET", "/v1/models/gpt-4o", true},
		{"GET /v1/models/*", "GET", "/v1/models/ft%3Agpt-4o%3Aorg%3A%3Aid", true},
		{"GET /v1/models/*", "GET", "/v1/models/", false},
		{"GET /v1/models/*", "GET", "/v1/models/a/b", false},
		{"GET /v1/models/*", "GET", "/v1/models/a%3Fb", false},
		{"GET /v1/models/*", "GET", "/v1/models/a;b", false},
		{"GET /v1/models/*", "GET", "/v1/models/a%23", false},
		{"GET /v1/models/*", "GET", "/v1/models/%2561", false}, // to whoever decodes twice it is another
		{"/v1/chat/completions", "POST", "/v1/%63hat/completions", true},
		{"/v1/chat/completions", "POST", "/v1/%2563hat/completions", false},
		{"/v1/models/*:generateContent", "POST", "/v1/models/gemini-2.5-flash:generateContent", true},
		{"/v1/models/*:generateContent", "POST", "/v1/models/m:delete%3F:generateContent", false},
		{"/v1/models/*:generateContent", "POST", "/v1/models/m:delete;:generateContent", false},
		{"/v1/models/*:generateContent", "POST", "/v1/models/m:delete", false},
		{"/openai/deployments/*/chat/completions", "POST", "/openai/deployments/my-gpt/chat/completions", true},
		{"/openai/deployments/*/chat/completions", "POST", "/openai/deployments/a/b/chat/completions", false},
		{"/**", "DELETE", "/anything/at;all%3F", true},
		{"/**", "GET", "/", true},
		{"/**", "GET", "", true},
		{"/v1/files/**", "GET", "/v1/files", true},
		{"/v1/files/**", "GET", "/v1/files/", true},
		{"/v1/files/**", "GET", "/v1/files/a/content", true},
		{"/v1/files/**", "GET", "/v1/filesystem", false},
		{"DELETE /v1/files/**", "GET", "/v1/files/a", false},
		// A slash that is encoded is a separator to some, and a part of its segment to others: both must be allowed.
		{"/repos/**", "GET", "/repos/o/r/branches/feature%2Fx", true},
		{"/repos/*/*/branches/**", "GET", "/repos/o/r/branches/feature%2fx%2Fy", true},
		{"/repos/*/*/branches/*", "GET", "/repos/o/r/branches/feature%2Fx", false},
		{"/repos/*/*/branches/*/x", "GET", "/repos/o/r/branches/feature%2Fx", false},
		{"/repos/o/r/**", "GET", "/repos/o%2Fr/branches", false},
		{"/repos/o/r/**", "GET", "/repos/o/r%2Fbranches", false},
		{"/repos/*/r/**", "GET", "/repos/o%2F../r/x", false},
		{"/repos/*/r/**", "GET", "/repos/o%2Fp/r/x", false},
		{"/a/b", "GET", "/a%2Fb", false},
		{"/a*b", "GET", "/a%2Fb", false},
		{"/a/b", "GET", "/a%252Fb", false},
		{"/**", "GET", "/a%2Fb", true},
		{"/*-*-c", "GET", "/a-b-b-c", true},
		{"/*-*-c", "GET", "/a-c", false},
	} {
		s := &catalog.Scope{Paths: []string{test.pattern}}
		if wrong := s.Check(); len(wrong) > 0 {
			t.Fatalf("%s: %v", test.pattern, wrong)
		}
		if got := s.AllowsPath(test.method, test.path); got != test.want {
			t.Errorf("%s on %s %s: %v", test.pattern, test.method, test.path, got)
		}
	}
}

func TestScopesThatAreRefused(t *testing.T) {
	long := strings.Repeat("x", 300)
	for name, s := range map[string]catalog.Scope{
		"no slash": {Paths: []string{"v1/messages"}}, "a query": {Paths: []string{"/v1?x=1"}}, "an escape": {Paths: []string{"/v1/%2e%2e"}},
		"a rest in the middle": {Paths: []string{"/**/x"}}, "a rest in a segment": {Paths: []string{"/a**"}}, "an unknown method": {Paths: []string{"TRACE /v1"}},
		"two methods": {Paths: []string{"GET POST /v1"}}, "an empty pattern": {Paths: []string{""}}, "empty paths": {Paths: []string{}},
		"empty methods": {Methods: []string{}}, "empty models": {Models: []string{}}, "empty members": {Members: []string{}}, "empty roles": {Roles: []string{}},
		"a method in small letters": {Methods: []string{"get"}}, "CONNECT": {Methods: []string{"CONNECT"}}, "a model with a newline": {Models: []string{"a\nb"}},
		"a long model": {Models: []string{long}}, "a member that is no text": {Members: []string{"\xff"}},
		"too many": {Members: strings.Split(strings.Repeat("u ", 64)+"u", " ")},
		"too much": {Members: strings.Split(strings.Repeat(long[:200]+" ", 40)+"u", " ")},
	} {
		wrong := s.Check()
		if len(wrong) == 0 {
			t.Errorf("%s passes", name)
		}
		for _, w := range wrong {
			if strings.Contains(w.Message, long[:100]) {
				t.Errorf("%s: the value is said again", name)
			}
		}
	}
}

func TestModelsAndCallers(t *testing.T) {
	s := &catalog.Scope{Models: []string{"gpt-4o*", "claude-*-5", "exact"}, Members: []string{"u1"}, Roles: []string{"developer"}}
	for model, want := range map[string]bool{
		"gpt-4o": true, "gpt-4o-mini": true, "gpt-5": false, "xgpt-4o": false, "claude-sonnet-4-5": true, "claude-opus": false, "exact": true, "Exact": false, "": false,
	} {
		if s.AllowsModel(model) != want {
			t.Errorf("%q: %v", model, !want)
		}
	}
	if !s.AllowsCaller("u1", nil) || !s.AllowsCaller("u2", []string{"viewer", "developer"}) || s.AllowsCaller("u2", []string{"owner"}) || s.AllowsCaller("", nil) {
		t.Error("who may use it")
	}
	open := &catalog.Scope{}
	if !open.AllowsModel("any") || !open.AllowsCaller("any", nil) || !open.AllowsMethod("PATCH") || open.AllowsPath("GET", "/") {
		t.Error("the empty scope")
	}
}

// Each service that chats lets inference pass and keeps what an account is
// managed by; the others are open.
func TestDefaultScopes(t *testing.T) {
	services := newCatalog(t, catalog.Options{Echo: true, ChatHosts: map[string]string{"bare": "http://10.0.0.1:8000", "v1": "http://10.0.0.1:8000/x/v1"}})
	allowed := map[string][]string{
		"openai":    {"POST /v1/chat/completions", "POST /v1/responses", "POST /v1/responses/compact", "POST /v1/embeddings", "GET /v1/models", "GET /v1/models/gpt-4o", "POST /v1/files"},
		"anthropic": {"POST /v1/messages", "POST /v1/messages/count_tokens", "GET /v1/models"},
		"gemini": {
			"POST /v1beta/models/gemini-2.5-flash:generateContent", "POST /v1/models/g:streamGenerateContent", "POST /v1beta/models/g:countTokens",
			"POST /v1beta/models/g:embedContent", "GET /v1beta/models", "POST /v1beta/openai/chat/completions",
			"POST /v1beta/interactions", "POST /v1/interactions",
		},
		"azure-openai": {
			"POST /openai/deployments/my-gpt/chat/completions", "POST /openai/deployments/e/embeddings", "POST /openai/v1/responses",
			"POST /openai/v1/chat/completions", "GET /openai/models", "GET /openai/v1/models", "POST /anthropic/v1/messages",
		},
		"mistral":   {"POST /v1/agents/completions", "POST /v1/audio/speech", "POST /v1/chat/completions", "POST /v1/fim/completions", "POST /v1/embeddings", "GET /v1/models"},
		"codestral": {"POST /v1/fim/completions"}, "cohere": {"POST /v2/audio/transcriptions", "POST /v2/chat", "POST /v1/embed", "POST /v2/rerank", "GET /v1/models"},
		"groq": {"POST /openai/v1/chat/completions", "POST /openai/v1/audio/transcriptions", "GET /openai/v1/models"},
		"xai":  {"POST /v1/chat/completions", "GET /v1/models"}, "deepseek": {"POST /chat/completions", "POST /v1/chat/completions", "GET /models"},
		"openrouter": {"POST /api/v1/chat/completions", "GET /api/v1/models"}, "huggingface": {"POST /v1/chat/completions", "GET /v1/models"},
		"perplexity": {"POST /chat/completions", "POST /v1/sonar", "POST /v1/agent", "POST /v1/contextualizedembeddings"}, "bare": {"POST /v1/chat/completions", "GET /v1/models"}, "v1": {"POST /chat/completions", "GET /models"},
		"stripe": {"DELETE /v1/customers/c", "GET /v1/charges"}, "zendesk": {"PUT /api/v2/tickets/1"},
	}
	never := []string{
		"DELETE /v1/models/ft:gpt-4o", "GET /v1/files", "GET /v1/files/file-1/content", "DELETE /v1/files/file-1", "POST /v1/batches", "GET /v1/responses/resp_1", "POST /v1/responses/resp_1/cancel",
		"POST /v1/fine_tuning/jobs", "POST /v1/organization/admin_api_keys", "GET /v1/organization/users", "POST /v1/realtime/client_secrets", "POST /v1/messages/batches",
		"GET /v1/organizations/api_keys", "POST /openai/files", "DELETE /openai/deployments/d", "POST /v1beta/models/g:setIamPolicy", "POST /v1beta/cachedContents", "GET /api/v1/key",
		"GET /user/balance", "GET /", "POST /v1/chat/completions/", "GET /v1/chat/completions", "POST /v1/datasets",
		"GET /v1beta/interactions/i", "DELETE /v1beta/interactions/i", "POST /v1beta/interactions/i/cancel",
	}
	allows := func(s *catalog.Service, request string) bool {
		method, path, _ := strings.Cut(request, " ")
		return s.DefaultScope().AllowsPath(method, path)
	}
	for _, s := range services.Services() {
		if !s.Chat {
			if !allows(s, "DELETE /") {
				t.Errorf("%s is not open", s.Name)
			}
		} else {
			for _, request := range never {
				if allows(s, request) {
					t.Errorf("%s lets %s pass", s.Name, request)
				}
			}
			if _, listed := allowed[s.Name]; !listed && s.Name != catalog.EchoName {
				t.Errorf("the inference of %s is not tested", s.Name)
			}
		}
		for _, request := range allowed[s.Name] {
			if !allows(s, request) {
				t.Errorf("%s refuses %s", s.Name, request)
			}
		}
		if wrong := s.DefaultScope().Check(); len(wrong) > 0 {
			t.Errorf("%s: %v", s.Name, wrong)
		}
	}
}

func TestWithin(t *testing.T) {
	s, _ := newCatalog(t, catalog.Options{}).Service("openai")
	if s.Within(nil) != s.DefaultScope() {
		t.Error("no scope is not the default")
	}
	bounded := s.Within(&catalog.Scope{Models: []string{"m"}})
	if bounded.AllowsPath("GET", "/v1/files") || !bounded.AllowsPath("POST", "/v1/responses") || bounded.AllowsModel("n") {
		t.Error("a scope without paths does not have the service's")
	}
	if open := s.Within(&catalog.Scope{Paths: []string{"/**"}}); !open.AllowsPath("DELETE", "/v1/files/x") {
		t.Error("a scope that opens the service does not")
	}
}

// What a pattern without wildcards lets pass is, decoded, that very path.
func TestPlainPatternsMatchOnePath(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + rapid.StringMatching(`[a-z0-9/.:_-]{0,20}`).Draw(t, "path")
		other := rapid.StringMatching(`[a-zA-Z0-9/.:_%;?#-]{0,24}`).Draw(t, "other")
		s := &catalog.Scope{Paths: []string{path}}
		if !s.AllowsPath("GET", path) && !strings.Contains(path, "//") {
			t.Fatalf("%q does not match itself", path)
		}
		if plain, err := url.PathUnescape(other); s.AllowsPath("GET", other) && (err != nil || plain != path) {
			t.Fatalf("%q lets %q pass", path, other)
		}
	})
}

// Two patterns that each take one reading of an encoded slash take it together.
func TestBothReadingsOfAnEncodedSlash(t *testing.T) {
	const path = "/repos/o/r/branches/feature%2Fx"
	one, two := "/repos/*/*/branches/*", "/repos/*/*/branches/*/x"
	if !(&catalog.Scope{Paths: []string{one, two}}).AllowsPath("GET", path) || !(&catalog.Scope{Paths: []string{"GET " + two, one}}).AllowsPath("GET", path) {
		t.Error("both patterns do not take the path")
	}
	if (&catalog.Scope{Paths: []string{one, "POST " + two}}).AllowsPath("GET", path) {
		t.Error("a pattern of another method takes the path")
	}
}

func FuzzPathPattern(f *testing.F) {
	f.Add("POST /v1/*/x", "POST", "/v1/a/x")
	f.Add("/**", "GET", "/a%2Fb")
	f.Add("/a*b*c*", "GET", "/aabbcc")
	f.Fuzz(func(t *testing.T, pattern, method, path string) {
		p, err := catalog.ParsePathPattern(pattern)
		if err != nil {
			return
		}
		if p.Matches(method, path) && strings.Contains(pattern, "*") == false && !strings.HasSuffix(pattern, path) {
			t.Errorf("%q matches %q", pattern, path)
		}
	})
}
