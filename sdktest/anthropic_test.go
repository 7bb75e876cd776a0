package sdktest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	"github.com/anthropics/anthropic-sdk-go/option"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

const anthropicReply = "Every visit stands in the book."

func TestAnthropicDirect(t *testing.T) {
	t.Parallel()
	testAnthropic(t, direct(gatehousetest.Anthropic(t, gatehousetest.Reply(anthropicReply), gatehousetest.Items(7)), "/"))
}

// testAnthropic drives anthropic-sdk-go. The fake answers with anthropicReply and has seven models.
func testAnthropic(t *testing.T, at target) {
	client := anthropic.NewClient(option.WithBaseURL(at.baseURL), option.WithAPIKey(at.key), option.WithMaxRetries(0))
	params := anthropic.MessageNewParams{
		Model:     "claude-fake-0",
		MaxTokens: 100,
		Messages:  []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Where do visits stand?"))},
	}
	t.Run("complete", func(t *testing.T) {
		answer, err := client.Messages.New(t.Context(), params)
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.Content[0].Text; got != anthropicReply || answer.Usage.InputTokens != 4 || answer.Usage.OutputTokens != 6 {
			t.Errorf("%q with usage %+v", got, answer.Usage)
		}
	})
	t.Run("stream", func(t *testing.T) {
		stream := client.Messages.NewStreaming(t.Context(), params)
		var whole anthropic.Message
		for stream.Next() {
			if err := whole.Accumulate(stream.Current()); err != nil {
				t.Fatal(err)
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if got := whole.Content[0].Text; got != anthropicReply || whole.Usage.OutputTokens != 6 || whole.StopReason != "end_turn" {
			t.Errorf("%q, stop %q, usage %+v", got, whole.StopReason, whole.Usage)
		}
	})
	t.Run("paginate", func(t *testing.T) {
		models := map[string]bool{}
		seen := at.since(t, 3, func() {
			pages := client.Models.ListAutoPaging(t.Context(), anthropic.ModelListParams{Limit: anthropic.Int(3)})
			for pages.Next() {
				models[pages.Current().ID] = true
			}
			if err := pages.Err(); err != nil {
				t.Fatal(err)
			}
		})
		if len(models) != 7 || len(seen) != 3 {
			t.Errorf("%d models in %d pages, want 7 in 3", len(models), len(seen))
		}
		if _, err := client.Models.Get(t.Context(), "claude-fake-6", anthropic.ModelGetParams{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("upload", func(t *testing.T) {
		file := strings.NewReader(strings.Repeat("x", 300_000))
		made, err := client.Beta.Files.Upload(t.Context(), anthropic.BetaFileUploadParams{File: anthropic.File(file, "data.txt", "text/plain")})
		if err != nil || made.SizeBytes != 300_000 || made.Filename != "data.txt" {
			t.Errorf("%+v, %v", made, err)
		}
	})
	t.Run("retry", func(t *testing.T) {
		at.fake.Next(limited()...)
		seen := at.since(t, 2, func() {
			if _, err := client.Messages.New(t.Context(), params, option.WithMaxRetries(1)); err != nil {
				t.Error(err)
			}
		})
		if len(seen) != 2 || seen[0].Status != 429 || seen[1].Status != 200 {
			t.Errorf("the provider saw %d requests", len(seen))
		}
	})
	t.Run("abort", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		at.fake.Next(gatehousetest.Hold(nil))
		seen := at.since(t, 1, func() {
			stream := client.Messages.NewStreaming(ctx, params)
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
		stream := client.Messages.NewStreaming(t.Context(), params)
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
			kind      string
		}{
			{"wrong key", gatehousetest.InvalidKey(), 401, "authentication_error"},
			{"missing scope", gatehousetest.MissingScope("messages"), 403, "permission_error"},
			{"rate limit", gatehousetest.RateLimited(20 * time.Second), 429, "rate_limit_error"},
			{"overloaded", gatehousetest.Overloaded(), 529, "overloaded_error"},
			{"server error", gatehousetest.ServerError(), 500, "api_error"},
		} {
			t.Run(c.name, func(t *testing.T) {
				at.fake.Next(c.behaviour)
				_, err := client.Messages.New(t.Context(), params)
				var apiErr *anthropic.Error
				if !errors.As(err, &apiErr) {
					t.Fatalf("%v is no *anthropic.Error", err)
				}
				if apiErr.StatusCode != c.status || string(apiErr.Type()) != c.kind || apiErr.RequestID == "" {
					t.Errorf("%d %q of request %q, want %d %q", apiErr.StatusCode, apiErr.Type(), apiErr.RequestID, c.status, c.kind)
				}
			})
		}
	})
}
