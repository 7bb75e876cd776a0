package ledger

import (
	"errors"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// A tile is a row of tileWidth hashes of one level of a tree, two to the power of
// tileHeight: hashes of leaves on level 0, and above them the hashes of whole tiles
// of the level beneath. 64 hashes take 2 KiB, which both databases keep beside the
// row, and the last tile of a log is written again with each block.
const (
	tileHeight = 6
	tileWidth  = 1 << tileHeight
)

// tileID is the place of a tile in a log's tree.
type tileID struct{ level, number int64 }

// countAt gives how many hashes level has in a tree of size leaves.
func countAt(level, size int64) int64 { return size >> (tileHeight * level) }

// tree is the right edge of a Merkle tree (RFC 6962, section 2.1): all that it
// takes to append to it and to know its root.
type tree struct {
	size int64
	edge [][]tlog.Hash // by level: the hashes of the last tile, fewer than tileWidth

	// full is called with each tile that is full. nil: nobody.
	full func(id tileID, hashes []tlog.Hash)
}

// append adds a leaf.
func (t *tree) append(leaf tlog.Hash) {
	t.size++
	for level := 0; ; level++ {
		if level == len(t.edge) {
			t.edge = append(t.edge, make([]tlog.Hash, 0, tileWidth))
		}
		t.edge[level] = append(t.edge[level], leaf)
		if len(t.edge[level]) < tileWidth {
			return
		}
		if t.full != nil {
			t.full(tileID{int64(level), countAt(int64(level), t.size)/tileWidth - 1}, t.edge[level])
		}
		leaf = perfect(t.edge[level])
		t.edge[level] = t.edge[level][:0]
	}
}

// perfect gives the hash over a power of two of hashes.
func perfect(hashes []tlog.Hash) tlog.Hash {
	var row [tileWidth]tlog.Hash
	n := copy(row[:], hashes)
	for ; n > 1; n /= 2 {
		for i := range n / 2 {
			row[i] = tlog.NodeHash(row[2*i], row[2*i+1])
		}
	}
	return row[0]
}

// emptyRoot is the root of a tree without leaves: the hash of nothing.
var emptyRoot = tlog.Hash{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}

// root gives the tree's hash.
func (t *tree) root() tlog.Hash {
	if t.size == 0 {
		return emptyRoot
	}
	var root tlog.Hash
	found := false
	for _, hashes := range t.edge { // from the right: the smallest subtrees first
		for n := len(hashes); n > 0; n &= n - 1 {
			size := 1 << bits.TrailingZeros(uint(n))
			hash := perfect(hashes[n-size : n])
			if found {
				hash = tlog.NodeHash(hash, root)
			}
			root, found = hash, true
		}
	}
	return root
}

// clone gives a copy that can be appended to by itself, and tells nobody.
func (t *tree) clone() *tree {
	c := &tree{size: t.size, edge: make([][]tlog.Hash, len(t.edge))}
	for i, hashes := range t.edge {
		c.edge[i] = append(make([]tlog.Hash, 0, tileWidth), hashes...)
	}
	return c
}

// edges gives the tiles at the right edge of a tree of size leaves, which hold
// all that its root takes, and how many hashes of each.
func edges(size int64) (ids []tileID, counts []int) {
	for level := int64(0); countAt(level, size) > 0; level++ {
		if n := countAt(level, size) % tileWidth; n > 0 {
			ids, counts = append(ids, tileID{level, countAt(level, size) / tileWidth}), append(counts, int(n))
		}
	}
	return ids, counts
}

// errNoTile says that hashes of a tree are missing.
var errNoTile = errors.New("hashes of the tree are missing")

// treeOf makes the tree of size leaves of its tiles.
func treeOf(size int64, tiles map[tileID][]tlog.Hash) (*tree, error) {
	t := &tree{size: size}
	for level := int64(0); countAt(level, size) > 0; level++ {
		t.edge = append(t.edge, make([]tlog.Hash, 0, tileWidth))
	}
	ids, counts := edges(size)
	for i, id := range ids {
		if len(tiles[id]) < counts[i] {
			return nil, errNoTile
		}
		t.edge[id.level] = append(t.edge[id.level], tiles[id][:counts[i]]...)
	}
	return t, nil
}

// tilesOf gives the tiles that hold the hashes with these indexes of
// [tlog.StoredHashIndex].
func tilesOf(indexes []int64) []tileID {
	var ids []tileID
	for _, index := range indexes {
		id, _, _ := placeOf(index)
		ids = append(ids, id)
	}
	return ids
}

// placeOf gives the tile under which a stored hash stands, and of which of its
// hashes it is made.
func placeOf(index int64) (id tileID, from, to int) {
	height, n := tlog.SplitStoredHashIndex(index)
	level, rest := int64(height/tileHeight), height%tileHeight
	first := n << rest
	return tileID{level, first / tileWidth}, int(first % tileWidth), int(first%tileWidth) + 1<<rest
}

// hashIn gives the stored hash with this index out of tiles.
func hashIn(index int64, tiles map[tileID][]tlog.Hash) (tlog.Hash, error) {
	id, from, to := placeOf(index)
	if len(tiles[id]) < to {
		return tlog.Hash{}, errNoTile
	}
	return perfect(tiles[id][from:to]), nil
}

// packHashes and unpackHashes turn a tile into bytes and back.
func packHashes(hashes []tlog.Hash) []byte {
	b := make([]byte, 0, len(hashes)*tlog.HashSize)
	for i := range hashes {
		b = append(b, hashes[i][:]...)
	}
	return b
}

func unpackHashes(b []byte) []tlog.Hash {
	if len(b) > tileWidth*tlog.HashSize { // not one of ours
		b = b[:tileWidth*tlog.HashSize]
	}
	hashes := make([]tlog.Hash, len(b)/tlog.HashSize)
	for i := range hashes {
		hashes[i] = tlog.Hash(b[i*tlog.HashSize:])
	}
	return hashes
}
