package gatehousetest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Cohere starts a fake of api.cohere.com: POST /v2/chat, whole or as the documented
// series of events, the last of which says usage. It answers like [OpenAI]; more tokens
// are processed than billed, as with the real one, and tokens are those that match the words. Scopes are
// made up ("chat").
//
// Sources: the API reference (Chat, Chat with streaming, version 2) and the source of cohere-python.
func Cohere(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &cohere{reply: c.reply}
	return startProvider(t, dialect{
		credential: bearer,
		refuse:     f.refuse,
		routes:     []route{{pattern: "POST /v2/chat", scope: "chat", serve: f.chat}},
	}, c)
}

type cohere struct{ reply string }

func (f *cohere) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	fail := func(status int, message string) {
		writeJSON(w, status, object{"id": newID(""), "message": message})
	}
	switch why.kind {
	case noKey:
		fail(401, "no api key supplied")
	case wrongKey:
		fail(401, "invalid api token")
	case missingScope:
		fail(403, "your api key is not permitted to use this endpoint")
	case notFound:
		fail(404, "not found")
	case badRequest:
		fail(400, why.detail)
	case rateLimited, outOfQuota:
		fail(429, "you are using a trial key, which is limited to 20 API calls / minute")
	case overloaded:
		fail(503, "service unavailable")
	case serverError:
		fail(500, "internal server error")
	}
}

func (f *cohere) chat(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model    string        `json:"model"`
		Messages []chatMessage `json:"messages"`
		Stream   bool          `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Model == "" || len(in.Messages) == 0 {
		f.refuse(w, r, refusal{kind: badRequest, detail: "invalid request: model and messages are required"})
		return
	}
	prompt, words := converse(in.Messages, f.reply)
	usage := object{"billed_units": object{"input_tokens": max(0, prompt-1), "output_tokens": len(words)},
		"tokens": object{"input_tokens": prompt, "output_tokens": len(words)}}
	id := newID("")
	if !in.Stream {
		writeJSON(w, 200, object{"id": id, "finish_reason": "COMPLETE", "usage": usage,
			"message": object{"role": "assistant", "content": []object{{"type": "text", "text": strings.Join(words, "")}}}})
		return
	}
	stream := newEventStream(w)
	stream.send("message-start", object{"id": id, "type": "message-start", "delta": object{"message": object{"role": "assistant",
		"content": []object{}, "tool_plan": "", "tool_calls": []object{}, "citations": []object{}}}})
	stream.send("content-start", object{"type": "content-start", "index": 0, "delta": object{"message": object{"content": object{"type": "text", "text": ""}}}})
	for _, word := range words {
		stream.send("content-delta", object{"type": "content-delta", "index": 0, "delta": object{"message": object{"content": object{"text": word}}}})
	}
	stream.send("content-end", object{"type": "content-end", "index": 0})
	stream.send("message-end", object{"type": "message-end", "delta": object{"finish_reason": "COMPLETE", "usage": usage}})
	stream.raw("data: [DONE]\n\n")
}
