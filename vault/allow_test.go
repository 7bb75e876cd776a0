package vault_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// Each method asks for its own permission itself, whatever was asked at the door: who holds
// all others is denied, and nothing is changed.
func TestEachMethodAsksForItsPermission(t *testing.T) {
	h := newHouse(t, filepath.Join(t.TempDir(), "gatehouse.db"), vault.Options{Reveal: true})
	c := h.create(t, owner, openai("a", apiKey))
	service, ok := h.services.Service("openai")
	if !ok {
		t.Fatal("no such service")
	}
	noMatch, fields := store.Match{}, map[string]string{"apiKey": apiKeyTwo}
	used, err := h.OpenForUse(t.Context(), owner, service, "a")
	if err != nil {
		t.Fatal(err)
	}
	name := "b"
	for method, test := range map[string]struct {
		needs access.Permission
		call  func(who access.Caller) error
	}{
		"Create": {access.CredentialCreate, func(who access.Caller) error {
			_, _, err := h.Create(t.Context(), who, openai("c", apiKey))
			return err
		}},
		"Update": {access.CredentialUpdate, func(who access.Caller) error {
			_, _, err := h.Update(t.Context(), who, c.ID, noMatch, vault.Change{Name: &name})
			return err
		}},
		"Rotate": {access.CredentialRotate, func(who access.Caller) error {
			_, _, err := h.Rotate(t.Context(), who, c.ID, noMatch, vault.Rotation{Fields: fields})
			return err
		}},
		"Stage": {access.CredentialRotate, func(who access.Caller) error {
			_, _, _, err := h.Stage(t.Context(), who, c.ID, noMatch, fields, "")
			return err
		}},
		"Activate": {access.CredentialRotate, func(who access.Caller) error {
			_, err := h.Activate(t.Context(), who, c.ID, noMatch, 1, vault.Activation{})
			return err
		}},
		"RollBack": {access.CredentialRotate, func(who access.Caller) error {
			_, err := h.RollBack(t.Context(), who, c.ID, noMatch, vault.Rollback{})
			return err
		}},
		"Destroy": {access.CredentialRotate, func(who access.Caller) error {
			_, err := h.DestroyVersion(t.Context(), who, c.ID, noMatch, 1)
			return err
		}},
		"Delete": {access.CredentialDelete, func(who access.Caller) error { return h.Delete(t.Context(), who, c.ID, noMatch) }},
		"List":   {access.CredentialList, func(who access.Caller) error { _, err := h.List(t.Context(), who, vault.Filter{}); return err }},
		"Get":    {access.CredentialList, func(who access.Caller) error { _, err := h.Get(t.Context(), who, c.ID); return err }},
		"Versions": {access.CredentialList, func(who access.Caller) error {
			_, err := h.Versions(t.Context(), who, c.ID, vault.VersionFilter{})
			return err
		}},
		"Reveal":       {access.CredentialReveal, func(who access.Caller) error { _, _, err := h.Reveal(t.Context(), who, c.ID, "a reason"); return err }},
		"Test":         {access.CredentialTest, func(who access.Caller) error { _, err := h.Test(t.Context(), who, "openai", fields); return err }},
		"TestStored":   {access.CredentialTest, func(who access.Caller) error { _, err := h.TestStored(t.Context(), who, c.ID); return err }},
		"TestVersion":  {access.CredentialTest, func(who access.Caller) error { _, err := h.TestVersion(t.Context(), who, c.ID, 1); return err }},
		"OpenForUse":   {access.CredentialUse, func(who access.Caller) error { _, err := h.OpenForUse(t.Context(), who, service, "a"); return err }},
		"OpenAsSent":   {access.CredentialUse, func(who access.Caller) error { _, err := h.OpenAsSent(t.Context(), who, service, "a"); return err }},
		"OpenPrevious": {access.CredentialUse, func(who access.Caller) error { _, err := h.OpenPrevious(t.Context(), who, service, used); return err }},
		"Import": {access.CredentialCreate, func(who access.Caller) error {
			_, err := h.Import(t.Context(), who, vault.ImportOptions{Variables: map[string]string{"GROQ_API_KEY": "gsk_0123456789abcdefghij"}})
			return err
		}},
		"Import with tests": {access.CredentialTest, func(who access.Caller) error {
			_, err := h.Import(t.Context(), who, vault.ImportOptions{Variables: map[string]string{"GROQ_API_KEY": "gsk_0123456789abcdefghij"}, Test: true})
			return err
		}},
	} {
		who := access.NewCaller("acme", access.User, "u-2").With([]access.Role{"nearly"}, access.Tenant()&^access.SetOf(test.needs))
		var denied *access.DeniedError
		if err := test.call(who); !errors.As(err, &denied) {
			t.Errorf("%s without its permission: %v", method, err)
		}
	}
	if page, err := h.List(t.Context(), owner, vault.Filter{}); err != nil || len(page.Credentials) != 1 || page.Credentials[0].Revision != c.Revision {
		t.Errorf("there are %+v afterwards, %v", page.Credentials, err)
	}
}
