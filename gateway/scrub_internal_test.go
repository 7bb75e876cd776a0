package gateway

import (
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pieces is a reader that gives so many bytes at a time.
type pieces struct {
	text  string
	sizes []int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := min(p.sizes[0], len(p.text), len(b))
	copy(b, p.text[:n])
	p.text, p.sizes = p.text[n:], append(p.sizes[1:], p.sizes[0])
	return n, nil
}

// However a body arrives, the same is cut out of it as when it is there at once:
// also of secrets that stand in one another.
func TestScrubbedInPieces(t *testing.T) {
	const user, password = "agent@example.com/token", `p+ss/w=rd&0"1'2<3>4%5\6789`
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	secrets := append([]string{basic, strings.TrimRight(basic, "="), password, "tail", "tail of it"}, inBase64([]string{password})...)
	slices.SortStableFunc(secrets, func(a, b string) int { return len(b) - len(a) })
	words := append([]string{
		"100% of ", `\u0070 `, "&amp; ", " p+ss/w", " tai", base64.StdEncoding.EncodeToString([]byte("An Authorization: " + password + "!")),
		strings.ReplaceAll(password, "+", "%2B"), strings.NewReplacer("+", "%252B", "&", "%2526").Replace(password),
		strings.NewReplacer("=", `\\u003d`, `"`, `\\\"`, "/", `\\\\u002f`).Replace(password), strings.NewReplacer("&", "&amp;", `"`, "&quot;", "<", "&lt;").Replace(password),
	}, secrets...)
	rapid.Check(t, func(t *rapid.T) {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom(words), 1, 8).Draw(t, "words"), "|")
		all, cut := newCutter(secrets).cut([]byte(text))
		want := string(all)
		removed := 0
		s := &scrubber{cutter: newCutter(secrets), removed: func(n int) { removed += n },
			from: &pieces{text, rapid.SliceOfN(rapid.IntRange(1, 40), 1, 5).Draw(t, "sizes")}}
		got, err := io.ReadAll(s)
		if err != nil || string(got) != want || removed != cut {
			t.Fatalf("%q\nin pieces: %q (%d)\n  at once: %q (%d), %v", text, got, removed, want, cut, err)
		}
	})
}
