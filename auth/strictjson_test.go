package auth_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/auth"
)

func TestReadObject(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + "}" }
	for _, text := range []string{
		`{}`, ` { } `, `{"a":1}`, `{"a":-0.5e+9,"b":"x","c":[],"d":{},"e":[1,[2,{"f":null}]],"g":true,"h":false}`,
		`{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, `{"\u0061":1}`, `{"":""}`, `{"a":{"a":{"a":1}}}`, deep(7), "{\"a\":\"é\u2028\"}",
	} {
		if _, _, err := auth.ReadObject([]byte(text)); err != nil {
			t.Errorf("%s is refused", text)
		}
	}
	for _, text := range []string{
		``, `{`, `}`, `[]`, `1`, `"a"`, `null`, `{}{}`, `{} x`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{"a":1 "b":2}`, `{a:1}`, `{'a':1}`, `{"a":01}`,
		`{"a":+1}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":-}`, `{"a":0x1}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":tru}`, `{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`,
		`{"a":1,"a":2}`, `{"a":1,"\u0061":2}`, `{"x":{"a":1,"a":1}}`, `{"x":[{"a":1,"a":1}]}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}", "{\"a\":\"\xff\"}", "{\"\xc3\":1}",
		`{"a":"\x41"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, `{"a":"\ud800"}`, `{"a":"\ud800\u0041"}`, `{"a":"\udc00"}`, `{"a":"\`, `{"a":"\"}`, `{"a":"x`,
		"\ufeff{}", `{"a":1}//`, `{/**/}`, deep(8), deep(5000), strings.Repeat(`{"a":`, 5000), strings.Repeat("[", 8000),
	} {
		if _, _, err := auth.ReadObject([]byte(text)); err == nil {
			t.Errorf("%.60s is taken", text)
		}
	}
}

func TestReadTexts(t *testing.T) {
	for text, want := range map[string][]string{`[]`: nil, `[ ]`: nil, `["a"]`: {"a"}, `[ "a" , "\u0062" ]`: {"a", "b"}} {
		if got, ok := auth.ReadTexts([]byte(text)); !ok || !slices.Equal(got, want) {
			t.Errorf("%s gives %q, %v", text, got, ok)
		}
	}
	for _, text := range []string{``, `"a"`, `{}`, `[1]`, `["a",1]`, `[["a"]]`, `[null]`, `null`} {
		if _, ok := auth.ReadTexts([]byte(text)); ok {
			t.Errorf("%s is taken", text)
		}
	}
}

// What the strict reader takes encoding/json takes too, and reads alike.
func FuzzReadObject(f *testing.F) {
	for _, seed := range []string{`{"a":1,"b":["x",{"c":null}]}`, `{"a":1,"a":2}`, `{"\ud83d\ude00":"\u0000"}`, `{"a":1e9}`, strings.Repeat(`{"a":`, 20)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		names, values, err := auth.ReadObject(data)
		if err != nil {
			return
		}
		var reference map[string]json.RawMessage
		if err := json.Unmarshal(data, &reference); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if len(reference) != len(names) {
			t.Fatalf("%d members, encoding/json has %d", len(names), len(reference))
		}
		for i, name := range names {
			if !bytes.Equal(bytes.TrimSpace(reference[name]), values[i]) {
				t.Errorf("%q is %q, encoding/json has %q", name, values[i], reference[name])
			}
			var text string
			if got, ok := auth.ReadText(values[i]); ok && (json.Unmarshal(values[i], &text) != nil || got != text) {
				t.Errorf("%q reads %q, encoding/json %q", values[i], got, text)
			}
		}
	})
}

func TestServiceTokenForm(t *testing.T) {
	seen := make(map[string]bool)
	for range 1000 {
		token := auth.NewServiceToken()
		if seen[token] || !auth.CheckServiceToken(token) || !auth.IsServiceToken(token) || len(token) != 53 {
			t.Fatalf("a token of %d bytes", len(token))
		}
		seen[token] = true
	}
	token := auth.NewServiceToken()
	for at := range len(token) { // every mistyped letter
		for _, c := range []byte{'0', 'a', 'Z', '-', ' ', 0, 0xff} {
			wrong := []byte(token)
			if wrong[at] == c {
				continue
			}
			if wrong[at] = c; auth.CheckServiceToken(string(wrong)) {
				t.Errorf("taken with another letter at %d", at)
			}
		}
		if at > 0 && token[at] != token[at-1] { // two letters the wrong way round
			wrong := []byte(token)
			wrong[at], wrong[at-1] = wrong[at-1], wrong[at]
			if auth.CheckServiceToken(string(wrong)) {
				t.Errorf("taken with %d and %d exchanged", at-1, at)
			}
		}
	}
}
