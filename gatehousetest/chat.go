package gatehousetest

import (
	"encoding/json"
	"net/http"
	"strings"
)

// A chatMessage is what OpenAI and Anthropic both send: a role, and content as text or as a list of blocks.
type chatMessage struct {
	Role    string      `json:"role"`
	Content chatContent `json:"content"`
}

type chatContent string

// UnmarshalJSON reads text, or joins the text blocks of a list.
func (c *chatContent) UnmarshalJSON(b []byte) error {
	var text string
	if json.Unmarshal(b, &text) == nil { // null as well
		*c = chatContent(text)
		return nil
	}
	var blocks []struct {
		Text string `json:"text"`
	}
	if err := json.Unmarshal(b, &blocks); err != nil {
		return err
	}
	for _, block := range blocks {
		text += block.Text
	}
	*c = chatContent(text)
	return nil
}

// converse gives the tokens of the prompt and the words of the answer, each but the first with the space before it. The
// answer is reply, or the last message where reply is empty.
func converse(messages []chatMessage, reply string) (int, []string) {
	prompt := 0
	for _, m := range messages {
		prompt += len(strings.Fields(string(m.Content)))
	}
	if reply == "" {
		reply = string(messages[len(messages)-1].Content)
	}
	words := strings.Fields(reply)
	for i := range words {
		if i > 0 {
			words[i] = " " + words[i]
		}
	}
	return prompt, words
}

// An eventStream writes server-sent events, one write and one flush each.
type eventStream struct {
	w     http.ResponseWriter
	flush func() error
}

func newEventStream(w http.ResponseWriter) *eventStream {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(http.StatusOK)
	return &eventStream{w: w, flush: http.NewResponseController(w).Flush}
}

// send writes one event with v as its data; event "" leaves the event line out.
func (s *eventStream) send(event string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err) // a fake's own values always marshal
	}
	text := "data: " + string(b) + "\n\n"
	if event != "" {
		text = "event: " + event + "\n" + text
	}
	s.raw(text)
}

func (s *eventStream) raw(text string) {
	if _, err := s.w.Write([]byte(text)); err != nil {
		panic(http.ErrAbortHandler) // the client has left; so do we
	}
	_ = s.flush()
}
