package gateway

import "strings"

// keepsStored reports whether a POST to path is known to count, read or change what is
// stored, by APIs that are spoken by many servers: what such an answer says of tokens was
// counted before, or was not used. To hosts of the operator's own every other POST may be
// for a model, whatever its path: serving-endpoints/x/invocations, model/x/converse.
func keepsStored(path string) bool {
	rest, last := cutLast(plainPath(path))
	rest, parent := cutLast(rest)
	rest, above := cutLast(rest)
	_, top := cutLast(rest)
	if model, method, ok := strings.Cut(last, ":"); ok && (keeping[method] || model == "count-tokens") { // Gemini, Vertex AI
		return true
	}
	switch {
	case last == "runs": // OpenAI's assistants have them in threads, and its evals
		return parent != "threads" && above != "threads"
	case keeping[last], storing[parent]: // a collection by itself, or what is in it
		return true
	case above == "threads", above == "uploads", above == "conversations" && last == "items": // what belongs to one
		return true
	}
	return above == "chat" && parent == "completions" || top == "threads" && parent == "messages" // a stored completion, or message
}

// keeping are the last segments, and Gemini's methods, that ask nothing of a model.
var keeping = map[string]bool{
	"cancel": true, "count_tokens": true, "count-tokens": true, "input_tokens": true, "countTokens": true, "computeTokens": true,
	"tokenize": true, "detokenize": true, "batches": true, "batchGenerateContent": true, "asyncBatchEmbedContent": true, "cachedContents": true,
	"files": true, "file_batches": true, "uploads": true, "assistants": true, "threads": true, "vector_stores": true,
}

// storing are collections: a POST to what is in one by its id changes it.
var storing = map[string]bool{
	"threads": true, "runs": true, "batches": true, "files": true, "assistants": true, "vector_stores": true,
}
