package masterkey_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestOpenKeyring(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		db, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		trail := audit.New(db, audit.Options{})
		const right, wrong, third = gatehousetest.EncryptionKey, "another-master-secret-0123456789abcdefgh", "a-third-master-secret-0123456789abcdefgh"
		open := func(environment, secret string, old ...string) (*seal.Keyring, string, error) {
			var log gatehousetest.Buffer
			opts := masterkey.Options{Environment: environment, Secret: seal.NewSecret(secret), Logger: slog.New(slog.NewTextHandler(&log, nil))}
			for _, s := range old {
				opts.Old = append(opts.Old, seal.NewSecret(s))
			}
			keys, err := masterkey.Open(ctx, db, trail, opts)
			if err != nil {
				return nil, log.String(), err
			}
			return keys.Ring(), log.String(), nil
		}

		if has, err := masterkey.Exist(ctx, db); has || err != nil {
			t.Errorf("HasKeys of a new database: %v, %v", has, err)
		}
		if _, _, err := open("production", "too short"); err == nil {
			t.Error("a short secret made a key")
		}
		var wg sync.WaitGroup
		rings := make([]*seal.Keyring, 4)
		for i := range rings { // several instances start on a new database at once
			wg.Go(func() {
				var err error
				if rings[i], _, err = open("production", right); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		ring := rings[0]
		if ring == nil {
			t.FailNow()
		}
		id, ok := ring.Sealing()
		for _, r := range rings {
			if other, _ := r.Sealing(); !ok || other != id {
				t.Errorf("instances seal under %v and %v", id, other)
			}
		}
		if has, err := masterkey.Exist(ctx, db); !has || err != nil {
			t.Errorf("HasKeys: %v, %v", has, err)
		}
		var events int64
		err = db.ViewAcross(ctx, func(tx *store.Tx) error {
			return tx.Row(ctx, `SELECT count(*) FROM events WHERE organization = '_instance' AND action = 'key.create'`).Scan(&events)
		})
		if err != nil || events != 1 {
			t.Errorf("%d events of the key's making, %v", events, err)
		}

		tests := []struct {
			name        string
			environment string
			secret      string
			old         []string
			err         []string // what the error names
			warn        string
		}{
			{name: "right", environment: "production", secret: right},
			{name: "wrong", environment: "production", secret: wrong, err: []string{id.String(), "ENCRYPTION_KEY"}},
			{name: "all wrong", environment: "production", secret: wrong, old: []string{third}, err: []string{id.String(), "ENCRYPTION_KEYS_OLD"}},
			{name: "another environment", environment: "staging", secret: right, err: []string{`"production"`, `"staging"`}},
			{name: "both wrong", environment: "staging", secret: wrong, err: []string{`"production"`}},
			{name: "right among the old", environment: "production", secret: wrong, old: []string{third, right}, warn: "ENCRYPTION_KEY is not a key of this database"},
			{name: "an old one too many", environment: "production", secret: right, old: []string{wrong}, warn: "can be taken out"},
		}
		for _, test := range tests {
			ring, log, err := open(test.environment, test.secret, test.old...)
			if (err != nil) != (test.err != nil) {
				t.Errorf("%s: %v", test.name, err)
			}
			for _, s := range []string{right, wrong, third} {
				if strings.Contains(log, s) || err != nil && strings.Contains(err.Error(), s) {
					t.Errorf("%s: a secret is told: %v %s", test.name, err, log)
				}
			}
			if err != nil {
				for _, part := range test.err {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("%s: %q does not name %s", test.name, err, part)
					}
				}
				continue
			}
			if got, _ := ring.Sealing(); got != id {
				t.Errorf("%s: seals under %v", test.name, got)
			}
			if test.warn == "" && log != "" || !strings.Contains(log, test.warn) {
				t.Errorf("%s: logged %q, want %q", test.name, log, test.warn)
			}
		}
	})
}

// What entries of ENCRYPTION_KEYS_OLD may stand for opens too, and those entries are none
// that can be taken out.
func TestReadings(t *testing.T) {
	h := newHouse(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	comma := "a-master-secret,with-commas-in-it,0123456789"
	h.open(t, h.options(comma))
	o := h.options(second, "a-master-secret", "with-commas-in-it", "0123456789", "", first)
	o.Readings = []masterkey.Reading{{Secret: seal.NewSecret("a-master-secret,with-commas-in-it"), From: 0, To: 2}, {Secret: seal.NewSecret(comma), From: 0, To: 3}}
	p := h.open(t, o)
	if _, sealing := p.Ring().Sealing(); !sealing {
		t.Error("the key with commas is not held")
	}
	if log := h.logs.String(); strings.Count(log, "can be taken out") != 1 || !strings.Contains(log, "position=5") {
		t.Errorf("the entries that open nothing: %s", log)
	}
}

// A database whose key records were altered does not start, and says so.
func TestAlteredKeyRecords(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url)
		h.open(t, h.options(first))
		start := func() error {
			_, err := masterkey.Open(t.Context(), h.db, h.trail, masterkey.Options{Environment: "test", Secret: seal.NewSecret(gatehousetest.EncryptionKey)})
			return err
		}
		for _, statement := range []string{
			`UPDATE master_keys SET check_value = salt`,
			`UPDATE master_keys SET iterations = 1`,
			`UPDATE master_keys SET iterations = 4000000000`,
			`UPDATE instance SET sealing_key = 'nonsense'`,
			`DELETE FROM master_keys`,
		} {
			h.exec(t, statement)
			if err := start(); err == nil || strings.Contains(err.Error(), gatehousetest.EncryptionKey) {
				t.Errorf("%s: %v", statement, err)
			}
		}
		if n := h.count(t, `SELECT count(*) FROM master_keys`); n != 0 {
			t.Error("a start made a new key beside an old instance")
		}
	})
}
