package catalog_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// A service gets the headers of each API whose paths its credentials may ask, and no
// header that carries who the caller is.
func TestHeadersOfEachDialect(t *testing.T) {
	services := newCatalog(t, catalog.Options{ChatHosts: map[string]string{"vllm": "http://10.0.0.1:8000"}})
	for _, name := range []string{"vllm", "azure-openai", "anthropic", "deepseek", "xai", "openrouter"} {
		s, _ := services.Service(name)
		for _, header := range []string{"Anthropic-Version", "Anthropic-Beta"} {
			if !s.PassesToProvider(header) {
				t.Errorf("%s does not get %s", name, header)
			}
		}
	}
	for _, name := range []string{"vllm", "azure-openai", "anthropic"} {
		if s, _ := services.Service(name); !s.PassesToCaller("Anthropic-Ratelimit-Requests-Remaining") {
			t.Errorf("the callers of %s do not get Anthropic's headers", name)
		}
	}
	for _, name := range []string{"vllm", "gemini"} {
		s, _ := services.Service(name)
		for header, want := range map[string]bool{
			"X-Goog-Api-Client": true, "X-Goog-Request-Params": true, "X-Server-Timeout": true,
			"X-Goog-Api-Key": false, "X-Goog-Iap-Jwt-Assertion": false, "X-Goog-Authenticated-User-Email": false,
		} {
			if s.PassesToProvider(header) != want {
				t.Errorf("%s gets %s: %v", name, header, !want)
			}
		}
		if !s.PassesToCaller("X-Gemini-Service-Tier") {
			t.Errorf("the callers of %s do not get Gemini's headers", name)
		}
	}
	if s, _ := services.Service("vllm"); !s.PassesToProvider("Openai-Beta") || s.PassesToProvider("X-App") {
		t.Error("vllm gets other headers of OpenAI's or of Anthropic's own than it should")
	}
}
