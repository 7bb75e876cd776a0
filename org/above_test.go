package org_test

import (
	"errors"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/org"
)

// Nobody gives, changes or takes away what it does not hold itself: by a role, a member's
// roles, or a member that has more.
func TestNothingAboveOneself(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		d := directory(db, org.Options{})
		create(t, d, "acme")
		owner := access.NewCaller("acme", access.User, "o-1", access.Owner)
		role := func(permissions ...string) org.RoleInput { return org.RoleInput{Permissions: permissions} }
		for name, in := range map[string]org.RoleInput{
			"deputy": role("role:manage", "member:manage", "credential:use"), "helper": role("credential:use"), "revealer": role("credential:reveal"),
		} {
			if _, err := d.CreateRole(t.Context(), owner, name, in); err != nil {
				t.Fatal(err)
			}
		}
		set := func(who access.Caller, member string, roles ...string) error {
			_, err := d.SetMember(t.Context(), who, member, org.MemberChange{Roles: &roles})
			return err
		}
		if err := errors.Join(set(owner, "above", "revealer"), set(owner, "below", "helper")); err != nil {
			t.Fatal(err)
		}
		deputy := access.NewCaller("acme", access.User, "d-1").With([]access.Role{"deputy"}, access.SetOf(access.RoleManage, access.MemberManage, access.CredentialUse))
		renamed := "somebody else"
		for name, try := range map[string]func() error{
			"makes a role that grants more": func() error {
				_, err := d.CreateRole(t.Context(), deputy, "new", role("credential:reveal"))
				return err
			},
			"widens a role": func() error {
				_, err := d.UpdateRole(t.Context(), deputy, "helper", role("credential:reveal"))
				return err
			},
			"narrows a role that grants more": func() error {
				_, err := d.UpdateRole(t.Context(), deputy, "revealer", role("credential:use"))
				return err
			},
			"deletes a role that grants more": func() error { return d.DeleteRole(t.Context(), deputy, "revealer") },
			"gives itself a role":             func() error { return set(deputy, "d-1", "owner") },
			"gives a role of the house":       func() error { return set(deputy, "below", "revealer") },
			"takes roles off who has more":    func() error { return set(deputy, "above") },
			"renames who has more": func() error {
				_, err := d.SetMember(t.Context(), deputy, "above", org.MemberChange{Name: &renamed})
				return err
			},
			"disables who has more": func() error { return d.SetDisabled(t.Context(), deputy, "acme", "above", true) },
			"deletes who has more":  func() error { return d.DeleteMember(t.Context(), deputy, "above") },
		} {
			var denied *access.DeniedError
			if err := try(); !errors.As(err, &denied) {
				t.Errorf("who %s is told %v", name, err)
			}
		}
		if err := errors.Join(set(deputy, "below"), d.SetDisabled(t.Context(), deputy, "acme", "below", true), d.DeleteRole(t.Context(), deputy, "helper")); err != nil {
			t.Errorf("what it holds: %v", err)
		}
		if n := number(t, db, `SELECT count(*) FROM member_roles WHERE member = 'above' AND role = 'revealer'`); n != 1 {
			t.Errorf("who has more has %d of its roles", n)
		}
		if n := number(t, db, `SELECT count(*) FROM members WHERE id = 'above' AND disabled_at IS NULL AND deleted_at IS NULL`); n != 1 {
			t.Error("who has more is disabled or deleted")
		}
	})
}
