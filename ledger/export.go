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
	path  string // of a file; empty: out
	out   io.Writer
	every time.Duration
}

// NewExport reads where checkpoints go: "stdout", one JSON object a line, or
// "file:" and a path, to which signed notes are appended. every is the least time
// between two, at least a second. stdout is what that is.
func NewExport(where string, every time.Duration, stdout io.Writer) (*Export, error) {
	path, isFile := strings.CutPrefix(where, "file:")
	switch {
	case every < time.Second:
		return nil, errors.New("AUDIT_CHECKPOINT_EVERY must be at least 1s")
	case where == "stdout":
		return &Export{out: stdout, every: every}, nil
	case isFile && path != "":
		return &Export{path: path, every: every}, nil
	}
	return nil, errors.New("AUDIT_CHECKPOINTS must be stdout, or file: and a path")
}

// Line is how a checkpoint stands on standard output.
type Line struct {
	Type       string `json:"type"` // audit.checkpoint
	Checkpoint string `json:"checkpoint"`
}

const lineType = "audit.checkpoint"

// RunExport writes the checkpoint of the instance's own log, which vouches for
// every log, whenever it has changed and the time is up, until ctx ends. Each
// instance writes its own.
func (l *Ledger) RunExport(ctx context.Context, e *Export) {
	tick := time.NewTicker(min(e.every, time.Second))
	defer tick.Stop()
	var last string
	var at time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !at.IsZero() && time.Since(at) < e.every {
			continue
		}
		note, err := l.instanceCheckpoint(ctx)
		if err == nil && note != last && note != "" {
			if err = e.write(note); err == nil {
				last, at = note, time.Now()
			}
		}
		if err != nil && ctx.Err() == nil {
			l.opts.Logger.ErrorContext(ctx, "a checkpoint of the trail could not be exported; it is tried again", "error", err)
			at = time.Now() // not each second
		}
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

func (e *Export) write(note string) error {
	if e.path == "" {
		return json.NewEncoder(e.out).Encode(Line{lineType, note})
	}
	f, err := os.OpenFile(e.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(note + "\n")
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadCheckpoints gives the signed notes out of a file of them, or out of lines of
// JSON as [NewExport] writes them to standard output, other lines between them.
func ReadCheckpoints(file []byte) ([]string, error) {
	if len(file) > maxCheckpoints {
		return nil, errors.New("the file is too large to be one of checkpoints")
	}
	if !bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
		return SplitNotes(file)
	}
	var notes []string
	for line := range bytes.SplitSeq(file, []byte("\n")) {
		var l Line
		if json.Unmarshal(line, &l) == nil && l.Type == lineType {
			notes = append(notes, l.Checkpoint)
		}
	}
	if len(notes) == 0 {
		return nil, fmt.Errorf("no line of the file is a checkpoint: a JSON object of the type %s", lineType)
	}
	return notes, nil
}
