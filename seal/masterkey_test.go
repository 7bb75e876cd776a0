package seal_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/seal"
)

func TestKeyRecord(t *testing.T) {
	record := recordA()
	if !record.Matches(masterA) {
		t.Error("a record does not match its own secret")
	}
	if record.Matches(masterB) || record.Matches(seal.Secret{}) {
		t.Error("a record matches another secret")
	}
	again := mustRecord(record.ID, masterA)
	if slices.Equal(again.Salt, record.Salt) || slices.Equal(again.Check, record.Check) {
		t.Error("two records of one secret share their salt or check value")
	}
	if text := fmt.Sprintf("%+v %v", record, keyA()); strings.Contains(text, masterA.ExposeSecret()) {
		t.Error("a record shows the secret")
	}

	for _, test := range []struct {
		name   string
		change func(*seal.KeyRecord)
		want   error
	}{
		{"as it is", func(*seal.KeyRecord) {}, nil},
		{"no id", func(r *seal.KeyRecord) { r.ID = seal.KeyID{} }, seal.ErrKeyRecord},
		{"short salt", func(r *seal.KeyRecord) { r.Salt = r.Salt[1:] }, seal.ErrKeyRecord},
		{"short check", func(r *seal.KeyRecord) { r.Check = r.Check[1:] }, seal.ErrKeyRecord},
		{"no check", func(r *seal.KeyRecord) { r.Check = nil }, seal.ErrKeyRecord},
		{"few iterations", func(r *seal.KeyRecord) { r.Iterations = seal.MinIterations - 1 }, seal.ErrIterations},
		{"many iterations", func(r *seal.KeyRecord) { r.Iterations = seal.MaxIterations + 1 }, seal.ErrIterations},
		{"negative iterations", func(r *seal.KeyRecord) { r.Iterations = -1 }, seal.ErrIterations},
		{"other iterations", func(r *seal.KeyRecord) { r.Iterations++ }, seal.ErrWrongSecret},
		{"other salt", func(r *seal.KeyRecord) { r.Salt[0]++ }, seal.ErrWrongSecret},
		{"other check", func(r *seal.KeyRecord) { r.Check[31]++ }, seal.ErrWrongSecret},
	} {
		t.Run(test.name, func(t *testing.T) {
			changed := record
			changed.Salt, changed.Check = slices.Clone(record.Salt), slices.Clone(record.Check)
			test.change(&changed)
			if _, err := seal.NewMasterKey(changed, masterA); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if got := changed.Matches(masterA); got != (test.want == nil) {
				t.Errorf("Matches gives %v", got)
			}
		})
	}
}

func TestNewKeyRecordRefuses(t *testing.T) {
	id := seal.KeyID{1}
	for _, test := range []struct {
		name       string
		id         seal.KeyID
		secret     seal.Secret
		iterations int
		want       error
	}{
		{"no id", seal.KeyID{}, masterA, seal.MinIterations, seal.ErrKeyRecord},
		{"no secret", id, seal.Secret{}, seal.MinIterations, seal.ErrShortSecret},
		{"short secret", id, seal.NewSecret(strings.Repeat("s", seal.MinSecret-1)), seal.MinIterations, seal.ErrShortSecret},
		{"few iterations", id, masterA, seal.MinIterations - 1, seal.ErrIterations},
		{"many iterations", id, masterA, seal.MaxIterations + 1, seal.ErrIterations},
	} {
		if _, err := seal.NewKeyRecord(test.id, test.secret, test.iterations); !errors.Is(err, test.want) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
	}
}

func TestOrganizationSalt(t *testing.T) {
	salt := seal.NewOrganizationSalt()
	if salt.IsZero() || salt == seal.NewOrganizationSalt() {
		t.Error("a salt is not random")
	}
	value, err := salt.Value()
	if err != nil {
		t.Fatal(err)
	}
	var read seal.OrganizationSalt
	if err := read.Scan(value); err != nil || read != salt {
		t.Errorf("a salt is read back differently: %v", err)
	}
	for _, src := range []any{nil, "text", []byte{}, make([]byte, 31), make([]byte, 32), make([]byte, 33)} {
		if err := read.Scan(src); !errors.Is(err, seal.ErrSalt) {
			t.Errorf("Scan of %T gives %v", src, err)
		}
	}
	if _, err := (seal.OrganizationSalt{}).Value(); !errors.Is(err, seal.ErrSalt) {
		t.Errorf("the zero salt is written: %v", err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%d"} {
		if got := fmt.Sprintf(verb, salt); got != "[organization salt]" {
			t.Errorf("%s shows the salt", verb)
		}
	}
	if _, err := json.Marshal(salt); err == nil {
		t.Error("a salt is JSON")
	}
	if got := salt.LogValue().String(); got != "[organization salt]" {
		t.Errorf("a log shows %q", got)
	}
}
