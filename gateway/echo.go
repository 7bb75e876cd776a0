package gateway

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// echoModel is the one model that echo has.
const echoModel = "echo"

// The parts of OpenAI's chat completions API that echo speaks.
type (
	echoRequest struct {
		Model         string        `json:"model"`
		Messages      []echoMessage `json:"messages"`
		Stream        bool          `json:"stream"`
		StreamOptions struct {
			IncludeUsage bool `json:"include_usage"`
		} `json:"stream_options"`
	}
	echoMessage struct {
		Role    string      `json:"role"`
		Content echoContent `json:"content"`
	}
	// echoContent is a string, or a list of parts of which the text counts.
	echoContent string

	echoCompletion struct {
		ID      string       `json:"id"`
		Object  string       `json:"object"`
		Created int64        `json:"created"`
		Model   string       `json:"model"`
		Choices []echoChoice `json:"choices"`
		Usage   *echoUsage   `json:"usage,omitempty"`
	}
	echoChoice struct {
		Index        int        `json:"index"`
		Message      *echoDelta `json:"message,omitempty"`
		Delta        *echoDelta `json:"delta,omitempty"`
		FinishReason *string    `json:"finish_reason"`
	}
	echoDelta struct {
		Role    string  `json:"role,omitempty"`
		Content *string `json:"content,omitempty"`
	}
	echoUsage struct {
		PromptTokens     int `json:"prompt_tokens"`
		CompletionTokens int `json:"completion_tokens"`
		TotalTokens      int `json:"total_tokens"`
	}
)

func (u *echoUsage) counts() tokens.Counts {
	return tokens.Counts{Input: tokens.Of(int64(u.PromptTokens)), Output: tokens.Of(int64(u.CompletionTokens))}
}

func (c *echoContent) UnmarshalJSON(b []byte) error {
	var text string
	if len(b) > 0 && b[0] == '[' {
		var parts []struct {
			Text string `json:"text"`
		}
		if err := json.Unmarshal(b, &parts); err != nil {
			return err
		}
		for _, p := range parts {
			text += p.Text
		}
	} else if err := json.Unmarshal(b, &text); err != nil {
		return err
	}
	*c = echoContent(text)
	return nil
}

// echo plays a provider in OpenAI's shape that answers with the last message,
// one token per word. It needs no credential and no network.
func (t *transfer) echo(body []byte) {
	switch path := strings.TrimPrefix(t.visit.Path, "v1/"); {
	case path == "chat/completions" && t.r.Method == http.MethodPost:
		t.echoCompletion(body)
	case path == "models" && t.r.Method == http.MethodGet:
		t.echoJSON(http.StatusOK, json.RawMessage(
			`{"object":"list","data":[{"id":"`+echoModel+`","object":"model","created":0,"owned_by":"gatehouse"}]}`))
	default:
		t.echoError(http.StatusNotFound, "echo answers POST v1/chat/completions and GET v1/models.", "unknown_url")
	}
}

func (t *transfer) echoCompletion(body []byte) {
	var request echoRequest
	if err := json.Unmarshal(body, &request); err != nil {
		t.echoError(http.StatusBadRequest, "We could not parse the JSON body of your request.", "invalid_json")
		return
	}
	if len(request.Messages) == 0 {
		t.echoError(http.StatusBadRequest, "'messages' must hold at least one message.", "invalid_request")
		return
	}
	if request.Model == "" {
		request.Model = echoModel
	}
	content := string(request.Messages[len(request.Messages)-1].Content)
	usage := echoUsage{CompletionTokens: len(strings.Fields(content))}
	for _, m := range request.Messages {
		usage.PromptTokens += len(strings.Fields(string(m.Content)))
	}
	usage.TotalTokens = usage.PromptTokens + usage.CompletionTokens
	completion := echoCompletion{
		ID: "chatcmpl-" + t.visit.RequestID, Object: "chat.completion", Created: t.start.Unix(), Model: request.Model,
	}
	stop := "stop"
	t.result.Usage.Model = tokens.ModelName(request.Model)
	if request.Stream {
		t.echoStream(completion, content, usage, request.StreamOptions.IncludeUsage)
		return
	}
	completion.Choices = []echoChoice{{Message: &echoDelta{Role: "assistant", Content: &content}, FinishReason: &stop}}
	completion.Usage = &usage
	t.result.Usage.Tokens = usage.counts()
	t.echoJSON(http.StatusOK, completion)
}

// echoStream sends the answer word by word, as chat.completion.chunk events.
func (t *transfer) echoStream(chunk echoCompletion, content string, usage echoUsage, includeUsage bool) {
	e := t.gateway.begin(t.r.Context(), t.w, t.bounds, 0)
	if e == nil {
		t.fail(errStopped)
		return
	}
	defer e.end()
	e.phase.Store(writing)
	h := t.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Accel-Buffering", "no")
	s := stream{rc: e.rc, w: t.w}
	e.renewed = time.Time{}
	t.w.WriteHeader(http.StatusOK)

	chunk.Object = "chat.completion.chunk"
	send := func() bool {
		if s.writeErr != nil || context.Cause(e.ctx) != nil {
			return false
		}
		e.renew()
		data, err := json.Marshal(chunk)
		if err != nil {
			s.writeErr = err
			return false
		}
		s.write(append(append([]byte("data: "), data...), "\n\n"...))
		return s.writeErr == nil
	}
	delta := func(d echoDelta, finish *string) bool {
		chunk.Choices = []echoChoice{{Delta: &d, FinishReason: finish}}
		return send()
	}
	empty, stop := "", "stop"
	whole := delta(echoDelta{Role: "assistant", Content: &empty}, nil)
	for word := range strings.SplitAfterSeq(content, " ") {
		if !whole {
			break
		}
		whole = delta(echoDelta{Content: &word}, nil)
	}
	whole = whole && delta(echoDelta{}, &stop)
	if includeUsage && whole {
		chunk.Choices, chunk.Usage = []echoChoice{}, &usage
		whole = send()
	}
	if whole {
		s.write([]byte("data: [DONE]\n\n"))
		t.result.Usage.Tokens = usage.counts()
	}
	t.echoEnd(e, &s)
}

// echoEnd records how the stream ended, with an error event where it was
// stopped.
func (t *transfer) echoEnd(e *exchange, s *stream) {
	cause := context.Cause(e.ctx)
	switch {
	case s.writeErr != nil:
		t.result.BytesOut = s.written
		t.broken(http.StatusOK, e.writeReason(s.writeErr))
	case cause != nil:
		t.result.BytesOut = s.written
		s.lines = true
		t.interrupted(e, &http.Response{StatusCode: http.StatusOK, ContentLength: -1}, s)
	default:
		t.result.BytesOut = s.written
		t.complete(http.StatusOK)
	}
}

func (t *transfer) echoJSON(status int, answer any) {
	data, err := json.Marshal(answer)
	if err != nil {
		t.fail(err)
		return
	}
	t.w.Header().Set("Content-Type", "application/json")
	t.w.WriteHeader(status)
	n, err := t.w.Write(append(data, '\n'))
	t.result.BytesOut = int64(n)
	if err != nil {
		t.broken(status, writeReason(err))
		return
	}
	t.complete(status)
}

// echoError answers in OpenAI's error shape. It is the provider that speaks
// here, so it is no problem of the gateway's.
func (t *transfer) echoError(status int, message, code string) {
	t.echoJSON(status, map[string]any{"error": map[string]any{
		"message": message, "type": "invalid_request_error", "param": nil, "code": code,
	}})
}
