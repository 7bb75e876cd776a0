package ledger

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// head is a log as ledger_logs has it.
type head struct {
	size, blocks int64
	blockHash    tlog.Hash
	checkpoint   string // of the instance's own log
}

// readHead gives the log's row, or [store.ErrNotFound].
func readHead(ctx context.Context, tx *store.Tx, id logID) (h head, err error) {
	var hash []byte
	err = tx.Row(ctx, `SELECT size, blocks, block_hash, checkpoint FROM ledger_logs WHERE organization = $1 AND class = $2`,
		id.organization, id.class).Scan(&h.size, &h.blocks, &hash, &h.checkpoint)
	copy(h.blockHash[:], hash)
	return h, err
}

func writeHead(ctx context.Context, tx *store.Tx, id logID, h head, now time.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO ledger_logs (organization, class, size, blocks, block_hash, checkpoint, created_at, updated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (organization, class) DO UPDATE SET
		size = excluded.size, blocks = excluded.blocks, block_hash = excluded.block_hash, checkpoint = excluded.checkpoint, updated_at = excluded.updated_at`,
		id.organization, id.class, h.size, h.blocks, h.blockHash[:], h.checkpoint, store.At(now), store.At(now))
	return err
}

// block is a row of ledger_blocks.
type block struct {
	number, first, count int64
	sealedAt             time.Time
	keyID                string
	note                 string
}

const blockColumns = `number, first, count, sealed_at, key_id, checkpoint`

func (b *block) scan(scan func(...any) error) error {
	var at store.Time
	err := scan(&b.number, &b.first, &b.count, &at, &b.keyID, &b.note)
	b.sealedAt = at.Time
	return err
}

// readBlock gives one block, or [store.ErrNotFound].
func readBlock(ctx context.Context, tx *store.Tx, id logID, number int64) (b block, err error) {
	err = b.scan(tx.Row(ctx, `SELECT `+blockColumns+` FROM ledger_blocks WHERE organization = $1 AND class = $2 AND number = $3`,
		id.organization, id.class, number).Scan)
	return b, err
}

func writeBlock(ctx context.Context, tx *store.Tx, id logID, b *block) error {
	_, err := tx.Exec(ctx, `INSERT INTO ledger_blocks (organization, class, `+blockColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		id.organization, id.class, b.number, b.first, b.count, store.At(b.sealedAt), b.keyID, b.note)
	return err
}

// readTiles gives the tiles that are there.
func readTiles(ctx context.Context, tx *store.Tx, id logID, ids []tileID) (map[tileID][]tlog.Hash, error) {
	tiles := make(map[tileID][]tlog.Hash, len(ids))
	const most = 32
	for len(ids) > 0 {
		some := ids[:min(most, len(ids))]
		ids = ids[len(some):]
		args := []any{id.organization, id.class}
		var which []string
		for _, t := range some {
			args = append(args, t.level, t.number)
			which = append(which, "level = $"+strconv.Itoa(len(args)-1)+" AND number = $"+strconv.Itoa(len(args)))
		}
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var t tileID
			var hashes []byte
			if err := scan(&t.level, &t.number, &hashes); err != nil {
				return err
			}
			tiles[t] = unpackHashes(hashes)
			return nil
		}, `SELECT level, number, hashes FROM ledger_tiles WHERE organization = $1 AND class = $2 AND (`+strings.Join(which, " OR ")+`)`, args...)
		if err != nil {
			return nil, err
		}
	}
	return tiles, nil
}

// readTree gives the tree of the log's first size leaves.
func readTree(ctx context.Context, tx *store.Tx, id logID, size int64) (*tree, error) {
	ids, _ := edges(size)
	tiles, err := readTiles(ctx, tx, id, ids)
	if err != nil {
		return nil, err
	}
	return treeOf(size, tiles)
}

// saver writes the tiles that appending to a tree changes.
type saver struct {
	id    logID
	tiles []tileID
	bytes [][]byte
}

func (s *saver) full(id tileID, hashes []tlog.Hash) {
	s.tiles, s.bytes = append(s.tiles, id), append(s.bytes, packHashes(hashes))
}

// save writes what is full and the tree's edge. before is the size of the tree
// when it was read.
func (s *saver) save(ctx context.Context, tx *store.Tx, t *tree, before int64) error {
	ids, counts := edges(t.size)
	for i, id := range ids {
		if countAt(id.level, before) < countAt(id.level, t.size) { // else nothing of it is new
			s.full(id, t.edge[id.level][:counts[i]])
		}
	}
	for i, id := range s.tiles {
		_, err := tx.ExecPrepared(ctx, `INSERT INTO ledger_tiles (organization, class, level, number, hashes) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (organization, class, level, number) DO UPDATE SET hashes = excluded.hashes`,
			s.id.organization, s.id.class, id.level, id.number, s.bytes[i])
		if err != nil {
			return err
		}
	}
	return nil
}

// entry is a leaf of the instance's own log: a block of some log.
type entry struct {
	index  int64
	log    logID
	number int64
	hash   tlog.Hash
}

// leaf gives the hash of the entry, over these five lines:
//
//	gatehouse block v1
//	ORGANIZATION
//	CLASS
//	NUMBER
//	BASE64 OF THE SHA-256 OF THE BLOCK'S SIGNED NOTE
func (e *entry) leaf() tlog.Hash {
	return tlog.RecordHash(fmt.Appendf(nil, "gatehouse block v1\n%s\n%s\n%d\n%s\n", e.log.organization, e.log.class, e.number, e.hash))
}

const entryColumns = `log_index, log_organization, log_class, number, block_hash`

func (e *entry) scan(scan func(...any) error) error {
	var hash []byte
	err := scan(&e.index, &e.log.organization, &e.log.class, &e.number, &hash)
	copy(e.hash[:], hash)
	return err
}

func writeEntry(ctx context.Context, tx *store.Tx, e *entry) error {
	_, err := tx.ExecPrepared(ctx, `INSERT INTO ledger_entries (organization, `+entryColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		access.InstanceOrganization, e.index, e.log.organization, e.log.class, e.number, e.hash[:])
	return err
}

// nextLog gives the log that comes after another, of those that the condition
// holds for, by one step in an index; false behind the last. organization may be
// empty: any.
func nextLog(ctx context.Context, tx *store.Tx, table, condition, organization string, after logID) (id logID, found bool, err error) {
	args := []any{after.organization, after.class}
	if organization != "" {
		condition += " AND organization = $3"
		args = append(args, organization)
	}
	err = tx.Row(ctx, `SELECT organization, class FROM `+table+` WHERE `+condition+` AND (organization, class) > ($1, $2)
		ORDER BY organization, class LIMIT 1`, args...).Scan(&id.organization, &id.class)
	if errors.Is(err, store.ErrNotFound) {
		return logID{}, false, nil
	}
	if err == nil && id == after { // a BLOB, which SQLite has behind all texts: it would come for ever
		err = fmt.Errorf("%w: %s has a log whose name is no text", store.ErrDamaged, table)
	}
	return id, err == nil, err
}

const (
	namedByText = ` AND typeof(organization) = 'text' AND typeof(class) = 'text'` // on SQLite, which takes anything

	unsealed = `log_index IS NULL`
	isSealed = `log_index IS NOT NULL`
)
