package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

const secondMaster = "another-master-secret-0123456789abcdefghijkl"

// TestKeysOverHTTP moves an instance to another master key with the client.
func TestKeysOverHTTP(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		s := instancetest.Serve(t, map[string]string{"DATABASE_URL": url})
		as(t, s, "acme", "u1", access.Owner).store("openai", map[string]string{"apiKey": "sk-0123456789abcdefghijklmn"})
		s.Stop()
		s = instancetest.Serve(t, map[string]string{"DATABASE_URL": url, "ENCRYPTION_KEY": secondMaster, "ENCRYPTION_KEYS_OLD": gatehousetest.EncryptionKey})
		c := api.Client{BaseURL: s.URL, Token: s.Token(t, "ops", "o", access.Operator)}

		st, err := c.GetKeys(ctx)
		if err != nil || len(st.Keys) != 1 || *st.Keys[0].Rows != 4 || st.Keys[0].State != "sealing" || st.Keys[0].Source != "ENCRYPTION_KEYS_OLD" ||
			len(st.Instances) != 1 || !st.Instances[0].Live || st.Rotation != nil {
			t.Fatalf("%+v, %v", st, err)
		}
		old := st.Keys[0].ID
		staged, err := c.StageKey(ctx, api.KeyStage{})
		if err != nil || staged.State != "staged" {
			t.Fatalf("%+v, %v", staged, err)
		}
		r, err := c.RotateKeys(ctx, api.KeyRotate{Key: staged.ID})
		if err != nil || r.State != "running" || r.Total != 4 {
			t.Fatalf("%+v, %v", r, err)
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			if st, err = c.GetKeys(ctx); err != nil || st.Rotation == nil || time.Now().After(end) {
				t.Fatalf("%+v, %v", st, err)
			}
			if st.Rotation.State == "done" {
				break
			}
		}
		if st.Rotation.Rewrapped != 4 || *st.Keys[0].Rows != 0 || *st.Keys[1].Rows != 4 {
			t.Errorf("%+v", st)
		}
		if v, err := c.VerifyKeys(ctx, api.KeyVerify{}); err != nil || !v.Complete || v.Checked != 4 || v.Unreadable != 0 {
			t.Errorf("%+v, %v", v, err)
		}
		if r, err := c.StopKeyRotation(ctx); err != nil || r.State != "done" {
			t.Errorf("stopping what has ended: %+v, %v", r, err)
		}
		if k, err := c.RetireKey(ctx, old, api.KeyRetire{}); err != nil || k.State != "retired" {
			t.Errorf("%+v, %v", k, err)
		}

		ops := as(t, s, "ops", "o", access.Operator)
		for path, want := range map[string]struct {
			body   string
			status int
			code   string
		}{
			"/api/keys/stage":                     {`{"iterations":5}`, 422, "invalid_request"},
			"/api/keys/rotate":                    {`{"rate":-1}`, 422, "invalid_request"},
			"/api/keys/rotate?":                   {`{"key":"key_nonsense"}`, 422, "invalid_request"},
			"/api/keys/rotate??":                  {`{"key":"` + unknownKey + `"}`, 404, "key_not_found"},
			"/api/keys/verify":                    {`{"sample":-1}`, 422, "invalid_request"},
			"/api/keys/nonsense/retire":           {`{}`, 404, "key_not_found"},
			"/api/keys/" + unknownKey + "/retire": {`{}`, 404, "key_not_found"},
			"/api/keys/" + staged.ID + "/retire":  {`{}`, 409, "key_seals"},
		} {
			checkProblem(t, ops.do("POST", strings.TrimRight(path, "?"), want.body), want.status, want.code)
		}
		trail := as(t, s, "ops", "o", access.Operator).events("organization", "_instance", "action", "key.rotate")
		if len(trail) != 2 || trail[0].Metadata["phase"] != "finish" || trail[1].Actor.ID != "o" {
			t.Errorf("the trail: %+v", trail)
		}
		if logs := s.Logs.String(); strings.Contains(logs, secondMaster) || strings.Contains(logs, gatehousetest.EncryptionKey) {
			t.Error("a log line holds a master secret")
		}
	})
}
