package gateway

import "testing"

func TestOperationsByTheirNames(t *testing.T) {
	for path, want := range map[string]string{
		"v1/chat/completions": "chat", "v1/chat/%63ompletions/": "chat", "v1/completions": "text_completion", "v1/responses": "chat",
		"v1/messages": "chat", "v2/chat": "chat", "v1/generate": "text_completion", "v1/embeddings": "embeddings", "v2/embed": "embeddings",
		"openai/deployments/d/chat/completions": "chat", "v1beta/models/m:generateContent": "generate_content",
		"v1beta/models/m:streamGenerateContent": "generate_content", "v1beta/models/m:embedContent": "embeddings",
		"v1beta/models/m:batchEmbedContents": "embeddings", "v1beta/models/m:countTokens": "", "v1/models": "", "v1/files": "", "": "",
	} {
		if got := operationOf(path).name; got != want {
			t.Errorf("%q is called %q, want %q", path, got, want)
		}
	}
}
