package gateway

import (
	"net/url"
	"strings"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// operation is what the path of a POST says.
type operation struct {
	spends      bool   // it asks something of a model: what its answer says of tokens is used by it
	name        string // as the OpenTelemetry conventions for generative AI call it; "": none whose answer says tokens
	completions bool   // chat completions or completions: takes stream_options
	stream      bool   // its answer is a stream
	model       string // where the path names it
	errors      errorShape
}

// operationOf reads the path after the service, which may have the letters
// escaped that need not be. What is not known here spends nothing: many answers tell
// once more what was used before, such as those to changes of what is stored. For a
// service that is not built in see [keepsStored].
func operationOf(path string) operation {
	path = plainPath(path)
	rest, last := cutLast(path)
	rest, parent := cutLast(rest)
	_, above := cutLast(rest)
	var o operation
	if _, deployment, ok := strings.Cut(path, "deployments/"); ok { // Azure OpenAI
		name, _, _ := strings.Cut(deployment, "/")
		o.model = tokens.ModelName(name)
	}
	switch last {
	case "completions":
		o.name, o.completions = "text_completion", true
		if parent == "chat" {
			o.name = "chat"
		}
	case "responses", "chat": // OpenAI, Cohere
		o.name = "chat"
	case "messages": // Anthropic; OpenAI's assistants keep those of a thread
		if above != "threads" {
			o.name, o.errors = "chat", anthropicErrors
		}
	case "compact":
		if parent == "responses" {
			o.name = "chat"
		}
	case "interactions": // Gemini
		o.name, o.errors = "generate_content", noErrors
	case "embeddings", "embed": // OpenAI, Cohere
		o.name = "embeddings"
	case "generate": // Cohere
		o.name = "text_completion"
	case "runs", "submit_tool_outputs": // OpenAI's assistants
		o.spends = strings.Contains("/"+path, "/threads/")
	default:
		o.spends = maySpend[last] || strings.HasSuffix(last, "embeddings") || // Voyage's have longer names
			// Mistral goes on with one, or begins another in it; OpenAI's answers there say no tokens.
			parent == "conversations" || above == "conversations" && last == "restart"
	}
	if model, method, ok := strings.Cut(last, ":"); ok { // Gemini: models/gemini-2.5-flash:generateContent
		switch method {
		case "streamGenerateContent":
			o.name, o.stream, o.model, o.errors = "generate_content", true, tokens.ModelName(model), googleErrors
		case "generateContent":
			o.name, o.model = "generate_content", tokens.ModelName(model)
		case "embedContent", "batchEmbedContents":
			o.name, o.model = "embeddings", tokens.ModelName(model)
		case "predict", "rawPredict", "streamRawPredict": // Vertex AI
			o.spends = true
		}
	}
	if parent == "interactions" {
		o.errors = noErrors
	}
	o.spends = o.spends || o.name != ""
	return o
}

// maySpend are the last segments of paths whose answers say tokens with some
// providers and not with others.
var maySpend = map[string]bool{
	"generations": true, "edits": true, "variations": true, // images
	"speech": true, "transcriptions": true, "translations": true, // audio
	"moderations": true, "classifications": true, "classify": true, "rerank": true, "score": true, "ocr": true,
	"complete": true, "summarize": true, // of Anthropic and Cohere, before there were messages and chat
	"sonar": true, "agent": true, // Perplexity
	"conversations": true, // Mistral; with OpenAI, nothing is asked yet
}

func plainPath(path string) string {
	if strings.IndexByte(path, '%') >= 0 {
		if plain, err := url.PathUnescape(path); err == nil {
			path = plain
		}
	}
	return strings.TrimSuffix(path, "/")
}

// cutLast gives what is before a path's last segment, and that.
func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	return path[:max(i, 0)], path[i+1:]
}
