package api_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/api"
)

// A time is written in UTC with milliseconds, and read from any RFC 3339.
func TestTime(t *testing.T) {
	for in, want := range map[string]string{
		`"2026-11-23T08:41:00Z"`:              `"2026-11-23T08:41:00.000Z"`,
		`"2026-11-23T10:41:00.123456+02:00"`:  `"2026-11-23T08:41:00.123Z"`,
		`"9999-12-31T23:59:59.999Z"`:          `"9999-12-31T23:59:59.999Z"`,
		`"2024-02-29T00:00:00-00:00"`:         `"2024-02-29T00:00:00.000Z"`,
		`"2026-11-23T08:41:00"`:               "",
		`"2026-11-23"`:                        "",
		`"2025-02-29T00:00:00Z"`:              "",
		`"2026-11-23T24:00:00Z"`:              "",
		`1795423260`:                          "",
		`{}`:                                  "",
		`""`:                                  "",
		`"2026-11-23T08:41:00Z and the rest"`: "",
	} {
		var v api.Time
		err := json.Unmarshal([]byte(in), &v)
		if want == "" {
			if err == nil {
				t.Errorf("%s is taken as %s", in, v)
			}
			continue
		}
		if got, marshalErr := json.Marshal(v); err != nil || marshalErr != nil || string(got) != want {
			t.Errorf("%s is written %s, want %s (%v, %v)", in, got, want, err, marshalErr)
		}
	}
	if api.At(time.Time{}) != nil {
		t.Error("the zero time is on the wire")
	}
}

// What is written is read as the same millisecond.
func TestTimeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := time.UnixMilli(rapid.Int64Range(0, 253402300799999).Draw(t, "ms"))
		data, err := json.Marshal(api.At(at))
		if err != nil {
			t.Fatal(err)
		}
		var back api.Time
		if err := json.Unmarshal(data, &back); err != nil || !time.Time(back).Equal(at) {
			t.Fatalf("%s is read as %s: %v", data, back, err)
		}
	})
}

// Absent, null and a value are three things, on both ways.
func TestOptional(t *testing.T) {
	for in, want := range map[string]api.CredentialUpdate{
		`{}`:                                 {},
		`{"name":null}`:                      {Name: api.Optional[string]{Set: true, Null: true}},
		`{"name":"x","disabled":false}`:      {Name: api.Some("x"), Disabled: api.Some(false)},
		`{"credentials":{"a":null,"b":"c"}}`: {Credentials: map[string]*string{"a": nil, "b": new("c")}},
		`{"expiresAt":null,"disabled":null}`: {ExpiresAt: api.Optional[api.Time]{Set: true, Null: true}, Disabled: api.Optional[bool]{Set: true, Null: true}},
	} {
		var got api.CredentialUpdate
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Errorf("%s: %v", in, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(api.Time{})); diff != "" {
			t.Errorf("%s: %s", in, diff)
		}
		var a, b any
		back, err := json.Marshal(got)
		if err != nil || json.Unmarshal(back, &a) != nil || json.Unmarshal([]byte(in), &b) != nil || !cmp.Equal(a, b) {
			t.Errorf("%s is written %s: %v", in, back, err)
		}
	}
}

// Whatever comes back that is no answer of Gatehouse's is an error with its
// status, and no panic.
func TestClientOnStrangeAnswers(t *testing.T) {
	for body, code := range map[string]string{
		"": "unknown", "<html>": "unknown", "null": "unknown", "[]": "unknown", `{"status":200,"code":"x"}`: "x", `{"status":"x","code":5}`: "unknown",
		`{"code":"credential_missing","detail":"d","requestId":"r"}`: "credential_missing",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(body))
		}))
		c := api.Client{BaseURL: server.URL + "/", Token: "t"}
		_, err := c.GetCredential(t.Context(), "../..?x#y")
		var refused *api.CallError
		if !errors.As(err, &refused) || refused.Status != http.StatusBadGateway || refused.Code != code || refused.RetryAfter != 7*time.Second || err.Error() == "" {
			t.Errorf("%q: %+v", body, err)
		}
		server.Close()
	}
}

// An answer that is longer than the client reads is told apart from one that is broken.
func TestClientOnAnswersTooLarge(t *testing.T) {
	page := []byte(`{"nextCursor":"` + strings.Repeat("x", 16<<20) + `"}`)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(page) }))
	defer server.Close()
	c := api.Client{BaseURL: server.URL}
	if _, err := c.ListCredentials(t.Context(), nil); !errors.Is(err, api.ErrAnswerTooLarge) {
		t.Errorf("%.100v", err)
	}
	page = []byte("{")
	if _, err := c.ListCredentials(t.Context(), nil); err == nil || errors.Is(err, api.ErrAnswerTooLarge) {
		t.Errorf("%v", err)
	}
}

// Nothing is waited for that is no time to come.
func TestClientOnRetryAfter(t *testing.T) {
	var value string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", value)
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer server.Close()
	c := api.Client{BaseURL: server.URL}
	for in, want := range map[string]time.Duration{"-7": 0, "": 0, "soon": 0, "90": 90 * time.Second, "5m0": 0, "Mon, 23 Nov 2015 08:41:00 GMT": 0} {
		value = in
		_, err := c.ListCredentials(t.Context(), nil)
		var refused *api.CallError
		if !errors.As(err, &refused) || refused.RetryAfter != want {
			t.Errorf("%q: %+v", in, err)
		}
	}
}
