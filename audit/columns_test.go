package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/audit"
)

// Columns agree with the event they were made of, whatever text it holds, and a
// change of any one of them is named.
func TestColumnsDiffer(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := whole()
		e.ID = "evt_" + rapid.String().Draw(t, "id")
		e.Actor.ID = rapid.String().Draw(t, "actor")
		e.Reason = rapid.String().Draw(t, "reason")
		e.Metadata = map[string]any{rapid.String().Draw(t, "name"): rapid.SliceOf(rapid.String()).Draw(t, "value"), `"}`: `\"`}
		e.OccurredAt = time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, "at")).UTC()
		canonical, salt, personal, err := audit.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		e, err = audit.Decode(canonical, personal) // text that is not UTF-8 is mended
		if err != nil {
			t.Fatal(err)
		}
		right := audit.Columns{Organization: e.Organization, ID: e.ID, OccurredAt: e.OccurredAt, RecordedAt: e.RecordedAt, Class: string(e.Class),
			Action: string(e.Action), Outcome: string(e.Outcome), ActorID: e.Actor.ID}
		column, commitment := right.Differ(canonical)
		if column != "" || !audit.Committed(commitment, salt, personal) || audit.Committed(commitment, salt, append(personal, ' ')) {
			t.Fatalf("%s differs; committed %q\n%s", column, commitment, canonical)
		}
		for name, change := range map[string]func(*audit.Columns){
			"organization": func(c *audit.Columns) { c.Organization += "x" }, "id": func(c *audit.Columns) { c.ID += "x" },
			"occurred_at": func(c *audit.Columns) { c.OccurredAt = c.OccurredAt.Add(time.Microsecond) },
			"recorded_at": func(c *audit.Columns) { c.RecordedAt = c.RecordedAt.Add(-time.Microsecond) },
			"class":       func(c *audit.Columns) { c.Class = "" }, "action": func(c *audit.Columns) { c.Action += " " },
			"outcome": func(c *audit.Columns) { c.Outcome = "denied" }, "actor_id": func(c *audit.Columns) { c.ActorID += "\x00" },
		} {
			wrong := right
			change(&wrong)
			if got, _ := wrong.Differ(canonical); got != name {
				t.Errorf("with another %s, %q differs", name, got)
			}
		}
	})
}

// Whatever the bytes are, looking at them ends, and what is no event is said.
func FuzzColumns(f *testing.F) {
	for _, seed := range []string{`{}`, `{"id":"a"}`, `{"id":"a`, `{"a":{"b":[1,"]"]},"id":"x"}`, `{"a":1}}`, `[`, "", `{"actor":{"id":"x"}}`, strings.Repeat(`{"actor":`, 1000)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, canonical []byte) {
		c := audit.Columns{ID: "evt_1"}
		if column, _ := c.Differ(canonical); column == "" {
			if _, err := audit.Decode(canonical, nil); err == nil && !strings.Contains(string(canonical), "evt_1") {
				t.Errorf("%q agrees", canonical)
			}
		}
	})
}

// The salt has a length of its own: nothing of a person moves into it.
func TestCommittedByItsSalt(t *testing.T) {
	salt, data := []byte("0123456789abcdef"), []byte(`{"ip":"192.0.2.1"}`)
	sum := sha256.Sum256(append(bytes.Clone(salt), data...))
	commitment := hex.EncodeToString(sum[:])
	if !audit.Committed(commitment, salt, data) {
		t.Error("what was committed is not")
	}
	all := append(bytes.Clone(salt), data...)
	for i := range len(all) + 1 {
		if i != len(salt) && audit.Committed(commitment, all[:i], all[i:]) {
			t.Errorf("a salt of %d bytes", i)
		}
	}
}
