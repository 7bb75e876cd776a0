package vault_test

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// mixer makes random changes of credentials on one of several instances. Every
// version that it makes holds one mark in both of its fields.
type mixer struct {
	t      *testing.T
	houses []*house
	marks  atomic.Int64
	done   atomic.Int64 // changes that were made
}

func (m *mixer) fields() map[string]string {
	mark := fmt.Sprintf("%024d", m.marks.Add(1))
	return map[string]string{"apiKey": "sk-proj-" + mark, "project": "proj_" + mark}
}

// change makes one random change of the credential.
func (m *mixer) change(r *rand.Rand, id string, mayDelete bool) {
	ctx, h := m.t.Context(), m.houses[r.IntN(len(m.houses))]
	var match store.Match
	if r.IntN(4) == 0 { // of the state that it reads
		if c, err := h.Get(ctx, owner, id); err == nil {
			match = store.MatchOf(c.Revision)
		}
	}
	grace := []time.Duration{0, time.Millisecond, time.Hour}[r.IntN(3)]
	var version int64
	if page, err := h.Versions(ctx, owner, id, vault.VersionFilter{Limit: 6}); err == nil {
		version = page.Versions[r.IntN(len(page.Versions))].Number
		if staged := slices.IndexFunc(page.Versions, func(v vault.Version) bool { return v.State == vault.StateStaged }); staged >= 0 && r.IntN(2) == 0 {
			version = page.Versions[staged].Number
		}
	}
	var err error
	switch n := r.IntN(20); {
	case n < 4:
		_, _, err = h.Rotate(ctx, owner, id, match, vault.Rotation{Fields: m.fields(), Grace: grace})
	case n < 6:
		values := map[string]*string{}
		for name, value := range m.fields() {
			values[name] = &value
		}
		_, _, err = h.Update(ctx, owner, id, match, vault.Change{Fields: values})
	case n < 7:
		disabled := r.IntN(2) == 0
		_, _, err = h.Update(ctx, owner, id, match, vault.Change{Disabled: &disabled})
	case n < 10:
		_, _, _, err = h.Stage(ctx, owner, id, match, m.fields(), "")
	case n < 13:
		_, err = h.Activate(ctx, owner, id, match, version, vault.Activation{Grace: grace})
	case n < 16:
		_, err = h.RollBack(ctx, owner, id, match, vault.Rollback{})
	case n < 18:
		_, err = h.DestroyVersion(ctx, owner, id, match, version)
	case n < 19 && mayDelete:
		err = h.Delete(ctx, owner, id, match)
	default:
		h.clock.Pass(time.Millisecond)
		_, err = h.DestroyDue(ctx)
	}
	if err == nil {
		m.done.Add(1)
	} else if k := fault.KindOf(err); k != fault.Conflict && k != fault.Stale && k != fault.NotFound {
		m.t.Errorf("a change failed: %v", errors.Join(err, errors.Unwrap(err)))
	}
}

// Random changes at once, on two instances: at the end one version is active, the
// history says what the trail says, and only what lives has sealed bytes.
func TestChangesAtOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		m := &mixer{t: t, houses: []*house{h, h.beside(t, url, vault.Options{})}}
		var ids []string
		for i := range 3 {
			n := openai(fmt.Sprint("c", i), "")
			n.Fields = m.fields()
			ids = append(ids, h.create(t, owner, n).ID)
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(seed, uint64(i)))
				for range 30 {
					at := r.IntN(len(ids))
					m.change(r, ids[at], at == 2)
				}
			})
		}
		wg.Wait()
		if m.done.Load() < 45 {
			t.Errorf("only %d changes were made: this test proves little", m.done.Load())
		}
		for i, id := range ids {
			_, err := h.Get(t.Context(), owner, id)
			if i == 2 && errors.Is(err, vault.ErrNotFound) {
				if n := h.count(t, `SELECT count(*) FROM credential_versions WHERE credential_id = $1`, id); n != 0 {
					t.Errorf("%d sealed versions of a deleted credential", n)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			h.checkWhole(t, id)
		}
	})
}

// checkWhole holds the credential, its versions, its history and its trail
// together.
func (h *house) checkWhole(t *testing.T, id string) {
	t.Helper()
	c, err := h.Get(t.Context(), owner, id)
	if err != nil {
		t.Fatal(err)
	}
	page, err := h.Versions(t.Context(), owner, id, vault.VersionFilter{Limit: vault.MaxLimit})
	if err != nil {
		t.Fatal(err)
	}
	sealed := h.numbers(t, `SELECT version FROM credential_versions WHERE credential_id = $1 ORDER BY version DESC`, id)
	var live []int64
	in := map[vault.State]int{}
	for i, v := range page.Versions {
		in[v.State]++
		if v.Number != int64(len(page.Versions)-i) {
			t.Errorf("the history has a gap: %d at place %d of %d", v.Number, i, len(page.Versions))
		}
		if v.State != vault.StateRetired {
			live = append(live, v.Number)
		}
		if v.State == vault.StateActive && v.Number != c.Version {
			t.Errorf("version %d is active in the history, %d in the credential", v.Number, c.Version)
		}
		if (v.State == vault.StateRetiring) == v.DestroyAt.IsZero() || (v.State == vault.StateRetired) == v.DestroyedAt.IsZero() {
			t.Errorf("its instants do not fit the state: %+v", v)
		}
	}
	if in[vault.StateActive] != 1 || in[vault.StateStaged] > 1 || in[vault.StateRetiring] > 3 {
		t.Errorf("states: %v", in)
	}
	if !slices.Equal(sealed, live) {
		t.Errorf("versions %v have sealed bytes, %v live", sealed, live)
	}
	values := h.values(t, owner, id)
	if mark := strings.TrimPrefix(values["apiKey"], "sk-proj-"); values["project"] != "proj_"+mark {
		t.Errorf("halves of two changes: %v", values)
	}
	h.checkTrail(t, id, c, page.Versions)
}

// checkTrail replays the credential's events in the order of its revisions.
func (h *house) checkTrail(t *testing.T, id string, c vault.Credential, versions []vault.Version) {
	t.Helper()
	var changes []audit.Event
	destroyed := map[int64]int{}
	made := int64(0)
	for _, action := range []audit.Action{audit.CredentialCreate, audit.CredentialUpdate, audit.CredentialRotate, audit.CredentialStage,
		audit.CredentialActivate, audit.CredentialRollback, audit.CredentialDestroy} {
		for _, e := range h.events(t, "acme", action) {
			if e.Targets[0].ID != id {
				continue
			}
			if e.Metadata["fingerprint"] != nil && (e.Metadata["valuesChanged"] != nil || action == audit.CredentialCreate) {
				made++
			}
			if gone, ok := e.Metadata["destroyed"].(string); ok {
				for number := range strings.SplitSeq(gone, ",") {
					n, _ := strconv.ParseInt(number, 10, 64)
					destroyed[n]++
				}
			}
			if e.Metadata["revision"] != nil {
				changes = append(changes, e)
			}
		}
	}
	number := func(e audit.Event, name string) int64 {
		n, _ := strconv.ParseInt(fmt.Sprint(e.Metadata[name]), 10, 64)
		return n
	}
	slices.SortFunc(changes, func(a, b audit.Event) int { return cmp.Compare(number(a, "revision"), number(b, "revision")) })
	active := int64(1)
	for i, e := range changes {
		if number(e, "revision") != int64(i)+2 {
			t.Fatalf("the trail has revision %d at place %d: a change is missing or told twice", number(e, "revision"), i)
		}
		if e.Metadata["replaced"] == nil {
			continue
		}
		if number(e, "replaced") != active {
			t.Errorf("revision %d replaced version %d, and %d was active", i+2, number(e, "replaced"), active)
		}
		active = number(e, "version")
	}
	if active != c.Version || c.Revision != int64(len(changes))+1 || made != versions[0].Number {
		t.Errorf("by the trail version %d is active at revision %d and %d were made; the credential is %+v with %d versions",
			active, len(changes)+1, made, c, versions[0].Number)
	}
	for _, v := range versions {
		if told := destroyed[v.Number]; told != map[bool]int{true: 1, false: 0}[v.State == vault.StateRetired] {
			t.Errorf("the trail tells %d times that version %d was destroyed; it is %s", told, v.Number, v.State)
		}
	}
}

func (h *house) numbers(t *testing.T, query string, args ...any) (all []int64) {
	t.Helper()
	err := h.db.View(t.Context(), "acme", func(tx *store.Tx) error {
		return tx.Each(t.Context(), func(scan func(...any) error) error {
			var n int64
			err := scan(&n)
			all = append(all, n)
			return err
		}, query, args...)
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
