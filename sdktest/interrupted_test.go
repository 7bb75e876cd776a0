package sdktest

import (
	"bytes"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// TestInterruptedAnswersAsSDKsReadThem shows that a provider that dies inside a stream arrives in a program as an error that says so, and one
// that dies inside a small answer as a status that SDKs retry.
func TestInterruptedAnswersAsSDKsReadThem(t *testing.T) {
	t.Parallel()
	const said = "closed the stream before it was complete"
	t.Run("openai", func(t *testing.T) {
		fake := gatehousetest.OpenAI(t, gatehousetest.Reply(openAIReply))
		s := nodeServer(t, fake, "openai", map[string]string{"apiKey": fake.Key()})
		client := openai.NewClient(option.WithBaseURL(s.URL+"/api/chat/openai/v1/"), option.WithAPIKey(s.Token(t, "acme", "u_1", "developer")), option.WithMaxRetries(0))
		params := openai.ChatCompletionNewParams{Model: "gpt-fake-0", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("Where do keys live?")}}
		fake.Next(gatehousetest.CutAfter(600))
		stream := client.Chat.Completions.NewStreaming(t.Context(), params)
		events := 0
		for stream.Next() {
			events++
		}
		if err := stream.Err(); events == 0 || err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("after %d events: %v", events, err)
		}
		fake.Next(gatehousetest.CutAfter(10))
		var apiErr *openai.Error
		if _, err := client.Chat.Completions.New(t.Context(), params); !errors.As(err, &apiErr) || apiErr.StatusCode != http.StatusBadGateway || apiErr.Code != "upstream_interrupted" {
			t.Errorf("half an answer: %v", err)
		}

		// A file that is too large for memory goes over the spool.
		file := bytes.Repeat([]byte("x"), 12<<20)
		made, err := client.Files.New(t.Context(), openai.FileNewParams{File: openai.File(bytes.NewReader(file), "data.jsonl", "application/jsonl"), Purpose: openai.FilePurposeBatch})
		if err != nil || made.Bytes != int64(len(file)) {
			t.Errorf("an upload of 12 MiB: %v", err)
		}
	})
	t.Run("anthropic", func(t *testing.T) {
		fake := gatehousetest.Anthropic(t, gatehousetest.Reply(anthropicReply))
		s := nodeServer(t, fake, "anthropic", map[string]string{"apiKey": fake.Key()})
		client := anthropic.NewClient(anthropicoption.WithBaseURL(s.URL+"/api/chat/anthropic/"), anthropicoption.WithAPIKey(s.Token(t, "acme", "u_1", "developer")), anthropicoption.WithMaxRetries(0))
		params := anthropic.MessageNewParams{Model: "claude-fake-0", MaxTokens: 100, Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Where?"))}}
		fake.Next(gatehousetest.CutAfter(600))
		stream := client.Messages.NewStreaming(t.Context(), params)
		events := 0
		for stream.Next() {
			events++
		}
		if err := stream.Err(); events == 0 || err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("after %d events: %v", events, err)
		}
		fake.Next(gatehousetest.CutAfter(10))
		var apiErr *anthropic.Error
		if _, err := client.Messages.New(t.Context(), params); !errors.As(err, &apiErr) || apiErr.StatusCode != http.StatusBadGateway {
			t.Errorf("half an answer: %v", err)
		}
	})
}

// interrupted checks that the SDK threw what the stream's last event says.
func interrupted(t *testing.T, got came, _ []gatehousetest.Request) {
	t.Helper()
	if got.Error == nil || !strings.Contains(got.Error.Message, "closed the stream before it was complete") {
		t.Errorf("the SDK gave %+v, threw %+v", got, got.Error)
	}
}

// half checks that the SDK took an answer that broke off for a failure of the server's.
func half(t *testing.T, got came, _ []gatehousetest.Request) {
	t.Helper()
	if got.Error == nil || got.Error.Status != http.StatusBadGateway {
		t.Errorf("the SDK gave %+v, threw %+v", got, got.Error)
	}
}
