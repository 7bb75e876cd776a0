package gateway_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// offline is an upstream and a vault that nobody may ask.
func offline(o *gateway.Options) { o.Opener = keys{err: errors.New("the vault was asked")} }

func TestEcho(t *testing.T) {
	f := serve(t, "http://name.invalid", offline)
	tests := map[string]struct {
		method, path, body string
		status             int
		content            string // of the first choice
		code               string // of the error
	}{
		"a message": {
			body: `{"model":"m","messages":[{"role":"system","content":"be brief"},{"role":"user","content":"hello <world>"}]}`, content: "hello <world>",
		},
		"parts":         {body: `{"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}`, content: "ab"},
		"without v1":    {path: "chat/completions", body: `{"messages":[{"role":"user","content":"x"}]}`, content: "x"},
		"no content":    {body: `{"messages":[{"role":"assistant","content":null}]}`},
		"malformed":     {body: `{"messages":`, status: 400, code: "invalid_json"},
		"empty":         {body: ``, status: 400, code: "invalid_json"},
		"wrong type":    {body: `{"messages":"x"}`, status: 400, code: "invalid_json"},
		"no messages":   {body: `{}`, status: 400, code: "invalid_request"},
		"another path":  {path: "v1/embeddings", body: `{}`, status: 404, code: "unknown_url"},
		"wrong method":  {method: "GET", status: 404, code: "unknown_url"},
		"no path":       {path: "-", status: 404, code: "unknown_url"},
		"models posted": {path: "v1/models", status: 404, code: "unknown_url"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.method == "" {
				test.method = "POST"
			}
			if test.path == "" {
				test.path = "v1/chat/completions"
			}
			if test.status == 0 {
				test.status = 200
			}
			answer, text := f.call(t, test.method, "/api/chat/echo/"+test.path, test.body)
			if answer.StatusCode != test.status || answer.Header.Get("Content-Type") != "application/json" || answer.Header.Get("Gatehouse-Error") != "" {
				t.Errorf("%d %v", answer.StatusCode, answer.Header)
			}
			var got struct {
				Object  string
				Choices []struct {
					Message struct{ Role, Content string }
					Finish  string `json:"finish_reason"`
				}
				Usage struct{ Total int } `json:"-"`
				Error struct{ Message, Type, Code string }
			}
			if err := json.Unmarshal([]byte(text), &got); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if test.code != "" {
				if got.Error.Code != test.code || got.Error.Type != "invalid_request_error" || got.Error.Message == "" {
					t.Errorf("%s", text)
				}
			} else if got.Object != "chat.completion" || len(got.Choices) != 1 || got.Choices[0].Message.Content != test.content || got.Choices[0].Finish != "stop" {
				t.Errorf("%s", text)
			}
			if r := f.result(t); r.Status != test.status || r.CredentialID != "" || (r.Outcome == audit.Success) != (test.status == 200) {
				t.Errorf("%+v", r)
			}
		})
	}
	if answer, text := f.call(t, "GET", "/api/chat/echo/v1/models", ""); answer.StatusCode != 200 || !strings.Contains(text, `"id":"echo"`) {
		t.Errorf("%d %s", answer.StatusCode, text)
	}
}

func TestEchoStreams(t *testing.T) {
	f := serve(t, "http://name.invalid", offline)
	for _, usage := range []bool{false, true} {
		body := `{"stream":true,"messages":[{"role":"user","content":"one  two\nthree"}]`
		if usage {
			body += `,"stream_options":{"include_usage":true}`
		}
		answer, text := f.call(t, "POST", "/api/chat/echo/v1/chat/completions", body+"}")
		if ct := answer.Header.Get("Content-Type"); ct != "text/event-stream" {
			t.Errorf("Content-Type %q", ct)
		}
		events := strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n")
		if last := events[len(events)-1]; last != "data: [DONE]" {
			t.Errorf("the last event is %q", last)
		}
		var deltas []string
		var finish, total = "", 0
		for _, event := range events[:len(events)-1] {
			var got struct {
				Object  string
				Choices []struct {
					Delta  struct{ Role, Content string }
					Finish *string `json:"finish_reason"`
				}
				Usage *struct {
					Total int `json:"total_tokens"`
				}
			}
			if err := json.Unmarshal([]byte(strings.TrimPrefix(event, "data: ")), &got); err != nil || got.Object != "chat.completion.chunk" {
				t.Fatalf("%q: %v", event, err)
			}
			for _, choice := range got.Choices {
				deltas = append(deltas, choice.Delta.Role+choice.Delta.Content)
				if choice.Finish != nil {
					finish = *choice.Finish
				}
			}
			if got.Usage != nil {
				total = got.Usage.Total
				if len(got.Choices) != 0 {
					t.Error("the usage chunk has choices")
				}
			}
		}
		if diff := cmp.Diff([]string{"assistant", "one ", " ", "two\nthree", ""}, deltas); diff != "" {
			t.Error(diff)
		}
		if wantTotal := map[bool]int{true: 6}[usage]; finish != "stop" || total != wantTotal {
			t.Errorf("finish %q, total %d, want %d", finish, total, wantTotal)
		}
		if r := f.result(t); r.Outcome != audit.Success || r.BytesOut != int64(len(text)) {
			t.Errorf("%+v", r)
		}
	}
}
