package server_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// Each saved answer of a provider (usage/tokens/testdata/answers), given by the service of that
// provider on the path of that operation, is counted as its second line says.
func TestUsageOfEverySavedAnswer(t *testing.T) {
	const deployment = "/openai/deployments/d1/chat/completions?api-version=2024-10-21"
	paths := map[string]string{
		"anthropic_message": "/v1/messages", "anthropic_stream": "/v1/messages", "azure_stream": deployment,
		"cohere_chat": "/v2/chat", "cohere_embed": "/v2/embed", "cohere_stream": "/v2/chat", "cohere_v1_stream": "/v1/chat",
		"deepseek_chat": "/chat/completions", "gemini_array": "/v1beta/models/g1:streamGenerateContent",
		"gemini_sse": "/v1beta/models/g1:streamGenerateContent?alt=sse", "gemini_whole": "/v1beta/models/g1:generateContent",
		"groq_stream": "/openai/v1/chat/completions", "mistral_stream": "/v1/chat/completions", "openai_chat": "/v1/chat/completions",
		"openai_completions": "/v1/completions", "openai_embeddings": "/v1/embeddings", "openai_responses": "/v1/responses",
		"openai_responses_stream": "/v1/responses", "openai_stream": "/v1/chat/completions", "openai_stream_silent": "/v1/chat/completions",
		"openrouter_stream": "/api/v1/chat/completions", "xai_chat": "/v1/chat/completions",
		"openai_cache_write": "/v1/chat/completions", "openai_responses_cache_write": "/v1/responses", "openrouter_cache_write": "/api/v1/chat/completions",
		"anthropic_compaction": "/v1/messages", "anthropic_compaction_stream": "/v1/messages", "anthropic_fallback": "/v1/messages", "anthropic_advisor_stream": "/v1/messages",
		"gemini_interaction": "/v1beta/interactions", "gemini_interaction_stream": "/v1/interactions",
		"perplexity_research": "/chat/completions", "gemini_compatible": "/v1beta/openai/chat/completions", "gemini_compatible_stream": "/v1beta/openai/chat/completions",
	}
	const folder = "../usage/tokens/testdata/answers"
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := os.ReadFile(filepath.Join(folder, r.Header.Get("X-Client-Name")+".txt"))
		if err != nil {
			t.Error(err)
		}
		parts := strings.SplitN(string(content), "\n", 4)
		w.Header().Set("Content-Type", parts[0])
		for line := range strings.SplitAfterSeq(parts[3], "\n") {
			_, _ = io.WriteString(w, line)
			_ = http.NewResponseController(w).Flush()
		}
	}))
	defer upstream.Close()
	services, err := catalog.New(catalog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var moved, passing []string
	for _, s := range services.Services() {
		if s.Chat {
			moved, passing = append(moved, s.Name+"="+upstream.URL), append(passing, s.Name+"=X-Client-Name")
		}
	}
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": strings.Join(moved, ","), "UPSTREAM_FORWARD_HEADERS": strings.Join(passing, ",")})
	owner := as(t, s, "acme", "boss", access.Owner)
	stored, asked := map[string]bool{}, int64(0)
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for _, entry := range entries {
		name := strings.TrimSuffix(entry.Name(), ".txt")
		if name == "lines_of_data" { // of no provider
			continue
		}
		path, known := paths[name]
		if !known {
			t.Errorf("the answer %s has no operation in this test", name)
			continue
		}
		provider, _, _ := strings.Cut(name, "_")
		if provider == "azure" {
			provider = "azure-openai"
		}
		service, ok := services.Service(provider)
		if !ok {
			t.Fatalf("no service %s", provider)
		}
		if !stored[provider] {
			stored[provider] = true
			if a := owner.json("POST", credentialsPath, api.CredentialCreate{Service: provider, Credentials: sampleFields(service)}); a.Status != 201 {
				t.Fatalf("%s: %d %s", provider, a.Status, a.Body)
			}
		}
		body := `{"model":"asked"}`
		if strings.Contains(name, "stream") {
			body = `{"model":"asked","stream":true}`
		}
		// Each is another member's, so that usage tells them apart.
		a := as(t, s, "acme", name, access.Developer).do("POST", "/api/chat/"+provider+path, body, "X-Client-Name", name)
		if a.Status != 200 {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
			continue
		}
		asked++
		content, _ := os.ReadFile(filepath.Join(folder, entry.Name()))
		parts := strings.SplitN(string(content), "\n", 4)
		want[name] = provider + ": " + parts[1]
	}
	awaitUsage(t, owner, "", asked)
	number := func(n *int64) string {
		if n == nil || *n == 0 { // where one kind is known, others that are not count as none
			return "-"
		}
		return fmt.Sprint(*n)
	}
	got := map[string]string{}
	for _, row := range decode[api.UsageReport](t, owner.get("/api/usage?groupBy=member,service"), 200).Rows {
		got[*row.Member] = fmt.Sprintf("%s: in %s read %s written %s out %s thought %s", *row.Service,
			number(row.InputTokens), number(row.CacheReadTokens), number(row.CacheWriteTokens), number(row.OutputTokens), number(row.ReasoningTokens))
	}
	for name, counts := range want {
		words := strings.Fields(counts)
		for i := range words {
			if words[i] == "0" {
				words[i] = "-"
			}
		}
		if counts = strings.Join(words, " "); got[name] != counts {
			t.Errorf("%s: counted %q, want %q", name, got[name], counts)
		}
	}
	if len(want) < 20 {
		t.Errorf("only %d answers", len(want))
	}
}
