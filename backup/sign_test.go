package backup_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/backup"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/instance"
	"github.com/gatehouse-io/gatehouse/seal"
)

// createWith backs the database at url up with these secrets at hand.
func createWith(t testing.TB, url string, id *age.X25519Identity, secrets ...seal.Secret) ([]byte, backup.Report) {
	t.Helper()
	db := open(t, url)
	var file bytes.Buffer
	report, err := backup.Create(t.Context(), operator, db, audit.New(db, audit.Options{}), &file, backup.Options{
		Gatehouse: "test", Recipients: []age.Recipient{id.Recipient()}, Columns: instance.SealedColumns(), Secrets: secrets,
	})
	if err != nil {
		t.Fatal(err)
	}
	return file.Bytes(), report
}

// rewritten gives text with its last line's count and hash made right, as somebody would who
// changed a backup and has its identity or knows its recipient.
func rewritten(text string) string {
	end := strings.LastIndex(strings.TrimSuffix(text, "\n"), "\n") + 1
	sum := sha256.Sum256([]byte(text[:end]))
	return text[:end] + regexp.MustCompile(`"sha256":"[0-9a-f]+"`).ReplaceAllString(text[end:], `"sha256":"`+hex.EncodeToString(sum[:])+`"`)
}

var signaturePart = regexp.MustCompile(`,"signature":\{[^}]*\}`)

// Whoever knows the recipient writes a file that opens. Without the master key it is not restored,
// whatever of a real backup is in it.
func TestOnlyTheMasterKeySigns(t *testing.T) {
	url := kinds["sqlite"](t)
	s := serve(t, url)
	put(t, s, "acme", "Default")
	id := newIdentity(t)
	file, report := createWith(t, url, id, secret)
	if !report.Header.Signed || report.Signing != backup.Genuine {
		t.Errorf("a backup made with the master key: %+v", report)
	}
	text := string(plain(t, file, id))
	last := text[strings.LastIndex(strings.TrimSuffix(text, "\n"), "\n")+1:]
	again, _ := createWith(t, url, id, secret)
	other := signaturePart.FindString(string(plain(t, again, id)))
	if other == "" || strings.Contains(text, other) {
		t.Fatal("two backups have one signature")
	}
	strip := func(text string) string {
		return rewritten(strings.Replace(signaturePart.ReplaceAllString(text, ""), `"signed":true`, `"signed":false`, 1))
	}
	for name, test := range map[string]struct {
		text string
		want error
	}{
		"as it is":                        {text, nil},
		"changed":                         {rewritten(strings.Replace(text, `"acme"`, `"evil"`, 1)), backup.ErrForged},
		"another header":                  {rewritten(strings.Replace(text, `"gatehouse":"test"`, `"gatehouse":"0.1"`, 1)), backup.ErrForged},
		"with another backup's signature": {signaturePart.ReplaceAllString(text, other), backup.ErrForged},
		"without its signature":           {signaturePart.ReplaceAllString(text, ""), backup.ErrDamaged},
		"stripped":                        {strip(text), backup.ErrUnsigned},
		"as of an earlier version":        {rewritten(strings.Replace(strip(text), `"version":2`, `"version":1`, 1)), backup.ErrUnsigned},
		"an earlier version's, signed":    {rewritten(strings.Replace(text, `"version":2`, `"version":1`, 1)), backup.ErrDamaged},
		"said to be unsigned":             {rewritten(strings.Replace(text, `"signed":true`, `"signed":false`, 1)), backup.ErrUnsigned},
		"ten million iterations":          {strings.Replace(text, last, strings.Replace(last, `"iterations":100000`, `"iterations":10000000`, 1), 1), backup.ErrDamaged},
		"a short salt":                    {strings.Replace(text, last, regexp.MustCompile(`"salt":"[^"]*"`).ReplaceAllString(last, `"salt":"AAAA"`), 1), backup.ErrDamaged},
		"no hmac":                         {strings.Replace(text, last, regexp.MustCompile(`"hmac":"[^"]*"`).ReplaceAllString(last, `"hmac":""`), 1), backup.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			forged := wrap(t, []byte(test.text), id)
			target := kinds["sqlite"](t)
			done, err := restore(t, forged, id, target, nil)
			if !errors.Is(err, test.want) {
				t.Fatalf("restored with %v, want %v", err, test.want)
			}
			if test.want == nil {
				if done.Signing != backup.Genuine {
					t.Errorf("it is said to be %v", done.Signing)
				}
				return
			}
			if got, empty := rowsOf(t, open(t, target)), rowsOf(t, open(t, kinds["sqlite"](t))); got != empty {
				t.Errorf("after it the database holds %s", got)
			}
			// A forged signature is refused whatever is allowed; what merely has none is then taken.
			_, err = restore(t, forged, id, target, func(o *backup.RestoreOptions) { o.Unsigned = true })
			if allowed := errors.Is(test.want, backup.ErrUnsigned) && test.text != rewritten(strings.Replace(text, `"signed":true`, `"signed":false`, 1)); allowed != (err == nil) {
				t.Errorf("where unsigned backups are taken: %v", err)
			}
		})
	}
}

// A backup is made without the master key too, and says so; one of another's is refused.
func TestSignedOrNot(t *testing.T) {
	url := kinds["sqlite"](t)
	s := serve(t, url)
	put(t, s, "acme", "Default")
	id := newIdentity(t)
	wrong := seal.NewSecret("not-" + gatehousetest.EncryptionKey)
	check := func(file []byte, secrets ...seal.Secret) (backup.Signing, error) {
		t.Helper()
		r, err := backup.Open(bytes.NewReader(file), []age.Identity{id})
		if err != nil {
			t.Fatal(err)
		}
		report, err := r.Check(t.Context(), secrets, nil)
		return report.Signing, err
	}
	for name, secrets := range map[string][]seal.Secret{"no secret": nil, "another's": {wrong}, "a short one": {seal.NewSecret("short")}} {
		file, report := createWith(t, url, id, secrets...)
		if report.Header.Signed || report.Signing != backup.Unsigned {
			t.Errorf("%s: signed: %+v", name, report.Header)
		}
		if got, err := check(file, secret); got != backup.Unsigned || err != nil {
			t.Errorf("%s: checked: %v, %v", name, got, err)
		}
		if _, err := restore(t, file, id, kinds["sqlite"](t), nil); !errors.Is(err, backup.ErrUnsigned) {
			t.Errorf("%s: restored: %v", name, err)
		}
		if done, err := restore(t, file, id, kinds["sqlite"](t), func(o *backup.RestoreOptions) { o.Unsigned = true }); err != nil || done.Signing != backup.Unsigned {
			t.Errorf("%s: not restored: %v", name, err)
		}
	}
	// The secret need not be the first of them.
	file, _ := createWith(t, url, id, wrong, secret)
	for name, test := range map[string]struct {
		secrets []seal.Secret
		want    backup.Signing
	}{
		"its secret": {[]seal.Secret{wrong, secret}, backup.Genuine}, "another's": {[]seal.Secret{wrong}, backup.Signed}, "none": {nil, backup.Signed},
	} {
		if got, err := check(file, test.secrets...); got != test.want || err != nil {
			t.Errorf("%s says %v, %v", name, got, err)
		}
	}
	if done, err := restore(t, file, id, kinds["sqlite"](t), func(o *backup.RestoreOptions) { o.SkipOpening, o.Secrets = true, nil }); err != nil || done.Signing != backup.Signed {
		t.Errorf("without the master key: %v, %v", done.Signing, err)
	}

	// Where nothing was ever sealed, the secret at hand signs.
	fresh, report := createWith(t, kinds["sqlite"](t), id, secret)
	if report.Signing != backup.Genuine || report.Header.SealingKey != "" {
		t.Errorf("of a new database: %+v", report)
	}
	if _, err := restore(t, fresh, id, kinds["sqlite"](t), nil); err != nil {
		t.Errorf("of a new database, restored with its secret: %v", err)
	}
	if _, err := restore(t, fresh, id, kinds["sqlite"](t), func(o *backup.RestoreOptions) { o.Secrets = []seal.Secret{wrong} }); !errors.Is(err, backup.ErrOtherSigner) {
		t.Errorf("of a new database, restored with another secret: %v", err)
	}
	if _, err := restore(t, fresh, id, kinds["sqlite"](t), func(o *backup.RestoreOptions) { o.Secrets, o.Unsigned = []seal.Secret{wrong}, true }); err != nil {
		t.Errorf("of a new database, whoever signed it: %v", err)
	}
}
