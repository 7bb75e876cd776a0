package tokens_test

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

//go:embed testdata/answers
var answers embed.FS

// saved is an answer out of a provider's documentation, with what it says.
type saved struct {
	name        string
	contentType string
	body        string
	want        string
	model       string
}

// corpus reads testdata/answers: the first line of each file is its content type,
// the second what is to be counted, the third the model; the body follows.
func corpus(t testing.TB) []saved {
	t.Helper()
	var all []saved
	err := fs.WalkDir(answers, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := answers.ReadFile(name)
		if err != nil {
			return err
		}
		parts := strings.SplitN(string(b), "\n", 4)
		all = append(all, saved{path.Base(name), parts[0], parts[3], parts[1], parts[2]})
		return nil
	})
	if err != nil || len(all) < 12 {
		t.Fatalf("the corpus has %d answers: %v", len(all), err)
	}
	return all
}

func text(c tokens.Counts) string {
	one := func(c tokens.Count) string {
		if !c.Known {
			return "-"
		}
		return strconv.FormatInt(c.N, 10)
	}
	return "in " + one(c.Input) + " read " + one(c.CacheRead) + " written " + one(c.CacheWrite) + " out " + one(c.Output) + " thought " + one(c.Reasoning)
}

// watch gives what a watcher says of body, cut into pieces.
func watch(contentType string, pieces ...string) (counts, model string, events int64) {
	var w tokens.Watcher
	w.Start(contentType, "")
	for _, p := range pieces {
		w.Watch([]byte(p))
	}
	return text(w.Counts()), w.Model(), w.Events()
}

func TestDialects(t *testing.T) {
	for _, a := range corpus(t) {
		t.Run(a.name, func(t *testing.T) {
			counts, model, events := watch(a.contentType, a.body)
			if counts != a.want || model != a.model {
				t.Errorf("counted %s of %q, want %s of %q", counts, model, a.want, a.model)
			}
			// Every single place to split at, and byte by byte.
			for i := range a.body {
				c, m, e := watch(a.contentType, a.body[:i], a.body[i:])
				if c != counts || m != model || e != events {
					t.Fatalf("split at %d: %s of %q in %d events", i, c, m, e)
				}
			}
			if c, m, e := watch(a.contentType, strings.Split(a.body, "")...); c != counts || m != model || e != events {
				t.Errorf("byte by byte: %s of %q in %d events", c, m, e)
			}
			// Other ends of lines say the same.
			if strings.HasPrefix(a.contentType, "text/event-stream") {
				for _, end := range []string{"\r\n", "\r"} {
					c, m, e := watch(a.contentType, strings.ReplaceAll(a.body, "\n", end))
					if c != counts || m != model || e != events {
						t.Errorf("lines ended by %q: %s of %q in %d events, want %d", end, c, m, e, events)
					}
				}
			}
		})
	}
}

// Any number of splits gives the same counts.
func TestAnySplit(t *testing.T) {
	all := corpus(t)
	rapid.Check(t, func(t *rapid.T) {
		a := all[rapid.IntRange(0, len(all)-1).Draw(t, "answer")]
		counts, model, events := watch(a.contentType, a.body)
		var pieces []string
		for rest := a.body; rest != ""; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "bytes")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		c, m, e := watch(a.contentType, pieces...)
		if diff := cmp.Diff([]any{counts, model, events}, []any{c, m, e}); diff != "" {
			t.Error(diff)
		}
	})
}

// However a provider escapes its names and texts, they say the same.
func TestEscapes(t *testing.T) {
	for _, test := range []struct{ body, model, want string }{
		{`{"model":"meta-llama\/Llama-3","usage":{"prompt_tokens":1}}`, "meta-llama/Llama-3", "in 1"},
		{`{"model":"q\u002dx","us\u0061ge":{"prompt\u005Ftokens":2}}`, "q-x", "in 2"},
		{`{"\u006Dodel":"q\u002Dx"}`, "q-x", "in -"},
		{`{"model":"q\u00e9"}`, tokens.OtherModel, "in -"},
		{`{"model":"q\ud83d\ude00"}`, tokens.OtherModel, "in -"},
		{`{"model":"q\n","usage":{"prompt_tokens":3}}`, tokens.OtherModel, "in 3"},
		{`{"model":"\"","usage":{"prompt_tokens":3}}`, tokens.OtherModel, "in 3"},
		{`{"model":"q\\","usage":{"prompt_tokens":3}}`, tokens.OtherModel, "in 3"},
		{`{"model":"q\u0000"}`, tokens.OtherModel, "in -"},
		{`{"model":"q\u012d"}`, tokens.OtherModel, "in -"}, // whose low byte is that of "-"
		{`{"model\u0000":"q","mod\u0165l":"q"}`, "", "in -"},
		{`{"\/model":"q","mode\l":"q"}`, "", "in -"},
		{`{"` + strings.Repeat(`\u0061`, 40) + `":1,"model":"q"}`, "q", "in -"},
		{`{"model":"` + strings.Repeat(`\u0061`, tokens.MaxModel) + `"}`, strings.Repeat("a", tokens.MaxModel), "in -"},
		{`{"model":"` + strings.Repeat(`\u0061`, tokens.MaxModel+1) + `"}`, tokens.OtherModel, "in -"},
		// No JSON: the string ends all the same.
		{`{"model":"q\u00","usage":{"prompt_tokens":3}}`, tokens.OtherModel, "in 3"},
		{`{"model":"q\u\u002d","usage":{"prompt_tokens":3}}`, tokens.OtherModel, "in 3"},
		{`{"model":"q\u00\x10","usage":{"prompt_tokens":3}}`, tokens.OtherModel, "in 3"},
		{`{"model\u0":"q","usage":{"prompt_tokens":3}}`, "", "in 3"},
	} {
		counts, model, _ := watch("application/json", test.body)
		if model != test.model || !strings.HasPrefix(counts, test.want+" ") {
			t.Errorf("%s: %s of %q, want %s of %q", test.body, counts, model, test.want, test.model)
		}
	}
	for _, a := range corpus(t) {
		rapid.Check(t, func(t *rapid.T) {
			body := escape(a.body, rapid.Int64().Draw(t, "seed"))
			at := rapid.IntRange(0, len(body)).Draw(t, "split")
			counts, model, events := watch(a.contentType, body[:at], body[at:])
			_, _, want := watch(a.contentType, a.body)
			if counts != a.want || model != a.model || events != want {
				t.Errorf("%s: %s of %q in %d events, want %s of %q in %d: %s", a.name, counts, model, events, a.want, a.model, want, body)
			}
		})
	}
}

// escape spells some letters inside of strings, and other ASCII, in ways that JSON has for them.
func escape(body string, seed int64) string {
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	var out strings.Builder
	inString, escaped, digits := false, false, 0
	for i := range len(body) {
		c := body[i]
		digits--
		switch plain := inString && !escaped && digits < 0 && c >= ' ' && c < 0x7f && c != '\\' && c != '"'; {
		case plain && random.IntN(3) == 0:
			_, _ = fmt.Fprintf(&out, [...]string{`\u%04x`, `\u%04X`}[random.IntN(2)], c)
		case plain && c == '/':
			out.WriteString(`\/`)
		default:
			out.WriteByte(c)
			if c == '"' && !escaped {
				inString = !inString
			}
		}
		if escaped && c == 'u' {
			digits = 4
		}
		escaped = inString && !escaped && c == '\\'
	}
	return out.String()
}

func TestUnknownIsNotZero(t *testing.T) {
	const nothing = "in - read - written - out - thought -"
	for name, body := range map[string]string{
		"empty": ``, "no usage": `{"model":"m","choices":[]}`, "null": `{"usage":null}`, "cut": `{"usage":{"prompt_tokens":1`,
		"nested deeper": `{"data":[{"usage":{"prompt_tokens":5}}],"x":{"usage":{"prompt_tokens":5}}}`,
		"in a text":     `{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":5}"}}]}`,
		"no numbers":    `{"usage":{"prompt_tokens":"5","completion_tokens":[5],"total_tokens":{"a":5}}}`,
		"negative":      `{"usage":{"prompt_tokens":-5,"completion_tokens":1.5}}`,
		"huge":          `{"usage":{"prompt_tokens":9223372036854775807,"completion_tokens":1e300}}`,
		"not a number":  `{"usage":{"prompt_tokens":NaN,"completion_tokens":Infinity,"total_tokens":111111111111111111111111111111}}`,
		"array":         `{"usage":[{"prompt_tokens":5}]}`,
		"html":          `<html>{{{{"usage"</html>`,
		"deep":          strings.Repeat(`{"usage":`, 10000) + `{"prompt_tokens":5`,
		"brackets":      strings.Repeat(`]}`, 10000),
	} {
		if got, _, _ := watch("application/json", body); got != nothing {
			t.Errorf("%s: counted %s", name, got)
		}
		if got, _, _ := watch("text/event-stream", "data: "+body); got != nothing {
			t.Errorf("%s, as an event: counted %s", name, got)
		}
	}
}

// A stream that breaks off leaves what it said until then.
func TestBrokenStream(t *testing.T) {
	const start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\",\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n"
	counts, model, events := watch("text/event-stream", start+"event: content_block_delta\ndata: {\"type\":\"content_blo")
	if counts != "in 25 read - written - out 1 thought -" || model != "claude-x" || events != 1 {
		t.Errorf("%s of %q in %d events", counts, model, events)
	}
}

func TestWhatIsNotWatched(t *testing.T) {
	const body = `{"usage":{"prompt_tokens":5}}`
	for _, header := range [][2]string{
		{"application/json", "gzip"}, {"text/event-stream", "br"}, {"application/octet-stream", ""}, {"", ""}, {"audio/mpeg", ""}, {"text/html", ""},
	} {
		var w tokens.Watcher
		if w.Start(header[0], header[1]) {
			t.Errorf("%q is watched", header)
		}
		w.Watch([]byte(body))
		if w.Counts().Known() {
			t.Errorf("%q is counted", header)
		}
	}
	var w tokens.Watcher
	for _, header := range [][2]string{{"application/json", "identity"}, {"Application/JSON; charset=utf-8", ""}, {"application/vnd.api+json", ""}} {
		if !w.Start(header[0], header[1]) {
			t.Errorf("%q is not watched", header)
		}
		w.Watch([]byte(body))
		if !w.Counts().Known() {
			t.Errorf("%q is not counted", header)
		}
	}
}

// An event of any size takes no memory and no more time for escapes.
func TestHugeEvents(t *testing.T) {
	piece := strings.Repeat(`\"\\ab`, 16<<10/6)
	var w tokens.Watcher
	w.Start("text/event-stream", "")
	w.Watch([]byte(`data: {"model":"` + strings.Repeat("m", 1000) + `","choices":[{"delta":{"content":"`))
	p := []byte(piece)
	if n := testing.AllocsPerRun(1000, func() { w.Watch(p) }); n != 0 {
		t.Errorf("%v allocations for a piece", n)
	}
	w.Watch([]byte(`"}}],"usage":{"prompt_tokens":3,"completion_tokens":4}}` + "\n\n"))
	if got := text(w.Counts()); got != "in 3 read - written - out 4 thought -" || w.Model() != tokens.OtherModel {
		t.Errorf("%s of %q", got, w.Model())
	}
}

func TestModelName(t *testing.T) {
	for name, want := range map[string]string{
		"": "", "gpt-5.1": "gpt-5.1", "ft:gpt-4o:acme::id": "ft:gpt-4o:acme::id", "meta-llama/Llama-3@v1": "meta-llama/Llama-3@v1",
		"=1+1": "other", "a b": "other", "a\n": "other", "ä": "other", "<b>": "other", strings.Repeat("a", 128): strings.Repeat("a", 128), strings.Repeat("a", 129): "other",
	} {
		if got := tokens.ModelName(name); got != want {
			t.Errorf("ModelName(%q) = %q", name, got)
		}
		quoted := strings.ReplaceAll(name, "\n", `\n`)
		if _, got, _ := watch("application/json", `{"model":"`+quoted+`"}`); got != want {
			t.Errorf("the watcher reads %q as %q", name, got)
		}
	}
}

// FuzzWatcher splits hostile answers anywhere: the counts stay the same, and
// nothing panics.
func FuzzWatcher(f *testing.F) {
	for _, a := range corpus(f) {
		f.Add(a.contentType, a.body, uint16(len(a.body)/3), uint16(len(a.body)/2))
		f.Add(a.contentType, escape(a.body, 1), uint16(len(a.body)/3), uint16(len(a.body)/2))
	}
	f.Fuzz(func(t *testing.T, contentType, body string, i, j uint16) {
		if contentType != "text/event-stream" {
			contentType = "application/json"
		}
		first, second := min(int(i), len(body)), min(int(j), len(body))
		if first > second {
			first, second = second, first
		}
		c1, m1, e1 := watch(contentType, body)
		c2, m2, e2 := watch(contentType, body[:first], body[first:second], body[second:])
		if c1 != c2 || m1 != m2 || e1 != e2 {
			t.Errorf("%s %q %d in one piece, %s %q %d in three", c1, m1, e1, c2, m2, e2)
		}
		if contentType == "application/json" && json.Valid([]byte(body)) {
			if c3, m3, _ := watch(contentType, escape(body, int64(i))); c1 != c3 || m1 != m3 {
				t.Errorf("%s %q, and with escapes %s %q", c1, m1, c3, m3)
			}
		}
		if len(m1) > tokens.MaxModel || tokens.ModelName(m1) != m1 {
			t.Errorf("the model %q", m1)
		}
	})
}
