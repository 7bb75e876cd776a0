package ledger

import (
	"context"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/store"
)

// Prefix is the signed record of what retention removed from the head of a log.
type Prefix struct {
	Organization, Class string
	Size                int64     // the events before this place
	Root                tlog.Hash // of the tree of them
	Record              string    // the signed note
}

// maxNotes bounds the lines of a prefix's record, in bytes each and in number.
const maxNotes = 16

// cover signs a record that the events of a log before the place size are removed,
// so that [Ledger.Verify] does not miss them. It belongs into the transaction that
// deletes them, of the log's own organization, and is to be called before the
// deletion. notes are lines of printable ASCII that say why, such as "policy rp_1
// revision 3", at most 16. The caller has checked who may.
func (l *Ledger) cover(ctx context.Context, tx *store.Tx, organization, class string, size int64, notes ...string) (Prefix, error) {
	id := logID{organization, class}
	for _, line := range notes {
		if line == "" || len(line) > 200 || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			return Prefix{}, errors.New("ledger: a note of a prefix must be a line of 1 to 200 printable ASCII characters")
		}
	}
	if len(notes) > maxNotes {
		return Prefix{}, errors.New("ledger: a prefix has too many notes")
	}
	h, err := readHead(ctx, tx, id)
	if errors.Is(err, store.ErrNotFound) {
		return Prefix{}, ErrNoLog
	}
	if err != nil {
		return Prefix{}, err
	}
	if size <= 0 || size > h.size {
		return Prefix{}, errors.New("ledger: a prefix must be of events that are sealed")
	}
	t, err := readTree(ctx, tx, id, size)
	if errors.Is(err, errNoTile) {
		return Prefix{}, ErrAltered.Because(err)
	}
	if err != nil {
		return Prefix{}, err
	}
	key, err := l.signer(ctx)
	if err != nil {
		return Prefix{}, err
	}
	now := store.At(l.opts.Now())
	p := Prefix{Organization: organization, Class: class, Size: size, Root: t.root()}
	p.Record, err = key.sign(&Checkpoint{Origin: l.origin(id), Size: size, Root: p.Root, Block: -1, SealedAt: now.Time, Removed: true, Notes: notes})
	if err != nil {
		return Prefix{}, err
	}
	_, err = tx.Exec(ctx, `INSERT INTO ledger_prefixes (organization, class, size, root, record, created_at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (organization, class, size) DO NOTHING`, organization, class, size, p.Root[:], p.Record, now)
	return p, err
}

// readPrefix gives the longest prefix of the log that is recorded, or one of size 0.
func readPrefix(ctx context.Context, tx *store.Tx, id logID) (p Prefix, err error) {
	p.Organization, p.Class = id.organization, id.class
	var root []byte
	err = tx.Row(ctx, `SELECT size, root, record FROM ledger_prefixes WHERE organization = $1 AND class = $2 ORDER BY size DESC LIMIT 1`,
		id.organization, id.class).Scan(&p.Size, &root, &p.Record)
	copy(p.Root[:], root)
	if errors.Is(err, store.ErrNotFound) {
		return p, nil
	}
	return p, err
}
