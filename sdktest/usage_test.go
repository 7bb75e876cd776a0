package sdktest

import (
	"net/url"
	"testing"
	"time"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// TestUsageIsCountedUnseen streams with the SDKs as most programs do, without asking for usage: the SDKs see the chunks
// that they would see without Gatehouse, and the tokens are counted all the same.
func TestUsageIsCountedUnseen(t *testing.T) {
	t.Parallel()
	openAI, claude := gatehousetest.OpenAI(t, gatehousetest.Reply(openAIReply)), gatehousetest.Anthropic(t, gatehousetest.Reply(anthropicReply))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openAI.URL + ",anthropic=" + claude.URL})
	store(t, s, "openai", "apiKey", openAI.Key())
	store(t, s, "anthropic", "apiKey", claude.Key())
	token := s.Token(t, "acme", "u_1", access.Owner)

	streamed := openai.ChatCompletionNewParams{
		Model:    "gpt-fake-0",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.SystemMessage("Be brief."), openai.UserMessage("Where do keys live?")},
	}
	chunks := func(at target) (raw []string) {
		client := openai.NewClient(option.WithBaseURL(at.baseURL), option.WithAPIKey(at.key), option.WithMaxRetries(0))
		stream := client.Chat.Completions.NewStreaming(t.Context(), streamed)
		for stream.Next() {
			chunk := stream.Current()
			if len(chunk.Choices) == 0 || chunk.JSON.Usage.Valid() || chunk.JSON.Usage.Raw() != "" {
				t.Errorf("a chunk that nobody asked for: %s", chunk.RawJSON())
			}
			raw = append(raw, chunk.Choices[0].Delta.RawJSON())
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	alone := chunks(direct(openAI, "/v1/"))
	through := chunks(target{baseURL: s.URL + "/api/chat/openai/v1/", key: token})
	if len(alone) != 10 || len(through) != len(alone) {
		t.Errorf("%d chunks through Gatehouse, %d without", len(through), len(alone))
	}

	client := anthropic.NewClient(anthropicoption.WithBaseURL(s.URL+"/api/chat/anthropic/"), anthropicoption.WithAPIKey(token), anthropicoption.WithMaxRetries(0))
	stream := client.Messages.NewStreaming(t.Context(), anthropic.MessageNewParams{Model: "claude-fake-0", MaxTokens: 100,
		Messages: []anthropic.MessageParam{anthropic.NewUserMessage(anthropic.NewTextBlock("Where do visits stand?"))}})
	for stream.Next() {
	}
	if err := stream.Err(); err != nil {
		t.Fatal(err)
	}

	want := map[string][2]int64{"gpt-fake-0": {6, 8}, "claude-fake-0": {4, 6}}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		report, err := (&api.Client{BaseURL: s.URL, Token: token}).GetUsage(t.Context(), url.Values{"groupBy": {"model"}})
		if err != nil {
			t.Fatal(err)
		}
		if len(report.Rows) < 2 && time.Now().Before(end) { // a visit is recorded a moment after its answer
			continue
		}
		for _, row := range report.Rows {
			if row.InputTokens == nil || want[*row.Model] != [2]int64{*row.InputTokens, *row.OutputTokens} {
				t.Errorf("%s: %+v", *row.Model, row)
			}
		}
		if len(report.Rows) != 2 {
			t.Errorf("%d models", len(report.Rows))
		}
		return
	}
}
