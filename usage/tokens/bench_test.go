package tokens_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// One event of a stream of chat completions, as it is read off the network.
func BenchmarkWatch(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795423260,"model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}` + "\n\n")
	var w tokens.Watcher
	w.Start("text/event-stream", "")
	b.ReportAllocs()
	b.SetBytes(int64(len(event)))
	for b.Loop() {
		w.Watch(event)
	}
}

// The same of a stream that was asked for usage, which is hidden again.
func BenchmarkHide(b *testing.B) {
	event := []byte(`data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795423260,"model":"m","choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}],"usage":null}` + "\n\n")
	buffer := make([]byte, len(event))
	var h tokens.Hider
	b.ReportAllocs()
	for b.Loop() {
		copy(buffer, event)
		h.Edit(buffer)
	}
}
