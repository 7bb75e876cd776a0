package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
)

// Export is where checkpoints go, so that a rewrite of the whole database shows.
type Export struct {
	path  string // of a file
	out   io.Writer
	post  Post
	every time.Duration
}

// Post sends a checkpoint, a signed note, to a receiver; an error is tried again.
type Post func(ctx context.Context, note string) error

// NewExport reads where checkpoints go: "stdout", one JSON object a line; "file:" and
// a path, to which signed notes are appended; or "webhook", to what post sends to,
// which may be nil where there is none. every is the least time between two, at least
// a second. stdout is what that is.
func NewExport(where string, every time.Duration, stdout io.Writer, post Post) (*Export, error) {
	path, isFile := strings.CutPrefix(where, "file:")
	switch {
	case every < time.Second:
		return nil, errors.New("AUDIT_CHECKPOINT_EVERY must be at least 1s")
	case where == "stdout":
		return &Export{out: stdout, every: every}, nil
	case where == "webhook" && post == nil:
		return nil, errors.New("AUDIT_CHECKPOINTS=webhook needs AUDIT_SINK_URL and AUDIT_SINK_SECRET, where they go")
	case where == "webhook":
		return &Export{post: post, every: every}, nil
	case isFile && path != "":
		return &Export{path: path, every: every}, nil
	}
	return nil, errors.New("AUDIT_CHECKPOINTS must be stdout, webhook, or file: and a path")
}

// Line is how a checkpoint stands on standard output. Data is what a webhook has in
// place of the checkpoint itself.
type Line struct {
	Type       string    `json:"type"` // audit.checkpoint
	Checkpoint string    `json:"checkpoint,omitempty"`
	Data       *LineData `json:"data,omitempty"`
}

// LineData is what the body of a webhook says under data.
type LineData struct {
	Checkpoint string `json:"checkpoint"`
}

const lineType = "audit.checkpoint"

// failedPause is how long a checkpoint that could not be exported waits at most.
const failedPause = time.Minute

// RunExport writes the checkpoint of the instance's own log, which vouches for
// every log, whenever it has changed and the time is up, until ctx ends. Each
// instance writes its own.
func (l *Ledger) RunExport(ctx context.Context, e *Export) {
	tick := time.NewTicker(min(e.every, time.Second))
	defer tick.Stop()
	var last string
	var next time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if time.Now().Before(next) {
			continue
		}
		note, err := l.instanceCheckpoint(ctx)
		if err == nil && note != last && note != "" {
			if err = e.write(ctx, note); err == nil {
				last, next = note, time.Now().Add(e.every)
			}
		}
		if err != nil && ctx.Err() == nil {
			l.opts.Logger.ErrorContext(ctx, "a checkpoint of the trail could not be exported; it is tried again", "error", err)
			next = time.Now().Add(min(e.every, failedPause)) // not each second
		}
		if ctx.Err() == nil {
			l.noteExport(last, err)
		}
	}
}

// Exported says how the export of checkpoints does on this instance.
type Exported struct {
	At     time.Time // of the last one; zero: none yet
	Failed error     // of the last try; nil: it went well
}

// Exported gives how the export of checkpoints does.
func (l *Ledger) Exported() Exported {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.exported
}

func (l *Ledger) noteExport(note string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.exported.Failed = err; err == nil && note != l.exportedNote {
		l.exported.At, l.exportedNote = time.Now(), note
	}
}

// instanceCheckpoint gives the latest one, or "".
func (l *Ledger) instanceCheckpoint(ctx context.Context) (string, error) {
	notes, err := l.Checkpoint(ctx, system(), access.InstanceOrganization)
	if errors.Is(err, ErrNoLog) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return notes[0], nil
}

func (e *Export) write(ctx context.Context, note string) error {
	switch {
	case e.post != nil:
		return e.post(ctx, note)
	case e.out != nil:
		return json.NewEncoder(e.out).Encode(Line{Type: lineType, Checkpoint: note})
	}
	return e.appendNote(note)
}

// appendNote writes a note behind those of the file. What a full disk cuts off is taken away
// again, or, where nothing can be, parted from the next one.
func (e *Export) appendNote(note string) error {
	f, err := os.OpenFile(e.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if !endsWhole(e.path, info.Size()) {
		note = "\n\n" + note
	}
	_, err = f.WriteString(note + "\n")
	if err != nil {
		_ = f.Truncate(info.Size()) // a folder that takes no changes refuses this
	}
	return errors.Join(err, f.Sync(), f.Close())
}

// endsWhole reports whether a file of this size ends with an empty line, or is empty.
func endsWhole(path string, size int64) bool {
	if size == 0 {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	end := make([]byte, 2)
	_, err = f.ReadAt(end, max(0, size-2))
	return err == nil && string(end) == "\n\n"
}

// maxCheckpoints bounds a file of checkpoints, in bytes.
const maxCheckpoints = 64 << 20

// ReadCheckpoints gives the signed notes out of a file of them, or out of lines of
// JSON as [NewExport] writes them to standard output or a webhook has them as its
// body, other lines between them. torn are notes that were cut off when they were written,
// before whole ones, which vouch for all that those said.
func ReadCheckpoints(file []byte) (notes []string, torn int, err error) {
	if len(file) > maxCheckpoints {
		return nil, 0, errors.New("the file is too large to be one of checkpoints")
	}
	if !bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
		return splitNotes(file)
	}
	number := 0
	for line := range bytes.SplitSeq(file, []byte("\n")) {
		number++
		var l Line
		switch err := json.Unmarshal(line, &l); {
		case err != nil && bytes.Contains(line, []byte(lineType)): // the one that would have told may be the one that was cut
			return nil, 0, fmt.Errorf("line %d of the file is a checkpoint that is cut off or damaged", number)
		case err != nil, l.Type != lineType:
			continue
		}
		if l.Data != nil {
			l.Checkpoint = l.Data.Checkpoint
		}
		notes = append(notes, l.Checkpoint)
	}
	if len(notes) == 0 {
		return nil, 0, fmt.Errorf("no line of the file is a checkpoint: a JSON object of the type %s", lineType)
	}
	return notes, 0, nil
}
