package gatehousetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// epoch is the creation time of everything that the fakes hold, in Unix seconds.
const epoch = 1750000000

// OpenAI starts a fake of api.openai.com: GET /v1/models and /v1/models/{id}, POST /v1/chat/completions, whole or
// streamed, with usage where stream_options.include_usage asks for it, POST /v1/responses, GET /v1/files (paged by limit and after) and
// POST /v1/files. It answers a chat with the last message, unless [Reply]
// says otherwise, one word for each event of a stream; a word counts as a token. Scopes are "api.model.read" and "model.request";
// a key that lacks one gets the documented 401 "Missing scopes", not 403.
//
// Sources: the API reference (Chat, Models, Streaming), the guides on error codes and rate limits, and the source of openai-go.
func OpenAI(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &openAI{reply: c.reply, models: c.items}
	return startProvider(t, dialect{
		prefix:     "sk-",
		credential: bearer,
		header:     f.header,
		refuse:     f.refuse,
		routes: []route{
			{pattern: "GET /v1/models", scope: "api.model.read", serve: f.listModels},
			{pattern: "GET /v1/models/{id}", scope: "api.model.read", serve: f.getModel},
			{pattern: "POST /v1/chat/completions", scope: "model.request", serve: f.chat},
			{pattern: "POST /v1/responses", scope: "model.request", serve: f.respond},
			{pattern: "POST /v1/files", scope: "api.files.write", serve: f.upload},
			{pattern: "GET /v1/files", scope: "api.files.read", serve: f.listFiles},
		},
	}, c)
}

type openAI struct {
	reply  string
	models int
}

func (f *openAI) header(h http.Header) {
	h.Set("Openai-Version", "2020-10-01")
	h.Set("Openai-Organization", "org-fake")
	h.Set("Openai-Processing-Ms", "12")
	h.Set("X-Request-Id", newID("req_"))
	h.Set("X-Ratelimit-Limit-Requests", "500")
	h.Set("X-Ratelimit-Limit-Tokens", "30000")
	h.Set("X-Ratelimit-Remaining-Requests", "499")
	h.Set("X-Ratelimit-Remaining-Tokens", "29990")
	h.Set("X-Ratelimit-Reset-Requests", "120ms")
	h.Set("X-Ratelimit-Reset-Tokens", "20ms")
	h.Set("Set-Cookie", "__cf_bm=fake; path=/; domain=.api.openai.com; HttpOnly; Secure; SameSite=None") // from the network in front of it
}

func (f *openAI) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	const invalid = "invalid_request_error"
	fail := func(status int, kind string, code any, message string) {
		writeJSON(w, status, object{"error": object{"message": message, "type": kind, "param": nil, "code": code}})
	}
	switch why.kind {
	case noKey:
		fail(401, invalid, nil, "You didn't provide an API key. You need to provide your API key in an Authorization header "+
			"using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).")
	case wrongKey:
		fail(401, invalid, "invalid_api_key", "Incorrect API key provided: "+masked(why.key)+
			". You can find your API key at https://platform.openai.com/account/api-keys.")
	case missingScope:
		fail(401, invalid, nil, "You have insufficient permissions for this operation. Missing scopes: "+why.scope+
			". Check that you have the correct role in your organization (Reader, Writer, Owner) and project (Member, Owner), "+
			"and if you're using a restricted API key, that it has the necessary scopes.")
	case notFound:
		fail(404, invalid, nil, "Invalid URL")
	case badRequest:
		fail(400, invalid, nil, why.detail)
	case rateLimited:
		w.Header().Set("Retry-After", seconds(why.after))
		w.Header().Set("Retry-After-Ms", strconv.FormatInt((why.after+time.Millisecond-1).Milliseconds(), 10)) // rounded up too: who obeys is served
		w.Header().Set("X-Ratelimit-Remaining-Requests", "0")
		w.Header().Set("X-Ratelimit-Reset-Requests", why.after.String())
		fail(429, "requests", "rate_limit_exceeded", fmt.Sprintf("Rate limit reached for requests. Please try again in %s.", why.after))
	case outOfQuota:
		fail(429, "insufficient_quota", "insufficient_quota",
			"You exceeded your current quota, please check your plan and billing details.")
	case overloaded:
		fail(503, "service_unavailable", nil, "The engine is currently overloaded, please try again later.")
	case serverError:
		fail(500, "server_error", nil, "The server had an error while processing your request. Sorry about that!")
	}
}

func (f *openAI) model(i int) object {
	return object{"id": fmt.Sprintf("gpt-fake-%d", i), "object": "model", "created": epoch, "owned_by": "system"}
}

func (f *openAI) listModels(w http.ResponseWriter, _ *http.Request) {
	data := make([]object, f.models)
	for i := range data {
		data[i] = f.model(i)
	}
	writeJSON(w, 200, object{"object": "list", "data": data})
}

func (f *openAI) getModel(w http.ResponseWriter, r *http.Request) {
	for i := range f.models {
		if m := f.model(i); m["id"] == r.PathValue("id") {
			writeJSON(w, 200, m)
			return
		}
	}
	writeJSON(w, 404, object{"error": object{"message": "The model does not exist or you do not have access to it.",
		"type": "invalid_request_error", "param": "model", "code": "model_not_found"}})
}

// upload takes a file as multipart/form-data and keeps nothing of it but its size.
func (f *openAI) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file")
	if err != nil || r.FormValue("purpose") == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "'file' and 'purpose' are required."})
		return
	}
	size, err := io.Copy(io.Discard, file)
	if err != nil {
		f.refuse(w, r, refusal{kind: badRequest, detail: "The file could not be read."})
		return
	}
	writeJSON(w, 200, object{"id": newID("file-"), "object": "file", "bytes": size, "created_at": epoch, "filename": header.Filename,
		"purpose": r.FormValue("purpose"), "status": "processed"})
}

func (f *openAI) chat(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Model         string        `json:"model"`
		Messages      []chatMessage `json:"messages"`
		Stream        bool          `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		f.refuse(w, r, refusal{kind: badRequest, detail: "We could not parse the JSON body of your request."})
		return
	}
	if in.Model == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "you must provide a model parameter"})
		return
	}
	if len(in.Messages) == 0 {
		f.refuse(w, r, refusal{kind: badRequest, detail: "Missing required parameter: 'messages'."})
		return
	}
	prompt, answer := converse(in.Messages, f.reply)
	usage := object{"prompt_tokens": prompt, "completion_tokens": len(answer), "total_tokens": prompt + len(answer),
		"prompt_tokens_details":     object{"cached_tokens": 0, "audio_tokens": 0},
		"completion_tokens_details": object{"reasoning_tokens": 0, "audio_tokens": 0}}
	id := newID("chatcmpl-")
	if !in.Stream {
		writeJSON(w, 200, object{"id": id, "object": "chat.completion", "created": epoch, "model": in.Model,
			"choices": []object{{"index": 0, "logprobs": nil, "finish_reason": "stop",
				"message": object{"role": "assistant", "content": strings.Join(answer, ""), "refusal": nil, "annotations": []any{}}}},
			"usage": usage, "service_tier": "default", "system_fingerprint": "fp_fake"})
		return
	}
	stream := newEventStream(w)
	chunk := func(choices []object, usage any) {
		c := object{"id": id, "object": "chat.completion.chunk", "created": epoch, "model": in.Model,
			"service_tier": "default", "system_fingerprint": "fp_fake", "choices": choices}
		if in.StreamOptions.IncludeUsage {
			c["usage"] = usage // null on every chunk but the last
		}
		stream.send("", c)
	}
	choice := func(delta object, finish any) []object {
		return []object{{"index": 0, "delta": delta, "logprobs": nil, "finish_reason": finish}}
	}
	chunk(choice(object{"role": "assistant", "content": "", "refusal": nil}, nil), nil)
	for _, word := range answer {
		chunk(choice(object{"content": word}, nil), nil)
	}
	chunk(choice(object{}, "stop"), nil)
	if in.StreamOptions.IncludeUsage {
		chunk([]object{}, usage)
	}
	stream.raw("data: [DONE]\n\n")
}

// masked shows a key as the providers' error texts do: its beginning, stars, and its last four characters.
func masked(key string) string {
	if len(key) < 12 {
		return strings.Repeat("*", len(key))
	}
	return key[:4] + strings.Repeat("*", len(key)-8) + key[len(key)-4:]
}

// seconds is d for Retry-After: whole seconds, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}
