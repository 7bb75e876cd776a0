package server_test

import (
	"database/sql"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// pastGatehouse reads and writes a database past Gatehouse, as an attacker or a restore would.
func pastGatehouse(t *testing.T, url string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", gatehousetest.Across(t, url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestDeletedOrganization deletes an organization on one of two instances that
// both have its keys open: nothing of it opens on either within five seconds,
// nor when its rows are put back without the salt, nor under a salt made anew.
func TestDeletedOrganization(t *testing.T) {
	url := gatehousetest.Postgres(t)
	fake := gatehousetest.OpenAI(t)
	environ := map[string]string{"DATABASE_URL": url, "SERVICE_HOSTS": "openai=" + fake.URL, "CHAT_IP_LIMIT": "100000/1m", "CREDENTIAL_REVEAL": "true", "AUTH_FAILURE_LIMIT": "1000000/1m"}
	one, two := instancetest.Serve(t, environ), instancetest.Serve(t, environ)
	owner := map[*instancetest.Server]*client{one: as(t, one, "acme", "u1", access.Owner), two: as(t, two, "acme", "u1", access.Owner)}
	id := owner[one].store("openai", map[string]string{"apiKey": fake.Key()})
	theirs := as(t, one, "globex", "u1", access.Owner)
	theirID := theirs.store("openai", map[string]string{"apiKey": fake.Key()})
	for s, c := range owner {
		if a := c.get("/api/chat/openai/v1/models"); a.Status != 200 {
			t.Fatalf("%s before: %d %s", s.URL, a.Status, a.Body)
		}
	}
	owner[one].makePolicy(`{"effect":"limit","subject":"org","limits":["900/1h"],"reason":"ours"}`)
	if a := owner[one].do("PUT", "/api/members/u2", `{"roles":["viewer"]}`); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	db := pastGatehouse(t, url)
	execute(t, db, `CREATE TABLE saved_credentials AS SELECT * FROM credentials WHERE organization = 'acme'`)
	execute(t, db, `CREATE TABLE saved_versions AS SELECT * FROM credential_versions WHERE organization = 'acme'`)

	ops := as(t, one, "ops", "o", access.Operator)
	const path = "/api/organizations/acme"
	checkProblem(t, ops.do("DELETE", path, ""), 422, "invalid_request")
	checkProblem(t, ops.do("DELETE", path+"?confirm=globex", ""), 422, "invalid_request")
	checkProblem(t, ops.do("DELETE", "/api/organizations/nobody?confirm=nobody", ""), 404, "organization_not_found")
	checkProblem(t, ops.do("DELETE", "/api/organizations/_instance?confirm=_instance", ""), 404, "organization_not_found")
	checkProblem(t, owner[one].do("DELETE", path+"?confirm=acme", ""), 403, "permission_denied")
	c := api.Client{BaseURL: one.URL, Token: ops.token}
	if err := c.DeleteOrganization(t.Context(), "acme"); err != nil {
		t.Fatal(err)
	}
	deletedAt := time.Now()

	// At once where it was deleted, within five seconds elsewhere.
	checkProblem(t, owner[one].get("/api/chat/openai/v1/models"), 403, "organization_deleted")
	for owner[two].get("/api/chat/openai/v1/models").Status != http.StatusForbidden {
		if time.Since(deletedAt) > 5*time.Second {
			t.Fatal("the other instance still serves the organization after five seconds")
		}
		time.Sleep(50 * time.Millisecond)
	}
	for eventually := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		stats := two.Keys.Ring().Stats()
		if stats.OrganizationKeys <= 1 { // globex's may be
			break
		}
		if time.Now().After(eventually) {
			t.Errorf("the other instance keeps %d organizations' keys", stats.OrganizationKeys)
			break
		}
	}
	var salts, versions int
	if err := db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM organization_keys WHERE organization = 'acme'), (SELECT count(*) FROM credential_versions WHERE organization = 'acme')`).Scan(&salts, &versions); err != nil || salts != 0 || versions != 0 {
		t.Errorf("%d salts and %d versions are left, %v", salts, versions, err)
	}

	for _, table := range []string{"members", "member_roles", "member_persons", "roles", "service_tokens", "webhooks", "limit_policies", "limit_policy_revisions"} {
		var rows int
		if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM `+table+` WHERE organization = 'acme'`).Scan(&rows); err != nil || rows != 0 {
			t.Errorf("%d rows of %s are left, %v", rows, table, err)
		}
	}
	if left := decode[api.LimitPolicyList](t, ops.get("/api/rate-limit/policies?owner=acme"), 200); len(left.Policies) != 0 {
		t.Errorf("policies are left: %+v", left)
	}

	// The id stays dead, whoever asks.
	checkProblem(t, ops.do("POST", "/api/organizations", `{"id":"acme","name":"again"}`), 409, "organization_exists")
	for _, c := range owner {
		checkProblem(t, c.do("POST", credentialsPath, `{"service":"openai","credentials":{"apiKey":"sk-0123456789abcdefghijklmn"}}`), 403, "organization_deleted")
	}

	// Rows put back open nowhere, even were the organization let in again.
	execute(t, db, `INSERT INTO credentials SELECT * FROM saved_credentials`)
	execute(t, db, `INSERT INTO credential_versions SELECT * FROM saved_versions`)
	execute(t, db, `UPDATE organizations SET deleted_at = NULL WHERE id = 'acme'`)
	time.Sleep(3500 * time.Millisecond) // what instances know of an organization is three seconds old at most
	for _, s := range []*instancetest.Server{one, two} {
		checkProblem(t, owner[s].do("POST", credentialsPath+"/"+id+"/reveal", `{"reason":"x"}`), 500, "credential_unreadable")
		checkProblem(t, owner[s].get("/api/chat/openai/v1/models"), 500, "credential_unreadable")
	}
	// Nor once a new salt stands where the old one was.
	owner[one].store("openai", map[string]string{"apiKey": fake.Key()}, "name", "new")
	for _, s := range []*instancetest.Server{one, two} {
		checkProblem(t, owner[s].do("POST", credentialsPath+"/"+id+"/reveal", `{"reason":"x"}`), 500, "credential_unreadable")
	}

	// Deleting it again takes what came back.
	for range 2 {
		if err := c.DeleteOrganization(t.Context(), "acme"); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM organization_keys WHERE organization = 'acme'), (SELECT count(*) FROM credential_versions WHERE organization = 'acme')`).Scan(&salts, &versions); err != nil || salts != 0 || versions != 0 {
		t.Errorf("%d salts and %d versions are left, %v", salts, versions, err)
	}
	// The trail remains, and tells of both.
	var events int
	if err := db.QueryRowContext(t.Context(), `SELECT count(*) FROM events WHERE organization = 'acme' AND action = 'credential.create'`).Scan(&events); err != nil || events != 2 {
		t.Errorf("%d events of the organization's credentials, %v", events, err)
	}
	if told := ops.events("organization", "_instance", "action", "org.delete"); len(told) != 2 {
		t.Errorf("the operators' trail tells of %d deletions, want 2", len(told))
	}
	if a := theirs.do("POST", credentialsPath+"/"+theirID+"/reveal", `{"reason":"x"}`); a.Status != 200 {
		t.Errorf("another organization's credential: %d %s", a.Status, a.Body)
	}
}
