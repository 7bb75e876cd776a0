package tokens_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// A stream that tells of an error has failed, wherever it is cut, and one that only
// speaks of errors has not.
func TestFailed(t *testing.T) {
	const start = `data: {"type":"message_start","message":{"model":"m","usage":{"input_tokens":10,"output_tokens":1}}}` + "\n\n"
	for event, want := range map[string]bool{
		"event: error\n" + `data: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`: true,
		`data: {"type": "err\u006fr"}`:               true,
		`data: {"error":{"message":"x","code":500}}`: true,
		`data: {"error":"x"}`:                        true,
		`data: {"id":"g","choices":[{"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502,"message":"x"}}`: true,
		`data: {"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}`:    true,
		`data: {"event_type":"error","error":{"message":"x","code":"y"}}`:                                                  true,
		`data: {"type":"message-end","delta":{"error":"x","finish_reason":"ERROR"}}`:                                       true,
		`data: {"error":null}`:  false,
		`data: {"error":""}`:    false,
		`data: {"error":false}`: false,
		`data: {"type":"response.completed","response":{"status":"completed","error":null}}`:                    false,
		`data: {"type":"response.incomplete","response":{"incomplete_details":{"reason":"max_output_tokens"}}}`: false,
		`data: {"type":"errors"}`: false,
		`data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"{\"type\":\"error\",\"error\":{}}"}}`:                false,
		`data: {"type":"content_block_start","content_block":{"type":"web_search_tool_result","content":{"type":"error","error":{}}}}`: false,
		`data: {"type":"` + "a very long type of more letters than any" + `error"}`:                                                    false,
	} {
		body := start + event + "\n\n"
		for i := range body {
			var w tokens.Watcher
			w.Start("text/event-stream", "")
			w.Watch([]byte(body[:i]))
			w.Watch([]byte(body[i:]))
			if w.Failed() != want || w.Counts().Input != tokens.Of(10) {
				t.Fatalf("%s, split at %d: failed %v, %+v", event, i, w.Failed(), w.Counts())
			}
		}
	}
}
