package ledger_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/ledger"
)

// checkOffline is the procedure of docs/audit-proofs.md, step by step, with
// nothing but the standard library.
func checkOffline(event []byte, index, size int64, hashes []string, checkpoint string, public ed25519.PublicKey) error {
	// 1
	sum := sha256.Sum256(append([]byte{0}, event...))
	r := sum[:]
	// 2
	fn, sn := index, size-1
	for _, text := range hashes {
		p, err := base64.StdEncoding.DecodeString(text)
		if err != nil || sn == 0 {
			return errors.New("not a proof")
		}
		if fn%2 == 1 || fn == sn {
			sum = sha256.Sum256(bytes.Join([][]byte{{1}, p, r}, nil))
			for fn%2 == 0 && fn != 0 {
				fn, sn = fn/2, sn/2
			}
		} else {
			sum = sha256.Sum256(bytes.Join([][]byte{{1}, r, p}, nil))
		}
		r = bytes.Clone(sum[:])
		fn, sn = fn/2, sn/2
	}
	if sn != 0 {
		return errors.New("the proof is too short")
	}
	// 3
	text, signatures, found := strings.Cut(checkpoint, "\n\n")
	lines := strings.Split(text, "\n")
	if !found || len(lines) < 3 || lines[1] != strconv.FormatInt(size, 10) || lines[2] != base64.StdEncoding.EncodeToString(r) {
		return errors.New("the checkpoint has another size or root")
	}
	// 4
	line, found := strings.CutPrefix(strings.TrimSuffix(signatures, "\n"), "— "+lines[0]+" ")
	signature, err := base64.StdEncoding.DecodeString(line)
	hash := sha256.Sum256(append([]byte(lines[0]+"\n\x01"), public...))
	if !found || err != nil || len(signature) != 68 || !bytes.Equal(signature[:4], hash[:4]) || !ed25519.Verify(public, []byte(text+"\n"), signature[4:]) {
		return errors.New("not signed by that key")
	}
	return nil
}

// The documented procedure accepts the proof of every event, also across a
// rotation of the key, and nothing else.
func TestProofsOffline(t *testing.T) {
	b := newBook(t, t.TempDir()+"/gatehouse.db", ledger.Options{Batch: 30})
	b.fill(t, 2, 35)
	if _, err := b.RotateKey(t.Context(), operator); err != nil {
		t.Fatal(err)
	}
	b.fill(t, 1, 30)
	keys, err := b.Keys(t.Context())
	if err != nil || len(keys) != 2 || keys[0].RetiredAt.IsZero() || !keys[1].RetiredAt.IsZero() {
		t.Fatal(keys, err)
	}
	public := keys[1].Public
	for index := range 100 {
		var event string
		b.scan(t, &event, `SELECT id FROM events`+acme+`AND log_index = $1`, index)
		p, err := b.Prove(t.Context(), ownerOf("acme"), "", event)
		if err != nil {
			t.Fatal(err)
		}
		var hashes []string
		for _, h := range p.Hashes {
			hashes = append(hashes, h.String())
		}
		if err := checkOffline(p.Canonical, p.Index, p.Size, hashes, p.Checkpoint, public); err != nil || p.Index != int64(index) || p.Size != 100 {
			t.Fatalf("event %d: %v", index, err)
		}
		for name, err := range map[string]error{
			"another event":      checkOffline(append(p.Canonical, ' '), p.Index, p.Size, hashes, p.Checkpoint, public),
			"another place":      checkOffline(p.Canonical, (p.Index+1)%p.Size, p.Size, hashes, p.Checkpoint, public),
			"another size":       checkOffline(p.Canonical, p.Index, p.Size+1, hashes, p.Checkpoint, public),
			"a shorter proof":    checkOffline(p.Canonical, p.Index, p.Size, hashes[1:], p.Checkpoint, public),
			"another log":        checkOffline(p.Canonical, p.Index, p.Size, hashes, strings.ReplaceAll(p.Checkpoint, "acme", "globex"), public),
			"an older key":       checkOffline(p.Canonical, p.Index, p.Size, hashes, p.Checkpoint, keys[0].Public),
			"another checkpoint": checkOffline(p.Canonical, p.Index, p.Size, hashes, strings.Replace(p.Checkpoint, "block ", "block 1", 1), public),
		} {
			if err == nil {
				t.Errorf("event %d: %s is accepted", index, name)
			}
		}
	}
	if r := b.verifyAll(t); !r.Clean() {
		t.Errorf("after a rotation: %+v", r.Findings)
	}
	if _, err := b.Prove(t.Context(), ownerOf("acme"), "", "evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab"); !errors.Is(err, ledger.ErrNoEvent) {
		t.Error("an unknown event:", err)
	}
	b.change(t, "acme", 1)
	var event string
	b.scan(t, &event, `SELECT id FROM events WHERE organization = 'acme' AND log_index IS NULL`)
	if _, err := b.Prove(t.Context(), ownerOf("acme"), "", event); !errors.Is(err, ledger.ErrUnsealed) {
		t.Error("an event that is not sealed:", err)
	}
}
