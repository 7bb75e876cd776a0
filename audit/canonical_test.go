package audit_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/audit"
)

// whole is an event with every part set.
func whole() audit.Event {
	return audit.Event{
		ID: "evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab", Organization: "acme",
		OccurredAt: time.Date(2026, 11, 23, 8, 41, 0, 1_000, time.UTC), RecordedAt: time.Date(2026, 11, 23, 8, 41, 1, 0, time.UTC),
		Class: audit.Control, Severity: audit.Notice,
		Action: audit.CredentialUpdate, Outcome: audit.Success, Reason: "because",
		Actor:      audit.Actor{Type: "user", ID: "u-1", TokenID: "jti-1", Roles: []string{"owner", "stranger"}},
		Targets:    []audit.Target{{Type: "credential", ID: "cred_1", Name: "Marie's key"}, {Type: "member", ID: "u-2"}},
		Permission: "credential:update",
		Request: audit.Request{
			ID: "req_1", Method: "PUT", Route: "/api/api-credentials/{id}", Status: 200, IP: "192.0.2.7", UserAgent: "curl/8 <&>",
		},
		Count:    3,
		Metadata: map[string]any{"version": 2, "service": "stripe", "changed": true},
		Personal: map[string]string{"key": "192.0.2.7"},
	}
}

// The bytes of version 2 of the form. They are hashed, so a change here is a
// new version, and the old one must still be read.
func TestCanonicalBytes(t *testing.T) {
	canonical, salt, personal, err := audit.Encode(whole())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append(bytes.Clone(salt), personal...))
	const golden = `{"v":2,"id":"evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab","occurredAt":"2026-11-23T08:41:00.000001Z",` +
		`"recordedAt":"2026-11-23T08:41:01.000000Z",` +
		`"organization":"acme","class":"control","action":"credential.update","outcome":"success","reason":"because","severity":"notice",` +
		`"actor":{"type":"user","id":"u-1","tokenId":"jti-1","roles":["owner","stranger"]},` +
		`"targets":[{"type":"credential","id":"cred_1"},{"type":"member","id":"u-2"}],"permission":"credential:update",` +
		`"request":{"id":"req_1","method":"PUT","route":"/api/api-credentials/{id}","status":200},"count":3,` +
		`"metadata":{"changed":true,"service":"stripe","version":2},"personal":"PERSONAL"}`
	want := strings.Replace(golden, "PERSONAL", hex.EncodeToString(sum[:]), 1)
	if diff := cmp.Diff(want, string(canonical)); diff != "" {
		t.Errorf("canonical bytes (-want +got):\n%s", diff)
	}
	const side = `{"ip":"192.0.2.7","userAgent":"curl/8 <&>","names":["Marie's key",""],"more":{"key":"192.0.2.7"}}`
	if diff := cmp.Diff(side, string(personal)); diff != "" {
		t.Errorf("side row (-want +got):\n%s", diff)
	}
	if len(salt) < 16 {
		t.Errorf("the salt has %d bytes", len(salt))
	}
}

func TestCanonicalBytesOfTheLeast(t *testing.T) {
	canonical, salt, personal, err := audit.Encode(audit.Event{
		ID: "evt_1", OccurredAt: time.Unix(0, 0), RecordedAt: time.Unix(0, 0), Organization: "_instance", Class: audit.Security, Action: audit.AccessDeny,
		Outcome: audit.Denied, Actor: audit.Actor{Type: "anonymous", ID: "anonymous"}, Count: 1, Targets: []audit.Target{{Type: "ip", ID: "ip"}},
	})
	const want = `{"v":2,"id":"evt_1","occurredAt":"1970-01-01T00:00:00.000000Z","recordedAt":"1970-01-01T00:00:00.000000Z","organization":"_instance","class":"security",` +
		`"action":"access.deny","outcome":"denied","severity":"warning","actor":{"type":"anonymous","id":"anonymous"},"targets":[{"type":"ip","id":"ip"}]}`
	if diff := cmp.Diff(want, string(canonical)); diff != "" || err != nil {
		t.Errorf("canonical bytes, error %v (-want +got):\n%s", err, diff)
	}
	if salt != nil || personal != nil {
		t.Errorf("there is a side row of nothing: %x %s", salt, personal)
	}
}

func TestRoundTrip(t *testing.T) {
	e := whole()
	canonical, _, personal, err := audit.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := audit.Decode(canonical, personal)
	if err != nil {
		t.Fatal(err)
	}
	e.Metadata["version"] = float64(2) // JSON's number
	if diff := cmp.Diff(e, got); diff != "" {
		t.Errorf("(-put in +got back):\n%s", diff)
	}
	erased, err := audit.Decode(canonical, nil)
	if err != nil {
		t.Fatal(err)
	}
	e.Request.IP, e.Request.UserAgent, e.Personal, e.Targets[0].Name = "", "", nil, ""
	if diff := cmp.Diff(e, erased); diff != "" {
		t.Errorf("after the person was erased (-want +got):\n%s", diff)
	}
}

// Equal personal data of two events does not show as equal in what is hashed.
func TestCommitmentIsSalted(t *testing.T) {
	one, _, _, _ := audit.Encode(whole())
	two, _, _, _ := audit.Encode(whole())
	if bytes.Equal(one, two) {
		t.Error("the commitments of two events are the same")
	}
}

// Whatever stands in the personal parts, none of it is in the canonical bytes,
// and whatever stands anywhere, the event can be encoded, bounded and read back.
func TestNoPersonalDataIsHashed(t *testing.T) {
	const mark = "Zq7Ypersonal"
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
		marked := rapid.Map(text, func(s string) string { return s[:len(s)/2] + mark + s[len(s)/2:] })
		short := rapid.Map(rapid.StringN(0, 10, 20), func(s string) string { return mark + s })
		e := whole()
		e.Request.IP = short.Draw(t, "ip")
		e.Request.UserAgent = marked.Draw(t, "userAgent")
		e.Personal = map[string]string{marked.Draw(t, "key"): marked.Draw(t, "value")}
		e.Targets[0].Name, e.Targets[1].Name = marked.Draw(t, "name 0"), marked.Draw(t, "name 1")
		e.Actor.ID, e.Reason, e.Request.ID = text.Draw(t, "actor"), text.Draw(t, "reason"), text.Draw(t, "request")
		e.Metadata = map[string]any{text.Draw(t, "metadata key"): text.Draw(t, "metadata value")}

		canonical, salt, personal, err := audit.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(canonical, []byte(mark)) {
			t.Fatalf("personal data is in the canonical bytes: %s", canonical)
		}
		if len(canonical) > audit.MaxCanonical || !utf8.Valid(canonical) || !utf8.Valid(personal) || bytes.IndexByte(personal, 0) >= 0 {
			t.Fatalf("a database may refuse this: %q %q", canonical, personal)
		}
		var stored struct{ Personal string }
		if err := json.Unmarshal(canonical, &stored); err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(append(bytes.Clone(salt), personal...)); stored.Personal != hex.EncodeToString(sum[:]) {
			t.Fatal("the commitment does not hold")
		}
		if _, err := audit.Decode(canonical, personal); err != nil {
			t.Fatal(err)
		}
	})
}

// Metadata that cannot be kept does not cost the event.
func TestMetadataThatCannotBeKept(t *testing.T) {
	for name, metadata := range map[string]map[string]any{
		"no JSON":  {"rate": math.NaN()},
		"a func":   {"f": func() {}},
		"too much": {"text": strings.Repeat("x", audit.MaxCanonical)},
	} {
		e := whole()
		e.Metadata = metadata
		e.Metadata["small"] = "kept"
		canonical, _, personal, err := audit.Encode(e)
		if err != nil || len(canonical) > audit.MaxCanonical {
			t.Errorf("%s: %d bytes, %v", name, len(canonical), err)
			continue
		}
		got, err := audit.Decode(canonical, personal)
		if err != nil {
			t.Fatal(err)
		}
		e.Metadata = map[string]any{"truncated": true, "small": "kept"}
		if diff := cmp.Diff(e, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// However long and awkward the parts that callers choose, the event stays, within
// the bound.
func TestNoEventIsTooLarge(t *testing.T) {
	for _, c := range []string{`"`, "\u2028", "é", "x"} {
		long := strings.Repeat(c, 4096)
		e := whole()
		e.Actor = audit.Actor{Type: long, ID: long, TokenID: long, Roles: slices.Repeat([]string{long}, 64)}
		e.Targets = slices.Repeat([]audit.Target{{Type: long, ID: long, Name: long}}, 64)
		e.Reason, e.Permission, e.Request = long, long, audit.Request{ID: long, Method: long, Route: long, UserAgent: long, IP: long}
		e.Metadata = map[string]any{long: long, "version": 7}
		canonical, _, personal, err := audit.Encode(e)
		if err != nil || len(canonical) > audit.MaxCanonical {
			t.Fatalf("%q: %d bytes, %v", c, len(canonical), err)
		}
		got, err := audit.Decode(canonical, personal)
		if err != nil || got.Metadata["truncated"] != true || got.Metadata["version"] != 7.0 || len(got.Targets) == 0 || got.Action != e.Action {
			t.Errorf("%q: %v, %+v", c, err, got)
		}
	}
}

// An event of version 1 is read as it was written.
func TestVersion1(t *testing.T) {
	const stored = `{"v":1,"id":"evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab","occurredAt":"2026-11-23T08:41:00.000001Z",` +
		`"organization":"acme","class":"control","action":"credential.reveal","outcome":"success","actor":{"type":"user","id":"u-1"}}`
	got, err := audit.Decode([]byte(stored), nil)
	want := audit.Event{
		ID: "evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab", OccurredAt: time.Date(2026, 11, 23, 8, 41, 0, 1_000, time.UTC), Organization: "acme",
		Class: audit.Control, Action: audit.CredentialReveal, Outcome: audit.Success, Severity: audit.Critical, Actor: audit.Actor{Type: "user", ID: "u-1"},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

func FuzzDecode(f *testing.F) {
	canonical, _, personal, _ := audit.Encode(whole())
	f.Add(canonical, personal)
	f.Add([]byte(`{"v":1,"occurredAt":"2026-11-23T08:41:00.000001Z","targets":[{}]}`), []byte(`{"names":["a","b","c"]}`))
	f.Add([]byte(`{}`), []byte(nil))
	f.Add([]byte(`null`), []byte(`null`))
	f.Fuzz(func(t *testing.T, canonical, personal []byte) {
		before := bytes.Clone(canonical)
		if _, err := audit.Decode(canonical, personal); err == nil && !json.Valid(canonical) {
			t.Error("read from what is no JSON")
		}
		if !bytes.Equal(before, canonical) {
			t.Error("reading changed the bytes")
		}
	})
}

func FuzzDecodeCursor(f *testing.F) {
	var filter audit.Filter
	f.Add(filter.EncodeCursor(time.Unix(1_800_000_000, 0), "evt_0197c3f2-6a1e-7c3a-9f00-0123456789ab"))
	f.Add("")
	f.Add("AAAAAAAAAAA")
	f.Add(strings.Repeat("A", 1<<12))
	f.Fuzz(func(t *testing.T, s string) {
		at, id, err := filter.DecodeCursor(s)
		if err != nil {
			return
		}
		again, sameID, err := filter.DecodeCursor(filter.EncodeCursor(at, id))
		if err != nil || !again.Equal(at) || sameID != id || len(id) != 40 {
			t.Errorf("%q gave %v %q, and then %v %q, %v", s, at, id, again, sameID, err)
		}
	})
}
