package bounded_test

import (
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/internal/bounded"
)

type key struct {
	organization string
	n            int
}

// While there is room, a bounded map is a map.
func TestLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, model := bounded.New[key, any](1000), map[key]any{}
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			k := key{rapid.SampledFrom([]string{"", "acme", "globex"}).Draw(t, "organization"), rapid.IntRange(0, 5).Draw(t, "n")}
			switch rapid.IntRange(0, 2).Draw(t, "what") {
			case 0:
				v := rapid.SampledFrom([]any{1, "one", 1.5}).Draw(t, "value")
				m.Set(k, v)
				model[k] = v
			case 1:
				m.Delete(k)
				delete(model, k)
			}
			got, ok := m.Get(k)
			want, there := model[k]
			if got != want || ok != there {
				t.Fatalf("%v: %v %v, want %v %v", k, got, ok, want, there)
			}
		}
		keys := slices.Collect(m.Keys())
		for _, k := range keys {
			if _, there := model[k]; !there {
				t.Errorf("%v is not there", k)
			}
		}
		if len(keys) != len(model) {
			t.Errorf("%d keys, want %d", len(keys), len(model))
		}
	})
}

// However many are put in, by several at once, no more than its size stay.
func TestBound(t *testing.T) {
	const size = 100
	m := bounded.New[int, *int](size)
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				n := g*5000 + i
				m.Set(n, &n)
				if v, ok := m.Get(n); ok && *v != n {
					t.Errorf("%d: %d", n, *v)
				}
			}
		})
	}
	all.Wait()
	count := func() (n int) {
		for range m.Keys() {
			n++
		}
		return n
	}
	for range 100 { // it evicts beside its callers
		if count() <= size {
			break
		}
		time.Sleep(50 * time.Millisecond)
		m.Get(0)
	}
	if n := count(); n == 0 || n > size {
		t.Errorf("%d entries, want at most %d", n, size)
	}
	for range m.Keys() { // may be left early
		break
	}
}
