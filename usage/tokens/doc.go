// Package tokens reads what a provider says of tokens out of the bytes of its
// answer as they pass by, without keeping, changing or delaying any of them.
//
//	var w tokens.Watcher
//	if w.Start(header.Get("Content-Type"), header.Get("Content-Encoding")) {
//		w.Watch(piece) // each piece, after it was passed on
//	}
//	counts := w.Counts()
//
// # What is understood
//
// One watcher reads every dialect, since the names of their members never mean
// two things:
//
//   - OpenAI's chat completions, completions and embeddings, and the hosts that
//     speak them (Azure OpenAI, Mistral, Groq with its x_groq, xAI, DeepSeek,
//     OpenRouter, vLLM): usage.prompt_tokens and so on;
//   - OpenAI's responses, images and transcriptions: usage.input_tokens, in a
//     stream inside response;
//   - Anthropic's messages: usage, in a stream from message_start and the
//     cumulative message_delta, with the compactions of usage.iterations;
//   - Gemini: usageMetadata, as events, as a JSON array, or whole;
//   - Gemini's interactions: usage.total_input_tokens and so on, in a stream inside
//     interaction;
//   - Cohere: usage.tokens of version 2, meta.tokens of version 1, or the billed
//     units where there is nothing else.
//
// Where a dialect says the same thing several times, the last word counts.
//
// Bodies are JSON: one value, an array of them, or one after the other; or
// server-sent events (WHATWG HTML, 9.2) whose data is JSON. Anything else, and
// whatever is compressed, is not read: its counts are unknown.
//
// # Bounds
//
// A [Watcher] is a state machine over single bytes with a fixed size of less
// than a kilobyte, whatever the answer is: long events and deep nesting are
// skipped, not kept. Escapes are read where they matter, in names of members and
// of models. Events may be split at any byte. What is malformed gives
// fewer counts and never an error, and a panic in here ends the counting of one
// answer and nothing else.
//
// # Asking for usage
//
// OpenAI's streams of chat completions say nothing of usage unless they are
// asked to (stream_options.include_usage). [ReadRequest] finds where the request
// would have to ask, [Request.AskUsage] inserts the bytes, and a [Hider] takes
// what the provider adds because of it out of the stream again.
package tokens
