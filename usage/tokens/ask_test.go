package tokens_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

func TestReadRequest(t *testing.T) {
	for _, test := range []struct {
		body, model string
		stream      bool
		asking      string // "" where it must not be touched
	}{
		{`{"model":"m","stream":true}`, "m", true, `{"stream_options":{"include_usage":true},"model":"m","stream":true}`},
		{" \n{ \"stream\" : true }\n", "", true, " \n{\"stream_options\":{\"include_usage\":true}, \"stream\" : true }\n"},
		{`{"stream":true,"stream_options":null}`, "", true, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true,"stream_options":{}}`, "", true, `{"stream":true,"stream_options":{"include_usage":true}}`},
		{`{"stream":true,"stream_options": { } }`, "", true, `{"stream":true,"stream_options": {"include_usage":true } }`},
		{`{"stream":true,"stream_options":{"include_obfuscation":false}}`, "", true, `{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}`},
		{`{"stream":true,"stream_options":{"include_usage": false}}`, "", true, `{"stream":true,"stream_options":{"include_usage": true}}`},
		{`{"stream":true,"stream_options":{"include_usage":null,"x":1}}`, "", true, `{"stream":true,"stream_options":{"include_usage":true,"x":1}}`},
		{`{"stream":true,"messages":[{"content":"\"stream_options\":{} }{"}],"n":1e3}`, "", true,
			`{"stream_options":{"include_usage":true},"stream":true,"messages":[{"content":"\"stream_options\":{} }{"}],"n":1e3}`},
		// Already asked for, or no stream.
		{`{"stream":true,"stream_options":{"include_usage":true}}`, "", true, ""},
		{`{"stream":false}`, "", false, ""},
		{`{"stream":null}`, "", false, ""},
		{`{"stream":"true"}`, "", false, ""},
		{`{"model":"m"}`, "m", false, ""},
		{`{}`, "", false, ""},
		{``, "", false, ""},
		{`[{"stream":true}]`, "", false, ""},
		{`"stream"`, "", false, ""},
		// What two readers may read in two ways is left alone.
		{`{"stream":true,"stream":false}`, "", true, ""},
		{`{"stream":true,"Stream":false}`, "", true, ""},
		{`{"STREAM":true}`, "", true, ""},
		{`{"stre\u0061m":true}`, "", true, `{"stream_options":{"include_usage":true},"stre\u0061m":true}`},
		{`{"stream":true,"stream_options":{},"stream_options":{}}`, "", true, ""},
		{`{"stream":true,"stream_opti\u006fns":{}}`, "", true, `{"stream":true,"stream_opti\u006fns":{"include_usage":true}}`},
		{`{"stream":true,"stream_options":{"include_usage":false,"include_usage":true}}`, "", true, ""},
		{`{"stream":true,"stream_options":[]}`, "", true, ""},
		{`{"stream":true,"stream_options":"x"}`, "", true, ""},
		{`{"stream":true,"stream_options":{"include_usage":1}}`, "", true, ""},
		// What is no JSON is the provider's to refuse.
		{`{"stream":true`, "", true, ""},
		{`{"stream":true}}`, "", true, ""},
		{`{"stream":true,}`, "", true, ""},
		{`{"stream":true "a":1}`, "", true, ""},
		{`{stream:true}`, "", false, ""},
		{`{"model":"a\u002db"}`, "a-b", false, ""},
		{`{"model":"=cmd"}`, "other", false, ""},
		{`{"model":{}}`, "other", false, ""},
		{`{"model":"` + strings.Repeat("m", 10000) + `"}`, "other", false, ""},
	} {
		r := tokens.ReadRequest([]byte(test.body))
		if r.Model != test.model || r.Stream != test.stream || r.CanAsk() != (test.asking != "") {
			t.Errorf("%s: %+v", test.body, r)
			continue
		}
		if test.asking == "" {
			continue
		}
		if got := string(r.AskUsage([]byte(test.body))); got != test.asking {
			t.Errorf("%s: asks by %s, want %s", test.body, got, test.asking)
		}
	}
	if !tokens.ReadRequest([]byte(`{"data_sources":[]}`)).DataSource {
		t.Error("data_sources are not seen")
	}
}

// FuzzReadRequest asks for usage in hostile bodies: what was JSON stays JSON,
// and nothing but the question changes.
func FuzzReadRequest(f *testing.F) {
	for _, body := range []string{`{"stream":true}`, `{"stream":true,"stream_options":{"a":[{}]}}`, `{"stream":true,"stream_options":{"include_usage":false}}`,
		`{"a":"\\\"","stream":true }`, `{"stream":true,"stream_options":null,"b":{"c":[1,"]"]}}`} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		before := bytes.Clone(body)
		r := tokens.ReadRequest(body)
		if !r.CanAsk() {
			return
		}
		asking := r.AskUsage(body)
		if !bytes.Equal(body, before) {
			t.Fatal("the body itself was changed")
		}
		if !json.Valid(body) {
			return
		}
		var was, is map[string]any
		if json.Unmarshal(body, &was) != nil {
			t.Fatalf("%q is no object", body)
		}
		if err := json.Unmarshal(asking, &is); err != nil {
			t.Fatalf("%q became %q: %v", body, asking, err)
		}
		options, _ := is["stream_options"].(map[string]any)
		if options["include_usage"] != true {
			t.Fatalf("%q became %q, which does not ask", body, asking)
		}
		delete(options, "include_usage")
		if old, _ := was["stream_options"].(map[string]any); old == nil {
			delete(was, "stream_options")
			if len(options) == 0 {
				delete(is, "stream_options")
			}
		} else {
			delete(old, "include_usage")
		}
		if diff := cmp.Diff(was, is); diff != "" {
			t.Errorf("%q became %q:\n%s", body, asking, diff)
		}
	})
}

// hide gives what is left of a stream that comes in whole lines, cut after each
// of cuts lines.
func hide(pieces ...string) string {
	var h tokens.Hider
	var out strings.Builder
	for _, p := range pieces {
		out.Write(h.Edit([]byte(p)))
	}
	return out.String()
}

func TestHider(t *testing.T) {
	const (
		chunk  = `data: {"id":"1","choices":[{"delta":{"content":"a \"usage\":null"}}]}`
		asked  = `data: {"id":"1","choices":[{"delta":{"content":"a \"usage\":null"}}],"usage":null}`
		middle = `data: {"id":"1","usage":null,"choices":[{"delta":{"content":"a \"usage\":null"}}]}`
		first  = `data: {"usage": null, "id":"1","choices":[{"delta":{"content":"a \"usage\":null"}}]}`
		extra  = `data: {"id":"1","choices":[],"usage":{"prompt_tokens":1}}`
		done   = `data: [DONE]`
	)
	for name, test := range map[string][2]string{
		"usual":                         {asked + "\n\n" + asked + "\n\n" + extra + "\n\n" + done + "\n\n", chunk + "\n\n" + chunk + "\n\n" + done + "\n\n"},
		"elsewhere in the object":       {middle + "\n\n" + first + "\n\n", chunk + "\n\n" + chunk + "\n\n"},
		"the only member":               {"data: {\"usage\":null}\n\n", "data: {}\n\n"},
		"the extra event at the end":    {asked + "\n\n" + extra + "\n\n", chunk + "\n\n"},
		"without its empty line":        {extra + "\n", ""},
		"comments and other fields":     {": ping\n\nid: 7\n" + asked + "\n\n", ": ping\n\nid: 7\n" + chunk + "\n\n"},
		"extra inside a longer event":   {"event: x\n" + extra + "\n\n", "event: x\n" + extra + "\n\n"},
		"usage beside choices":          {`data: {"choices":[{}],"usage":{"a":1}}` + "\n\n", `data: {"choices":[{}],"usage":{"a":1}}` + "\n\n"},
		"Azure's first event":           {`data: {"choices":[],"prompt_filter_results":["usage"]}` + "\n\n", `data: {"choices":[],"prompt_filter_results":["usage"]}` + "\n\n"},
		"usage twice":                   {`data: {"choices":[],"usage":{},"usage":null}` + "\n\n", `data: {"choices":[],"usage":{},"usage":null}` + "\n\n"},
		"not JSON":                      {"data: {\"usage\":null\n\ndata: \"usage\"\n\n", "data: {\"usage\":null\n\ndata: \"usage\"\n\n"},
		"error after it":                {asked + "\n\ndata: {\"error\":{}}\n\n", chunk + "\n\ndata: {\"error\":{}}\n\n"},
		"no space after the colon":      {"data:{\"a\":1,\"usage\":null}\n\n", "data:{\"a\":1}\n\n"},
		"spaces inside an empty choice": {"data: {\"choices\": [ ], \"usage\": {}}\n\n" + done + "\n\n", done + "\n\n"},
	} {
		for _, end := range []string{"\n", "\r\n", "\r"} {
			in, want := strings.ReplaceAll(test[0], "\n", end), strings.ReplaceAll(test[1], "\n", end)
			if got := hide(in); got != want {
				t.Errorf("%s, lines ended by %q:\n%q\nwant\n%q", name, end, got, want)
			}
			if got := hide(lines(in)...); got != want {
				t.Errorf("%s, line by line, ended by %q:\n%q\nwant\n%q", name, end, got, want)
			}
		}
	}
	// A line that is too long to be seen whole goes on as it is.
	if got := hide(`data: {"usage":nu`, "ll}\n\n", asked+"\n\n"); got != "data: {\"usage\":null}\n\n"+chunk+"\n\n" {
		t.Errorf("%q", got)
	}
}

// lines cuts after every "\n" and "\r", so also between the two.
func lines(s string) []string {
	var all []string
	for s != "" {
		n := strings.IndexAny(s, "\r\n") + 1
		if n == 0 {
			n = len(s)
		}
		all, s = append(all, s[:n]), s[n:]
	}
	return all
}

// A stream that was asked for usage becomes what it would have been, however it
// is cut between lines.
func TestHiderRestoresTheStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.SampledFrom([]string{"\n", "\r\n", "\r"}).Draw(t, "end")
		var plain, asked []string
		for range rapid.IntRange(1, 8).Draw(t, "events") {
			var members []string
			for range rapid.IntRange(0, 4).Draw(t, "members") {
				name, _ := json.Marshal(rapid.SampledFrom([]string{"id", "choices", "x\"usage\"", "obfuscation", "délta"}).Draw(t, "name"))
				value, _ := json.Marshal(rapid.SampledFrom([]any{nil, 1, "a\"usage\":null,", []int{}, []string{"\\", "}"}, map[string]any{"usage": nil}}).Draw(t, "value"))
				members = append(members, string(name)+":"+string(value))
			}
			plain = append(plain, "data: {"+strings.Join(members, ",")+"}")
			at := rapid.IntRange(0, len(members)).Draw(t, "at")
			members = append(members[:at:at], append([]string{`"usage":null`}, members[at:]...)...)
			asked = append(asked, "data: {"+strings.Join(members, ",")+"}")
		}
		asked = append(asked, `data: {"id":"1","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}`, "data: [DONE]")
		plain = append(plain, "data: [DONE]")
		join := func(events []string) string { return strings.Join(events, end+end) + end + end }
		var pieces []string
		for _, line := range lines(join(asked)) {
			if len(pieces) > 0 && rapid.Bool().Draw(t, "together") {
				pieces[len(pieces)-1] += line
				continue
			}
			pieces = append(pieces, line)
		}
		if got := hide(pieces...); got != join(plain) {
			t.Errorf("%q\nbecame\n%q\nwant\n%q", pieces, got, join(plain))
		}
	})
}

// FuzzHider gives hostile streams: what is left is a part of them in order, the
// same however they are cut, and all of it where usage is not named.
func FuzzHider(f *testing.F) {
	for _, a := range corpus(f) {
		f.Add(a.body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		got := hide(body)
		if by := hide(lines(body)...); by != got {
			t.Errorf("%q\nline by line\n%q", got, by)
		}
		if !strings.Contains(body, `"usage"`) && got != body {
			t.Errorf("%q\nbecame\n%q", body, got)
		}
		rest := body
		for _, c := range []byte(got) {
			i := strings.IndexByte(rest, c)
			if i < 0 {
				t.Fatalf("%q has more than\n%q", got, body)
			}
			rest = rest[i+1:]
		}
	})
}
