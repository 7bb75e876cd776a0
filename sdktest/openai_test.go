package sdktest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/responses"
)

const openAIReply = "Keys live in the vault, and nowhere else."

func TestOpenAIDirect(t *testing.T) {
	t.Parallel()
	testOpenAI(t, direct(gatehousetest.OpenAI(t, gatehousetest.Reply(openAIReply), gatehousetest.Items(3)), "/v1/"))
}

// testOpenAI drives openai-go through what a chat product does. The fake answers with openAIReply and has three models.
func testOpenAI(t *testing.T, at target) {
	client := openai.NewClient(option.WithBaseURL(at.baseURL), option.WithAPIKey(at.key), option.WithMaxRetries(0))
	params := openai.ChatCompletionNewParams{
		Model:    "gpt-fake-0",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Be brief."), openai.UserMessage("Where do keys live?")},
	}
	streamed := params
	streamed.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: openai.Bool(true)}

	t.Run("complete", func(t *testing.T) {
		answer, err := client.Chat.Completions.New(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.Choices[0].Message.Content; got != openAIReply || answer.Usage.CompletionTokens != 8 || answer.Usage.PromptTokens != 6 {
			t.Errorf("%q with usage %+v", got, answer.Usage)
		}
	})
	t.Run("stream", func(t *testing.T) {
		stream := client.Chat.Completions.NewStreaming(t.Context(), streamed)
		var whole openai.ChatCompletionAccumulator
		events := 0
		for stream.Next() {
			events++
			if !whole.AddChunk(stream.Current()) {
				t.Fatal("a chunk that does not belong")
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if got := whole.Choices[0].Message.Content; got != openAIReply || whole.Usage.TotalTokens != 14 || events != 11 {
			t.Errorf("%q in %d events with usage %+v", got, events, whole.Usage)
		}
	})
	t.Run("list", func(t *testing.T) {
		models := client.Models.ListAutoPaging(t.Context())
		n := 0
		for models.Next() {
			n++
		}
		if err := models.Err(); err != nil || n != 3 {
			t.Errorf("%d models, %v; want 3", n, err)
		}
		if _, err := client.Models.Get(t.Context(), "gpt-fake-2"); err != nil {
			t.Error(err)
		}
		var apiErr *openai.Error
		if _, err := client.Models.Get(t.Context(), "gpt-none"); !errors.As(err, &apiErr) || apiErr.StatusCode != 404 || apiErr.Code != "model_not_found" {
			t.Errorf("an unknown model: %v", err)
		}
	})
	t.Run("abort", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		at.fake.Next(gatehousetest.Hold(nil))
		seen := at.since(t, 1, func() {
			stream := client.Chat.Completions.NewStreaming(ctx, streamed)
			if !stream.Next() {
				t.Fatalf("no first event: %v", stream.Err())
			}
			cancel()
			for stream.Next() {
				t.Error("an event after the cancel")
			}
			if !errors.Is(stream.Err(), context.Canceled) {
				t.Errorf("stream ended with %v, want context.Canceled", stream.Err())
			}
		})
		if !seen[0].Aborted {
			t.Error("the provider was not told that the client has left")
		}
	})
	t.Run("interrupted stream", func(t *testing.T) {
		at.fake.Next(gatehousetest.CutAfter(600))
		stream := client.Chat.Completions.NewStreaming(t.Context(), streamed)
		for stream.Next() {
		}
		if stream.Err() == nil {
			t.Error("a stream that was cut ends without an error")
		}
	})
	t.Run("errors", func(t *testing.T) {
		for _, c := range []struct {
			name      string
			behaviour gatehousetest.Behaviour
			status    int
			code      string
			kind      string
		}{
			{"wrong key", gatehousetest.InvalidKey(), 401, "invalid_api_key", "invalid_request_error"},
			{"missing scope", gatehousetest.MissingScope("model.request"), 401, "", "invalid_request_error"},
			{"rate limit", gatehousetest.RateLimited(20 * time.Second), 429, "rate_limit_exceeded", "requests"},
			{"quota", gatehousetest.OutOfQuota(), 429, "insufficient_quota", "insufficient_quota"},
			{"server error", gatehousetest.ServerError(), 500, "", "server_error"},
		} {
			t.Run(c.name, func(t *testing.T) {
				at.fake.Next(c.behaviour, c.behaviour)
				_, err := client.Chat.Completions.New(t.Context(), params)
				stream := client.Chat.Completions.NewStreaming(t.Context(), streamed)
				for stream.Next() {
				}
				for _, err := range []error{err, stream.Err()} {
					var apiErr *openai.Error
					if !errors.As(err, &apiErr) {
						t.Fatalf("%v is no *openai.Error", err)
					}
					if apiErr.StatusCode != c.status || apiErr.Code != c.code || apiErr.Type != c.kind {
						t.Errorf("%d %q %q, want %d %q %q", apiErr.StatusCode, apiErr.Code, apiErr.Type, c.status, c.code, c.kind)
					}
					if c.name == "rate limit" && apiErr.Response.Header.Get("Retry-After") != "20" {
						t.Errorf("Retry-After %q", apiErr.Response.Header.Get("Retry-After"))
					}
				}
			})
		}
	})
	t.Run("retry", func(t *testing.T) {
		at.fake.Next(limited()...)
		seen := at.since(t, 2, func() {
			if _, err := client.Chat.Completions.New(t.Context(), params, option.WithMaxRetries(1)); err != nil {
				t.Error(err)
			}
		})
		if len(seen) != 2 || seen[0].Status != 429 || seen[1].Status != 200 {
			t.Errorf("the provider saw %d requests", len(seen))
		}
	})
	t.Run("paginate", func(t *testing.T) {
		n := 0
		seen := at.since(t, 2, func() {
			files := client.Files.ListAutoPaging(t.Context(), openai.FileListParams{Limit: openai.Int(2)})
			for files.Next() {
				n++
			}
			if err := files.Err(); err != nil {
				t.Fatal(err)
			}
		})
		if n != 3 || len(seen) != 2 {
			t.Errorf("%d files in %d pages, want 3 in 2", n, len(seen))
		}
	})
	t.Run("upload", func(t *testing.T) {
		file := strings.NewReader(strings.Repeat("x", 300_000))
		made, err := client.Files.New(t.Context(), openai.FileNewParams{File: openai.File(file, "data.jsonl", "application/jsonl"), Purpose: openai.FilePurposeBatch})
		if err != nil || made.Bytes != 300_000 || made.Filename != "data.jsonl" {
			t.Errorf("%+v, %v", made, err)
		}
	})
	t.Run("responses", func(t *testing.T) {
		ask := responses.ResponseNewParams{Model: "gpt-fake-0", Input: responses.ResponseNewParamsInputUnion{OfString: openai.String("Where do keys live?")}}
		answer, err := client.Responses.New(t.Context(), ask)
		if err != nil || answer.OutputText() != openAIReply || answer.Usage.OutputTokens != 8 {
			t.Fatalf("%q, %v", answer.OutputText(), err)
		}
		stream := client.Responses.NewStreaming(t.Context(), ask)
		text, last := "", ""
		for stream.Next() {
			event := stream.Current()
			text, last = text+event.Delta, event.Type
		}
		if err := stream.Err(); err != nil || text != openAIReply || last != "response.completed" {
			t.Errorf("%q up to %s, %v", text, last, err)
		}
		at.fake.Next(gatehousetest.CutAfter(900))
		stream = client.Responses.NewStreaming(t.Context(), ask)
		for stream.Next() {
		}
		if stream.Err() == nil {
			t.Error("a stream that was cut ends without an error")
		}
	})
}
