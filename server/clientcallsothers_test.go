package server_test

import (
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/api"
)

func (c *clientCalls) people() []clientCall {
	expires := api.Time(time.Now().Add(time.Hour))
	return []clientCall{
		{"CreateRole", func() error {
			r, err := c.CreateRole(c.ctx, api.RoleCreate{Name: "support", RoleInput: api.RoleInput{Permissions: []string{"credential:list"}}})
			return want(err, r.Name == "support", r)
		}},
		{"UpdateRole", func() error {
			r, err := c.UpdateRole(c.ctx, "support", api.RoleInput{Permissions: []string{"credential:list", "usage:own"}})
			return want(err, len(r.Permissions) == 2, r)
		}},
		{"ListRoles", func() error {
			l, err := c.ListRoles(c.ctx)
			return want(err, l.Roles[len(l.Roles)-1].Name == "support", l)
		}},
		{"UpdateMember", func() error {
			m, err := c.UpdateMember(c.ctx, "u2", api.MemberUpdate{Name: api.Some("Ada"), Roles: []string{"support"}})
			return want(err, m.Name == "Ada" && len(m.Roles) == 1, m)
		}},
		{"GetMember", func() error { m, err := c.GetMember(c.ctx, "u2"); return want(err, m.Name == "Ada", m) }},
		{"ListMembers", func() error {
			l, err := c.ListMembers(c.ctx, nil)
			return want(err, len(l.Members) > 0 && l.Members[len(l.Members)-1].ID == "u2", l)
		}},
		{"CheckAccess", func() error {
			d, err := c.CheckAccess(c.ctx, api.AccessCheck{Permission: "credential:list", Member: "u2"})
			return want(err, d.Allowed && d.Roles[0].Name == "support", d)
		}},
		{"CreateToken", func() error {
			made, err := c.CreateToken(c.ctx, api.ServiceTokenCreate{Name: "worker", Permissions: []string{"credential:list"}, ExpiresAt: &expires})
			c.token = made.ID
			return want(err, strings.HasPrefix(made.Token, "gth_"), made.ServiceToken)
		}},
		{"GetToken", func() error { got, err := c.GetToken(c.ctx, c.token); return want(err, got.Name == "worker", got) }},
		{"RevokeToken", func() error { return c.RevokeToken(c.ctx, c.token) }},
		{"ListTokens", func() error {
			l, err := c.ListTokens(c.ctx, url.Values{"status": {"revoked"}})
			return want(err, len(l.Tokens) == 1 && l.Tokens[0].ID == c.token, l)
		}},
		{"DeleteMember", func() error { return c.DeleteMember(c.ctx, "u2") }},
		{"DeleteRole", func() error { return c.DeleteRole(c.ctx, "support") }},
		{"DeleteRole", func() error { return c.gone(c.DeleteRole(c.ctx, "support")) }},
	}
}

func (c *clientCalls) retention() []clientCall {
	var policy api.RetentionPolicy
	var bounds api.RetentionBounds
	return []clientCall{
		{"ListRetentionPresets", func() error {
			l, err := c.ListRetentionPresets(c.ctx)
			return want(err, len(l.Presets) > 0 && l.Presets[0].Source != "", l)
		}},
		{"GetRetentionPolicy", func() (err error) {
			policy, err = c.GetRetentionPolicy(c.ctx)
			return want(err, policy.Revision == 0 && policy.ETag == `"0"`, policy)
		}},
		{"SetRetentionPolicy", func() error {
			p, err := c.SetRetentionPolicy(c.ctx, api.RetentionInput{Keep: map[string]string{"access": "400d"}}, api.IfMatch(policy.ETag))
			return want(err, p.Revision == 1 && p.Keep["access"] == "400d", p)
		}},
		{"GetRetentionBounds", func() (err error) {
			bounds, err = c.GetRetentionBounds(c.ctx)
			return want(err, bounds.ETag != "", bounds)
		}},
		{"SetRetentionBounds", func() error {
			b, err := c.SetRetentionBounds(c.ctx, api.RetentionBoundsInput{Floors: bounds.Floors, Ceilings: map[string]string{"access": "365d"}}, api.IfMatch(bounds.ETag))
			return want(err, b.Ceilings["access"] == "365d" && b.Revision > bounds.Revision, b)
		}},
		{"PreviewRetention", func() error {
			p, err := c.PreviewRetention(c.ctx, api.RetentionInput{Keep: map[string]string{"access": "400d"}})
			return want(err, len(p.Classes) > 0, p)
		}},
		{"PlaceHold", func() error {
			h, err := c.PlaceHold(c.ctx, api.RetentionHoldInput{Reason: "Case 2026-114", Scope: api.RetentionScope{Class: "access"}})
			c.hold = h.ID
			return want(err, h.Active, h)
		}},
		{"ReleaseHold", func() error { return c.ReleaseHold(c.ctx, c.hold) }},
		{"ListHolds", func() error {
			l, err := c.ListHolds(c.ctx, url.Values{"ended": {"true"}})
			return want(err, len(l.Holds) == 1 && l.Holds[0].ID == c.hold && !l.Holds[0].Active, l)
		}},
		{"ListHeldEvents", func() error { l, err := c.ListHeldEvents(c.ctx, nil); return want(err, l.Events != nil, l) }},
		{"ListRetentionCertificates", func() error {
			l, err := c.ListRetentionCertificates(c.ctx, nil)
			return want(err, l.Certificates != nil, l)
		}},
	}
}

func (c *clientCalls) instance() []clientCall {
	var staged api.MasterKey
	return []clientCall{
		{"CreateOrganization", func() error {
			o, err := c.CreateOrganization(c.ctx, api.OrganizationCreate{ID: "globex", Name: "Globex"})
			return want(err, o.ID == "globex", o)
		}},
		{"ListOrganizations", func() error {
			l, err := c.ListOrganizations(c.ctx, url.Values{"limit": {"1"}})
			return want(err, len(l.Organizations) == 1 && l.NextCursor != "", l)
		}},
		{"DeleteOrganization", func() error { return c.DeleteOrganization(c.ctx, "globex") }},
		{"GetKeys", func() error {
			k, err := c.GetKeys(c.ctx)
			if err == nil {
				c.oldKey = k.Keys[0].ID
			}
			return want(err, len(k.Keys) == 1 && k.Keys[0].State == "sealing", k)
		}},
		{"StageKey", func() (err error) {
			staged, err = c.StageKey(c.ctx, api.KeyStage{})
			return want(err, staged.State == "staged", staged)
		}},
		{"RotateKeys", func() error {
			r, err := c.RotateKeys(c.ctx, api.KeyRotate{Key: staged.ID})
			return want(err, r.Key == staged.ID, r)
		}},
		{"GetKeys", func() error { // until it is moved
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
				k, err := c.GetKeys(c.ctx)
				if err != nil || k.Rotation.State == "done" || time.Now().After(end) {
					return want(err, k.Rotation != nil && k.Rotation.State == "done", k)
				}
			}
		}},
		{"StopKeyRotation", func() error { r, err := c.StopKeyRotation(c.ctx); return want(err, r.State == "done", r) }},
		{"VerifyKeys", func() error {
			v, err := c.VerifyKeys(c.ctx, api.KeyVerify{})
			return want(err, v.Complete && v.Checked > 0 && v.Unreadable == 0, v)
		}},
		{"RetireKey", func() error {
			k, err := c.RetireKey(c.ctx, c.oldKey, api.KeyRetire{})
			return want(err, k.State == "retired", k)
		}},
	}
}
