package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

func TestCopies(t *testing.T) {
	gone := fault.New(fault.NotFound, "thing_not_found", "There is no such thing.")
	other := fault.New(fault.NotFound, "thing_not_found", "There is no thing of that name.")
	cause := errors.New("the secret detail")
	err := fmt.Errorf("reading: %w", gone.Because(cause).After(time.Second))
	if !errors.Is(err, gone) || !errors.Is(err, cause) || errors.Is(err, other) {
		t.Errorf("errors.Is: original %v, cause %v, other %v", errors.Is(err, gone), errors.Is(err, cause), errors.Is(err, other))
	}
	if gone.RetryAfter != 0 || errors.Unwrap(gone) != nil {
		t.Error("the original was changed")
	}
	f, ok := fault.As(err)
	if !ok || f.RetryAfter != time.Second || f.Error() != "There is no such thing." {
		t.Errorf("As gave %+v, %v", f, ok)
	}
}

func TestKindOf(t *testing.T) {
	tests := []struct {
		err  error
		want fault.Kind
	}{
		{nil, fault.Internal},
		{errors.New("anything"), fault.Internal},
		{fault.InvalidFields(fault.Field{Name: "a", Message: "b"}), fault.Invalid},
		{errors.Join(errors.New("first"), fault.New(fault.Limited, "c", "m")), fault.Limited},
		{&fault.Error{}, fault.Internal},
	}
	for _, test := range tests {
		if got := fault.KindOf(test.err); got != test.want {
			t.Errorf("KindOf(%v) = %d, want %d", test.err, got, test.want)
		}
	}
	if f, ok := fault.As(nil); ok || f != nil {
		t.Errorf("As(nil) = %v, %v", f, ok)
	}
}
