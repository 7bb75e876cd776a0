package gatehousetest

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// Gemini starts a fake of generativelanguage.googleapis.com: POST
// /v1beta/models/{model}:generateContent, and :streamGenerateContent as
// server-sent events with alt=sse and as a JSON array that grows without. It
// answers like [OpenAI], and says usageMetadata with every piece, the last of which is
// the whole. A key comes in x-goog-api-key, or as a bearer, as its OpenAI-compatible part
// takes it. Scopes are made up ("generate").
//
// Sources: the API reference (Generating content, UsageMetadata) and the guide on API errors.
func Gemini(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &gemini{reply: c.reply}
	return startProvider(t, dialect{
		prefix: "AIza",
		credential: func(r *http.Request) string {
			if key := r.Header.Get("X-Goog-Api-Key"); key != "" {
				return key
			}
			return bearer(r)
		},
		refuse: f.refuse,
		routes: []route{{pattern: "POST /v1beta/models/{method}", scope: "generate", serve: f.generate}},
	}, c)
}

type gemini struct{ reply string }

func (f *gemini) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	fail := func(code int, status, message string) {
		writeJSON(w, code, object{"error": object{"code": code, "message": message, "status": status}})
	}
	switch why.kind {
	case noKey:
		fail(403, "PERMISSION_DENIED", "Method doesn't allow unregistered callers.")
	case wrongKey:
		fail(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.")
	case missingScope:
		fail(403, "PERMISSION_DENIED", "Requests to this API are blocked.")
	case notFound:
		fail(404, "NOT_FOUND", "models/x is not found for API version v1beta.")
	case badRequest:
		fail(400, "INVALID_ARGUMENT", why.detail)
	case rateLimited, outOfQuota:
		fail(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota.")
	case overloaded:
		fail(503, "UNAVAILABLE", "The model is overloaded. Please try again later.")
	case serverError:
		fail(500, "INTERNAL", "An internal error has occurred.")
	}
}

func (f *gemini) generate(w http.ResponseWriter, r *http.Request) {
	model, method, _ := strings.Cut(r.PathValue("method"), ":")
	var in struct {
		Contents []struct {
			Parts []struct {
				Text string `json:"text"`
			} `json:"parts"`
		} `json:"contents"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || len(in.Contents) == 0 {
		f.refuse(w, r, refusal{kind: badRequest, detail: "* GenerateContentRequest.contents: contents is not specified"})
		return
	}
	messages := make([]chatMessage, len(in.Contents))
	for i, c := range in.Contents {
		for _, p := range c.Parts {
			messages[i].Content += chatContent(p.Text)
		}
	}
	prompt, words := converse(messages, f.reply)
	piece := func(text string, said int, finish any) object {
		candidate := object{"content": object{"parts": []object{{"text": text}}, "role": "model"}, "index": 0}
		if finish != nil {
			candidate["finishReason"] = finish
		}
		return object{"candidates": []object{candidate}, "modelVersion": model, "responseId": "fake",
			"usageMetadata": object{"promptTokenCount": prompt, "candidatesTokenCount": said, "totalTokenCount": prompt + said}}
	}
	switch {
	case method == "generateContent":
		writeJSON(w, 200, piece(strings.Join(words, ""), len(words), "STOP"))
	case method == "streamGenerateContent" && r.URL.Query().Get("alt") == "sse":
		stream := newEventStream(w)
		for i, word := range words {
			stream.send("", piece(word, i+1, last(i == len(words)-1, "STOP")))
		}
	case method == "streamGenerateContent":
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		stream := eventStream{w: w, flush: http.NewResponseController(w).Flush}
		before := "["
		for i, word := range words {
			b, err := json.MarshalIndent(piece(word, i+1, last(i == len(words)-1, "STOP")), "", "  ")
			if err != nil {
				panic(err) // a fake's own values always marshal
			}
			stream.raw(before + string(b))
			before = "\n,\r\n"
		}
		stream.raw("\n]\n")
	default:
		f.refuse(w, r, refusal{kind: notFound})
	}
}

// last gives value for the last piece of a stream, and nil for the others.
func last(is bool, value any) any {
	if is {
		return value
	}
	return nil
}
