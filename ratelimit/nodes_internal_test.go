package ratelimit

import (
	"slices"
	"testing"
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

// However the slots are given out, in one stretch to each master, every master has a mark.
func TestEveryMasterHasAMark(t *testing.T) {
	at := make([]int, markCount)
	for i, tag := range markTags() {
		if at[i] = slotOf("data{" + tag + "}"); at[i]/markWidth != i {
			t.Fatalf("mark %d stands in slot %d", i, at[i])
		}
	}
	for masters := 1; masters <= markCount/2; masters++ {
		for n := range masters {
			share := slots{{slotCount * n / masters, slotCount*(n+1)/masters - 1}}
			if !slices.ContainsFunc(at, share.have) {
				t.Errorf("master %d of %d has no mark", n, masters)
			}
		}
	}
}
