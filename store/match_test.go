package store_test

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/store"
)

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		match store.Match
		want  bool // of revision 2
	}{
		{store.Match{}, true}, {store.MatchOf(), false}, {store.MatchOf(2), true}, {store.MatchOf(1), false}, {store.MatchOf(1, 2), true},
	} {
		if got := c.match.Allows(2); got != c.want {
			t.Errorf("%+v allows 2: %t", c.match, got)
		}
	}
}
