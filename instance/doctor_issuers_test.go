package instance_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gatehouse-io/gatehouse/instance"
)

// The doctor asks issuers for their keys.
func TestDiagnoseIssuers(t *testing.T) {
	const key = `{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	sets := http.NewServeMux()
	for path, text := range map[string]string{
		"/good": `{"keys":[` + key + `]}`, "/none": `{"keys":[]}`, "/page": "<html>CANARY</html>",
		"/weak": `{"keys":[` + key + `,{"kty":"OKP","crv":"Ed25519","kid":"2","x":"AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`,
	} {
		sets.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text)) })
	}
	s := httptest.NewServer(sets)
	t.Cleanup(s.Close)
	doctor := func(path string) []instance.Finding {
		return diagnose(t, map[string]string{"GATEHOUSE_ENV": "development",
			"AUTH_ISSUERS": `[{"issuer":"https://idp.example","jwks":"` + s.URL + path + `","algorithm":"EdDSA","audience":"gatehouse"}]`})
	}
	has(t, doctor("/good"), "issuers", instance.Fine, "https://idp.example has 1 keys for EdDSA")
	has(t, doctor("/none"), "issuers", instance.Failed, "no key that can be used")
	has(t, doctor("/weak"), "issuers", instance.Doubtful, "1 that are too weak")
	has(t, doctor("/page"), "issuers", instance.Failed, "is no key set")
	has(t, doctor("/gone"), "issuers", instance.Failed, "the issuer answers 404")
	s.Close()
	has(t, doctor("/good"), "issuers", instance.Failed, "the issuer does not answer")
}
