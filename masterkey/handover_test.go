package masterkey_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
)

// begun stores ten credentials and begins a rotation; it gives what workers are started with,
// whose lease is an hour by a clock that a test moves.
func (h *house) begun(t *testing.T) (o masterkey.Options, clock *gatehousetest.Clock, target seal.KeyID) {
	t.Helper()
	clock = gatehousetest.NewClock(time.Now())
	p := h.open(t, h.options(first))
	h.organization(t, "acme")
	for i := range 10 {
		p.store(t, "acme", fmt.Sprint("c", i))
	}
	o = h.options(second, first)
	o.Now, o.Lease = clock.Now, time.Hour
	p = h.open(t, o)
	staged, err := p.Stage(t.Context(), operator, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), operator, masterkey.RotateOptions{Rate: 1000}); err != nil {
		t.Fatal(err)
	}
	return o, clock, staged.ID
}

// A worker that gives up lets another go on at once, and not when its lease is over.
func TestAWorkerThatGivesUpLetsGo(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		o, _, target := h.begun(t)
		ctx, cancel := context.WithCancel(t.Context())
		if _, err := h.open(t, o).Work(ctx, operator, func(masterkey.Rotation) { cancel() }); !errors.Is(err, context.Canceled) {
			t.Fatalf("the first worker: %v", err)
		}
		other := h.open(t, o)
		ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if r, err := other.Work(ctx, operator, nil); err != nil || r.State != masterkey.Done || r.Key != target {
			t.Errorf("the second worker: %+v, %v", r, err)
		}
	})
}

// A worker whose lease is over writes nothing once another has taken the rotation over, and
// does not end it.
func TestAWorkerThatIsTooLateWritesNothing(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		o, clock, target := h.begun(t)
		other := h.open(t, o)
		began := false
		var done masterkey.Rotation
		r, err := h.open(t, o).Work(t.Context(), operator, func(masterkey.Rotation) {
			if began {
				return
			}
			began = true // it has the rotation, and is held up
			clock.Pass(2 * time.Hour)
			var err error
			if done, err = other.Work(t.Context(), operator, nil); err != nil || done.State != masterkey.Done || done.Key != target {
				t.Errorf("who took it over: %+v, %v", done, err)
			}
			clock.Pass(time.Hour)
		})
		if err != nil || r.State != masterkey.Done || !r.UpdatedAt.Equal(done.UpdatedAt) || r.Rewrapped != 11 {
			t.Errorf("who was held up ends with %+v, %v; done was %+v", r, err, done)
		}
		if events := h.events(t); len(events) != 4 || events[3] != "key.rotate finish" {
			t.Errorf("the trail: %v", events)
		}
	})
}

// A worker moves nothing more once its rotation was stopped.
func TestNothingIsMovedAfterAStop(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		o, _, target := h.begun(t)
		other := h.open(t, o)
		began := false
		r, err := h.open(t, o).Work(t.Context(), operator, func(masterkey.Rotation) {
			if !began {
				began = true
				if stopped, err := other.Stop(t.Context(), operator); err != nil || stopped.State != masterkey.Stopped {
					t.Errorf("%+v, %v", stopped, err)
				}
			}
		})
		if err != nil || r.State != masterkey.Stopped || r.Rewrapped != 0 {
			t.Errorf("it ends with %+v, %v", r, err)
		}
		for _, k := range other.status(t).Keys {
			if k.ID == target && k.Rows != 0 {
				t.Errorf("%d values were moved all the same", k.Rows)
			}
		}
	})
}
