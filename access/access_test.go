package access_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/access"
)

// table says what each role grants, permission by permission: + in the
// caller's own organization, any on every organization, instance on the
// reserved organization only, - nothing.
const table = `
permission        owner admin developer auditor viewer service operator
credential:list   +     +     +         +       +      -       -
credential:create +     +     +         -       -      -       -
credential:update +     +     +         -       -      -       -
credential:test   +     +     +         -       -      -       -
credential:rotate +     +     +         -       -      -       -
credential:delete +     +     -         -       -      -       -
credential:use    +     +     +         -       -      +       -
credential:reveal +     -     -         -       -      -       -
limit:read        +     +     +         +       +      +       any
limit:update      +     +     -         -       -      -       any
limit:reset       -     -     -         -       -      -       any
usage:read        +     +     -         +       -      -       any
usage:own         +     +     +         +       -      +       any
audit:read        +     +     -         +       -      -       instance
audit:export      +     +     -         +       -      -       instance
audit:verify      +     +     -         +       -      -       instance
member:read       +     +     +         +       +      -       -
member:manage     +     +     -         -       -      -       -
role:read         +     +     +         +       +      -       -
role:manage       +     +     -         -       -      -       -
token:read        +     +     +         +       +      -       -
token:manage      +     +     -         -       -      -       -
retention:read    +     +     -         +       -      -       instance
retention:manage  +     -     -         -       -      -       instance
hold:manage       +     -     -         -       -      -       -
key:read          -     -     -         -       -      -       any
key:rotate        -     -     -         -       -      -       any
org:manage        -     -     -         -       -      -       any
webhook:read      +     +     -         -       -      -       -
webhook:manage    +     +     -         -       -      -       -
`

const own, other = "acme", "globex"

func TestTable(t *testing.T) {
	lines := strings.Split(strings.TrimSpace(table), "\n")
	var names []string
	for _, r := range access.Roles() {
		names = append(names, string(r))
	}
	if diff := cmp.Diff(strings.Fields(lines[0])[1:], names); diff != "" {
		t.Fatalf("the roles (-table +Roles):\n%s", diff)
	}
	permissions := access.Permissions()
	if len(lines)-1 != len(permissions) {
		t.Fatalf("the table has %d permissions, and there are %d", len(lines)-1, len(permissions))
	}
	for i, line := range lines[1:] {
		cells := strings.Fields(line)
		p := permissions[i]
		if p.String() != cells[0] {
			t.Fatalf("line %d is %s, and the permission is %s", i+1, cells[0], p)
		}
		for column, r := range access.Roles() {
			cell := cells[column+1]
			caller := access.NewCaller(own, access.User, "user", r)
			got := map[string]bool{}
			for _, organization := range []string{own, other, access.InstanceOrganization} {
				got[organization] = access.Allow(caller, p, organization) == nil
			}
			want := map[string]bool{
				own:                         cell == "+" || cell == "any",
				other:                       cell == "any",
				access.InstanceOrganization: cell == "any" || cell == "instance",
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s (-table +Allow):\n%s", r, p, diff)
			}
			if caller.Can(p) != want[own] || caller.Holds(p) != (cell != "-") {
				t.Errorf("%s %s: Can %v, Holds %v; the table says %s", r, p, caller.Can(p), caller.Holds(p), cell)
			}
			if r.Grants().Has(p) != want[own] {
				t.Errorf("%s.Grants: %s is on the wrong side", r, p)
			}
		}
	}
}

func TestDeniedError(t *testing.T) {
	err := access.Allow(access.NewCaller(own, access.User, "user", access.Viewer), access.CredentialDelete, other)
	var denied *access.DeniedError
	if !errors.As(err, &denied) {
		t.Fatalf("Allow gave %v", err)
	}
	if denied.Permission != access.CredentialDelete {
		t.Errorf("Allow gave %+v", denied)
	}
	if !strings.Contains(err.Error(), "credential:delete") || strings.Contains(err.Error(), other) {
		t.Errorf("the message is %q", err)
	}
}

func TestZeroValuesMayDoNothing(t *testing.T) {
	callers := map[string]access.Caller{
		"zero":                    {},
		"roles without NewCaller": {Organization: own, Type: access.User, ID: "user", Roles: []access.Role{access.Owner}},
		"no role":                 access.NewCaller(own, access.User, "user"),
		"unknown roles":           access.NewCaller(own, access.User, "user", "", "root", "Owner", "OWNER", "owner ", " owner", "*", "own\u0435r"),
		"no organization":         access.NewCaller("", access.User, "user", access.Owner, access.Admin),
	}
	for name, c := range callers {
		for _, p := range append(access.Permissions(), access.None, 200, 255) {
			for _, organization := range []string{"", own, other, access.InstanceOrganization} {
				if access.Allow(c, p, organization) == nil {
					t.Errorf("%s: %s on %q is allowed", name, p, organization)
				}
			}
		}
	}
	all := access.NewCaller(own, access.User, "user", access.Roles()...)
	for _, p := range []access.Permission{access.None, access.WebhookManage + 1, 63, 64, 200, 255} {
		if access.Allow(all, p, own) == nil || all.Can(p) || all.Holds(p) || p.String() != "none" {
			t.Errorf("permission %d is granted, or has the name %s", p, p)
		}
	}
}

func TestNobodyReachesAnotherOrganization(t *testing.T) {
	operators := []access.Permission{
		access.LimitRead, access.LimitUpdate, access.LimitReset, access.UsageRead, access.UsageOwn, access.KeyRead, access.KeyRotate, access.OrgManage,
	}
	rapid.Check(t, func(t *rapid.T) {
		role := rapid.OneOf(rapid.SampledFrom(access.Roles()), rapid.Map(rapid.String(), func(s string) access.Role { return access.Role(s) }))
		name := rapid.OneOf(rapid.SampledFrom([]string{"", own, other, "Acme", "acme ", access.InstanceOrganization}), rapid.String())
		roles := rapid.SliceOfN(role, 0, 5).Draw(t, "roles")
		home, target := name.Draw(t, "home"), name.Draw(t, "target")
		p := access.Permission(rapid.Uint8().Draw(t, "permission"))
		c := access.NewCaller(home, access.User, "user", roles...)
		if access.Allow(c, p, target) != nil {
			return
		}
		granted := slices.ContainsFunc(roles, func(r access.Role) bool { return r.Grants().Has(p) })
		operator := slices.Contains(roles, access.Operator)
		switch {
		case home == target && granted:
		case operator && slices.Contains(operators, p):
		case operator && target == access.InstanceOrganization:
		default:
			t.Fatalf("%v of %q may %s on %q", roles, home, p, target)
		}
	})
}

func TestNames(t *testing.T) {
	if access.Role("root").Known() || access.Role("").Known() || !access.Owner.Known() {
		t.Error("Known is wrong")
	}
	c := access.NewCaller(own, access.User, "user", "stranger", access.Viewer)
	if diff := cmp.Diff([]string{"stranger", "viewer"}, c.RoleNames()); diff != "" {
		t.Errorf("RoleNames (-want +got):\n%s", diff)
	}
	if c.Operator() || !access.NewCaller(own, access.User, "user", access.Operator).Operator() {
		t.Error("Operator is wrong")
	}
}

func TestAllowDoesNotAllocate(t *testing.T) {
	owner := access.NewCaller(own, access.User, "user", access.Viewer, access.Owner)
	if n := testing.AllocsPerRun(100, func() { _ = access.Allow(owner, access.CredentialUse, own) }); n != 0 {
		t.Errorf("Allow allocates %v times", n)
	}
	// Whoever asks for what it may not have makes nobody pay for it.
	var err error
	denials := map[string]func(){
		"another organization": func() { err = access.Allow(owner, access.CredentialUse, other) },
		"an operator's":        func() { err = access.Allow(owner, access.KeyRotate, own) },
		"no permission":        func() { err = access.Allow(owner, 200, own) },
		"giving too much":      func() { err = owner.MayGive(access.SetOf(access.KeyRead)) },
	}
	for name, deny := range denials {
		if n := testing.AllocsPerRun(100, deny); n != 0 || err == nil {
			t.Errorf("a denial of %s allocates %v times: %v", name, n, err)
		}
	}
	for _, p := range append(access.Permissions(), access.None) {
		var denied *access.DeniedError
		if err := access.Denied(p); !errors.As(err, &denied) || denied.Permission != p || !strings.Contains(err.Error(), p.String()) {
			t.Errorf("the denial of %s is %v", p, err)
		}
	}
}

func BenchmarkAllow(b *testing.B) {
	owner := access.NewCaller(own, access.User, "user", access.Owner)
	operator := access.NewCaller(own, access.User, "user", access.Owner, access.Operator)
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = access.Allow(owner, access.CredentialUse, own)
		}
	})
	b.Run("operator", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = access.Allow(operator, access.LimitReset, other)
		}
	})
	b.Run("denied", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = access.Allow(owner, access.CredentialUse, other)
		}
	})
}
