package tokens_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

func TestRequestedModels(t *testing.T) {
	for body, want := range map[string][]string{
		`{"model":"gpt-4o","messages":[{"model":"inner"}]}`:        {"gpt-4o"},
		`{"messages":[{"content":"\"model\":\"x\""}],"model":"m"}`: {"m"},
		`{"mod\u0065l":"m"}`:                    {"m"},
		`{"models":["a","b"],"model":"c"}`:      {"a", "b", "c"},
		`{"input":"x"}`:                         {},
		` {"model" : "a\/b" } `:                 {"a/b"},
		`{"agent":"research","model":"m"}`:      {"m", "research"},
		`{"agent":{"model":"x"}}`:               {},
		`{"agent":"a","agent":{}}`:              nil,
		`{"agent":"a","Agent":"b"}`:             nil,
		`{"Agent":"b"}`:                         nil,
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
		got, _, ok := tokens.RequestedModels([]byte(body))
		if ok != (want != nil) || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, %v; want %q", body, got, ok, want)
		}
	}
}

// What tools and plugins name for themselves is told beside that; what is talked about, and what
// a function takes, is not.
func TestInnerModels(t *testing.T) {
	for body, want := range map[string][]string{
		`{"model":"m","tools":[{"type":"image_generation","model":"i"},{"type":"x","x":{"Model":"j"}}]}`:                                                         {"i", "j"},
		`{"model":"m","tools":[{"model":"a","model":"b"}],"plugins":[{"models":["c",{"model":"d"},["e"]]}]}`:                                                     {"a", "b", "c", "d"},
		`{"model":"m","tools":[{"mod\u0065l":"a","y":{}},"model","b"]}`:                                                                                          {"a"},
		`{"model":"m","tools":[{"type":"function","function":{"parameters":{"maximum":1e999}}},{"type":"i","model":"evil"}]}`:                                    {"evil"},
		`{"tools":[{"type":"openrouter:image_generation","parameters":{"model":"evil"}}]}`:                                                                       {"evil"},
		`{"plugins":[{"id":"fusion","analysis_models":["a","b"],"judge_model":"c"}]}`:                                                                            {"a", "b", "c"},
		`{"Tools":[{"parameters":{"model":"evil"},"type":"x"}]}`:                                                                                                 {"evil"},
		`{"model":"m","fallback_model":"a","fallback_models":["b",{"model":"c"}],"parameters":{"model":"d"},"remodeled":"x"}`:                                    {"a", "b", "c", "d"},
		`{"plugins":[{"id":"x","parameters":{"model":"evil"}},{"type":"function","type":"x","parameters":{"model":"b"}}]}`:                                       {"evil", "b"},
		`{"functions":[{"name":"f","parameters":{"default":{"model":"Golf"}}}]}`:                                                                                 nil,
		`{"requests":[{"params":{"model":"a","messages":[{"model":"b"}]}}]}`:                                                                                     {"a"},
		`{"tools":[{"type":"function","function":{"parameters":{"properties":{"model":{"type":"string"}},"examples":[{"model":"Golf"}]}}}]}`:                     nil,
		`{"tools":[{"type":"function","name":"f","parameters":{"default":{"model":"Golf"}}}]}`:                                                                   nil,
		`{"tools":[{"name":"f","input_schema":{"default":{"model":"Golf"}},"input_examples":[{"model":"Golf"}]}]}`:                                               nil,
		`{"tools":[{"functionDeclarations":[{"parameters":{"default":{"model":"Golf"}},"response":{"model":"x"}}]}]}`:                                            nil,
		`{"messages":[{"content":[{"input":{"model":"Golf"}}]}],"metadata":{"model":"y"},"documents":[{"model":"Golf"}],"plugins":[{"allowed_models":["a/*"]}]}`: nil,
		`{"model":"m","fallbacks":[{"model":"a"}],"compound_custom":{"models":{"reasoning_model":"b"}},"method":{"reinforcement":{"grader":{"model":"c"}}}}`:     {"a", "b", "c"},
	} {
		_, got, ok := tokens.RequestedModels([]byte(body))
		if !ok || !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%s: %q, %v; want %q", body, got, ok, want)
		}
	}
}

// A body of very many values is not looked into for ever, nor kept.
func TestManyInnerValues(t *testing.T) {
	for _, unit := range []string{"0,", "[],", `"",`, `{"":0},`} {
		if _, _, ok := tokens.RequestedModels([]byte(`{"model":"m","tools":[` + strings.Repeat(unit, 110_000) + `0]}`)); ok {
			t.Errorf("%s: told of", unit)
		}
		if _, _, ok := tokens.RequestedModels([]byte(`{"model":"m","messages":[` + strings.Repeat(unit, 110_000) + `0],"requests":[{"input":[` + strings.Repeat(unit, 110_000) + `0]}]}`)); !ok {
			t.Errorf("%s in what is talked about: not told of", unit)
		}
	}
}

// What is told of a body is what encoding/json reads, whatever the body is.
func FuzzRequestedModels(f *testing.F) {
	for _, seed := range []string{`{"model":"a"}`, `{"model":"a","model":"b"}`, `{"models":["a"],"x":{"model":"b"}}`, `{"agent":"a"}`, `{"MODEL":"a"}`, `{"a\u0000":"\"model\":"}`, `{"model":"m","tools":[{"model":"a","models":[["b"]]}]}`, `{"model":"m","plugins":[1e999,{"type":"function","parameters":{}}]}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got, inner, ok := tokens.RequestedModels(body)
		if !ok {
			return
		}
		var read struct {
			Model  *string  `json:"model"`
			Models []string `json:"models"`
			Agent  any      `json:"agent"`
		}
		if err := json.Unmarshal(body, &read); err != nil {
			t.Fatalf("taken, and encoding/json does not read it: %v", err)
		}
		want := slices.Clone(read.Models)
		if read.Model != nil {
			want = append(want, *read.Model)
		}
		if agent, named := read.Agent.(string); named {
			want = append(want, agent)
		}
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			t.Errorf("%q, and encoding/json reads %q", got, want)
		}
		// Whatever else stands there, a model of a tool is seen.
		if len(body) > 0 && bytes.HasSuffix(body, []byte("}")) && len(want) > 0 {
			more := append(bytes.TrimSuffix(slices.Clone(body), []byte("}")), `,"tools":[{"type":"x","parameters":{"a_model":"evil"}}]}`...)
			if _, seen, ok := tokens.RequestedModels(more); ok && (!slices.Contains(seen, "evil") || len(seen) != len(inner)+1) {
				t.Errorf("%q is told of %s", seen, more)
			}
		}
	})
}
