package store_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// What Text gives is short, and both databases take it and give it back.
func TestText(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() })
		for in, want := range map[string]string{
			"":                         "",
			"0123456789":               "0123456789",
			"0123456789a":              "0123456789",
			"01234567é":                "01234567é",
			"012345678é":               "012345678", // cut before the character, not in it
			"01234567€":                "01234567",
			"0123456😀":                 "0123456",
			"a\x00b":                   "a?b",
			"a\xffb":                   "a?b",
			strings.Repeat("é", 9):     "ééééé",
			strings.Repeat("\x80", 20): "?",
		} {
			got := store.Text(in, 10)
			if got != want {
				t.Errorf("Text(%q) is %q, want %q", in, got, want)
			}
			var back string
			err := db.View(t.Context(), access.InstanceOrganization, func(tx *store.Tx) error {
				return tx.Row(t.Context(), `SELECT CAST($1 AS TEXT)`, got).Scan(&back)
			})
			if err != nil || back != got {
				t.Errorf("the database gives %q for %q: %v", back, got, err)
			}
		}
	})
}
