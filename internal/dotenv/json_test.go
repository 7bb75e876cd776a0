package dotenv_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/internal/dotenv"
)

func TestParseJSON(t *testing.T) {
	for _, test := range []struct {
		name, in string
		want     map[string]string // nil: an error
		says     string
	}{
		{"plain", `{"OPENAI_API_KEY": "sk-1", "SMTP_PORT": 587, "DEBUG": true, "NOTHING": null, "EMPTY": ""}`,
			map[string]string{"OPENAI_API_KEY": "sk-1", "SMTP_PORT": "587", "DEBUG": "true", "EMPTY": ""}, ""},
		{"as it was written", `{"A": 1.50, "B": "$HOME ${X} \"q\" \u00fc\n"}`, map[string]string{"A": "1.50", "B": "$HOME ${X} \"q\" ü\n"}, ""},
		{"byte order mark and space", "\ufeff \n{}\n", map[string]string{}, ""},
		{"empty", ``, nil, "line 1: the document is not JSON"},
		{"cut off", "{\n\"A\": \"hunter2", nil, "line 2: the document is not JSON"},
		{"list", `["hunter2"]`, nil, "line 1: the document must be one JSON object"},
		{"text", `"hunter2"`, nil, "line 1: the document must be one JSON object"},
		{"nested", "{\"A\": \"x\",\n \"B\": {\"hunter2\": 1}}", nil, "line 2: a value must be text"},
		{"list inside", `{"B": ["hunter2"]}`, nil, "line 1: a value must be text"},
		{"twice", "{\"A\": \"x\",\n\n\"A\": \"hunter2\"}", nil, "line 3: a name stands there twice"},
		{"twice, once null", `{"A": null, "A": "hunter2"}`, nil, "line 1: a name stands there twice"},
		{"odd name", `{"sk-hunter2 key": "x"}`, nil, "line 1: a name must be"},
		{"no name", `{"": "hunter2"}`, nil, "line 1: a name must be"},
		{"two objects", `{"A": "x"} {"B": "hunter2"}`, nil, "line 1: there is something after"},
		{"comma", `{"A": "hunter2",}`, nil, "line 1: the document is not JSON"},
		{"half a character", `{"A": "hunter2\ud800"}`, nil, "line 1: a value holds an escape"},
		{"not UTF-8", "{\"A\": \"\xff\"}", nil, "line 1: the file is not UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := dotenv.ParseJSON(strings.NewReader(test.in))
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (test.says == "") || err != nil && (!strings.HasPrefix(err.Error(), test.says) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("%v, want %q", err, test.says)
			}
		})
	}
	if _, err := dotenv.ParseJSON(strings.NewReader(strings.Repeat(" ", dotenv.MaxSize+1))); !errors.Is(err, dotenv.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
}

func FuzzParseJSON(f *testing.F) {
	f.Add([]byte(`{"A": "x", "B": 1, "C": null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		got, err := dotenv.ParseJSON(strings.NewReader(string(content)))
		if err != nil {
			var syntax *dotenv.SyntaxError
			if !errors.As(err, &syntax) || syntax.Line < 1 || got != nil {
				t.Errorf("%v, %v", got, err)
			}
			return
		}
		// What was read is what the standard library reads.
		var want map[string]any
		d := json.NewDecoder(strings.NewReader(strings.TrimPrefix(string(content), "\ufeff")))
		d.UseNumber()
		if err := d.Decode(&want); err != nil {
			t.Fatalf("read what is not JSON: %v", err)
		}
		for name, value := range want {
			if text, ok := value.(string); ok && got[name] != text {
				t.Errorf("%q is %q, want %q", name, got[name], text)
			}
			if _, there := got[name]; there == (value == nil) {
				t.Errorf("%q: null and set are mixed up", name)
			}
		}
		if len(got) > len(want) {
			t.Error("more was read than there is")
		}
	})
}
