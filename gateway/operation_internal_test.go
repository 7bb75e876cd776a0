package gateway

import "testing"

// What spends tokens, and what only changes or reads what is stored, whose answers
// may tell once more of tokens that were counted before.
func TestWhatSpends(t *testing.T) {
	for _, path := range []string{
		"v1/chat/completions", "v1/chat/completions/", "v1/completions", "openai/deployments/d/chat/completions", "v1/responses", "v1/responses/compact",
		"v1/embeddings", "v1/multimodalembeddings", "v1/images/generations", "v1/images/edits", "v1/images/variations", "v1/audio/speech",
		"v1/audio/transcriptions", "v1/audio/translations", "v1/moderations", "v1/threads/runs", "v1/threads/t/runs", "openai/threads/t/runs", "v1/threads/t/runs/r/submit_tool_outputs",
		"v1/messages", "anthropic/v1/messages", "messages", "v1/complete", "v1beta/interactions", "v1beta/models/g:generateContent", "v1beta/models/g%3AstreamGenerateContent",
		"v1beta/models/g:embedContent", "v1/publishers/anthropic/models/c:streamRawPredict", "v2/chat", "v2/embed", "v2/rerank", "v1/classify", "v1/ocr",
		"v1/fim/completions", "v1/agents/completions", "v1/conversations", "v1/conversations/c", "v1/conversations/c/restart", "v1/sonar",
	} {
		if !operationOf(path).spends {
			t.Errorf("%s is not counted", path)
		}
	}
	for _, path := range []string{
		"v1/chat/completions/chatcmpl-1", "v1/threads/t/runs/r", "v1/threads/t/runs/r/cancel", "v1/threads/t", "v1/threads", "v1/threads/t/messages", "openai/threads/t/messages",
		"v1/threads/t/messages/m", "v1/batches", "v1/batches/b/cancel", "v1/messages/batches", "v1/messages/batches/b/cancel", "v1/messages/count_tokens",
		"v1/responses/input_tokens", "v1/responses/resp_1/cancel", "v1/files", "v1/evals/e/runs", "v1/fine_tuning/jobs/j/cancel", "v1/conversations/c/items", "v1/compact",
		"v1beta/interactions/i/cancel", "v1beta/models/g:countTokens", "v1beta/models/g:batchGenerateContent", "v1beta/cachedContents", "v1/assistants/a", "", "x",
	} {
		if o := operationOf(path); o.spends || o.name != "" {
			t.Errorf("%s is counted: %+v", path, o)
		}
	}
}
