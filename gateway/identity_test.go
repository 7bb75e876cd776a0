package gateway_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// Identity is what a backend learns of the caller.
type Identity struct {
	Organization, Subject, RequestID string
	Roles                            []string
}

// VerifyIdentity is all that a backend behind /api/chat/app needs in order to
// trust the identity headers: it takes the key it shares with Gatehouse and a
// request as it was received.
func VerifyIdentity(key []byte, r *http.Request, now time.Time) (Identity, error) {
	get := func(name string) string {
		if values := r.Header.Values("Gatehouse-" + name); len(values) == 1 {
			return values[0]
		}
		return ""
	}
	text := strings.Join([]string{
		"v1", get("Timestamp"), r.Method, r.RequestURI, get("Organization"), get("Subject"), get("Roles"), get("Request-Id"),
	}, "\n")
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	want := "v1=" + hex.EncodeToString(mac.Sum(nil))
	if !hmac.Equal([]byte(want), []byte(get("Signature"))) {
		return Identity{}, errors.New("the signature is wrong")
	}
	seconds, err := strconv.ParseInt(get("Timestamp"), 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return Identity{}, errors.New("the signature is too old")
	}
	decode := func(s string) string { v, _ := url.PathUnescape(s); return v }
	identity := Identity{Organization: decode(get("Organization")), Subject: decode(get("Subject")), RequestID: decode(get("Request-Id"))}
	if get("Roles") != "" {
		for role := range strings.SplitSeq(get("Roles"), ",") {
			identity.Roles = append(identity.Roles, decode(role))
		}
	}
	return identity, nil
}

// A backend checks the signature before it believes who is calling.
func Example_verifyIdentity() {
	key := []byte("the key that Gatehouse and the backend share")
	backend := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller, err := VerifyIdentity(key, r, time.Now())
		if err != nil {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		_, _ = fmt.Fprintf(w, "hello %s of %s", caller.Subject, caller.Organization)
	})
	w := httptest.NewRecorder()
	forged := httptest.NewRequest("GET", "/chat", nil)
	forged.Header.Set("Gatehouse-Subject", "somebody else")
	backend.ServeHTTP(w, forged)
	fmt.Print(w.Body)
	// Output: who are you?
}

func TestAppGetsASignedIdentityAndNoKey(t *testing.T) {
	identities := make(chan Identity, 1)
	upstream, got := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		identity, err := VerifyIdentity([]byte(appKey), r, time.Now())
		if err != nil {
			t.Error(err)
		}
		identities <- identity
		if _, err := VerifyIdentity([]byte(appKey), r, time.Now().Add(time.Hour)); err == nil {
			t.Error("an old signature holds")
		}
		for _, name := range []string{"Organization", "Subject", "Roles", "Request-Id", "Timestamp", "Signature"} {
			forged := r.Clone(r.Context())
			forged.Header.Set("Gatehouse-"+name, "1")
			if _, err := VerifyIdentity([]byte(appKey), forged, time.Now()); err == nil {
				t.Errorf("Gatehouse-%s can be forged", name)
			}
		}
		for _, change := range []func(*http.Request){
			func(r *http.Request) { r.Method = "DELETE" },
			func(r *http.Request) { r.RequestURI += "&admin=1" },
		} {
			forged := r.Clone(r.Context())
			change(forged)
			if _, err := VerifyIdentity([]byte(appKey), forged, time.Now()); err == nil {
				t.Error("the request can be changed")
			}
		}
	})
	f := serve(t, upstream)
	answer, _ := f.call(t, "POST", "/api/chat/app/a%20b/c?x=1", "{}",
		"Gatehouse-Organization", "other", "Gatehouse-Subject", "boss", "Gatehouse_organization", "other",
		"Gatehouse-Signature", "v1=00", "Connection", "Gatehouse-Subject, Gatehouse-Signature", "Cookie", "session=1")
	if answer.StatusCode != 200 {
		t.Fatal(answer.StatusCode)
	}
	want := Identity{Organization: "acme", Subject: "u_1", RequestID: "req_1", Roles: []string{"owner", "odd, role"}}
	if diff := cmp.Diff(want, <-identities); diff != "" {
		t.Error(diff)
	}
	r := <-got
	if r.URI != "/a%20b/c?x=1" {
		t.Errorf("URI %q", r.URI)
	}
	for name := range r.Header {
		if name == "Authorization" || name == "Cookie" || strings.Contains(name, "_") {
			t.Errorf("%s reached the backend", name)
		}
	}
	if result := f.result(t); result.CredentialID != "" {
		t.Errorf("%+v", result)
	}
}

// A subject is the host application's own string: none can shift the others.
func TestAnIdentityOfAnyCharacters(t *testing.T) {
	identities := make(chan Identity, 1)
	upstream, _ := recorder(t, func(_ http.ResponseWriter, r *http.Request) {
		identity, err := VerifyIdentity([]byte(appKey), r, time.Now())
		if err != nil {
			t.Error(err)
		}
		identities <- identity
	})
	f := serve(t, upstream)
	for _, subject := range []string{"", "a\nadmin", "Zoë 100%", "a,b", "\x00\x7f\r\n", " lead"} {
		role := access.Role(subject + "!")
		caller := access.NewCaller("acme", access.User, subject, role)
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Host = ""
		w := httptest.NewRecorder()
		f.Gateway.Serve(w, r, gateway.Visit{Route: gateway.Chat, Caller: caller, Service: "app", Path: "x", RequestID: "req"})
		want := Identity{Organization: "acme", Subject: subject, RequestID: "req", Roles: []string{string(role)}}
		if diff := cmp.Diff(want, <-identities); diff != "" {
			t.Error(diff)
		}
	}
}
