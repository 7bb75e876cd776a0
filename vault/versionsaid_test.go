package vault_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// What a test said of a version stays with it when another takes its place and when it comes
// back, whatever tests said of other credentials.
func TestWhatATestSaidStaysWithItsVersion(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{Probe: accepts(apiKey)})
		said := func(raw []byte) string {
			for _, result := range []string{`"valid"`, `"invalid"`} {
				if strings.Contains(string(raw), result) {
					return result
				}
			}
			return string(raw)
		}
		expect := func(when, id string, want ...string) {
			t.Helper()
			c, err := h.Get(ctx, owner, id)
			if err != nil {
				t.Fatal(err)
			}
			page, err := h.Versions(ctx, owner, id, vault.VersionFilter{})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range page.Versions {
				got = append(got, fmt.Sprint(v.Number, " ", v.State, " ", said(v.LastTest)))
				if v.State == vault.StateActive && said(v.LastTest) != said(c.LastTest) {
					t.Errorf("%s: the credential says %s", when, c.LastTest)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", when, diff)
			}
		}
		grace := time.Hour
		var ids []string
		for _, n := range []vault.NewCredential{openai("dead", apiKeyTwo), openai("alive", apiKey), openai("dead too", apiKeyThree)} {
			c := h.create(t, owner, n)
			if _, err := h.TestStored(ctx, owner, c.ID); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, c.ID)
		}
		h.rotate(t, ids[1], apiKeyTwo, grace)
		expect("in grace", ids[1], "2 active ", `1 retiring "valid"`)
		if _, err := h.TestStored(ctx, owner, ids[1]); err != nil {
			t.Fatal(err)
		}
		expect("after a test of the next", ids[1], `2 active "invalid"`, `1 retiring "valid"`)
		if _, err := h.RollBack(ctx, owner, ids[1], store.Match{}, vault.Rollback{Version: 1, Grace: &grace}); err != nil {
			t.Fatal(err)
		}
		expect("brought back", ids[1], `2 retiring "invalid"`, `1 active "valid"`)
		for _, id := range []string{ids[0], ids[2]} {
			expect("beside it", id, `1 active "invalid"`)
		}
	})
}
