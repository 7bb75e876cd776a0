package vault_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// invalid says that err names exactly these fields and none of the values.
func invalid(t *testing.T, what string, err error, values []string, fields ...string) {
	t.Helper()
	f, ok := fault.As(err)
	if !ok || f.Kind != fault.Invalid {
		t.Errorf("%s: %v", what, err)
		return
	}
	var got []string
	for _, field := range f.Fields {
		got = append(got, field.Name)
		for _, value := range values {
			if len(value) > 3 && strings.Contains(field.Message, value) {
				t.Errorf("%s: the value is echoed: %s", what, field.Message)
			}
		}
	}
	if diff := cmp.Diff(fields, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestCreateValidates(t *testing.T) {
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{}) // all of it is refused before the database
	now := h.clock.Now()
	tests := []struct {
		name   string
		new    vault.NewCredential
		fields []string
	}{
		{"no service", vault.NewCredential{Fields: map[string]string{"apiKey": apiKey}}, []string{"service"}},
		{"unknown service", vault.NewCredential{Service: "nonsense", Fields: map[string]string{"apiKey": apiKey}}, []string{"service"}},
		{"a service without credentials", vault.NewCredential{Service: "echo"}, []string{"service"}},
		{"no fields", vault.NewCredential{Service: "openai"}, []string{"credentials.apiKey"}},
		{"unknown field", vault.NewCredential{Service: "openai", Fields: map[string]string{"apiKey": apiKey, "apiKye": apiKey}}, []string{"credentials"}},
		{"masked", openai("", "••••AAAA"), []string{"credentials.apiKey"}},
		{"masked by stars", openai("", "sk-****AAAA"), []string{"credentials.apiKey"}},
		{"line break", openai("", apiKey+"\r\nX-Evil: 1"), []string{"credentials.apiKey"}},
		{"no UTF-8", openai("", "\xff\xfe"), []string{"credentials.apiKey"}},
		{"too long", openai("", strings.Repeat("k", 1<<20)), []string{"credentials.apiKey"}},
		{"host of another", vault.NewCredential{Service: "zendesk", Fields: map[string]string{
			"subdomain": "evil.example/", "email": "agent@example.com", "apiToken": "t0ken-t0ken"}}, []string{"credentials.subdomain"}},
		{"spaces in the name", openai(" a ", apiKey), []string{"name"}},
		{"NUL in the name", openai("a\x00b", apiKey), []string{"name"}},
		{"line break in the name", openai("a\nb", apiKey), []string{"name"}},
		{"invisible name", openai("a\u200bb", apiKey), []string{"name"}},
		{"no UTF-8 in the name", openai("a\xff", apiKey), []string{"name"}},
		{"long name", openai(strings.Repeat("é", 101), apiKey), []string{"name"}},
		{"expired already", vault.NewCredential{Service: "openai", Fields: map[string]string{"apiKey": apiKey}, ExpiresAt: now}, []string{"expiresAt"}},
		{"expires too late", vault.NewCredential{Service: "openai", Fields: map[string]string{"apiKey": apiKey}, ExpiresAt: now.AddDate(9000, 0, 0)}, []string{"expiresAt"}},
		{"everything", vault.NewCredential{Service: "nonsense", Name: " ", ExpiresAt: now.Add(-time.Hour)}, []string{"service", "name", "expiresAt"}},
	}
	for _, test := range tests {
		_, _, err := h.Create(t.Context(), owner, test.new)
		values := []string{test.new.Name, "nonsense"}
		for _, v := range test.new.Fields {
			values = append(values, v)
		}
		invalid(t, test.name, err, values, test.fields...)
	}
	if n := h.count(t, `SELECT count(*) FROM credentials`); n != 0 {
		t.Errorf("%d credentials were stored", n)
	}
}

func TestCreate(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		expires := h.clock.Now().Add(time.Hour + 1234567*time.Nanosecond)
		n := zendesk()
		n.ExpiresAt = expires
		c := h.create(t, owner, n)
		want := vault.Credential{
			ID: c.ID, Service: "zendesk", Name: vault.DefaultName, Status: vault.Expiring, Version: 1, Revision: 1,
			Fields:      []string{"apiToken", "email", "subdomain"},
			Hints:       map[string]string{"apiToken": "••••6789", "email": c.Hints["email"], "subdomain": c.Hints["subdomain"]},
			Fingerprint: c.Fingerprint, ExpiresAt: expires.Truncate(time.Microsecond),
			CreatedAt: h.clock.Now(), CreatedBy: "u-1", UpdatedAt: h.clock.Now(),
		}
		if diff := cmp.Diff(want, c, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".disabled" }, cmp.Ignore())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		got, err := h.Get(t.Context(), owner, c.ID)
		if diff := cmp.Diff(c, got, cmp.AllowUnexported(vault.Credential{})); diff != "" || err != nil {
			t.Errorf("Get: %v (-created +got):\n%s", err, diff)
		}
		if _, _, err := h.Create(t.Context(), owner, zendesk()); !errors.Is(err, vault.ErrExists) {
			t.Errorf("a duplicate: %v", err)
		}
		named := zendesk()
		named.Name = "default" // names differ by case
		h.create(t, owner, named)
		same, theirs := h.create(t, owner, openai("a", apiKey)), h.create(t, stranger, openai("a", apiKey))
		again, other := h.create(t, owner, openai("b", apiKey)), h.create(t, owner, openai("c", apiKeyTwo))
		if same.Fingerprint != again.Fingerprint || same.Fingerprint == other.Fingerprint || same.Fingerprint == theirs.Fingerprint {
			t.Error("fingerprints are alike for alike secrets of one organization, and only there")
		}
	})
}

func TestCreateAtOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		two := h.beside(t, url, vault.Options{})
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs { // the first of the organization, on two instances: its salt is made once
			wg.Go(func() {
				_, _, errs[i] = []*house{h, two}[i%2].Create(t.Context(), owner, openai("", apiKey))
			})
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else if !errors.Is(err, vault.ErrExists) {
				t.Error(err)
			}
		}
		if made != 1 {
			t.Errorf("%d of one credential were made", made)
		}
		h.uses(t, "", apiKey, nil)
	})
}

func TestUpdate(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{Reveal: true})
		n := openai("", apiKey)
		n.Fields["organization"], n.Fields["project"] = "org-one", "proj_one"
		n.ExpiresAt = h.clock.Now().Add(time.Hour)
		c := h.create(t, owner, n)
		h.create(t, owner, openai("taken", apiKey))
		yes := true
		never, past := time.Time{}, h.clock.Now().Add(-time.Hour)
		change := func(ch vault.Change) vault.Credential {
			t.Helper()
			got, _, err := h.Update(ctx, owner, c.ID, store.Match{}, ch)
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		got := change(vault.Change{})
		if got.Version != 1 || got.Revision != 1 || !got.ExpiresAt.Equal(n.ExpiresAt) || got.Name != vault.DefaultName || got.Status != vault.Expiring {
			t.Errorf("a change of nothing: %+v", got)
		}
		got = change(vault.Change{Fields: map[string]*string{"organization": text("org-two"), "project": nil}})
		if diff := cmp.Diff(map[string]string{"apiKey": apiKey, "organization": "org-two"}, h.values(t, owner, c.ID)); diff != "" || got.Version != 2 {
			t.Errorf("absent stays, null removes; version %d (-want +got):\n%s", got.Version, diff)
		}
		if diff := cmp.Diff([]string{"apiKey", "organization"}, got.Fields); diff != "" {
			t.Errorf("the fields (-want +got):\n%s", diff)
		}
		got = change(vault.Change{Name: text("renamed"), Disabled: &yes, ExpiresAt: &never})
		if got.Name != "renamed" || got.Status != vault.Disabled || !got.ExpiresAt.IsZero() || got.Version != 2 || got.Revision != 3 {
			t.Errorf("name, disabled, expiry: %+v", got)
		}
		values := []string{apiKey, "••••AAAA"}
		for what, test := range map[string]struct {
			ch     vault.Change
			fields []string
		}{
			"masked":                  {vault.Change{Fields: map[string]*string{"apiKey": text("••••AAAA")}}, []string{"credentials.apiKey"}},
			"required is removed":     {vault.Change{Fields: map[string]*string{"apiKey": nil}}, []string{"credentials.apiKey"}},
			"unknown":                 {vault.Change{Fields: map[string]*string{"apiKye": text(apiKey)}}, []string{"credentials"}},
			"unknown is removed":      {vault.Change{Fields: map[string]*string{"apiKye": nil}}, []string{"credentials"}},
			"empty":                   {vault.Change{Fields: map[string]*string{"apiKey": text("")}}, []string{"credentials.apiKey"}},
			"name":                    {vault.Change{Name: text("")}, []string{"name"}},
			"expiry in the past":      {vault.Change{ExpiresAt: &past}, []string{"expiresAt"}},
			"name and fields at once": {vault.Change{Name: text("a\x00"), Fields: map[string]*string{"apiKey": text("a b")}}, []string{"name", "credentials.apiKey"}},
		} {
			_, _, err := h.Update(ctx, owner, c.ID, store.Match{}, test.ch)
			invalid(t, what, err, values, test.fields...)
		}
		if _, _, err := h.Update(ctx, owner, c.ID, store.Match{}, vault.Change{Name: text("taken")}); !errors.Is(err, vault.ErrExists) {
			t.Errorf("a name that is taken: %v", err)
		}
		if got, err := h.Get(ctx, owner, c.ID); err != nil || got.Revision != 3 || h.values(t, owner, c.ID)["apiKey"] != apiKey {
			t.Errorf("what was refused changed something: %+v, %v", got, err)
		}
		if n := h.count(t, `SELECT count(*) FROM credential_versions WHERE credential_id = $1`, c.ID); n != 1 {
			t.Errorf("%d versions are kept, want the active one", n)
		}
	})
}

func TestRotate(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		c := h.create(t, owner, zendesk())
		const token = "9876543210987654321098765432109876543210"
		got, warnings, err := h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiToken": token}})
		if err != nil || len(warnings) != 0 || got.Version != 2 || got.Fingerprint == c.Fingerprint {
			t.Fatalf("%+v, %v, %v", got, warnings, err)
		}
		want := zendesk().Fields
		want["apiToken"] = token
		if diff := cmp.Diff(want, h.values(t, owner, c.ID)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		_, _, err = h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{})
		invalid(t, "nothing", err, nil, "credentials")
		_, _, err = h.Rotate(t.Context(), owner, c.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiToken": "••••6789"}})
		invalid(t, "masked", err, []string{"6789"}, "credentials.apiToken")
	})
}

func TestMatch(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		h := newHouse(t, url, vault.Options{})
		c := h.create(t, owner, openai("", apiKey))
		for _, match := range []store.Match{store.MatchOf(2), store.MatchOf(), store.MatchOf(0, -1, 3)} {
			_, _, updateErr := h.Update(ctx, owner, c.ID, match, vault.Change{Name: text("x")})
			_, _, rotateErr := h.Rotate(ctx, owner, c.ID, match, vault.Rotation{Fields: map[string]string{"apiKey": apiKeyTwo}})
			for what, err := range map[string]error{"Update": updateErr, "Rotate": rotateErr, "Delete": h.Delete(ctx, owner, c.ID, match)} {
				if !errors.Is(err, vault.ErrStale) {
					t.Errorf("%s of %v: %v", what, match, err)
				}
			}
		}
		if _, _, err := h.Update(ctx, owner, c.ID, store.MatchOf(7, 1), vault.Change{Name: text("x")}); err != nil {
			t.Error(err)
		}
		// Of many who have read the same state, one changes it.
		var wg sync.WaitGroup
		errs := make([]error, 10)
		for i := range errs {
			wg.Go(func() {
				_, _, errs[i] = h.Update(ctx, owner, c.ID, store.MatchOf(2), vault.Change{Name: text(fmt.Sprint("n", i))})
			})
		}
		wg.Wait()
		done := 0
		for _, err := range errs {
			if err == nil {
				done++
			} else if !errors.Is(err, vault.ErrStale) {
				t.Error(err)
			}
		}
		if done != 1 {
			t.Errorf("%d changes of one state", done)
		}
		if err := h.Delete(ctx, owner, c.ID, store.MatchOf(3)); err != nil {
			t.Error(err)
		}
	})
}

// Many changes at once, on two instances, are all made, one after the other:
// no version is missing, and the last one stands whole.
func TestUpdatesAtOnce(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{Reveal: true})
		two := h.beside(t, url, vault.Options{})
		c := h.create(t, owner, openai("", apiKey))
		const n = 24
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				mark := fmt.Sprintf("%024d", i)
				_, _, err := []*house{h, two}[i%2].Update(t.Context(), owner, c.ID, store.Match{}, vault.Change{
					Fields: map[string]*string{"apiKey": text("sk-proj-" + mark), "project": text("proj_" + mark)},
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got, err := h.Get(t.Context(), owner, c.ID)
		if err != nil || got.Version != n+1 || got.Revision != n+1 {
			t.Errorf("version %d, revision %d, want %d; %v", got.Version, got.Revision, n+1, err)
		}
		values := h.values(t, owner, c.ID)
		if mark := strings.TrimPrefix(values["apiKey"], "sk-proj-"); values["project"] != "proj_"+mark {
			t.Errorf("halves of two changes: %v", values)
		}
		if n := h.count(t, `SELECT count(*) FROM credential_versions`); n != 1 {
			t.Errorf("%d versions are kept", n)
		}
	})
}
