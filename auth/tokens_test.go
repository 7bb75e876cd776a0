package auth_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

// mint makes service tokens over a database.
type mint struct {
	*auth.Tokens
	*auth.Authenticator
	directory *org.Directory
	log       *audit.Log
	clock     *gatehousetest.Clock
}

// newMint opens the database, with the organizations acme and globex.
func newMint(t *testing.T, url string) *mint {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	m := &mint{log: audit.New(db, audit.Options{}), clock: gatehousetest.NewClock(now)}
	m.directory = org.New(db, m.log, org.Options{FromTokens: true, Now: m.clock.Now, MemberDeleted: func(ctx context.Context, tx *store.Tx, by access.Caller, organization, member string) error {
		return m.RevokeMade(ctx, tx, by, organization, member)
	}})
	m.Tokens = auth.NewTokens(db, m.log, m.directory, auth.TokensOptions{Now: m.clock.Now})
	m.Authenticator = auth.New(m.directory, auth.Options{Secret: []byte(secret), Tokens: m.Tokens, Now: m.clock.Now})
	for _, organization := range []string{"acme", "globex"} {
		if err := m.directory.Admit(t.Context(), boss(organization, "ann")); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// make makes a token that lives so long, and gives its id and the token.
func (m *mint) make(t *testing.T, maker access.Caller, life time.Duration) (id, token string) {
	t.Helper()
	k, token, err := m.Create(t.Context(), maker, auth.TokenInput{Name: "t", Permissions: []string{"credential:list"}, ExpiresAt: m.clock.Now().Add(life)})
	if err != nil {
		t.Fatal(err)
	}
	return k.ID, token
}

func boss(organization, id string) access.Caller {
	return access.NewCaller(organization, access.User, id, access.Owner)
}

// A member that is deleted takes the tokens along that it made: not those of others, nor
// those of somebody with the same id elsewhere.
func TestOnlyItsMakersTokensEnd(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		m := newMint(t, url)
		tokens := map[string]string{}
		for name, maker := range map[string]access.Caller{"ann": boss("acme", "ann"), "bob": boss("acme", "bob"), "ann elsewhere": boss("globex", "ann")} {
			_, tokens[name] = m.make(t, maker, time.Hour)
		}
		none := []string{}
		if _, err := m.directory.SetMember(t.Context(), boss("acme", "root"), "ann", org.MemberChange{Roles: &none}); err != nil {
			t.Fatal(err)
		}
		if err := m.directory.DeleteMember(t.Context(), boss("acme", "root"), "ann"); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]error{"ann": auth.ErrRevoked, "bob": nil, "ann elsewhere": nil} {
			if _, err := m.Caller(t.Context(), tokens[name]); !errors.Is(err, want) {
				t.Errorf("the token of %s: %v, want %v", name, err, want)
			}
		}
		page, err := m.List(t.Context(), boss("acme", "root"), auth.TokenFilter{Status: auth.TokenRevoked})
		if err != nil || len(page.Tokens) != 1 || page.Tokens[0].CreatedBy != "ann" || page.Tokens[0].RevokedBy != "root" {
			t.Errorf("revoked are %+v, %v", page.Tokens, err)
		}
		told, err := m.log.Events(t.Context(), boss("acme", "root"), audit.Filter{Action: string(audit.TokenRevoke)})
		if err != nil || len(told.Events) != 1 || told.Events[0].Targets[0].ID != page.Tokens[0].ID {
			t.Errorf("the trail tells of %+v, %v", told.Events, err)
		}
	})
}

// An organization has a thousand tokens that are in use and not one more, whatever others
// have; those that ended do not count.
func TestTokensAreBounded(t *testing.T) {
	m := newMint(t, filepath.Join(t.TempDir(), "gatehouse.db"))
	owner := boss("acme", "ann")
	_, _ = m.make(t, owner, time.Minute) // ends by itself
	revoked, _ := m.make(t, owner, time.Hour)
	if err := m.Revoke(t.Context(), owner, revoked); err != nil {
		t.Fatal(err)
	}
	m.clock.Pass(time.Minute)
	var last string
	for range 1000 {
		last, _ = m.make(t, owner, time.Hour)
	}
	in := auth.TokenInput{Name: "one more", Permissions: []string{"credential:list"}, ExpiresAt: m.clock.Now().Add(time.Hour)}
	refused := func(when string) {
		t.Helper()
		_, token, err := m.Create(t.Context(), owner, in)
		if f, _ := fault.As(err); token != "" || fault.KindOf(err) != fault.Conflict || f.Code != "too_many_tokens" {
			t.Errorf("%s one more: %v", when, err)
		}
	}
	refused("beside a thousand")
	_, _ = m.make(t, boss("globex", "ann"), time.Hour)
	if err := m.Revoke(t.Context(), owner, last); err != nil {
		t.Fatal(err)
	}
	_, _ = m.make(t, owner, time.Hour)
	refused("after one took the place of another")
}

// Page by page each token comes once, the newest first, and none of another organization.
func TestPagesOfTokens(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		m := newMint(t, url)
		owner := boss("acme", "ann")
		want := map[string][]string{}
		for i := range 15 {
			life, status := time.Hour, auth.TokenActive
			if i%3 == 1 {
				life, status = time.Minute, auth.TokenExpired
			}
			id, _ := m.make(t, owner, life)
			if i%3 == 2 {
				if status = auth.TokenRevoked; m.Revoke(t.Context(), owner, id) != nil {
					t.Fatal("not revoked")
				}
			}
			_, _ = m.make(t, boss("globex", "ann"), time.Hour)
			for _, s := range []string{"", status} {
				want[s] = slices.Insert(want[s], 0, fmt.Sprint(id, " ", status))
			}
		}
		m.clock.Pass(time.Minute)
		for status, ids := range want {
			for _, limit := range []int{1, 2, 5, len(ids), len(ids) + 1, 0} {
				var got []string
				pages := 0
				for f := (auth.TokenFilter{Status: status, Limit: limit}); ; pages++ {
					page, err := m.List(t.Context(), owner, f)
					if err != nil {
						t.Fatal(err)
					}
					if limit > 0 && len(page.Tokens) > limit || page.NextCursor != "" && len(page.Tokens) != limit || pages > len(ids) {
						t.Fatalf("page %d of %d at most has %d, and %q follows", pages, limit, len(page.Tokens), page.NextCursor)
					}
					for _, k := range page.Tokens {
						got = append(got, fmt.Sprint(k.ID, " ", k.Status(m.clock.Now())))
					}
					if f.Cursor = page.NextCursor; f.Cursor == "" {
						break
					}
				}
				if diff := cmp.Diff(ids, got); diff != "" {
					t.Errorf("status %q in pages of %d (-want +got):\n%s", status, limit, diff)
				}
				if limit > 0 && pages+1 != (len(ids)+limit-1)/limit {
					t.Errorf("status %q in pages of %d: %d pages", status, limit, pages+1)
				}
			}
		}
	})
}
