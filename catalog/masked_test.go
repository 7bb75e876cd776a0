package catalog_test

import (
	"encoding/base64"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestMasksAreRefused(t *testing.T) {
	for _, test := range []struct{ service, field, value string }{
		{"openai", "apiKey", "••••ghij"}, // our own
		{"smtp", "pass", "••••"},         // our own of a password
		{"openai", "apiKey", "sk-...abcd"},
		{"openai", "apiKey", "sk-proj-ab...yz12"},
		{"openai", "apiKey", "...abcd"},
		{"openai", "apiKey", "****"},
		{"openai", "apiKey", "************************abcd"},
		{"openai", "apiKey", "sk-****************abcd"},
		{"openai", "apiKey", "xxxx"},
		{"openai", "apiKey", "XXXXXXXX"},
		{"openai", "apiKey", "sk-xxxxxxxxxxxxxxxx"},
		{"openai", "apiKey", "sk-proj-xxxxxxxxxxxxabcd"},
		{"openai", "apiKey", "xxxxxxxxxxxx1234"},
		{"openai", "apiKey", "????abcd"}, // our own, after a file that is not UTF-8
		{"openai", "apiKey", "●●●●●●●●"},
		{"openai", "apiKey", "········abcd"},
		{"openai", "apiKey", "████████"},
		{"openai", "apiKey", "sk-…"},
		{"openai", "apiKey", "[REDACTED]"},
		{"openai", "apiKey", "<redacted>"},
		{"openai", "apiKey", "[secret]"}, // how a secret of ours prints
		{"openai", "apiKey", "REDACTED"},
		{"openai", "apiKey", "########"},
		{"stripe", "secretKey", "sk_live_xxxxxxxxxxxxxxxxxxxxxxxx"},
		{"stripe", "secretKey", "sk_live_51Hxxxxxxxxxxxxxxxxabcd"},
		{"stripe", "secretKey", "sk_test_****1234"},
		{"stripe", "secretKey", "rk_live_...1234"},
		{"zendesk", "apiToken", "________"},
		{"smtp", "pass", "********"},
		{"smtp", "pass", "xxxxxxxx"},
		{"smtp", "pass", "●●●●●●"},
		{"smtp", "pass", "<hidden>"},
		{"smtp", "pass", "[FILTERED]"},
	} {
		fields := sound(test.service)
		fields[test.field] = test.value
		problems, _ := service(t, test.service).Check(fields)
		if len(problems) != 1 || problems[0].Field != test.field || !strings.Contains(problems[0].Message, "masked value") {
			t.Errorf("%s.%s = %q: %v", test.service, test.field, test.value, problems)
		}
	}
}

// Keys that hold a little of what masks are made of are keys.
func TestKeysAreNotMasks(t *testing.T) {
	for _, test := range []struct{ service, field, value string }{
		{"openai", "apiKey", "sk-proj-xxxxA1b2C3d4E5f6G7h8I9j0"},
		{"openai", "apiKey", "sk-A1b2xxxxC3d4E5f6G7h8I9j0"},
		{"openai", "apiKey", "sk-svcacct-__--A1b2C3d4E5f6G7h8"},
		{"openai", "apiKey", "SG.A1b2C3d4E5.F6g7H8i9J0"},
		{"openai", "apiKey", "secret-A1b2C3d4"},
		{"openai", "apiKey", "key==??A1b2C3"},
		{"stripe", "secretKey", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"},
		{"intercom", "accessToken", "dG9rOmFiY2RlZl8xMjM0XzU2Nzg5MF9hYmNkZWY6MToxOjA="},
		{"smtp", "pass", "secret"},
		{"smtp", "pass", "hidden"},
		{"smtp", "pass", "xX_boss_Xx"},
		{"smtp", "pass", "wait...what?"},
		{"smtp", "pass", "xxxxxxxx1"},
		{"smtp", "pass", "a#b####c"},
	} {
		fields := sound(test.service)
		fields[test.field] = test.value
		if problems, _ := service(t, test.service).Check(fields); len(problems) != 0 {
			t.Errorf("%s.%s = %q: %v", test.service, test.field, test.value, problems)
		}
	}
	random := rand.New(rand.NewPCG(1, 2)) // no key of a provider's is less random than these
	for range 4_000 {
		b := make([]byte, 15+random.IntN(40))
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		for _, key := range []string{hex.EncodeToString(b), base64.RawURLEncoding.EncodeToString(b), "sk-" + base64.StdEncoding.EncodeToString(b)} {
			if problems, _ := service(t, "openai").Check(map[string]string{"apiKey": key}); len(problems) != 0 {
				t.Fatalf("%q: %v", key, problems)
			}
		}
	}
}
