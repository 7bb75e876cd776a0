package backup_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/gatehouse-io/gatehouse/backup"
	"github.com/gatehouse-io/gatehouse/store"
)

// A file that was cut off or altered at any place is no backup, and nothing of
// it comes into a database.
func TestDamagedFiles(t *testing.T) {
	s := serve(t, kinds["sqlite"](t))
	put(t, s, "acme", "Default")
	for i := range 300 { // more than one of age's pieces
		exec(t, s.DB, `INSERT INTO events (organization, id, occurred_at, recorded_at, class, action, outcome, actor_id, canonical)
			VALUES ('acme', $1, 1, 1, 'access', 'x.y', 'success', 'a', $2)`, fmt.Sprint("e", i), []byte(randomText(i)))
	}
	id := newIdentity(t)
	file, _ := create(t, s.DB, id)
	if len(file) < 100_000 {
		t.Fatalf("the file has %d bytes only", len(file))
	}
	check := func(file []byte) error {
		r, err := backup.Open(bytes.NewReader(file), []age.Identity{id})
		if err != nil {
			return err
		}
		_, err = r.Check(t.Context(), nil, nil)
		return err
	}
	if err := check(file); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		at := i * len(file) / 60
		if err := check(file[:at]); !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrWrongIdentity) {
			t.Errorf("cut off at %d of %d: %v", at, len(file), err)
		}
		flipped := bytes.Clone(file)
		flipped[at] ^= 1
		if err := check(flipped); !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrWrongIdentity) {
			t.Errorf("flipped at %d of %d: %v", at, len(file), err)
		}
	}
	for _, extra := range []string{"x", "\n", string(file)} {
		if err := check(append(bytes.Clone(file), extra...)); !errors.Is(err, backup.ErrDamaged) {
			t.Errorf("with %d bytes more: %v", len(extra), err)
		}
	}
	for name, make := range kinds {
		t.Run(name, func(t *testing.T) {
			url := make(t)
			empty := rowsOf(t, open(t, kinds["sqlite"](t)))
			for _, cut := range []int{len(file) - 1, len(file) * 9 / 10, len(file) / 2} {
				if _, err := restore(t, file[:cut], id, url, nil); !errors.Is(err, backup.ErrDamaged) {
					t.Errorf("a restore of the first %d of %d bytes: %v", cut, len(file), err)
				}
				if got := rowsOf(t, open(t, url)); got != empty {
					t.Errorf("after it the database holds %s", got)
				}
			}
			if _, err := restore(t, file, id, url, nil); err != nil {
				t.Errorf("the whole file after that: %v", err)
			}
		})
	}
}

// randomText is text that does not pack, the same for the same seed.
func randomText(seed int) string {
	var b strings.Builder
	x := uint64(seed)*2862933555777941757 + 3037000493
	for b.Len() < 700 {
		x = x*6364136223846793005 + 1442695040888963407
		fmt.Fprintf(&b, "%x", x>>16)
	}
	return b.String()
}

// What is inside is believed no more than the file is: whoever has the public
// key can write one.
func TestForgedFiles(t *testing.T) {
	s := serve(t, kinds["sqlite"](t))
	put(t, s, "acme", "Default")
	id := newIdentity(t)
	file, report := create(t, s.DB, id)
	text := string(plain(t, file, id))
	all := strings.SplitAfter(text, "\n")
	row := -1
	for i, line := range all {
		if strings.HasPrefix(line, `["acme"`) {
			row = i
		}
	}
	without := func(i int) string { return strings.Join(append(append([]string{}, all[:i]...), all[i+1:]...), "") }
	for name, forged := range map[string]string{
		"a row less":                without(row),
		"a row twice":               strings.Join(append(append([]string{}, all[:row+1]...), all[row:]...), ""),
		"no header":                 without(0),
		"no end":                    without(len(all) - 2),
		"a text after the end":      text + "{}\n",
		"another hash":              strings.Replace(text, report.SHA256, strings.Repeat("0", 64), 1),
		"another value":             strings.Replace(text, `"acme"`, `"evil"`, 1),
		"another table":             strings.Replace(text, `{"table":"members"`, `{"table":"pirates"`, 1),
		"a table that is SQL":       strings.Replace(text, `{"table":"members"`, `{"table":"members\"; DROP TABLE events; --"`, 1),
		"a column that is SQL":      strings.Replace(text, `"disabled_at BIGINT"`, `"x) SELECT 1; -- BIGINT"`, 1),
		"another type":              strings.Replace(text, `"disabled_at BIGINT"`, `"disabled_at SERIAL"`, 1),
		"a member that is unknown":  strings.Replace(text, `{"table":"members"`, `{"more":1,"table":"members"`, 1),
		"another migration's table": strings.Replace(text, `"migration":`, `"migration":0`, 1),
		"text that is no JSON":      strings.Replace(text, `["acme"`, `[acme`, 1),
		"nothing":                   "",
	} {
		t.Run(name, func(t *testing.T) {
			if forged == text {
				t.Fatal("nothing was changed")
			}
			url := kinds["sqlite"](t)
			if _, err := restore(t, wrap(t, []byte(forged), id), id, url, nil); !errors.Is(err, backup.ErrDamaged) {
				t.Errorf("restored: %v", err)
			}
		})
	}
	newer := strings.Replace(text, `"format":"gatehouse-backup","version":2`, `"format":"gatehouse-backup","version":3,"more":1`, 1)
	if _, err := restore(t, wrap(t, []byte(newer), id), id, kinds["sqlite"](t), nil); !errors.Is(err, backup.ErrNewerFormat) {
		t.Errorf("a newer format: %v", err)
	}
	later := strings.Replace(text, fmt.Sprintf(`"migration":%d`, report.Header.Migration), `"migration":99999`, 1)
	if _, err := restore(t, wrap(t, []byte(later), id), id, kinds["sqlite"](t), nil); !errors.Is(err, backup.ErrNewerBackup) {
		t.Errorf("tables of a newer Gatehouse: %v", err)
	}
}

// FuzzRead feeds the reader what is inside a file.
func FuzzRead(f *testing.F) {
	db, err := store.Open(context.Background(), f.TempDir()+"/gatehouse.db", slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	id := newIdentity(f)
	file, _ := create(f, db, id)
	text := plain(f, file, id)
	f.Add(text)
	f.Add(text[:len(text)-1])
	f.Add([]byte("{\"format\":\"gatehouse-backup\",\"version\":1,\"migration\":1}\n{\"table\":\"a\",\"columns\":[\"b TEXT\"]}\n[{\"base64\":null}]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := backup.CheckPlain(t.Context(), bytes.NewReader(text))
		if err != nil && !errors.Is(err, backup.ErrDamaged) && !errors.Is(err, backup.ErrNewerFormat) {
			t.Errorf("a file that cannot be read gave %v", err)
		}
		if err == nil && report.SHA256 == "" {
			t.Error("a whole backup without a hash")
		}
	})
}
