package ledger

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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
	if notes, _, err := ReadCheckpoints([]byte(whole + "\nanother line\n{\"type\":\"other\"}\n{\"broken\n" + whole)); err != nil || len(notes) != 2 {
		t.Errorf("%d notes, %v", len(notes), err)
	}
	for cut := 26; cut < len(whole); cut++ {
		if _, _, err := ReadCheckpoints([]byte(whole + "\n" + whole[:cut])); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("a line cut after %d bytes: %v", cut, err)
		}
	}
}

// A note that was cut off by a full disk costs nothing but itself.
func TestTornCheckpoints(t *testing.T) {
	note := func(n int) string {
		c := Checkpoint{Origin: "gatehouse/test/_instance/ledger", Size: int64(n), Block: -1, SealedAt: time.Date(2026, 11, 23, 8, 41, n, 0, time.UTC)}
		return c.text() + "\n— gatehouse/test/_instance/ledger " + strings.Repeat("AAAA", 23) + "\n"
	}
	path := filepath.Join(t.TempDir(), "checkpoints")
	e := &Export{path: path}
	want := []string{note(1), note(2), note(3)}
	for what, file := range map[string]string{
		"of another log": note(1) + "\n" + "gatehouse/test/acme/control\n3\n\n\n" + note(2),
		"of more events": note(1) + "\n" + "gatehouse/test/_instance/ledger\n3\nx\n\n\n" + note(2),
		"the last":       note(1) + "\n" + note(2)[:60],
	} {
		if notes, torn, err := ReadCheckpoints([]byte(file)); err == nil {
			t.Errorf("a note that is cut off, %s: %d notes, %d torn, no error", what, len(notes), torn)
		}
	}
	for cut := 1; cut < len(note(2)); cut++ {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if i == 1 { // what a disk that was full took of another
				f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(note(2)[:cut]); err != nil {
					t.Fatal(err)
				}
				if err := f.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := e.write(t.Context(), note(i+1)); err != nil {
				t.Fatal(err)
			}
		}
		file, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		notes, torn, err := ReadCheckpoints(file)
		if cut == len(note(2))-1 { // all but the end of its last line
			want = []string{want[0], note(2), want[1], want[2]}
		}
		if diff := cmp.Diff(want, notes); diff != "" || (torn > 0) != (len(want) == 3) || err != nil {
			t.Errorf("cut after %d bytes: %d torn, %v (-want +got):\n%s", cut, torn, err, diff)
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
		notes, _, err := ReadCheckpoints(file)
		if (err == nil) != (len(notes) > 0) {
			t.Errorf("%d notes and %v", len(notes), err)
		}
		for _, n := range notes {
			if _, err := (keyring{}).open(n); err == nil {
				t.Errorf("%q opens without a key", n)
			}
		}
		if notes, torn, err := splitNotes(file); err == nil {
			again, tornAgain, err := splitNotes(bytes.Join([][]byte{file, file}, []byte("\n\n")))
			if err != nil || len(again) != 2*len(notes) || tornAgain != 2*torn {
				t.Errorf("the file twice has %d notes, %v; once %d", len(again), err, len(notes))
			}
		}
	})
}
