// Package api holds the wire types of Gatehouse's HTTP API and a small Go
// client for it.
//
// JSON is camelCase; times are RFC 3339 in UTC with milliseconds ([Time]); ids
// are a prefix and a dashed UUIDv7. Errors are RFC 9457 problems ([Problem]).
// The package uses the standard library only and is what the server, the
// command line and tests share.
//
// # Calling
//
// A [Client] has a method for each call, named as the call is in the API
// document (/openapi.json). It asks once, and never again by itself:
//
//	c := &api.Client{BaseURL: "http://127.0.0.1:8080", Token: token}
//	credential, err := c.CreateCredential(ctx, api.CredentialCreate{
//		Service: "openai", Credentials: map[string]string{"apiKey": key},
//	})
//	var problem *api.CallError
//	if errors.As(err, &problem) && problem.Code == "credential_exists" { ... }
//
// A [*CallError] is an answer; any other error means that there was none, or
// none that could be read. Chat and proxy routes have no method: they are the
// provider's own API, for the provider's own SDK. Nor has the sub-request of
// other gateways (authorize-request): it reads the headers of the request that it
// is about, and is theirs to make; [Client.CheckRateLimit] is for programs.
//
// A change can be made to depend on the state that it is meant for:
//
//	_, err = c.UpdateCredential(ctx, credential.ID, change, api.IfMatch(credential.ETag))
//
// # Fields that may be absent
//
// In a change, what is left out stays, and null removes. [Optional] tells the
// two apart: its zero value is left out, [Some] is a value, and Null is null.
package api

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

// Time is an instant on the wire: RFC 3339, UTC, milliseconds.
type Time time.Time

// TimeFormat is how [Time] is written.
const TimeFormat = wiretime.Format

// At gives t for the wire, and nil for the zero time.
func At(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	w := Time(t)
	return &w
}

// String gives the time as it stands on the wire.
func (t Time) String() string { return time.Time(t).UTC().Format(TimeFormat) }

// MarshalJSON implements [json.Marshaler].
func (t Time) MarshalJSON() ([]byte, error) { return []byte(`"` + t.String() + `"`), nil }

// UnmarshalJSON implements [json.Unmarshaler]; it takes any RFC 3339 time and
// gives it in UTC, so that its year is the one that is written again.
func (t *Time) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return err
	}
	parsed, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return fmt.Errorf("must be a time such as 2026-11-23T08:41:00.000Z")
	}
	*t = Time(parsed.UTC())
	return nil
}

// Optional is a field of a change that may be absent (keep what is there),
// null (take it away) or a value.
type Optional[T any] struct {
	Set   bool // present, as null or as a value
	Null  bool
	Value T
}

// Some gives an Optional with a value.
func Some[T any](v T) Optional[T] { return Optional[T]{Set: true, Value: v} }

// IsZero reports whether the field is absent, for omitzero.
func (o Optional[T]) IsZero() bool { return !o.Set }

// UnmarshalJSON implements [json.Unmarshaler].
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	o.Set = true
	if string(data) == "null" {
		o.Null = true
		return nil
	}
	return json.Unmarshal(data, &o.Value)
}

// MarshalJSON implements [json.Marshaler].
func (o Optional[T]) MarshalJSON() ([]byte, error) {
	if o.Null || !o.Set {
		return []byte("null"), nil
	}
	return json.Marshal(o.Value)
}

// Problem is an error answer (RFC 9457).
type Problem struct {
	Type      string         `json:"type"`
	Title     string         `json:"title"`
	Status    int            `json:"status"`
	Detail    string         `json:"detail"`
	Code      string         `json:"code" doc:"A stable word for programs"`
	RequestID string         `json:"requestId"`
	Errors    []ProblemField `json:"errors,omitempty" doc:"The fields that are wrong; never their values"`
	Error     *SDKError      `json:"error,omitempty" doc:"On chat and proxy routes: the shape that SDKs read"`
}

// ProblemField says what is wrong with one field.
type ProblemField struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// SDKError is the error object that providers' SDKs look for.
type SDKError struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    string `json:"code"`
}
