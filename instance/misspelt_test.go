package instance_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// A setting that is misspelt by a letter or two is warned of, whatever it begins with; what is
// probably another program's is not.
func TestMisspeltSettings(t *testing.T) {
	for name, meant := range map[string]string{
		"CHAT_ORG_LIMT": "CHAT_ORG_LIMIT", "CHAT_ORG_LIMTI": "CHAT_ORG_LIMIT", "REDIS_URI": "REDIS_URL", "AUTH_ISSUER": "AUTH_ISSUERS", "ENCRYPTION_KYE_OLD": "ENCRYPTION_KEYS_OLD",
		"ENCRYPTION_KEY_OLD": "ENCRYPTION_KEYS_OLD", "REDIS_HOST": "", "DATABASE": "", "SMTP_HOST": "", "OPENAI_API_KEY": "", "JWT_SECRET_FILE": "", "HTTP_PROXY": "", "REDIS_URL": "",
	} {
		value := "CANARY"
		if name == "REDIS_URL" {
			value = ""
		}
		text := logOfStart(t, "GATEHOUSE_DATA", filepath.Join(t.TempDir(), "data"), name, value)
		if told := strings.Contains(text, `"variable":"`+name+`","nearest":"`+meant+`"`); told != (meant != "") || strings.Contains(text, "CANARY") || meant == "" && strings.Contains(text, "no setting") {
			t.Errorf("%s: the log says %s", name, text)
		}
	}
}
