package bearer_test

import (
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/internal/bearer"
)

// What is recorded of a request holds no token, wherever its caller put one.
func TestWithout(t *testing.T) {
	const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1XzEifQ.0123456789abcdefghijklmnopqrstuvwxyz-_ABCDE"
	service, other := "gth_"+strings.Repeat("a1B2c3D", 7), "gth_"+strings.Repeat("Z", 49)
	header := func(name, value string) http.Header { return http.Header{name: {value}} }
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+jwt))
	for _, test := range []struct {
		text string
		h    http.Header
		want string
	}{
		{"curl/8.5.0", header("Authorization", "Bearer "+jwt), "curl/8.5.0"},
		{"sdk/1 (" + jwt + ")", header("Authorization", "Bearer "+jwt), "sdk/1 ([a token])"},
		{jwt + " " + jwt, header("X-Api-Key", " "+jwt), "[a token] [a token]"},
		{"sdk " + jwt, nil, "sdk [a token]"},
		{"sdk opaque-0123456789abcdef", header("X-Api-Key", "Bearer opaque-0123456789abcdef"), "sdk [a token]"},
		{"sdk opaque-0123456789abcdef", header("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("opaque-0123456789abcdef:"))), "sdk [a token]"},
		{"sdk " + basic[6:], header("Authorization", basic), "sdk [a token]"},
		{"sdk opaque-0123456789abcdef", header("X-Api-Key", "opaque-0123456789abcdef "), "sdk [a token]"},
		{"sdk short", header("X-Api-Key", "short"), "sdk short"},
		{"eyJ and gth_ are no tokens", nil, "eyJ and gth_ are no tokens"},
		{"sdk " + jwt, header("Authorization", basic), "sdk [a token]"},
		{"sdk " + service, nil, "sdk [a token]"},
		{service + " " + other + "x", header("Api-Key", other), "[a token] [a token]x"},
		{"gth_gth_" + strings.Repeat("a1B2c3D", 7), nil, "gth_[a token]"},
		{"gth_" + strings.Repeat("-", 60), nil, "gth_" + strings.Repeat("-", 60)},
		{strings.Repeat("x", 60) + "gth_", nil, strings.Repeat("x", 60) + "gth_"},
		{strings.Repeat("Mozilla/5.0 ", 10), header("Authorization", "Bearer "), strings.Repeat("Mozilla/5.0 ", 10)},
	} {
		if got := bearer.Without(test.text, test.h); got != test.want {
			t.Errorf("%q became %q, want %q", test.text, got, test.want)
		}
	}
}

// The user beside a password is no secret: it means an account, and stands in paths.
func TestHeld(t *testing.T) {
	const user, password = "AC0123456789abcdef0123456789abcdef", "a-password-of-a-good-length"
	for _, test := range []struct {
		plain string
		want  string
	}{
		{user + ":" + password, password},
		{user + ":", user},
		{user, user},
		{user + ":short", ""},
		{":" + password, password},
	} {
		value := base64.StdEncoding.EncodeToString([]byte(test.plain))
		want := []string{value}
		if test.want != "" {
			want = append(want, test.want)
		}
		if got := bearer.Held(http.Header{"Authorization": {"Basic " + value}}); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", test.plain, got, want)
		}
	}
}
