package fault_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

func TestMistakesAndTheirMends(t *testing.T) {
	err := errors.Join(
		errors.New("A must be a number; it counts apples"), // no mend: what is behind a semicolon need not be one
		nil,
		errors.Join(fault.Mistakef("choose another", "the name %s is taken", "x"), fmt.Errorf("entry %d: %w", 2, fault.Mistakef("see docs", "no such field"))),
	)
	want := []fault.Mistake{{What: "A must be a number; it counts apples"}, {What: "the name x is taken", Mend: "choose another"}, {What: "entry 2: no such field", Mend: "see docs"}}
	if got := fault.Mistakes(err); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
	const text = "HOSTS: A must be a number; it counts apples\nHOSTS: the name x is taken; choose another\nHOSTS: entry 2: no such field; see docs"
	placed := fault.EachOf("HOSTS", err)
	if placed.Error() != text || len(fault.Mistakes(placed)) != 3 || fault.Mistakes(placed)[2].Mend != "see docs" {
		t.Errorf("%q", placed)
	}
	if fault.EachOf("HOSTS", nil) != nil || fault.Mistakes(nil) != nil {
		t.Error("nothing became a mistake")
	}
}
