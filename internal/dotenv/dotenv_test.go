package dotenv_test

import (
	"errors"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/gatehouse-io/gatehouse/internal/dotenv"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, in string
		want     map[string]string
	}{
		{"nothing", "", nil},
		{"blank lines and comments", "\n  \n# A=1\n\t# B='\n", nil},
		{"plain", "A=1\nB=two words \n", map[string]string{"A": "1", "B": "two words"}},
		{"no line end at the end", "A=1", map[string]string{"A": "1"}},
		{"empty values", "A=\nB= \nC=''\nD=\"\"\nE= # comment\n", map[string]string{"A": "", "B": "", "C": "", "D": "", "E": ""}},
		{"spaces around =", "  A = 1\n\tB\t=\t'x'\t\n", map[string]string{"A": "1", "B": "x"}},
		{"export", "export A=1\nexport\tB=2\nexport=3\nexport = 4\nexported=5\n", map[string]string{"A": "1", "B": "2", "export": "4", "exported": "5"}},
		{"= in the value", "A=b=c==\n", map[string]string{"A": "b=c=="}},
		{"hash", "A=a#b\nB=a #b\nC=a\t# b\nD=#a\nE='a #b' # c\nF=\"a #b\"#c\n",
			map[string]string{"A": "a#b", "B": "a", "C": "a", "D": "#a", "E": "a #b", "F": "a #b"}},
		{"no expansion", "A=pa$$w$HOME${B}`x`\nB='$A'\nC=\"$A ${A} \\$A\"\nD=$(date)\n",
			map[string]string{"A": "pa$$w$HOME${B}`x`", "B": "$A", "C": "$A ${A} $A", "D": "$(date)"}},
		{"escapes", `A="a\nb\rc\"d\\n\te\'"` + "\n" + `B='a\nb"'` + "\nC=`a\\n'\"`\nD=a\\nb\n",
			map[string]string{"A": "a\nb\rc\"d\\n\\te\\'", "B": `a\nb"`, "C": `a\n'"`, "D": `a\nb`}},
		{"several lines", "A=\"-----BEGIN\n# no comment\nB=no\n-----END\"\nC='x\n\ny'\nD=`z\n`\nE=1\n",
			map[string]string{"A": "-----BEGIN\n# no comment\nB=no\n-----END", "C": "x\n\ny", "D": "z\n", "E": "1"}},
		{"quote inside", "A=it's\nB=5\"\n", map[string]string{"A": "it's", "B": "5\""}},
		{"last wins", "A=1\nA=2\nA='3'\n", map[string]string{"A": "3"}},
		{"names", "_a.b-c9=1\n", map[string]string{"_a.b-c9": "1"}},
		{"CRLF", "A=1\r\nB='x\r\ny'\r\n\r\nC=2 # c\r\n", map[string]string{"A": "1", "B": "x\ny", "C": "2"}},
		{"CR", "A=1\rB=2\r", map[string]string{"A": "1", "B": "2"}},
		{"byte order mark", "\ufeffA=1\n", map[string]string{"A": "1"}},
		{"bytes that are no UTF-8", "# \xe4\nA=\xff\xe4\n", map[string]string{"A": "\xff\xe4"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := dotenv.Parse(strings.NewReader(c.in))
			if err != nil {
				t.Fatal(err)
			}
			if c.want == nil {
				c.want = map[string]string{}
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

// messages are all that a [dotenv.SyntaxError] may say, by their beginnings.
var messages = regexp.MustCompile(`^line [0-9]+: (there is no '='|the name in front of '='|the quote that opens here is never closed|` +
	`there is text after the closing quote|there is a NUL byte|the file is in UTF-16)[^\n]*$`)

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{"no =", "A=1\n\nsecret\n", "line 3: there is no '='"},
		{"export without =", "export A\n", "line 1: there is no '='"},
		{"no name", "=secret", "line 1: the name"},
		{"digit first", "A=1\n1A=secret", "line 2: the name"},
		{"space in the name", "my secret=1", "line 1: the name"},
		{"colon", "A: secret=", "line 1: the name"},
		{"not ASCII", "sécret=1", "line 1: the name"},
		{"single quote open", "A=1\nB='secret\n\nC=2\n", "line 2: the quote"},
		{"double quote open", "A=\"secret\\\"\n", "line 1: the quote"},
		{"double quote at the very end", `A="`, "line 1: the quote"},
		{"backslash at the very end", `A="secret\`, "line 1: the quote"},
		{"backtick open", "A='x\ny'\nB=`secret", "line 3: the quote"},
		{"text after the quote", "A='secret'secret\n", "line 1: there is text"},
		{"text after a quote of several lines", "A=1\nB=\"x\n\n\" secret\n", "line 4: there is text"},
		{"NUL", "A=1\nB=sec\x00ret\n", "line 2: there is a NUL"},
		{"UTF-16", "\xff\xfeA\x00=\x001\x00", "line 1: the file is in UTF-16"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := dotenv.Parse(strings.NewReader(c.in))
			var syntax *dotenv.SyntaxError
			if got != nil || !errors.As(err, &syntax) {
				t.Fatalf("%v, %v; want a SyntaxError", got, err)
			}
			if text := err.Error(); !strings.HasPrefix(text, c.want) || strings.Contains(text, "ecret") || !messages.MatchString(text) {
				t.Errorf("%q; want %q", text, c.want)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := dotenv.Parse(io.MultiReader(strings.NewReader("A=1\n"), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("%v; want the reader's error", err)
	}
	full := strings.NewReader("A=" + strings.Repeat("x", dotenv.MaxSize-2))
	if got, err := dotenv.Parse(full); err != nil || len(got["A"]) != dotenv.MaxSize-2 {
		t.Errorf("a file of %d bytes: %v", dotenv.MaxSize, err)
	}
	if _, err := dotenv.Parse(strings.NewReader(strings.Repeat("\n", dotenv.MaxSize+1))); !errors.Is(err, dotenv.ErrTooLarge) {
		t.Errorf("%v; want ErrTooLarge", err)
	}
}

// TestQuotedValuesSurvive: any text comes out of double quotes as it went in,
// whatever stands around it.
func TestQuotedValuesSurvive(t *testing.T) {
	t.Parallel()
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "$", `\$`)
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOf(rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_.-]{0,8}`), rapid.StringMatching(`[^\x00]{0,40}`)).Draw(t, "variables")
		var b strings.Builder
		for _, name := range slices.Sorted(maps.Keys(want)) {
			b.WriteString(rapid.SampledFrom([]string{"", "\n", "# it's\r\n", "export ", "  "}).Draw(t, "before"))
			b.WriteString(name + rapid.SampledFrom([]string{"=", " =\t"}).Draw(t, "equals") + `"` + escape.Replace(want[name]) + `"`)
			b.WriteString(rapid.SampledFrom([]string{"\n", "\r\n", " # '\n", "#\n"}).Draw(t, "after"))
		}
		got, err := dotenv.Parse(strings.NewReader(b.String()))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("(-want +got)\n%s", d)
		}
	})
}

// FuzzParse: whatever the file holds, Parse ends, an error says one of a few
// fixed things and a line that exists, and names are names.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"A=1\nexport B='x'\n", "A=\"a\\n\nb\" # c\r\nB=`c`", "\ufeffA = pa$$ #x\n=\n"} {
		f.Add(seed)
	}
	name := regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	f.Fuzz(func(t *testing.T, in string) {
		got, err := dotenv.Parse(strings.NewReader(in))
		if err != nil {
			var syntax *dotenv.SyntaxError
			if errors.Is(err, dotenv.ErrTooLarge) {
				return
			}
			if !errors.As(err, &syntax) || !messages.MatchString(err.Error()) {
				t.Fatalf("an error of its own kind: %q", err)
			}
			if lines := 1 + strings.Count(in, "\n") + strings.Count(in, "\r"); syntax.Line < 1 || syntax.Line > lines {
				t.Fatalf("line %d of %d", syntax.Line, lines)
			}
			return
		}
		for n, v := range got {
			if !name.MatchString(n) || strings.ContainsRune(v, 0) {
				t.Fatalf("%q=%q", n, v)
			}
		}
	})
}
