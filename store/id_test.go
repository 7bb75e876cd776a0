package store_test

import (
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/store"
)

func TestIDs(t *testing.T) {
	last := ""
	for range 10_000 {
		id := store.NewID("evt")
		if !store.IsID("evt", id) {
			t.Fatalf("%q is not an id", id)
		}
		if id <= last {
			t.Fatalf("%q does not sort after %q, which was made before it", id, last)
		}
		last = id
	}
	for _, id := range []string{
		"", "evt_", "evt", strings.TrimPrefix(last, "evt_"), "cred_" + strings.TrimPrefix(last, "evt_"), "evt_evt_" + last[8:],
		last[:len(last)-1], last + "0", last + "\n", " " + last, strings.Replace(last, "-", "", 1),
		"evt_{" + last[5:len(last)-1] + "}", "evt_" + strings.Repeat("g", 36), "evt_" + strings.Repeat("-", 36), "EVT_" + last[4:],
	} {
		if store.IsID("evt", id) {
			t.Errorf("%q counts as an id", id)
		}
	}
}

func FuzzIsID(f *testing.F) {
	f.Add("cred_0197c3f2-6a1e-7c3a-9f00-0123456789ab")
	f.Add("cred_0197c3f2-6a1e-7c3a-9f00-0123456789ab\x00")
	f.Add("cred_urn:uuid:0197c3f2-6a1e-7c3a-9f00-012")
	f.Fuzz(func(t *testing.T, id string) {
		if !store.IsID("cred", id) {
			return
		}
		rest := strings.ToLower(strings.TrimPrefix(id, "cred_"))
		if len(id) != 41 || strings.Trim(rest, "0123456789abcdef-") != "" {
			t.Errorf("%q counts as an id", id)
		}
	})
}
