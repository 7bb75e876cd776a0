package retention_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/retention"
)

// A credential that expired takes its versions with it: it stays while a hold keeps one of them.
func TestHoldsOfVersionsKeepTheirCredential(t *testing.T) {
	for name, test := range map[string]struct {
		scope retention.Scope
		kept  int64
	}{
		"versions":                  {retention.Scope{Class: retention.Versions}, 1},
		"tests":                     {retention.Scope{Class: retention.Tests}, 1},
		"versions of it":            {retention.Scope{Class: retention.Versions, Target: "cred_0"}, 1},
		"who made a version":        {retention.Scope{Actor: "ann"}, 1},
		"versions of another":       {retention.Scope{Class: retention.Versions, Target: "cred_1"}, 0},
		"versions of somebody else": {retention.Scope{Class: retention.Versions, Actor: "eve"}, 0},
		"usage":                     {retention.Scope{Class: retention.Usage}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			gatehousetest.Databases(t, func(t *testing.T, url string) {
				a := newArchive(t, url, retention.Options{})
				a.exec(t, `INSERT INTO credentials (organization, id, service, name, version, revision, disabled, expires_at, created_at, created_by, updated_at)
					VALUES ('acme', 'cred_0', 'openai', 'x', 2, 1, $1, $2, 1, 'boss', 1)`, false, a.clock.Now().Add(day).UnixMicro())
				a.exec(t, `INSERT INTO credential_version_history (organization, credential_id, version, state, fields, fingerprint, created_at, created_by, destroyed_at, last_test)
					VALUES ('acme', 'cred_0', 1, 'retired', '[]', 'fp', 1, 'ann', 1, '{}')`)
				a.exec(t, `INSERT INTO credential_version_history (organization, credential_id, version, state, fields, fingerprint, created_at, created_by)
					VALUES ('acme', 'cred_0', 2, 'active', '[]', 'fp', 1, 'boss')`)
				a.changes(t, 1)
				a.hold(t, test.scope)
				a.later(t, 367*day)
				a.sweep(t)
				if n := a.number(t, `SELECT count(*) FROM credential_version_history WHERE version = 1`); n != test.kept {
					t.Errorf("%d versions are left, want %d", n, test.kept)
				}
				if test.scope.Class == retention.Tests {
					if n := a.number(t, `SELECT count(*) FROM credential_version_history WHERE last_test IS NOT NULL`); n != 1 {
						t.Errorf("%d tests are left, want 1", n)
					}
				}
				if n := a.number(t, `SELECT count(*) FROM credentials`); n != test.kept {
					t.Errorf("%d credentials are left, want %d", n, test.kept)
				}
			})
		})
	}
}

// A row of usage is about an hour: a hold keeps each hour that its time reaches into.
func TestHoldsOfPartsOfAnHour(t *testing.T) {
	a := newArchive(t, filepath.Join(t.TempDir(), "gatehouse.db"), retention.Options{})
	noon := a.clock.Now().Truncate(time.Hour)
	for h := -2; h <= 2; h++ {
		a.exec(t, `INSERT INTO usage_hours (organization, hour, service, model, credential, member, requests, failed, partial, counted, uncounted, input_tokens,
			cache_read_tokens, cache_write_tokens, output_tokens, reasoning_tokens, bytes_in, bytes_out)
			VALUES ('acme', $1, 'openai', 'm', 'c', 'ann', 1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)`, noon.Add(time.Duration(h)*time.Hour).UnixMicro())
	}
	a.hold(t, retention.Scope{From: noon.Add(-30 * time.Minute), To: noon.Add(15 * time.Minute)})
	a.later(t, 367*day)
	a.sweep(t)
	if n := a.number(t, `SELECT count(*) FROM usage_hours`); n != 2 {
		t.Errorf("%d hours are left, want the one before noon and the one after", n)
	}
}
