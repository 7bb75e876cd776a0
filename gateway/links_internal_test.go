package gateway

import (
	"bytes"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

const from, to = "https://acme.zendesk.com", "https://gatehouse.example.com/api/proxy/zendesk"

func testLinks() *pageLinks {
	return &pageLinks{names: []string{"next_page", "next"}, rewrite: func(link string) (string, bool) {
		path, ok := strings.CutPrefix(link, from+"/")
		return to + "/" + path, ok
	}}
}

func TestPageLinks(t *testing.T) {
	long := from + "/" + strings.Repeat("x", maxLink)
	for _, c := range []struct{ name, in, want string }{
		{"a page", `{"next_page":"https://acme.zendesk.com/api/v2/users.json?page=2"}`, `{"next_page":"` + to + `/api/v2/users.json?page=2"}`},
		{"with spaces", "{ \"next_page\" :\n\t\"https://acme.zendesk.com/a\" , \"x\":1}", "{ \"next_page\" :\n\t\"" + to + "/a\" , \"x\":1}"},
		{"inside", `{"links":{"next":"https://acme.zendesk.com/a"},"l":[{"next":"https://acme.zendesk.com/b"}]}`, `{"links":{"next":"` + to + `/a"},"l":[{"next":"` + to + `/b"}]}`},
		{"with escapes", `{"next":"https:\/\/acme.zendesk.com\/a?q=\u0041&b=\"c\""}`, `{"next":"` + to + `/a?q=A&b=\"c\""}`},
		{"nothing", `{"next_page":null,"next":17,"x":{"next":["https://acme.zendesk.com/a"]}}`, `{"next_page":null,"next":17,"x":{"next":["https://acme.zendesk.com/a"]}}`},
		{"another origin", `{"next":"https://acme.zendesk.com.example.com/a"}`, `{"next":"https://acme.zendesk.com.example.com/a"}`},
		{"another name", `{"url":"https://acme.zendesk.com/a","a next":"https://acme.zendesk.com/b"}`, `{"url":"https://acme.zendesk.com/a","a next":"https://acme.zendesk.com/b"}`},
		{"a value like a name", `["next","https://acme.zendesk.com/a",{"a":"next"},"next"]`, `["next","https://acme.zendesk.com/a",{"a":"next"},"next"]`},
		{"text like a member", `{"comment":"\"next\":\"https://acme.zendesk.com/a\""}`, `{"comment":"\"next\":\"https://acme.zendesk.com/a\""}`},
		{"a long link", `{"next":"` + long + `","next_page":"https://acme.zendesk.com/a"}`, `{"next":"` + long + `","next_page":"` + to + `/a"}`},
		{"broken off", `{"next":"https://acme.zendesk.com/a`, `{"next":"https://acme.zendesk.com/a`},
		{"no JSON", `next":"https://acme.zendesk.com/a"`, `next":"https://acme.zendesk.com/a"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, string(testLinks().rewriteAll([]byte(c.in)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// FuzzPageLinks shows that it does not matter where the text is cut, that
// JSON stays JSON, and that a text without links of the provider's stays itself.
func FuzzPageLinks(f *testing.F) {
	f.Add([]byte(`{"next_page":"https://acme.zendesk.com/api","a":"\\","next":"\""}`))
	f.Add([]byte(`{"next":"https:\/\/acme.zendesk.com\/a\u0041"}`))
	f.Add([]byte(`{"next" "next":"https://acme.zendesk.com/"`))
	f.Add([]byte("\"next\":\n\"\\"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole := testLinks().rewriteAll(in)
		cut, err := io.ReadAll(testLinks().reader(iotest.OneByteReader(bytes.NewReader(in))))
		if err != nil || !bytes.Equal(whole, cut) {
			t.Fatalf("%q: %q in one, %q byte by byte, %v", in, whole, cut, err)
		}
		if json.Valid(in) && !json.Valid(whole) {
			t.Fatalf("%q became %q", in, whole)
		}
		never := testLinks()
		never.rewrite = func(string) (string, bool) { return "", false }
		if same := never.rewriteAll(in); !bytes.Equal(same, in) {
			t.Fatalf("%q became %q with nothing to rewrite", in, same)
		}
	})
}
