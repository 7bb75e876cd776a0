package ratelimit

import (
	"testing"

	"pgregory.net/rapid"
)

// The slots are those of Redis: examples of its specification, and what redis-server
// answers to CLUSTER KEYSLOT.
func TestSlotOf(t *testing.T) {
	for key, want := range map[string]int{
		"123456789": 12739, "": 0, "foo": 12182, "bar": 5061, "{foo}x": 12182, "x{foo}y{bar}": 12182, "{}foo": 9500, "foo{": 7673,
	} {
		if got := slotOf(key); got != want {
			t.Errorf("%q is in slot %d, want %d", key, got, want)
		}
	}
}

// However the slots are given out, in one stretch to each master, a master has a mark,
// and what its marks cover is all that it has.
func TestMarksCoverTheirNode(t *testing.T) {
	at := make([]int, markCount)
	for i, tag := range markTags() {
		if at[i] = slotOf("data{" + tag + "}"); at[i]/markWidth != i {
			t.Fatalf("mark %d stands in slot %d", i, at[i])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		masters := rapid.IntRange(1, markCount/2).Draw(t, "masters")
		lost := rapid.IntRange(0, masters-1).Draw(t, "lost")
		from, to := slotCount*lost/masters, slotCount*(lost+1)/masters
		var m marked
		any := false
		for i, slot := range at {
			if from <= slot && slot < to {
				m[i], any = true, true
			}
		}
		if !any {
			t.Fatal("no mark on the node")
		}
		far := 0
		for slot := range slotCount {
			inside := from <= slot && slot < to
			if covered := m.covers(slot); inside && !covered {
				t.Fatalf("slot %d of the node's %d to %d is not covered", slot, from, to)
			} else if covered && !inside {
				far++
			}
		}
		if far > 2*markWidth {
			t.Fatalf("%d slots of other nodes are covered", far)
		}
	})
}
