package usage

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// What is written out by hand is what encoding/json gives of a line, to the byte.
func TestLinesAreJSON(t *testing.T) {
	text := rapid.OneOf(rapid.Just(""), rapid.String(), rapid.StringMatching(`[a-z<>&"\\/\x7f\n]{0,5}`), rapid.StringMatching(`[a-zA-Z0-9_.-]{1,20}`))
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string) (tokens.Count, *int64) {
			if !rapid.Bool().Draw(t, name+" is known") {
				return tokens.Count{}, nil
			}
			n := rapid.Int64().Draw(t, name)
			return tokens.Count{N: n, Known: true}, &n
		}
		r := Record{
			At: time.UnixMicro(rapid.Int64Range(-1e15, 1e16).Draw(t, "at")), Organization: text.Draw(t, "organization"), Service: text.Draw(t, "service"),
			Model: text.Draw(t, "model"), Credential: text.Draw(t, "credential"), Member: text.Draw(t, "member"),
			Failed: rapid.Bool().Draw(t, "failed"), Partial: rapid.Bool().Draw(t, "partial"), Expected: rapid.Bool().Draw(t, "expected"),
			BytesIn: rapid.Int64Range(0, 1e9).Draw(t, "in"), BytesOut: rapid.Int64Range(0, 1e9).Draw(t, "out"),
		}
		l := line{
			At: r.At.UnixMicro(), Organization: r.Organization, Service: r.Service, Model: r.Model, Credential: r.Credential, Member: r.Member,
			Failed: r.Failed, Partial: r.Partial, Expected: r.Expected, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
		}
		r.Tokens.Input, l.Input = number("input")
		r.Tokens.CacheRead, l.CacheRead = number("cache read")
		r.Tokens.CacheWrite, l.CacheWrite = number("cache write")
		r.Tokens.Output, l.Output = number("output")
		r.Tokens.Reasoning, l.Reasoning = number("reasoning")
		want, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		got, err := appendLine([]byte("before\n"), r)
		if err != nil || string(got[len("before\n")+checksum:]) != string(want)+"\n" {
			t.Fatalf("got  %q, %v\nwant %q", got, err, want)
		}
		if r.Organization == "" {
			return
		}
		if _, err := parseLine(got[len("before\n") : len(got)-1]); err != nil {
			t.Fatalf("%q: %v", got, err)
		}
	})
}

// What is written by hand is what is read: a record with every field set comes back
// as it was, and its line has every member that a line knows.
func TestLinesHoldEveryField(t *testing.T) {
	var r Record
	var fill func(v reflect.Value, name string)
	fill = func(v reflect.Value, name string) {
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMicro(1_800_000_000_123_456).UTC()))
			return
		}
		switch v.Kind() {
		case reflect.String:
			v.SetString("the-" + name)
		case reflect.Bool:
			v.SetBool(true)
		case reflect.Int64:
			v.SetInt(int64(len(name)))
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i), v.Type().Field(i).Name)
			}
		default:
			t.Fatalf("%s is of a kind that this test does not know", name)
		}
	}
	fill(reflect.ValueOf(&r).Elem(), "record")
	r = r.normal()
	written, err := appendLine(nil, r)
	if err != nil {
		t.Fatal(err)
	}
	read, err := parseLine(bytes.TrimSuffix(written, []byte("\n")))
	if err != nil || read != r {
		t.Errorf("read %+v, %v\nwant %+v", read, err, r)
	}
	var members map[string]any
	if err := json.Unmarshal(written[checksum:], &members); err != nil {
		t.Fatal(err)
	}
	known := reflect.TypeFor[line]()
	if len(members) != known.NumField() {
		t.Errorf("%d members were written, and %d are known", len(members), known.NumField())
	}
}
