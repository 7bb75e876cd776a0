package main // not main_test: an earlier version's backups are made as that made them

import (
	"bytes"
	"io"
	"testing"

	"filippo.io/age"
)

// A backup that an earlier version made with a variable that ends in a line break
// opens with that variable, and with the passphrase alone.
func TestPassphraseWithLineBreak(t *testing.T) {
	const phrase = "correct horse battery staple"
	for _, made := range []string{phrase, phrase + "\n", phrase + "\r\n", phrase + "\nanother line"} {
		var file bytes.Buffer
		r, err := age.NewScryptRecipient(made)
		if err != nil {
			t.Fatal(err)
		}
		r.SetWorkFactor(10)
		w, err := age.Encrypt(&file, r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, "x"); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for _, given := range []string{made, phrase + "\n", phrase} {
			ids, err := passphraseIdentities([]byte(given))
			if err != nil {
				t.Fatal(err)
			}
			_, err = age.Decrypt(bytes.NewReader(file.Bytes()), ids...)
			simple := made == phrase || made == phrase+"\n"
			if opens := err == nil; opens != (simple || given == made) {
				t.Errorf("made with %q, given %q: opens %v", made, given, opens)
			}
		}
	}
	if ids, err := passphraseIdentities([]byte("\n")); err != nil || len(ids) != 1 {
		t.Errorf("an empty line: %v, %v", ids, err)
	}
}
