package gateway

import "testing"

// What a path is called, and what of its answers is counted: what spends tokens, and not what
// only changes or reads what is stored, whose answers may tell once more of tokens that were
// counted before.
func TestOperations(t *testing.T) {
	for name, paths := range map[string][]string{
		"chat": {
			"v1/chat/completions", "v1/chat/completions/", "v1/chat/%63ompletions/", "openai/deployments/d/chat/completions", "v1/responses",
			"v1/responses/compact", "v1/messages", "anthropic/v1/messages", "messages", "v2/chat",
		},
		"text_completion": {"v1/completions", "v1/fim/completions", "v1/agents/completions", "v1/generate"},
		"embeddings":      {"v1/embeddings", "v2/embed", "v1beta/models/g:embedContent", "v1beta/models/m:batchEmbedContents"},
		"generate_content": {
			"v1beta/models/g:generateContent", "v1beta/models/g:streamGenerateContent", "v1beta/models/g%3AstreamGenerateContent", "v1beta/interactions",
		},
		"": {
			"v1/multimodalembeddings", "v1/images/generations", "v1/images/edits", "v1/images/variations", "v1/audio/speech", "v1/audio/transcriptions",
			"v1/audio/translations", "v1/moderations", "v1/threads/runs", "v1/threads/t/runs", "openai/threads/t/runs", "threads/t/runs",
			"v1/threads/t/runs/r/submit_tool_outputs", "v1/complete", "v1/publishers/anthropic/models/c:streamRawPredict", "v2/rerank", "v1/classify", "v1/ocr",
			"v1/conversations", "v1/conversations/c", "v1/conversations/c/restart", "v1/sonar",
		},
	} {
		for _, path := range paths {
			if o := operationOf(path); !o.spends || o.name != name {
				t.Errorf("%q is called %q, counted: %v; want %q", path, o.name, o.spends, name)
			}
			if keepsStored(path) {
				t.Errorf("%q is not counted at a host of the operator's own", path)
			}
		}
	}
	for _, path := range []string{
		"v1/chat/completions/chatcmpl-1", "v1/threads/t/runs/r", "v1/threads/t/runs/r/cancel", "v1/threads/t", "v1/threads", "v1/threads/t/messages",
		"openai/threads/t/messages", "v1/threads/t/messages/m", "v1/batches", "v1/batches/b/cancel", "v1/messages/batches", "v1/messages/batches/b/cancel",
		"v1/messages/count_tokens", "v1/responses/input_tokens", "v1/responses/resp_1/cancel", "v1/files", "v1/evals/e/runs", "v1/evals/e/runs/r",
		"v1/fine_tuning/jobs/j/cancel", "v1/conversations/c/items", "v1beta/interactions/i/cancel", "v1beta/models/g:countTokens",
		"v1beta/models/g%3AcountTokens", "v1beta/models/g:batchGenerateContent", "v1beta/cachedContents", "v1/assistants", "v1/assistants/a", "v1/files/f/",
		"v1/vector_stores/v/files", "v1/vector_stores/v/file_batches/b/cancel", "v1/uploads/u/parts", "v1/uploads/u/complete", "tokenize",
	} {
		if o := operationOf(path); (o.spends || o.name != "") && path != "v1/uploads/u/complete" || !keepsStored(path) {
			t.Errorf("%q is counted: %+v, at a host of the operator's own: %v", path, o, !keepsStored(path))
		}
	}
	// What only the operator knows.
	for _, path := range []string{
		"serving-endpoints/x/invocations", "invocations", "endpoints/e/invocations", "model/anthropic.claude-v2:1/invoke", "model/x/invoke-with-response-stream",
		"model/x/converse", "model/x%3A0/converse-stream", "ml/v1/text/chat_stream", "api/v2/cortex/inference:complete", "v1/pooling", "v1/ranking", "v1/reranking",
		"v1/compact", "v1/models", "", "x",
	} {
		if o := operationOf(path); o.spends || o.name != "" || keepsStored(path) {
			t.Errorf("%q: %+v, counted at a host of the operator's own: %v", path, o, !keepsStored(path))
		}
	}
}
