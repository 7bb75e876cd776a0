package catalog

import "strings"

// DefaultScope gives the scope of a credential that was given none, and the
// paths of one that was given no paths: of a service that chats, its inference
// and its lists of models; of any other, everything. The caller must not change
// it.
func (s *Service) DefaultScope() *Scope { return s.scope }

// Within gives scope with the service's own paths where it names none; nil is
// the service's default. The caller must not change it.
func (s *Service) Within(scope *Scope) *Scope {
	switch {
	case scope == nil:
		return s.scope
	case len(scope.Paths) > 0:
		return scope.read()
	}
	filled := *scope
	filled.Paths, filled.patterns = s.scope.Paths, s.scope.patterns
	return &filled
}

// everything is the one pattern that opens a service.
const everything = "/**"

// inferencePaths are the default paths of the services that chat: what asks a
// model, and what lists models. Left out on purpose is what reads, changes or
// deletes stored data (files, batches, responses, interactions, fine-tuned models), what an
// account's keys, members and bills are managed by, and what gives out further
// keys (OpenAI's realtime client_secrets). Uploads are in, since requests refer
// to what was uploaded.
var inferencePaths = map[string][]string{
	"openai": openAIPaths("/v1"),
	"anthropic": {
		"POST /v1/messages", "POST /v1/messages/count_tokens", "POST /v1/complete", "GET /v1/models", "GET /v1/models/*",
	},
	"gemini": append(append(geminiPaths("/v1"), geminiPaths("/v1beta")...), append(geminiPaths("/v1alpha"),
		"POST /v1beta/openai/chat/completions", "POST /v1beta/openai/embeddings", "POST /v1beta/openai/images/generations",
		"GET /v1beta/openai/models", "GET /v1beta/openai/models/*")...),
	"azure-openai": append(append(openAIPaths("/openai/v1"), azureDeploymentPaths()...),
		"POST /openai/responses", "GET /openai/models", "GET /openai/models/*",
		"POST /models/chat/completions", "POST /models/embeddings", "GET /models/info",
		"POST /anthropic/v1/messages", "POST /anthropic/v1/messages/count_tokens"),
	"mistral": {
		"POST /v1/chat/completions", "POST /v1/fim/completions", "POST /v1/embeddings", "POST /v1/moderations", "POST /v1/chat/moderations",
		"POST /v1/classifications", "POST /v1/chat/classifications", "POST /v1/ocr", "POST /v1/audio/transcriptions", "POST /v1/audio/speech",
		"POST /v1/agents/completions",
		"GET /v1/models", "GET /v1/models/*",
	},
	"codestral": {"POST /v1/chat/completions", "POST /v1/fim/completions", "GET /v1/models", "GET /v1/models/*"},
	"cohere": {
		"POST /v1/chat", "POST /v1/generate", "POST /v1/embed", "POST /v1/rerank", "POST /v1/classify", "POST /v1/summarize",
		"POST /v1/tokenize", "POST /v1/detokenize", "POST /v2/chat", "POST /v2/embed", "POST /v2/rerank",
		"POST /v2/audio/transcriptions", "POST /compatibility/v1/chat/completions", "POST /compatibility/v1/embeddings", "GET /v1/models", "GET /v1/models/*",
	},
	"groq": openAIPaths("/openai/v1"),
	"xai": append(openAIPaths("/v1"), "POST /v1/messages", "POST /v1/tokenize-text",
		"GET /v1/language-models", "GET /v1/language-models/*", "GET /v1/embedding-models", "GET /v1/embedding-models/*",
		"GET /v1/image-generation-models", "GET /v1/image-generation-models/*"),
	"deepseek": {
		"POST /chat/completions", "POST /v1/chat/completions", "POST /beta/chat/completions", "POST /beta/completions",
		"POST /beta/v1/chat/completions", "POST /anthropic/v1/messages", "GET /models", "GET /v1/models",
	},
	"openrouter": append(openAIPaths("/api/v1"), "POST /api/v1/messages", "GET /api/v1/models/*/*/endpoints"),
	"huggingface": append(openAIPaths("/v1"), "GET /v1/models/*/*", "POST /*/v1/chat/completions", "POST /*/v1/embeddings",
		"POST /hf-inference/models/**"),
	"perplexity": {
		"POST /chat/completions", "POST /v1/chat/completions", "POST /v1/sonar", "POST /v1/responses", "POST /v1/agent",
		"POST /v1/embeddings", "POST /v1/contextualizedembeddings", "GET /v1/models",
	},
}

// openAIPaths are the paths of inference in OpenAI's API, under a base path.
func openAIPaths(base string) []string {
	var paths []string
	for _, p := range []string{
		"chat/completions", "completions", "responses", "responses/compact", "responses/input_tokens", "embeddings", "moderations",
		"audio/speech", "audio/transcriptions", "audio/translations",
		"images/generations", "images/edits", "images/variations", "files",
	} {
		paths = append(paths, "POST "+base+"/"+p)
	}
	return append(paths, "GET "+base+"/models", "GET "+base+"/models/*")
}

// hostPaths are the paths of inference in the APIs that servers of language models
// speak beside OpenAI's: Anthropic's, Gemini's, vLLM's own and Ollama's.
func hostPaths(base string) []string {
	paths := append(openAIPaths(base),
		"POST "+base+"/messages", "POST "+base+"/messages/count_tokens", "POST "+base+"/rerank", "POST "+base+"/score", "POST "+base+"/classify",
		"POST /v2/chat", "POST /v2/embed", "POST /tokenize", "POST /detokenize", "POST /api/chat", "POST /api/generate", "POST /api/embed", "GET /api/tags")
	return append(append(paths, geminiPaths("/v1")...), geminiPaths("/v1beta")...)
}

func geminiPaths(base string) []string {
	paths := []string{"GET " + base + "/models", "GET " + base + "/models/*", "POST " + base + "/interactions"}
	for _, method := range []string{"generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents", "predict"} {
		paths = append(paths, "POST "+base+"/models/*:"+method)
	}
	return paths
}

func azureDeploymentPaths() []string {
	var paths []string
	for _, p := range []string{
		"chat/completions", "completions", "embeddings", "extensions/chat/completions",
		"audio/speech", "audio/transcriptions", "audio/translations", "images/generations", "images/edits",
	} {
		paths = append(paths, "POST /openai/deployments/*/"+p)
	}
	return paths
}

// defaultScope works out the scope of a service that was read without one.
func (s *Service) defaultScope() *Scope {
	if s.scope != nil {
		return s.scope
	}
	if !s.Chat {
		return &Scope{Paths: []string{everything}}
	}
	if paths := inferencePaths[s.Name]; paths != nil {
		return &Scope{Paths: paths}
	}
	// A host of the operator's; some are named with /v1 at the end, as SDKs do, and
	// some without.
	if s.origin != nil && strings.HasSuffix(s.originOf(nil), "/v1") {
		return &Scope{Paths: hostPaths("")}
	}
	return &Scope{Paths: hostPaths("/v1")}
}
