package ledger

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"pgregory.net/rapid"
)

// naive is the definition of the Merkle tree hash, word for word (RFC 6962,
// section 2.1).
func naive(leaves [][]byte) tlog.Hash {
	switch len(leaves) {
	case 0:
		return emptyRoot
	case 1:
		return tlog.RecordHash(leaves[0])
	}
	k := 1
	for k*2 < len(leaves) {
		k *= 2
	}
	return tlog.NodeHash(naive(leaves[:k]), naive(leaves[k:]))
}

// A tree that is appended to, put into tiles and read back in between is the
// naive one, at every size that it had, and proves each leaf.
func TestTreeIsRFC6962(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tiles := make(map[tileID][]tlog.Hash)
		var leaves [][]byte
		sizes := rapid.SliceOfN(rapid.OneOf(rapid.IntRange(1, 70), rapid.SampledFrom([]int{1, 63, 64, 65, 128, 4096})), 1, 6).Draw(t, "batches")
		current := &tree{}
		for _, n := range sizes {
			before := current.size
			save := &saver{}
			current.full = save.full
			for range n {
				leaf := fmt.Append(nil, "leaf ", len(leaves))
				leaves = append(leaves, leaf)
				current.append(tlog.RecordHash(leaf))
			}
			ids, counts := edges(current.size)
			for i, id := range ids {
				if countAt(id.level, before) < countAt(id.level, current.size) {
					save.full(id, current.edge[id.level][:counts[i]])
				}
			}
			for i, id := range save.tiles {
				tiles[id] = unpackHashes(save.bytes[i])
			}
			if current.root() != naive(leaves) {
				t.Fatalf("the root of %d leaves is another", len(leaves))
			}
			again, err := treeOf(current.size, tiles)
			if err != nil || again.root() != current.root() {
				t.Fatalf("read back, the root of %d leaves is another: %v", len(leaves), err)
			}
			current = again
		}
		size := int64(len(leaves))
		old := rapid.Int64Range(0, size).Draw(t, "an older size")
		past, err := treeOf(old, tiles)
		if err != nil || past.root() != naive(leaves[:old]) {
			t.Fatalf("the root of the first %d of %d leaves is another: %v", old, size, err)
		}
		reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			all := make([]tlog.Hash, len(indexes))
			for i, index := range indexes {
				var err error
				if all[i], err = hashIn(index, tiles); err != nil {
					return nil, err
				}
			}
			return all, nil
		})
		index := rapid.Int64Range(0, size-1).Draw(t, "a leaf")
		proof, err := tlog.ProveRecord(size, index, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, size, current.root(), index, tlog.RecordHash(leaves[index])); err != nil {
			t.Fatal(err)
		}
		if tlog.CheckRecord(proof, size, current.root(), index, tlog.RecordHash([]byte("another"))) == nil {
			t.Fatal("the proof holds for another leaf")
		}
		// A missing tile is an error, never another root.
		for id := range tiles {
			if len(tiles[id]) == tileWidth { // of which the edge needs none
				continue
			}
			delete(tiles, id)
			if part, err := treeOf(size, tiles); err == nil && part.root() != current.root() {
				t.Fatal("without a tile, the root is another")
			}
			break
		}
	})
}

// A line of JSON that was a checkpoint and cannot be read is no other line: what it
// would have told may be what somebody hides.
func TestCutCheckpointLines(t *testing.T) {
	whole := `{"type":"audit.checkpoint","checkpoint":"x"}`
	if notes, err := ReadCheckpoints([]byte(whole + "\nanother line\n{\"type\":\"other\"}\n{\"broken\n" + whole)); err != nil || len(notes) != 2 {
		t.Errorf("%d notes, %v", len(notes), err)
	}
	for cut := 26; cut < len(whole); cut++ {
		if _, err := ReadCheckpoints([]byte(whole + "\n" + whole[:cut])); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("a line cut after %d bytes: %v", cut, err)
		}
	}
}

// Whatever a file holds, reading checkpoints ends, and what is read as one is
// written back as it was.
func FuzzCheckpoint(f *testing.F) {
	c := Checkpoint{Origin: "gatehouse/test/acme/control", Size: 3, Block: 1, First: 1, Count: 2, SealedAt: time.Date(2026, 11, 23, 8, 41, 0, 0, time.UTC)}
	f.Add([]byte(c.text()))
	c.Block = -1
	f.Add([]byte(c.text()))
	c.Removed, c.Notes = true, []string{"policy rp_1 revision 3"}
	f.Add([]byte(c.text() + "\n— gatehouse/test/acme/control/removed AAAA\n\nx\n\n— y z\n"))
	f.Add([]byte(`{"type":"audit.checkpoint","checkpoint":"x"}`))
	f.Add([]byte("\n\n— \n— \na\r\n— b"))
	f.Fuzz(func(t *testing.T, file []byte) {
		if c, err := parseCheckpoint(string(file)); err == nil && c.text() != string(file) {
			t.Errorf("%q is read as %q", file, c.text())
		}
		notes, err := ReadCheckpoints(file)
		if (err == nil) != (len(notes) > 0) {
			t.Errorf("%d notes and %v", len(notes), err)
		}
		for _, n := range notes {
			if _, err := (keyring{}).open(n); err == nil {
				t.Errorf("%q opens without a key", n)
			}
		}
		if notes, err := SplitNotes(file); err == nil {
			again, err := SplitNotes(bytes.Join([][]byte{file, file}, []byte("\n\n")))
			if err != nil || len(again) != 2*len(notes) {
				t.Errorf("the file twice has %d notes, %v; once %d", len(again), err, len(notes))
			}
		}
	})
}
