package instance

import "testing"

func TestGarbageBeside(t *testing.T) {
	for live, want := range map[uint64]int{0: 100, 1 << 20: 400, 8 << 20: 400, 16 << 20: 200, 24 << 20: 100, 40 << 20: 100, 1 << 30: 100} {
		if got := garbageBeside(live); got != want {
			t.Errorf("%d MiB live: %d %%, want %d", live>>20, got, want)
		}
	}
}
