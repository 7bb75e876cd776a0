package masterkey_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// code gives the code of an error that callers meet.
func code(err error) string {
	f, ok := fault.As(err)
	if !ok {
		return fmt.Sprint(err)
	}
	return f.Code
}

// TestMoveToAnotherKey walks the whole way of docs/keys.md with two instances
// that are started again one after the other.
func TestMoveToAnotherKey(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		a, b := h.start(t, "a", first), h.start(t, "b", first)
		stored := map[string]vault.Credential{}
		for _, organization := range []string{"acme", "globex", "initech"} {
			h.organization(t, organization)
			for _, name := range []string{"one", "two"} {
				stored[organization+" "+name] = a.store(t, organization, name)
			}
		}
		oldKey := a.key(t, masterkey.FromKey)
		if oldKey.State != masterkey.Sealing || oldKey.Rows != 9 {
			t.Fatalf("the first key: %+v; want it sealing, with 6 versions and 3 organizations' keys", oldKey)
		}

		// 1: each instance again, with both.
		a.stop()
		a = h.start(t, "a", second, first)
		if log := h.logs.String(); !strings.Contains(log, "gatehouse keys stage") || strings.Contains(log, second) {
			t.Errorf("a start with a key that is not staged logs %q", log)
		}
		// 2: stage.
		if _, err := b.Stage(ctx, operator, 0); err == nil || code(err) == "key_not_given" {
			// b has the first secret alone, which is a key: staging it changes nothing
			if got := len(a.status(t).Keys); got != 1 {
				t.Errorf("%d keys after staging the one that there is", got)
			}
		}
		staged, err := a.Stage(ctx, operator, 0)
		if err != nil || staged.State != masterkey.Staged || staged.Source != masterkey.FromKey {
			t.Fatalf("staged: %+v, %v", staged, err)
		}
		if again, err := a.Stage(ctx, operator, 0); err != nil || again.ID != staged.ID {
			t.Errorf("staged twice: %+v, %v", again, err)
		}
		// b was not given the key: nothing switches.
		if _, err := a.Rotate(ctx, operator, masterkey.RotateOptions{}); code(err) != "key_not_everywhere" || !strings.Contains(err.Error(), ": b.") {
			t.Errorf("a rotation while b lacks the key: %v", err)
		}
		if _, err := b.Rotate(ctx, operator, masterkey.RotateOptions{Key: staged.ID}); !errors.Is(err, masterkey.ErrNotHeld) {
			t.Errorf("a rotation from an instance that lacks the key: %v", err)
		}
		if s := a.status(t); s.Keys[0].State != masterkey.Sealing || s.Rotation != nil {
			t.Errorf("a refused rotation changed something: %+v", s)
		}
		b.stop()
		b = h.start(t, "b", second, first)

		// 3: rotate. What either instance writes meanwhile ends under the new key.
		if _, err := b.Rotate(ctx, operator, masterkey.RotateOptions{}); err != nil {
			t.Fatal(err)
		}
		stored["acme three"] = a.store(t, "acme", "three")
		r := b.rotated(t)
		if r.Key != staged.ID || r.Unreadable != 0 || r.Rewrapped < 9 {
			t.Errorf("the rotation: %+v", r)
		}
		eventually(t, "both instances seal under the new key", func() bool {
			x, _ := a.Ring().Sealing()
			y, _ := b.Ring().Sealing()
			return x == staged.ID && y == staged.ID
		})
		s := a.status(t)
		if s.Keys[0].Rows != 0 || s.Keys[0].State != masterkey.Opening || s.Keys[1].Rows != 10 || s.Keys[1].State != masterkey.Sealing || s.Unknown != nil || s.Unregistered != nil {
			t.Errorf("after the rotation: %+v", s)
		}
		// 4: verify.
		if v, err := a.Verify(ctx, operator, masterkey.VerifyOptions{}); err != nil || !v.Complete || v.Checked != 10 || v.Unreadable != 0 {
			t.Errorf("verified: %+v, %v", v, err)
		}
		// Nothing is left to do: saying it again does nothing.
		if again, err := a.Rotate(ctx, operator, masterkey.RotateOptions{}); err != nil || again.ID != "" || again.State != masterkey.Done {
			t.Errorf("a rotation of nothing: %+v, %v", again, err)
		}
		// 5: retire.
		if _, err := a.Retire(ctx, operator, staged.ID, false); !errors.Is(err, masterkey.ErrSeals) {
			t.Errorf("the key that seals retires: %v", err)
		}
		if key, err := a.Retire(ctx, operator, oldKey.ID, false); err != nil || key.State != masterkey.Retired {
			t.Fatalf("retired: %+v, %v", key, err)
		}
		if _, err := a.Retire(ctx, operator, oldKey.ID, false); err != nil {
			t.Errorf("retired twice: %v", err)
		}
		eventually(t, "the other instance drops the retired key", func() bool { return !b.Ring().Holds(oldKey.ID) })

		// 6: without the old secret, all is there.
		a.stop()
		a = h.start(t, "a", second)
		for name, c := range stored {
			organization, short, _ := strings.Cut(name, " ")
			a.reads(t, organization, c, keyOf(organization, short))
			b.reads(t, organization, c, keyOf(organization, short))
		}
		want := []string{"key.create", "key.stage", "key.rotate start", "key.rotate finish", "key.retire"}
		if diff := cmp.Diff(want, h.events(t)); diff != "" {
			t.Errorf("the trail (-want +got):\n%s", diff)
		}
		// Whoever starts with the old secret alone is told which key it takes.
		_, err = masterkey.Open(ctx, h.db, h.trail, h.options(first))
		if err == nil || !strings.Contains(err.Error(), staged.ID.String()) || strings.Contains(err.Error(), first) {
			t.Errorf("a start with the old secret: %v", err)
		}
	})
}

// TestMoveOffTheFallback: JWT_SECRET sealed, ENCRYPTION_KEY is set, and nothing
// is repeated in ENCRYPTION_KEYS_OLD.
func TestMoveOffTheFallback(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		o := h.options("")
		o.Secret, o.Fallback = seal.Secret{}, seal.NewSecret(fallback)
		p := h.open(t, o)
		h.organization(t, "acme")
		c := p.store(t, "acme", "one")
		if key := p.key(t, masterkey.FromFallback); key.State != masterkey.Sealing || key.Rows != 2 {
			t.Errorf("JWT_SECRET is used for %+v", key)
		}
		if _, err := p.Stage(ctx, operator, 0); !errors.Is(err, masterkey.ErrNoNewKey) {
			t.Errorf("staged without ENCRYPTION_KEY: %v", err)
		}

		o = h.options(second)
		o.Fallback = seal.NewSecret(fallback)
		p = h.open(t, o)
		p.reads(t, "acme", c, keyOf("acme", "one"))
		if _, err := p.Stage(ctx, operator, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Rotate(ctx, operator, masterkey.RotateOptions{}); err != nil {
			t.Fatal(err)
		}
		p.rotated(t)
		key := p.key(t, masterkey.FromFallback)
		if key.State == masterkey.Sealing || key.Rows != 0 {
			t.Errorf("after the rotation JWT_SECRET is used for %+v", key)
		}
		if _, err := p.Retire(ctx, operator, key.ID, false); err != nil {
			t.Fatal(err)
		}
		// JWT_SECRET may now change without a credential being lost.
		o = h.options(second)
		o.Fallback = seal.NewSecret(third)
		h.open(t, o).reads(t, "acme", c, keyOf("acme", "one"))
		if log := h.logs.String(); strings.Contains(log, fallback) || strings.Contains(log, second) {
			t.Error("a log line holds a secret")
		}
	})
}

// TestMissingOldKey: a secret that values hang on is asked for by its key's id;
// one that nothing hangs on is not needed.
func TestMissingOldKey(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		p := h.open(t, h.options(first))
		h.organization(t, "acme")
		lost := p.store(t, "acme", "one")
		old := p.key(t, masterkey.FromKey)
		p = h.open(t, h.options(second, first))
		if _, err := p.Stage(ctx, operator, 0); err != nil {
			t.Fatal(err)
		}
		// A staged key that is not here is no reason not to start.
		if _, err := masterkey.Open(ctx, h.db, h.trail, h.options(first)); err != nil {
			t.Errorf("while another key is staged: %v", err)
		}
		if _, err := p.Rotate(ctx, operator, masterkey.RotateOptions{}); err != nil {
			t.Fatal(err)
		}
		_, err := masterkey.Open(ctx, h.db, h.trail, h.options(second))
		if err == nil || !strings.Contains(err.Error(), old.ID.String()) || !strings.Contains(err.Error(), "ENCRYPTION_KEYS_OLD") {
			t.Errorf("a start without the old secret: %v", err)
		}
		// Commands that mend open all the same; the key is given up where it is lost.
		o := h.options(second)
		o.Incomplete = true
		rescue := h.open(t, o)
		if _, err := rescue.Retire(ctx, operator, old.ID, false); code(err) != "key_in_use" || !strings.Contains(err.Error(), "credential_versions.fields_sealed 1") ||
			!strings.Contains(err.Error(), "acme/cred_") {
			t.Errorf("a key in use retires: %v", err)
		}
		if v, err := rescue.Verify(ctx, operator, masterkey.VerifyOptions{}); err != nil || v.Unreadable != 2 || v.Findings[0].Reason != masterkey.KeyMissing {
			t.Errorf("verified without the secret: %+v, %v", v, err)
		}
		if _, err := p.Retire(ctx, operator, old.ID, true); !errors.Is(err, masterkey.ErrNotLost) {
			t.Errorf("a key that is here is given up: %v", err)
		}
		if _, err := rescue.Retire(ctx, operator, old.ID, true); err != nil {
			t.Errorf("a lost key is given up: %v", err)
		}

		// What hung on it is lost, and is stored again; nothing else is lost with it.
		p = h.open(t, h.options(second))
		var report masterkey.SealReport
		err = h.db.ViewAcross(ctx, func(tx *store.Tx) (err error) {
			report, err = masterkey.OpenSeals(ctx, tx, vault.SealedColumns(), p.Ring(), "test", 0, nil)
			return err
		})
		if err != nil || report.Err() != nil || report.Lost[old.ID] != 2 || report.Total() != 0 {
			t.Errorf("what was given up stands in the way of a restore: %+v, %v, %v", report, report.Err(), err)
		}
		if _, _, err := p.vault.Reveal(ctx, ownerOf("acme"), lost.ID, "test"); !errors.Is(err, vault.ErrUnreadable) {
			t.Errorf("what was given up: %v", err)
		}
		again := keyOf("acme", "again")
		c, _, err := p.vault.Update(ctx, ownerOf("acme"), lost.ID, store.Match{}, vault.Change{Fields: map[string]*string{"apiKey": &again}})
		if err != nil {
			t.Fatalf("storing again: %v", err)
		}
		p.reads(t, "acme", c, again)
		p.reads(t, "acme", p.store(t, "acme", "two"), keyOf("acme", "two"))
		if v, err := p.Verify(ctx, operator, masterkey.VerifyOptions{}); err != nil || v.Unreadable != 0 || v.Total != 3 {
			t.Errorf("verified in the end: %+v, %v", v, err)
		}
	})
}

// TestNothingHangsOnTheMissingKey: an old secret that was taken out before its
// key was retired, but after everything had moved.
func TestNothingHangsOnTheMissingKey(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		h.open(t, h.options(first))
		p := h.open(t, h.options(second, first))
		if _, err := p.Stage(t.Context(), operator, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Rotate(t.Context(), operator, masterkey.RotateOptions{}); err != nil {
			t.Fatal(err)
		}
		p.rotated(t)
		h.open(t, h.options(second))
		if log := h.logs.String(); !strings.Contains(log, "gatehouse keys retire") {
			t.Errorf("the log %q does not tell of the key that can go", log)
		}
	})
}

// TestMoreIterations: the same secret with more of them is another key.
func TestMoreIterations(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	p := h.open(t, h.options(first))
	h.organization(t, "acme")
	c := p.store(t, "acme", "one")
	for _, n := range []int{1, seal.MinIterations - 1, seal.MaxIterations + 1, -5} {
		if _, err := p.Stage(t.Context(), operator, n); code(err) != "invalid_request" {
			t.Errorf("%d iterations: %v", n, err)
		}
	}
	key, err := p.Stage(t.Context(), operator, 150_000)
	if err != nil || key.Iterations != 150_000 || key.State != masterkey.Staged {
		t.Fatalf("%+v, %v", key, err)
	}
	if _, err := p.Rotate(t.Context(), operator, masterkey.RotateOptions{}); err != nil {
		t.Fatal(err)
	}
	p.rotated(t)
	h.open(t, h.options(first)).reads(t, "acme", c, keyOf("acme", "one"))
	if s := p.status(t); s.Keys[1].Rows != 2 || s.Keys[0].Rows != 0 {
		t.Errorf("%+v", s.Keys)
	}
}

// TestOperatorsOnly: nobody else sees or moves a key, an owner of the caller's
// own organization neither.
func TestOperatorsOnly(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db")
	p, ctx := h.open(t, h.options(first)), t.Context()
	for _, caller := range []access.Caller{ownerOf("acme"), {}, access.NewCaller(access.InstanceOrganization, access.User, "u", access.Owner)} {
		_, status := p.Status(ctx, caller)
		_, stage := p.Stage(ctx, caller, 0)
		_, rotate := p.Rotate(ctx, caller, masterkey.RotateOptions{})
		_, stop := p.Stop(ctx, caller)
		_, progress := p.Progress(ctx, caller)
		_, verify := p.Verify(ctx, caller, masterkey.VerifyOptions{})
		_, retire := p.Retire(ctx, caller, seal.KeyID{1}, false)
		for i, err := range []error{status, stage, rotate, stop, progress, verify, retire} {
			var denied *access.DeniedError
			if !errors.As(err, &denied) {
				t.Errorf("call %d by %+v: %v", i, caller, err)
			}
		}
	}
	if _, err := p.Retire(ctx, operator, seal.KeyID{1}, false); !errors.Is(err, masterkey.ErrUnknownKey) {
		t.Errorf("an unknown key: %v", err)
	}
	if _, err := p.Rotate(ctx, operator, masterkey.RotateOptions{Key: seal.KeyID{1}}); !errors.Is(err, masterkey.ErrUnknownKey) {
		t.Errorf("to an unknown key: %v", err)
	}
	if _, err := p.Rotate(ctx, operator, masterkey.RotateOptions{Rate: -1}); code(err) != "invalid_request" {
		t.Errorf("at a rate below zero: %v", err)
	}
}

// TestWritersDuringRotation lets several writers change and read credentials on
// two instances while keys are rotated to and fro: no change is lost, none is
// brought back, and after one more rotation each row is under the last key.
func TestWritersDuringRotation(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		a, b := h.start(t, "a", first, second), h.start(t, "b", second, first)
		if _, err := b.Stage(ctx, operator, 0); err != nil {
			t.Fatal(err)
		}
		instances := []*process{a, b}
		done := make(chan struct{})
		var writers sync.WaitGroup
		var changes atomic.Int64
		for w := range 4 {
			organization := fmt.Sprintf("org-%d", w)
			h.organization(t, organization)
			writers.Go(func() {
				caller := ownerOf(organization)
				c := a.store(t, organization, "only")
				want := keyOf(organization, "only")
				for i := 0; ; i++ {
					select {
					case <-done:
						a.reads(t, organization, c, want)
						return
					default:
					}
					p := instances[rand.N(2)]
					p.reads(t, organization, c, want)
					next := keyOf(organization, fmt.Sprint(i))
					if _, _, err := p.vault.Rotate(ctx, caller, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": next}}); err != nil {
						t.Errorf("a change: %v", err)
						return
					}
					want = next
					changes.Add(1)
				}
			})
		}
		keys := a.status(t).Keys
		to := 0
		for i := 0; i < 4 || changes.Load() < 40 && i < 100; i++ {
			to = (i + 1) % 2
			eventually(t, "a rotation starts", func() bool {
				_, err := instances[i%2].Rotate(ctx, operator, masterkey.RotateOptions{Key: keys[to].ID})
				return err == nil
			})
			instances[i%2].rotated(t)
		}
		close(done)
		writers.Wait()
		// A change that was sealed before the last switch and written after the
		// rotation is under the key before it. It is counted there, keeps that key from
		// retiring, and the next rotation takes it along.
		if _, err := a.Rotate(ctx, operator, masterkey.RotateOptions{Key: keys[to].ID}); err != nil {
			t.Fatal(err)
		}
		a.rotated(t)
		s := a.status(t)
		if s.Keys[to].Rows != 8 || s.Keys[1-to].Rows != 0 {
			t.Errorf("after rotations to and fro: %+v", s.Keys)
		}
		if changes.Load() < 10 {
			t.Errorf("only %d changes were made meanwhile", changes.Load())
		}
	})
}

// TestStopAndGoOn: a rotation that is stopped stays so, and the next goes on
// with the rest; a rate is held.
func TestStopAndGoOn(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, h := t.Context(), newHouse(t, url)
		p := h.open(t, h.options(second, first))
		h.organization(t, "acme")
		for i := range 30 {
			p.store(t, "acme", fmt.Sprint("c", i))
		}
		p = h.open(t, h.options(third, second))
		if _, err := p.Stage(ctx, operator, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := p.Rotate(ctx, operator, masterkey.RotateOptions{Rate: 10}); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan masterkey.Rotation)
		go func() {
			r, err := p.Work(ctx, operator, nil)
			if err != nil {
				t.Error(err)
			}
			stopped <- r
		}()
		begin := time.Now()
		eventually(t, "some rows are moved", func() bool { r, err := p.Progress(ctx, operator); return err == nil && r.Rewrapped >= 4 })
		if r, err := p.Progress(ctx, operator); err != nil || float64(r.Rewrapped) > 10*time.Since(begin).Seconds()+6 {
			t.Errorf("at 10 rows a second: %+v after %v, %v", r, time.Since(begin), err)
		}
		if r, err := p.Stop(ctx, operator); err != nil || r.State != masterkey.Stopped {
			t.Errorf("stopped: %+v, %v", r, err)
		}
		if r := <-stopped; r.State != masterkey.Stopped || r.Rewrapped == 0 || r.Rewrapped >= 31 {
			t.Errorf("the worker ended with %+v", r)
		}
		r, err := p.Rotate(ctx, operator, masterkey.RotateOptions{})
		if err != nil || r.Total == 0 || r.Total >= 31 {
			t.Errorf("the rest: %+v, %v", r, err)
		}
		p.rotated(t)
		if s := p.status(t); s.Keys[0].Rows != 0 || s.Keys[1].Rows != 31 {
			t.Errorf("%+v", s.Keys)
		}
		if got := strings.Join(h.events(t)[2:], ", "); !strings.HasSuffix(got, "key.rotate start, key.rotate stop partial, key.rotate start, key.rotate finish") {
			t.Errorf("the trail: %s", got)
		}
	})
}
