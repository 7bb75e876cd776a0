package tokens

import (
	"bytes"
	"strings"
)

// Watcher reads one answer as it passes by. The zero value watches nothing. It
// is for one goroutine, and may be used again from [Watcher.Start] on.
type Watcher struct {
	scanner scanner
	framing framing
	line    lineState
	prefix  int  // how much of "data:" the line began with
	skipLF  bool // the byte before was "\r"
	data    bool // the event has data
	events  int64
}

type framing uint8

const (
	notWatched framing = iota
	plainJSON
	eventStream
)

type lineState uint8

const (
	lineStart lineState = iota
	lineData
	lineOther
)

const dataField = "data:"

// Start makes w ready for an answer with these headers, and reports whether
// there is anything to watch: JSON or server-sent events, not compressed.
func (w *Watcher) Start(contentType, contentEncoding string) bool {
	*w = Watcher{framing: framingOf(contentType, contentEncoding)}
	return w.framing != notWatched
}

func framingOf(contentType, contentEncoding string) framing {
	if contentEncoding != "" && !strings.EqualFold(contentEncoding, "identity") {
		return notWatched
	}
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.ToLower(strings.TrimSpace(media))
	switch {
	case media == "text/event-stream":
		return eventStream
	case media == "application/json", strings.HasSuffix(media, "+json"),
		media == "application/x-ndjson", media == "application/stream+json", media == "application/jsonl":
		return plainJSON
	}
	return notWatched
}

// Watch takes the next bytes of the answer. It keeps none of them and does not
// change them.
func (w *Watcher) Watch(p []byte) {
	defer func() {
		if recover() != nil { // counting must never hurt an answer
			w.framing = notWatched
		}
	}()
	switch w.framing {
	case plainJSON:
		w.scanner.scan(p)
	case eventStream:
		w.watchLines(p)
	}
}

// Counts gives what was said so far.
func (w *Watcher) Counts() Counts { return w.scanner.counts() }

// Model gives the model that the answer names, through [ModelName]; empty where
// it names none.
func (w *Watcher) Model() string { return w.scanner.model.String() }

// Failed reports whether the answer told of an error, which ends a stream: an error
// event of Anthropic's, a member error, or OpenAI's response.failed.
func (w *Watcher) Failed() bool { return w.scanner.failed }

// Events gives how many server-sent events with data came whole.
func (w *Watcher) Events() int64 { return w.events }

// watchLines finds the data of events. A line ends at "\n", "\r" or both.
func (w *Watcher) watchLines(p []byte) {
	carriage := -1 // where the next "\r" is, len(p) for nowhere
	for i := 0; i < len(p); {
		if w.skipLF {
			w.skipLF = false
			if p[i] == '\n' {
				i++
				continue
			}
		}
		if carriage < i {
			if carriage = bytes.IndexByte(p[i:], '\r'); carriage < 0 {
				carriage = len(p)
			} else {
				carriage += i
			}
		}
		end := carriage
		if n := bytes.IndexByte(p[i:end], '\n'); n >= 0 {
			end = i + n
		}
		w.part(p[i:end])
		if end == len(p) {
			return
		}
		w.skipLF = p[end] == '\r'
		w.endLine()
		i = end + 1
	}
}

// part takes a part of one line.
func (w *Watcher) part(p []byte) {
	if w.line == lineStart {
		for len(p) > 0 && w.prefix < len(dataField) {
			if p[0] != dataField[w.prefix] {
				w.line = lineOther
				return
			}
			w.prefix++
			p = p[1:]
		}
		if w.prefix < len(dataField) {
			return
		}
		w.line, w.data = lineData, true
	}
	if w.line == lineData {
		w.scanner.scan(p)
	}
}

func (w *Watcher) endLine() {
	if w.line == lineStart && w.prefix == 0 { // an empty line ends the event
		if w.data {
			w.events++
		}
		w.data = false
		w.scanner.restart()
	} else if w.line == lineData {
		w.scanner.scan([]byte{'\n'}) // between two lines of data
	}
	w.line, w.prefix = lineStart, 0
}
