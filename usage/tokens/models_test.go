package tokens_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

func TestRequestedModels(t *testing.T) {
	for body, want := range map[string][]string{
		`{"model":"gpt-4o","messages":[{"model":"inner"}]}`:        {"gpt-4o"},
		`{"messages":[{"content":"\"model\":\"x\""}],"model":"m"}`: {"m"},
		`{"mod\u0065l":"m"}`:               {"m"},
		`{"models":["a","b"],"model":"c"}`: {"a", "b", "c"},
		`{"model":"m","tools":[{"type":"image_generation","model":"i"},{"x":{"Model":"j"}}]}`:                                           {"m", "i", "j"},
		`{"model":"m","tools":[{"model":"a","model":"b"}],"plugins":[{"models":["c",{"model":"d"},["e"]]}]}`:                            {"m", "a", "b", "c", "d", "e"},
		`{"model":"m","tools":[{"mod\u0065l":"a","y":{}},"model","b"]}`:                                                                 {"m", "a"},
		`{"model":"m","tools":[{"function":{"parameters":{"properties":{"model":{"type":"string"}},"examples":[{"model":"a car"}]}}}]}`: {"m"},
		`{"model":"m","tools":[{"function":{"parameters":{}},"model":"a"}]}`:                                                            {"m", "a"},
		`{"model":"m","messages":[{"content":[{"input":{"model":"a car"}}]}],"metadata":{"model":"y"}}`:                                 {"m"},
		`{"input":"x"}`:                         {},
		` {"model" : "a\/b" } `:                 {"a/b"},
		`{"model":""}`:                          {""},
		`{"model":"a","model":"b"}`:             nil,
		`{"model":"a","mod\u0065l":"b"}`:        nil,
		`{"model":"a","Model":"b"}`:             nil,
		`{"MODEL":"b"}`:                         nil,
		`{"models":["a"],"models":["b"]}`:       nil,
		`{"model":1}`:                           nil,
		`{"model":null}`:                        nil,
		`{"model":["a"]}`:                       nil,
		`{"models":"a"}`:                        nil,
		`{"models":null}`:                       nil,
		`{"models":[1]}`:                        nil,
		`{"model":"a"}{"model":"b"}`:            nil,
		`[{"model":"a"}]`:                       nil,
		`"model"`:                               nil,
		``:                                      nil,
		`{"model":"a",}`:                        nil,
		`{"model":"a"/**/}`:                     nil,
		`{"x":NaN,"model":"a"}`:                 nil,
		`{'model':'a'}`:                         nil,
		"\ufeff{\"model\":\"a\"}":               nil,
		"{\"mod\xffel\":\"b\",\"model\":\"a\"}": nil,
		"{\x00\"\x00m\x00o\x00d\x00e\x00l\x00\"\x00:\x00\"\x00a\x00": nil,
	} {
		got, ok := tokens.RequestedModels([]byte(body))
		if ok != (want != nil) || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, %v; want %q", body, got, ok, want)
		}
	}
}

// What is told of a body is what encoding/json reads, whatever the body is.
func FuzzRequestedModels(f *testing.F) {
	for _, seed := range []string{`{"model":"a"}`, `{"model":"a","model":"b"}`, `{"models":["a"],"x":{"model":"b"}}`, `{"MODEL":"a"}`, `{"a\u0000":"\"model\":"}`, `{"tools":[{"model":"a","models":[["b"]]}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, ok := tokens.RequestedModels(body)
		if !ok {
			return
		}
		var read struct {
			Model  *string  `json:"model"`
			Models []string `json:"models"`
		}
		if err := json.Unmarshal(body, &read); err != nil {
			t.Fatalf("taken, and encoding/json does not read it: %v", err)
		}
		want := slices.Clone(read.Models)
		if read.Model != nil {
			want = append(want, *read.Model)
		}
		for _, model := range want { // there may be more inside
			i := slices.Index(got, model)
			if i < 0 {
				t.Fatalf("no %q, which encoding/json reads", model)
			}
			got = slices.Delete(got, i, i+1)
		}
	})
}
