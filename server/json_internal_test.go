package server

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzStrictJSON holds the reader of bodies to three promises: it takes nothing
// that encoding/json refuses, changes no text silently, and reads a member in
// one way only.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{
		`{"a":{"b":[1,null,true,"x"]}}`, `{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `"\ud800"`, "\"\xff\"", `{} {}`, strings.Repeat("[", 100), ``, `null`, `{"a":1`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var v any
		if strictJSON.Unmarshal(data, &v) != nil {
			return
		}
		if !json.Valid(data) {
			t.Fatalf("%q is no JSON and was taken", data)
		}
		again, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := refuseAmbiguous(again); err != nil {
			t.Fatalf("%q reads as %q, which is not taken", data, again)
		}
		if n, m := members(data), members(again); n != m {
			t.Fatalf("%q has %d members and %q %d", data, n, again, m)
		}
	})
}

// members counts names and values of all objects, strings included.
func members(data []byte) int {
	dec := json.NewDecoder(strings.NewReader(string(data)))
	n := 0
	for {
		if _, err := dec.Token(); err != nil {
			return n
		}
		n++
	}
}
