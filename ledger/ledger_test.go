package ledger_test

import (
	"errors"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/ledger"
	"github.com/gatehouse-io/gatehouse/store"
)

// What is sealed verifies, place by place, with small batches and large.
func TestSealedVerifies(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		b := newBook(t, url, ledger.Options{Batch: 7})
		b.fill(t, 3, 50)
		r := b.verifyAll(t)
		if !r.Clean() || r.Unsealed != 0 {
			t.Fatalf("%+v", r)
		}
		var sum int64
		for _, log := range r.Logs {
			if log.Class != ledger.Class {
				sum += log.Verified
			}
		}
		var events int64
		if b.scan(t, &events, `SELECT count(*) FROM events`); sum != events || r.Events != events || events < 450 {
			t.Errorf("%d events verified, %d reported, %d there are", sum, r.Events, events)
		}
		var dense int64
		b.scan(t, &dense, `SELECT count(*) FROM (SELECT organization, class, max(log_index) - min(log_index) + 1 - count(*) AS d, min(log_index) AS f FROM events GROUP BY organization, class) AS x WHERE d <> 0 OR f <> 0`)
		if dense != 0 {
			t.Errorf("%d logs are not dense from 0", dense)
		}

		// Nothing new: nothing to do, and nothing changes.
		before, err := b.Checkpoint(t.Context(), operator, access.InstanceOrganization)
		if err != nil {
			t.Fatal(err)
		}
		b.sealAll(t)
		after, err := b.Checkpoint(t.Context(), operator, access.InstanceOrganization)
		if err != nil || len(before) == 0 || before[0] != after[0] {
			t.Error("an idle sealer changed the log", err)
		}
		if r = b.verifyAll(t, before...); !r.Clean() {
			t.Errorf("against its own checkpoints: %+v", r.Findings)
		}

		// One organization by itself, and since an instant.
		r, err = b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{})
		if err != nil || !r.Clean() || r.Events != 300 || len(r.Logs) != 2 {
			t.Errorf("acme: %+v, %v", r, err)
		}
		var middle store.Time
		b.scan(t, &middle, `SELECT sealed_at FROM ledger_blocks WHERE organization = 'acme' AND class = 'control' AND number = 10`)
		r, err = b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{Since: middle.Time})
		if err != nil || !r.Clean() || r.Events == 0 || r.Events >= 300 {
			t.Errorf("acme since block 10: %+v, %v", r, err)
		}
		r, err = b.Verify(t.Context(), ownerOf("acme"), ledger.VerifyOptions{Since: time.Now().Add(time.Hour)})
		if err != nil || !r.Clean() || r.Events != 0 {
			t.Errorf("acme since tomorrow: %+v, %v", r, err)
		}
	})
}

// Nobody verifies, proves or exports what is not theirs.
func TestOthersLogs(t *testing.T) {
	b := newBook(t, t.TempDir()+"/gatehouse.db", ledger.Options{})
	b.fill(t, 1, 1)
	viewer := access.NewCaller("acme", access.User, "v", access.Viewer)
	for name, c := range map[string]struct {
		caller       access.Caller
		organization string
	}{
		"a viewer": {viewer, ""}, "another organization": {ownerOf("acme"), "globex"}, "the instance": {ownerOf("acme"), access.InstanceOrganization},
		"an operator": {operator, "globex"},
	} {
		var denied *access.DeniedError
		if _, err := b.Verify(t.Context(), c.caller, ledger.VerifyOptions{Organization: c.organization}); !errors.As(err, &denied) {
			t.Errorf("%s verifies: %v", name, err)
		}
		if _, err := b.Checkpoint(t.Context(), c.caller, c.organization); !errors.As(err, &denied) {
			t.Errorf("%s has the checkpoint: %v", name, err)
		}
		if _, err := b.Prove(t.Context(), c.caller, c.organization, store.NewID("evt")); !errors.As(err, &denied) {
			t.Errorf("%s proves: %v", name, err)
		}
	}
	var denied *access.DeniedError
	if _, err := b.Verify(t.Context(), operator, ledger.VerifyOptions{All: true}); !errors.As(err, &denied) {
		t.Error("an operator verifies everybody's events:", err)
	}
	if _, err := b.RotateKey(t.Context(), ownerOf("acme")); !errors.As(err, &denied) {
		t.Error("an owner rotates the instance's key:", err)
	}
	var theirs string
	b.scan(t, &theirs, `SELECT id FROM events WHERE organization = 'globex'`)
	if _, err := b.Prove(t.Context(), ownerOf("acme"), "", theirs); !errors.Is(err, ledger.ErrNoEvent) {
		t.Error("another organization's event:", err)
	}
}
