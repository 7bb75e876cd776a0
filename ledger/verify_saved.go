package ledger

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/gatehouse-io/gatehouse/store"
)

// savedCheckpoint is one that was kept elsewhere.
type savedCheckpoint struct {
	Checkpoint
	id logID
}

// readSaved reads the saved checkpoints and checks their signatures.
func (v *verification) readSaved(ctx context.Context) error {
	for i, signed := range v.options.Checkpoints {
		c, err := parseCheckpoint(noteText(signed))
		if err != nil || c.Removed {
			return fmt.Errorf("%w: number %d of the file", ErrForeign, i+1)
		}
		s := savedCheckpoint{Checkpoint: c}
		s.id.organization, s.id.class = c.Log()
		if c.Origin != v.ledger.origin(s.id) {
			return fmt.Errorf("%w: number %d of the file is of %s", ErrForeign, i+1, forLine(c.Origin))
		}
		_, err = v.open(ctx, signed)
		var unknown *note.UnverifiedNoteError
		switch {
		case errors.As(err, &unknown):
			v.ofLog(Rewritten, s.id, c.Block, "a saved checkpoint of %d events is signed by a key that this database does not have: it is another database, or was written anew", c.Size)
		case err != nil:
			return fmt.Errorf("number %d of the file of checkpoints is damaged: its signature does not hold", i+1)
		default:
			v.saved = append(v.saved, s)
		}
	}
	return nil
}

// forLine makes text safe to stand in a line of an error.
func forLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, store.Text(text, 200))
}

// compareSaved holds the saved checkpoints to the logs of today: each must be of a
// past that today's tree goes on from.
func (v *verification) compareSaved(ctx context.Context) error {
	for _, s := range v.saved {
		if s.id != instanceLog() && !v.named && s.id.organization != v.options.Organization {
			continue // which the caller may not look at
		}
		err := v.ledger.db.View(ctx, s.id.organization, func(tx *store.Tx) error {
			h, err := readHead(ctx, tx, s.id)
			if errors.Is(err, store.ErrNotFound) {
				v.ofLog(LogMissing, s.id, -1, "a saved checkpoint of %d events names this log, and it is not there", s.Size)
				return nil
			}
			if err != nil {
				return err
			}
			what := "events"
			if s.id == instanceLog() {
				what = "blocks"
			}
			if s.Size > h.size {
				v.ofLog(RolledBack, s.id, s.Block, "it has %d %s, and a saved checkpoint of %s knows %d: this is an older database, or its end was cut off", h.size, what, s.SealedAt.Format(checkpointTime), s.Size)
				return nil
			}
			t, err := readTree(ctx, tx, s.id, s.Size)
			if errors.Is(err, errNoTile) || err == nil && t.root() != s.Root {
				v.ofLog(Rewritten, s.id, s.Block, "its first %d %s are not those of a saved checkpoint of %s", s.Size, what, s.SealedAt.Format(checkpointTime))
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
