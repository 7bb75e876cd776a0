package auth_test

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/org"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestTokenOf(t *testing.T) {
	tests := []struct {
		name    string
		headers [][2]string
		want    string
		err     error
	}{
		{"nothing", nil, "", auth.ErrNoToken},
		{"bearer", [][2]string{{"Authorization", "Bearer one"}}, "one", nil},
		{"bearer in small letters", [][2]string{{"authorization", "bearer one"}}, "one", nil},
		{"spaces around", [][2]string{{"Authorization", "Bearer   one  "}}, "one", nil},
		{"password of Basic", [][2]string{{"Authorization", basic("", "one")}}, "one", nil},
		{"password with a colon", [][2]string{{"Authorization", basic("agent@example.com/token", "o:ne")}}, "o:ne", nil},
		{"x-api-key", [][2]string{{"x-api-key", "one"}}, "one", nil},
		{"api-key", [][2]string{{"api-key", " one "}}, "one", nil},
		{"x-goog-api-key", [][2]string{{"x-goog-api-key", "one"}}, "one", nil},
		{"the same everywhere", [][2]string{{"Authorization", "Bearer one"}, {"x-api-key", "one"}, {"api-key", "one"}, {"x-goog-api-key", "one"}}, "one", nil},
		{"two in one header", [][2]string{{"Authorization", "Bearer one"}, {"Authorization", "Bearer two"}}, "", auth.ErrTwoTokens},
		{"two in two headers", [][2]string{{"Authorization", "Bearer one"}, {"x-api-key", "two"}}, "", auth.ErrTwoTokens},
		{"three, the last differs", [][2]string{{"Authorization", "Bearer one"}, {"x-api-key", "one"}, {"x-goog-api-key", "two"}}, "", auth.ErrTwoTokens},
		{"Basic and another", [][2]string{{"Authorization", basic("u", "one")}, {"api-key", "two"}}, "", auth.ErrTwoTokens},
		{"an empty one beside", [][2]string{{"Authorization", "Bearer "}, {"x-api-key", "one"}}, "one", nil},
		{"scheme alone", [][2]string{{"Authorization", "Bearer"}}, "", auth.ErrNoToken},
		{"no scheme", [][2]string{{"Authorization", "one"}}, "", auth.ErrNoToken},
		{"another scheme", [][2]string{{"Authorization", "Digest one"}}, "", auth.ErrNoToken},
		{"Basic that is none", [][2]string{{"Authorization", "Basic !!!"}}, "", auth.ErrNoToken},
		{"Basic without a password", [][2]string{{"Authorization", basic("one", "")}}, "", auth.ErrNoToken},
		{"as GitHub's SDKs write it", [][2]string{{"Authorization", "token one"}}, "one", nil},
		{"token and another", [][2]string{{"Authorization", "token one"}, {"api-key", "two"}}, "", auth.ErrTwoTokens},
		{"other headers", [][2]string{{"Cookie", "token=one"}, {"Proxy-Authorization", "Bearer one"}, {"X-Api-Token", "one"}}, "", auth.ErrNoToken},
	}
	for _, test := range tests {
		h := http.Header{}
		for _, header := range test.headers {
			h.Add(header[0], header[1])
		}
		got, err := auth.TokenOf(h)
		if got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %q, %v; want %q, %v", test.name, got, err, test.want, test.err)
		}
	}
}

func TestCaller(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		ctx := t.Context()
		db, err := store.Open(ctx, url, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = db.Close() }()
		directory := org.New(db, audit.New(db, audit.Options{}), org.Options{})
		operator := access.NewCaller("ops", access.User, "root", access.Operator)
		if _, err := directory.Create(ctx, operator, "acme", ""); err != nil {
			t.Fatal(err)
		}
		owner := access.NewCaller("acme", access.User, "boss", access.Owner)
		if err := directory.SetDisabled(ctx, owner, "acme", "u-2", true); err != nil {
			t.Fatal(err)
		}
		a := auth.New(directory, auth.Options{Secret: []byte(secret), Now: func() time.Time { return now }})
		tests := []struct {
			name   string
			change object
			want   error
			id     string // of the caller that is given, for the trail
		}{
			{"let in", object{}, nil, "u-1"},
			{"unknown organization", object{"organizationId": "globex"}, org.ErrUnknown, "u-1"},
			{"organization in other letters", object{"organizationId": "Acme"}, org.ErrUnknown, "u-1"},
			{"disabled, though an owner", object{"sub": "u-2", "roles": []string{"owner", "operator"}}, org.ErrDisabled, "u-2"},
			{"expired", object{"exp": 1}, auth.ErrExpired, ""},
		}
		for _, test := range tests {
			for range 2 {
				got, err := a.Caller(ctx, hs256(with(test.change)))
				if !errors.Is(err, test.want) || got.ID != test.id {
					t.Errorf("%s: %+v, %v; want %v", test.name, got, err, test.want)
				}
			}
		}
	})
}
