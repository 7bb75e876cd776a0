package server_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/store"
)

// TestTrailParameters tries what a route of the trail does not know, and what it
// knows and cannot take.
func TestTrailParameters(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	for query, field := range map[string]string{
		"acton=credential.create": "acton", "sk-live-0123456789=1": "query", "action=a.b&action=c.d": "action", "class=controls": "class",
		"count=perhaps": "count", "count=yes": "count", "action=" + url.QueryEscape("*' OR 1=1"): "action", "cursor=AAAA": "cursor", "from=yesterday": "from",
	} {
		a := c.get(eventsPath + "?" + query)
		p := checkProblem(t, a, 422, "invalid_request")
		if len(p.Errors) != 1 || p.Errors[0].Field != field || strings.Contains(a.Body, "live") || strings.Contains(a.Body, "OR 1") {
			t.Errorf("%s: %s", query, a.Body)
		}
	}
	// What began before there were events began with them; what is to come is nothing.
	for query, want := range map[string]bool{"from=0001-01-01T00:00:00Z": true, "from=2000-01-01T00:00:00Z": true, "from=2999-01-01T00:00:00Z": false} {
		if events := c.get(eventsPath + "?" + query); events.Status != 200 || strings.Contains(events.Body, "evt_") != want {
			t.Errorf("%s: %d %s", query, events.Status, events.Body)
		}
		if exported := c.get("/api/audit/export?" + query); exported.Status != 200 || strings.Contains(exported.Body, `"id":"evt_`) != want {
			t.Errorf("exported %s: %d %s", query, exported.Status, exported.Body)
		}
	}
	checkProblem(t, c.do("GET", "/api/audit/tail?seconds=1", "", "Last-Event-ID", "c99999-a0-s0-y0"), 409, "trail_is_older")
	for _, path := range []string{"/api/roles?organization=globex", "/api/members?all=1", "/api/tokens?x=1"} {
		checkProblem(t, c.get(path), 422, "invalid_request")
	}
	for _, path := range []string{"/api/audit/export?format=xml", "/api/audit/export?cursor=x", "/api/audit/tail?seconds=-1", "/api/audit/tail?after=x", "/api/audit/schema?v=1", "/api/audit/sinks?limit=1"} {
		checkProblem(t, c.get(path), 422, "invalid_request")
	}
}

// TestTrailSchema holds events that are answered, exported and sent to the schema,
// which names every action.
func TestTrailSchema(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	a := as(t, s, "acme", "u2", access.Viewer).get("/api/audit/schema")
	var schema huma.Schema
	if err := json.Unmarshal([]byte(a.Body), &schema); err != nil || a.Status != 200 {
		t.Fatalf("%d %s: %v", a.Status, a.Body, err)
	}
	if n := len(schema.Properties["action"].Enum); n != len(audit.Actions()) {
		t.Errorf("%d actions in the schema", n)
	}
	schema.PrecomputeMessages()
	listed := c.get(eventsPath)
	var list struct{ Events []json.RawMessage }
	if err := json.Unmarshal([]byte(listed.Body), &list); err != nil || len(list.Events) == 0 {
		t.Fatal(listed.Body, err)
	}
	var byID api.Event
	if err := json.Unmarshal(list.Events[len(list.Events)-1], &byID); err != nil {
		t.Fatal(err)
	}
	exported := strings.Split(c.get("/api/audit/export?action=credential.*").Body, "\n")
	var own api.Event
	if err := json.Unmarshal([]byte(exported[0]), &own); err != nil || own.Action != "credential.create" {
		t.Fatal(exported[0], err)
	}
	list.Events = append(list.Events, json.RawMessage(exported[0]))
	for _, raw := range list.Events {
		var value any
		if err := json.Unmarshal(raw, &value); err != nil {
			t.Fatal(err)
		}
		var found huma.ValidateResult
		huma.Validate(huma.NewMapRegistry("#/", huma.DefaultSchemaNamer), &schema, huma.NewPathBuffer(nil, 0), huma.ModeReadFromServer, value, &found)
		if len(found.Errors) > 0 {
			t.Errorf("%s: %v", raw, found.Errors)
		}
		for name := range value.(map[string]any) {
			if schema.Properties[name] == nil {
				t.Errorf("%s is not in the schema", name)
			}
		}
	}
	// An export says the same as a page, to the byte.
	var page struct{ Events []json.RawMessage }
	if err := json.Unmarshal([]byte(c.get(eventsPath+"?action=credential.create").Body), &page); err != nil || len(page.Events) != 1 {
		t.Fatal(err)
	}
	var one, other any
	if json.Unmarshal(page.Events[0], &one) != nil || json.Unmarshal([]byte(exported[0]), &other) != nil {
		t.Fatal("no JSON")
	}
	if a, b := mustJSON(t, one), mustJSON(t, other); a != b {
		t.Errorf("a page says %s\nan export %s", a, b)
	}
}

func mustJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestTrailExport reads an export to its manifest, and leaves one half read.
func TestTrailExport(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	client := api.Client{BaseURL: s.URL, Token: c.token}
	body, err := client.ExportEvents(t.Context(), url.Values{"format": {"csv"}})
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(body)
	if err != nil || !strings.HasPrefix(string(text), "id,occurredAt,") || !strings.Contains(string(text), "\r\n#manifest,") {
		t.Errorf("%s: %v", text, err)
	}
	_ = body.Close()
	a := c.get("/api/audit/export")
	if ct := a.Header.Get("Content-Type"); ct != "application/x-ndjson" || !strings.Contains(a.Header.Get("Content-Disposition"), "events.ndjson") {
		t.Errorf("%s, %s", ct, a.Header.Get("Content-Disposition"))
	}
	if _, err := (&api.Client{BaseURL: s.URL, Token: as(t, s, "acme", "dev", access.Developer).token}).ExportEvents(t.Context(), nil); err == nil {
		t.Error("a developer exports")
	}
}

// TestTrailLive follows a trail until the member is disabled.
func TestTrailLive(t *testing.T) {
	s := instancetest.Serve(t, nil)
	c := as(t, s, "acme", "u1", access.Owner)
	c.get(statusPath) // makes the organization
	client := api.Client{BaseURL: s.URL, Token: c.token}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	body, err := client.TailEvents(ctx, url.Values{"action": {"credential.*"}}, "c0-a0-s0-y0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = body.Close() }()
	c.store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
	sealTrail(t, s)
	var names []string
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, isName := strings.CutPrefix(lines.Text(), "event: ")
		if isName {
			names = append(names, name)
		}
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && names[len(names)-1] == "audit" {
			var e api.Event
			if err := json.Unmarshal([]byte(data), &e); err != nil || e.Action != "credential.create" || e.Organization != "acme" {
				t.Errorf("%s: %v", data, err)
			}
			caller := access.NewCaller("acme", access.System, "test", access.Owner)
			if err := s.Orgs.SetDisabled(t.Context(), caller, "acme", "u1", true); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !slices.Equal(names, []string{"audit", "end"}) {
		t.Errorf("the stream was %q, %v", names, lines.Err())
	}
	ended := as(t, s, "acme", "u2", access.Owner).await(1, "action", "access.deny", "actor", "u1")
	if e := ended[0]; e.Reason != "member_disabled" || e.Request.Route != "/api/audit/tail" || e.Request.Status != 403 || len(e.Actor.Roles) != 0 {
		t.Errorf("the end of a stream by a denial is recorded as %+v", e)
	}
}

// sealTrail gives events their place in the log, where no sealer does.
func sealTrail(t *testing.T, s *instancetest.Server) {
	t.Helper()
	err := s.DB.UpdateAcross(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `UPDATE events SET log_index = n.place FROM (
			SELECT e.organization AS whose, e.id AS event, row_number() OVER (PARTITION BY e.organization, e.class ORDER BY e.id) - 1
				+ (SELECT count(*) FROM events o WHERE o.organization = e.organization AND o.class = e.class AND o.log_index IS NOT NULL) AS place
			FROM events e WHERE e.log_index IS NULL) n
		WHERE n.whose = events.organization AND n.event = events.id`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
