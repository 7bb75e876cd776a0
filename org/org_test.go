package org_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

var (
	operator = access.NewCaller("ops", access.User, "root", access.Operator)
	admin    = access.NewCaller("acme", access.User, "boss", access.Admin)
	member   = access.NewCaller("acme", access.User, "u-1", access.Developer)
)

func openStore(t testing.TB, url string) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func directory(db *store.DB, opts org.Options) *org.Directory {
	return org.New(db, audit.New(db, audit.Options{}), opts)
}

func exec(t testing.TB, db *store.DB, query string, args ...any) {
	t.Helper()
	err := db.UpdateAcross(context.Background(), func(tx *store.Tx) error {
		_, err := tx.Exec(context.Background(), query, args...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func number(t testing.TB, db *store.DB, query string, args ...any) (n int64) {
	t.Helper()
	err := db.ViewAcross(context.Background(), func(tx *store.Tx) error {
		return tx.Row(context.Background(), query, args...).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func create(t testing.TB, d *org.Directory, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := d.Create(t.Context(), operator, id, ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCreate(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), openStore(t, url)
		d := directory(db, org.Options{})
		o, err := d.Create(ctx, operator, "acme", "Acme & Söhne")
		if err != nil || o.ID != "acme" || o.Name != "Acme & Söhne" || o.CreatedAt.IsZero() {
			t.Fatalf("Create = %+v, %v", o, err)
		}
		if n := number(t, db, `SELECT count(*) FROM events WHERE organization = 'acme' AND action = 'org.create' AND actor_id = 'root'`); n != 1 {
			t.Errorf("%d events of the creation", n)
		}
		if _, err := d.Create(ctx, operator, "acme", "again"); fault.KindOf(err) != fault.Conflict {
			t.Errorf("a second time: %v", err)
		}
		for _, c := range []access.Caller{admin, access.NewCaller("globex", access.User, "u", access.Owner), {}} {
			var denied *access.DeniedError
			if _, err := d.Create(ctx, c, "globex", ""); !errors.As(err, &denied) {
				t.Errorf("%v made an organization: %v", c.Roles, err)
			}
		}
		for id, name := range map[string]string{
			access.InstanceOrganization: "x", "": "x", "a b": "x", "ok1": "line\nbreak", "ok2": "\xff", "ok3": strings.Repeat("x", 201),
		} {
			_, err := d.Create(ctx, operator, id, name)
			e, ok := fault.As(err)
			if !ok || e.Kind != fault.Invalid || len(e.Fields) != 1 {
				t.Errorf("id %q, name %.10q: %v", id, name, err)
			}
		}
		if n := number(t, db, `SELECT count(*) FROM organizations WHERE id <> '_instance'`); n != 1 {
			t.Errorf("%d organizations, want 1", n)
		}
	})
}

func TestList(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx, db := t.Context(), openStore(t, url)
		d := directory(db, org.Options{})
		want := map[string]bool{}
		for i := range 7 {
			id := fmt.Sprint("org-", i)
			create(t, d, id)
			want[id] = true
		}
		create(t, d, "dead")
		exec(t, db, `UPDATE organizations SET deleted_at = 1 WHERE id = 'dead'`)
		got, after := map[string]bool{}, ""
		for {
			page, err := d.List(ctx, operator, after, 3)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			for _, o := range page {
				if got[o.ID] {
					t.Errorf("%s is listed twice", o.ID)
				}
				got[o.ID], after = true, o.ID
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if _, err := d.List(ctx, admin, "", 3); err == nil {
			t.Error("an admin listed all organizations")
		}
	})
}

func admits(t testing.TB, d *org.Directory, c access.Caller, want error) {
	t.Helper()
	if err := d.Admit(t.Context(), c); !errors.Is(err, want) {
		t.Errorf("Admit(%s of %s) = %v, want %v", c.ID, c.Organization, err, want)
	}
}

func TestAdmit(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		d := directory(db, org.Options{})
		create(t, d, "acme", "dead")
		exec(t, db, `UPDATE organizations SET deleted_at = 1 WHERE id = 'dead'`)
		admits(t, d, member, nil)
		admits(t, d, access.NewCaller("ACME", access.User, "u-1", access.Owner), org.ErrUnknown)
		admits(t, d, access.NewCaller("nobody", access.User, "u-1", access.Owner), org.ErrUnknown)
		admits(t, d, access.NewCaller(access.InstanceOrganization, access.User, "u-1", access.Operator), org.ErrUnknown)
		admits(t, d, access.NewCaller("dead", access.User, "u-1", access.Owner), org.ErrDeleted)
		if _, err := d.Create(t.Context(), operator, "dead", ""); fault.KindOf(err) != fault.Conflict {
			t.Errorf("a deleted id was made again: %v", err)
		}
	})
}

func TestFromTokens(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		db := openStore(t, url)
		one, two := directory(db, org.Options{FromTokens: true}), directory(db, org.Options{FromTokens: true})
		create(t, one, "dead")
		exec(t, db, `UPDATE organizations SET deleted_at = 1 WHERE id = 'dead'`)
		var wg sync.WaitGroup
		for i := range 20 { // many members come at once, on two instances
			wg.Go(func() {
				c := access.NewCaller("fresh", access.User, fmt.Sprint("u-", i), access.Viewer)
				if err := []*org.Directory{one, two}[i%2].Admit(t.Context(), c); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		admits(t, one, access.NewCaller("dead", access.User, "u-1", access.Owner), org.ErrDeleted)
		if n := number(t, db, `SELECT count(*) FROM events WHERE organization = 'fresh' AND action = 'org.create'`); n != 1 {
			t.Errorf("%d events of one creation", n)
		}
		if n := number(t, db, `SELECT count(*) FROM organizations WHERE id = 'dead' AND deleted_at IS NULL`); n != 0 {
			t.Error("a token brought a deleted organization back")
		}
		strict := directory(db, org.Options{})
		admits(t, strict, access.NewCaller("unheard", access.User, "u-1", access.Owner), org.ErrUnknown)
	})
}
