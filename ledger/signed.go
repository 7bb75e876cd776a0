package ledger

import (
	"context"
	"errors"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/store"
)

// signed is a log's last checkpoint, checked, with the head that it was found by and
// the note it stood in.
type signed struct {
	Checkpoint
	head head
	note string
}

// signedHead gives what a log's last signed note says, and holds the log's row to it.
// [ErrNoLog] where the log has no row. [ErrAltered] only where something was read and
// is not as it was signed: what cannot be read now is no tampering.
func (l *Ledger) signedHead(ctx context.Context, tx *store.Tx, id logID, keys keyring) (signed, error) {
	h, err := readHead(ctx, tx, id)
	if errors.Is(err, store.ErrNotFound) {
		return signed{}, ErrNoLog
	}
	if err != nil {
		return signed{}, err
	}
	note := h.checkpoint
	if id != instanceLog() {
		b, err := readBlock(ctx, tx, id, h.blocks-1)
		if errors.Is(err, store.ErrNotFound) {
			return signed{}, ErrAltered.Because(errors.New("the last block is missing"))
		}
		if err != nil {
			return signed{}, err
		}
		note = b.note
	}
	c, err := keys.open(note)
	if err != nil || c.Removed || c.Origin != l.origin(id) || c.Size != h.size || noteHash(note) != h.blockHash {
		return signed{}, ErrAltered.Because(errors.Join(errors.New("the last checkpoint is another"), err))
	}
	return signed{c, h, note}, nil
}

// reader gives the stored hashes of a log's tree; [ErrAltered] where they are missing.
func reader(ctx context.Context, tx *store.Tx, id logID) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		tiles, err := readTiles(ctx, tx, id, tilesOf(indexes))
		if err != nil {
			return nil, err
		}
		all := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			if all[i], err = hashIn(index, tiles); err != nil {
				return nil, ErrAltered.Because(err)
			}
		}
		return all, nil
	})
}
