package gatehousetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Anthropic starts a fake of api.anthropic.com: GET /v1/models (paged by limit, after_id and before_id) and
// /v1/models/{id}, POST /v1/messages, whole or as the documented series of events, and POST /v1/files. It wants anthropic-version and the key as
// x-api-key, or as Bearer, which is how the newer SDKs send it.
// It answers like [OpenAI]. Its scopes are made up ("models" and "messages"); a key that lacks one gets 403 permission_error.
//
// Sources: the API reference (Messages, Streaming, Models, Errors, Rate limits) and the source of anthropic-sdk-go.
func Anthropic(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &anthropic{reply: c.reply, models: c.items}
	return startProvider(t, dialect{
		prefix: "sk-ant-",
		credential: func(r *http.Request) string {
			if key := r.Header.Get("X-Api-Key"); key != "" {
				return key
			}
			return bearer(r)
		},
		header: f.header,
		refuse: f.refuse,
		routes: []route{
			{pattern: "GET /v1/models", scope: "models", serve: f.versioned(f.listModels)},
			{pattern: "GET /v1/models/{id}", scope: "models", serve: f.versioned(f.getModel)},
			{pattern: "POST /v1/messages", scope: "messages", serve: f.versioned(f.message)},
			{pattern: "POST /v1/files", scope: "files", serve: f.versioned(f.upload)},
		},
	}, c)
}

type anthropic struct {
	reply  string
	models int
}

func (f *anthropic) header(h http.Header) {
	h.Set("Request-Id", newID("req_"))
	h.Set("Anthropic-Organization-Id", "00000000-0000-4000-8000-000000000000")
	reset := time.Unix(epoch, 0).UTC().Format(time.RFC3339)
	for _, what := range []string{"Requests", "Tokens"} {
		h.Set("Anthropic-Ratelimit-"+what+"-Limit", "50")
		h.Set("Anthropic-Ratelimit-"+what+"-Remaining", "49")
		h.Set("Anthropic-Ratelimit-"+what+"-Reset", reset)
	}
}

func (f *anthropic) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	fail := func(status int, kind, message string) {
		writeJSON(w, status, object{"type": "error", "error": object{"type": kind, "message": message},
			"request_id": w.Header().Get("Request-Id")})
	}
	switch why.kind {
	case noKey:
		fail(401, "authentication_error", "x-api-key header is required")
	case wrongKey:
		fail(401, "authentication_error", "invalid x-api-key")
	case missingScope:
		fail(403, "permission_error", "Your API key does not have permission to use the specified resource.")
	case notFound:
		fail(404, "not_found_error", "Not Found")
	case badRequest:
		fail(400, "invalid_request_error", why.detail)
	case rateLimited, outOfQuota:
		if why.kind == rateLimited {
			w.Header().Set("Retry-After", seconds(why.after))
		}
		w.Header().Set("Anthropic-Ratelimit-Requests-Remaining", "0")
		fail(429, "rate_limit_error", "This request would exceed your account's rate limit. Please try again later.")
	case overloaded:
		fail(529, "overloaded_error", "Overloaded")
	case serverError:
		fail(500, "api_error", "Internal server error")
	}
}

// versioned refuses a request that does not say which version of the API it speaks.
func (f *anthropic) versioned(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Anthropic-Version") == "" {
			f.refuse(w, r, refusal{kind: badRequest, detail: "anthropic-version: header is required"})
			return
		}
		next(w, r)
	}
}

func (f *anthropic) modelIDs() []string {
	ids := make([]string, f.models)
	for i := range ids {
		ids[i] = fmt.Sprintf("claude-fake-%d", i)
	}
	return ids
}

func (f *anthropic) model(id string) object {
	return object{"type": "model", "id": id, "display_name": "Claude " + id,
		"created_at": time.Unix(epoch, 0).UTC().Format(time.RFC3339)}
}

func (f *anthropic) getModel(w http.ResponseWriter, r *http.Request) {
	if id := r.PathValue("id"); slices.Contains(f.modelIDs(), id) {
		writeJSON(w, 200, f.model(id))
		return
	}
	f.refuse(w, r, refusal{kind: notFound})
}

func (f *anthropic) listModels(w http.ResponseWriter, r *http.Request) {
	ids := f.modelIDs()
	limit, q := number(r, "limit", 20, 1, 1000), r.URL.Query()
	from, to := 0, len(ids)
	if after := q.Get("after_id"); after != "" {
		from = slices.Index(ids, after) + 1
	}
	if before := slices.Index(ids, q.Get("before_id")); before >= 0 {
		to = before
		from = max(from, to-limit)
	}
	from = min(from, to)
	page := ids[from:min(from+limit, to)]
	data := make([]object, len(page))
	for i, id := range page {
		data[i] = f.model(id)
	}
	out := object{"data": data, "has_more": from+len(page) < to, "first_id": nil, "last_id": nil}
	if len(page) > 0 {
		out["first_id"], out["last_id"] = page[0], page[len(page)-1]
	}
	writeJSON(w, 200, out)
}

// upload takes a file as multipart/form-data and keeps nothing of it.
func (f *anthropic) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file")
	if err != nil {
		f.refuse(w, r, refusal{kind: badRequest, detail: "file: Field required"})
		return
	}
	size, err := io.Copy(io.Discard, file)
	if err != nil {
		f.refuse(w, r, refusal{kind: badRequest, detail: "file: could not be read"})
		return
	}
	writeJSON(w, 200, object{"type": "file", "id": newID("file_"), "filename": header.Filename, "mime_type": header.Header.Get("Content-Type"),
		"size_bytes": size, "created_at": time.Unix(epoch, 0).UTC().Format(time.RFC3339), "downloadable": false})
}

func (f *anthropic) message(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model     string        `json:"model"`
		MaxTokens int           `json:"max_tokens"`
		Messages  []chatMessage `json:"messages"`
		Stream    bool          `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.refuse(w, r, refusal{kind: badRequest, detail: "The request body is not valid JSON"})
		return
	}
	missing := ""
	switch {
	case in.Model == "":
		missing = "model"
	case in.MaxTokens < 1:
		missing = "max_tokens"
	case len(in.Messages) == 0:
		missing = "messages"
	}
	if missing != "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: missing + ": Field required"})
		return
	}
	prompt, answer := converse(in.Messages, f.reply)
	usage := object{"input_tokens": prompt, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": len(answer)}
	message := object{"id": newID("msg_"), "type": "message", "role": "assistant", "model": in.Model,
		"content": []object{}, "stop_reason": nil, "stop_sequence": nil, "usage": usage}
	if !in.Stream {
		message["content"] = []object{{"type": "text", "text": strings.Join(answer, "")}}
		message["stop_reason"] = "end_turn"
		writeJSON(w, 200, message)
		return
	}
	message["usage"] = object{"input_tokens": prompt, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 1}
	stream := newEventStream(w)
	stream.send("message_start", object{"type": "message_start", "message": message})
	stream.send("content_block_start", object{"type": "content_block_start", "index": 0, "content_block": object{"type": "text", "text": ""}})
	stream.send("ping", object{"type": "ping"})
	for _, word := range answer {
		stream.send("content_block_delta", object{"type": "content_block_delta", "index": 0,
			"delta": object{"type": "text_delta", "text": word}})
	}
	stream.send("content_block_stop", object{"type": "content_block_stop", "index": 0})
	stream.send("message_delta", object{"type": "message_delta", "delta": object{"stop_reason": "end_turn", "stop_sequence": nil},
		"usage": object{"output_tokens": len(answer)}}) // cumulative, as documented
	stream.send("message_stop", object{"type": "message_stop"})
}
