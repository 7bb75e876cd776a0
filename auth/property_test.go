package auth_test

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

// TestNobodyGainsMoreThanWasGiven runs sequences of changes to roles, members and
// tokens by several people. Whatever they do: a change that succeeds gives only
// what its maker held, a token does no more than its maker at any time, and nobody
// ever holds what nobody held in the beginning.
func TestNobodyGainsMoreThanWasGiven(t *testing.T) {
	db, err := store.Open(t.Context(), filepath.Join(t.TempDir(), "gatehouse.db"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	log := audit.New(db, audit.Options{})
	directory := org.New(db, log, org.Options{FromTokens: true})
	tokens := auth.NewTokens(db, log, directory, auth.TokensOptions{})
	a := auth.New(directory, auth.Options{Secret: []byte(secret), Tokens: tokens})
	var runs, rolesMade, tokensMade atomic.Int64
	type issued struct {
		token string
		maker int
	}
	people := []string{"p0", "p1", "p2"}
	roleNames := []string{"r0", "r1", "r2"}
	said := []access.Role{access.Admin, access.Developer, access.Auditor, access.Viewer, access.ServiceRole, "r0", "r1", "nobody"}

	rapid.Check(t, func(t *rapid.T) {
		ctx, organization := t.Context(), fmt.Sprint("org-", runs.Add(1))
		callers := make([]access.Caller, len(people))
		var ceiling access.Set
		for i, id := range people {
			roles := rapid.SliceOfNDistinct(rapid.SampledFrom(said), 0, 2, rapid.ID).Draw(t, id)
			if i == 0 {
				roles = append(roles, access.Admin) // somebody who can do anything at all
			}
			callers[i] = access.NewCaller(organization, access.User, id, roles...)
			ceiling |= callers[i].Granted()
		}
		now := func(i int) access.Caller {
			c, err := directory.Resolve(ctx, callers[i])
			if err != nil {
				return access.NewCaller(organization, access.User, people[i])
			}
			return c
		}
		var made []issued
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(access.Permissions()), 1, 4, rapid.ID)
		names := func(p []access.Permission) []string { return access.SetOf(p...).Names() }
		who := rapid.IntRange(0, len(people)-1)
		t.Repeat(map[string]func(*rapid.T){
			"create or update a role": func(t *rapid.T) {
				by, name, p := now(who.Draw(t, "by")), rapid.SampledFrom(roleNames).Draw(t, "name"), some.Draw(t, "permissions")
				before := by.Granted()
				_, err := directory.CreateRole(ctx, by, name, org.RoleInput{Permissions: names(p)})
				if err != nil {
					_, err = directory.UpdateRole(ctx, by, name, org.RoleInput{Permissions: names(p)})
				}
				if err == nil {
					rolesMade.Add(1)
				}
				if err == nil && access.SetOf(p...)&^before != 0 {
					t.Fatalf("%v gave a role %v", before.Names(), names(p))
				}
			},
			"delete a role": func(t *rapid.T) {
				_ = directory.DeleteRole(ctx, now(who.Draw(t, "by")), rapid.SampledFrom(roleNames).Draw(t, "name"))
			},
			"set a member": func(t *rapid.T) {
				by := now(who.Draw(t, "by"))
				before := by.Granted()
				roles := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"owner", "admin", "viewer", "operator", "r0", "r1", "r2"}), 0, 2, rapid.ID).Draw(t, "roles")
				change := org.MemberChange{Roles: &roles}
				if rapid.IntRange(0, 9).Draw(t, "disable") == 0 {
					disabled := rapid.Bool().Draw(t, "disabled")
					change = org.MemberChange{Disabled: &disabled}
				}
				_, err := directory.SetMember(ctx, by, rapid.SampledFrom(people).Draw(t, "member"), change)
				if granted, _ := directory.Grants(ctx, organization, rolesNamed(roles)); err == nil && change.Roles != nil && granted&^before != 0 {
					t.Fatalf("%v gave a member %v", before.Names(), roles)
				}
			},
			"make a token": func(t *rapid.T) {
				i := who.Draw(t, "by")
				in := auth.TokenInput{Name: "t", ExpiresAt: time.Now().Add(time.Hour)}
				if rapid.Bool().Draw(t, "by roles") {
					in.Roles = []string{rapid.SampledFrom([]string{"owner", "admin", "viewer", "r0", "r1", "r2"}).Draw(t, "role")}
				} else {
					in.Permissions = names(some.Draw(t, "permissions"))
				}
				before := now(i).Granted()
				token, text, err := tokens.Create(ctx, now(i), in)
				if err != nil {
					return
				}
				if token.Permissions&^before != 0 {
					t.Fatalf("%v gave a token %v", before.Names(), token.Permissions.Names())
				}
				tokensMade.Add(1)
				made = append(made, issued{text, i})
			},
			"": func(t *rapid.T) {
				for i := range people {
					if held := now(i); held.Granted()&^ceiling != 0 || held.Operator() {
						t.Fatalf("%s holds %v, and nobody held more than %v", people[i], held.Granted().Names(), ceiling.Names())
					}
				}
				for _, k := range made {
					c, err := a.Caller(ctx, k.token)
					if err == nil && (c.Granted()&^now(k.maker).Granted() != 0 || c.Operator() || slices.Contains(c.Roles, access.Operator)) {
						t.Fatalf("a token holds %v, its maker %v", c.Granted().Names(), now(k.maker).Granted().Names())
					}
				}
			},
		})
	})
	if rolesMade.Load() == 0 || tokensMade.Load() == 0 {
		t.Errorf("%d roles and %d tokens were made: this test proves nothing", rolesMade.Load(), tokensMade.Load())
	}
}

func rolesNamed(names []string) []access.Role {
	var all []access.Role
	for _, n := range names {
		all = append(all, access.Role(n))
	}
	return all
}
