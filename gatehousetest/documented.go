package gatehousetest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"testing"
)

// Documented starts a fake of a service of the catalogue that has none of its own in this package: it serves the one call
// by which a key of the service is tested, with the documented bodies, and nothing else. The key is the secret that the
// service puts on requests: a bearer or API key, at Twilio user:password.
//
// Services: gemini, azure-openai, mistral, codestral, cohere, groq, xai, deepseek, openrouter, huggingface, perplexity,
// replicate, slack, github, sendgrid, twilio, hubspot. The one scope is "probe".
func Documented(t testing.TB, service string, opts ...Option) *Provider {
	t.Helper()
	d, known := documented[service]
	if !known {
		t.Fatalf("gatehousetest: no documented answers of %s", service)
	}
	credential := d.credential
	if credential == nil {
		credential = bearer
	}
	return startProvider(t, dialect{
		prefix: d.prefix, credential: credential, refuse: d.refuse,
		header: func(h http.Header) { h.Set("X-Request-Id", newID("req_")) },
		routes: []route{{pattern: d.probe, scope: "probe", serve: func(w http.ResponseWriter, _ *http.Request) {
			for name, value := range d.header {
				w.Header().Set(name, value)
			}
			writeRaw(w, http.StatusOK, d.works)
		}}},
	}, newConfig(opts))
}

// said is a documented answer; the zero value is none.
type said struct {
	status int
	body   string
}

// documentedAnswers are one service's. What it has no form of its own for is a
// bare status.
type documentedAnswers struct {
	probe      string // pattern of http.ServeMux
	prefix     string // of a made-up key
	credential func(*http.Request) string
	header     map[string]string
	works      string
	wrong      said // to a key that is not known
	forbidden  said // to a key that lacks the scope
	busy       said
}

func (d documentedAnswers) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	answer := map[refusalKind]said{
		noKey: d.wrong, wrongKey: d.wrong, missingScope: d.forbidden, notFound: {404, `{"message":"Not Found"}`},
		badRequest: {400, `{"message":"` + why.detail + `"}`}, rateLimited: d.busy, outOfQuota: d.busy,
		overloaded: {503, `upstream connect error`}, serverError: {500, `{"message":"Internal Server Error"}`},
	}[why.kind]
	if why.kind == rateLimited {
		w.Header().Set("Retry-After", seconds(why.after))
	}
	if answer.status == 0 {
		answer = map[bool]said{true: {403, `{"message":"Forbidden"}`}, false: {429, `{"message":"Too Many Requests"}`}}[why.kind == missingScope]
	}
	writeRaw(w, answer.status, answer.body)
}

func writeRaw(w http.ResponseWriter, status int, body string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// inHeader gives the key that stands in a header alone.
func inHeader(name string) func(*http.Request) string {
	return func(r *http.Request) string { return r.Header.Get(name) }
}

// userAndPassword gives what Basic carries, undone.
func userAndPassword(r *http.Request) string {
	user, password, ok := r.BasicAuth()
	if !ok {
		return ""
	}
	return user + ":" + password
}

// afterScheme gives what stands behind a scheme that is neither Bearer nor Basic.
func afterScheme(scheme string) func(*http.Request) string {
	return func(r *http.Request) string {
		var key string
		if _, err := fmt.Sscanf(r.Header.Get("Authorization"), scheme+" %s", &key); err != nil {
			return ""
		}
		return key
	}
}

const models = `{"object":"list","data":[{"id":"m","object":"model","created":1700000000,"owned_by":"x"}]}`

var unauthorized = said{401, `{"message":"Unauthorized","request_id":"a1be846c5301242c1f3d1004e6d32f0e"}`}

// documented holds the answers by service. Sources: each provider's API reference; the error bodies of OpenAI's form where
// a host says that it speaks OpenAI's API.
var documented = map[string]documentedAnswers{
	"gemini": {
		probe: "GET /v1/models", prefix: "AIza", credential: inHeader("X-Goog-Api-Key"), works: `{"models":[{"name":"models/gemini-2.5-flash"}]}`,
		wrong:     said{400, `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`},
		forbidden: said{403, `{"error":{"code":403,"message":"Requests to this API are blocked.","status":"PERMISSION_DENIED","details":[{"reason":"API_KEY_SERVICE_BLOCKED"}]}}`},
		busy:      said{429, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`},
	},
	"azure-openai": {
		probe: "GET /openai/models", credential: inHeader("Api-Key"), works: models,
		wrong:     said{401, `{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}`},
		forbidden: said{403, `{"error":{"code":"403","message":"Access denied due to Virtual Network/Firewall rules."}}`},
	},
	"mistral":   {probe: "GET /v1/models", works: models, wrong: unauthorized},
	"codestral": {probe: "GET /v1/models", works: models, wrong: unauthorized},
	"cohere": {
		probe: "POST /v1/check-api-key", works: `{"valid":true,"organization_id":"0f3c6d1e","owner_id":"u-1"}`,
		wrong: said{401, `{"message":"invalid api token"}`},
	},
	"groq": {
		probe: "GET /openai/v1/models", prefix: "gsk_", works: models,
		wrong: said{401, `{"error":{"message":"Invalid API Key","type":"invalid_request_error","code":"invalid_api_key"}}`},
	},
	"xai": {
		probe: "GET /v1/api-key", prefix: "xai-",
		works: `{"redacted_api_key":"xai-...b14o","user_id":"u","name":"ci","team_id":"5ea6f6bd","acls":["api-key:model:*","api-key:endpoint:*"],"api_key_id":"ae1e","team_blocked":false,"api_key_blocked":false,"api_key_disabled":false}`,
		wrong: said{400, `{"code":"Client specified an invalid argument","error":"Incorrect API key provided."}`},
	},
	"deepseek": {
		probe: "GET /user/balance", prefix: "sk-", works: `{"is_available":true,"balance_infos":[{"currency":"USD","total_balance":"110.00","granted_balance":"10.00","topped_up_balance":"100.00"}]}`,
		wrong:     said{401, `{"error":{"message":"Authentication Fails","type":"authentication_error","param":null,"code":"invalid_request_error"}}`},
		forbidden: said{402, `{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}`},
	},
	"openrouter": {
		probe: "GET /api/v1/key", prefix: "sk-or-v1-",
		works: `{"data":{"label":"sk-or-v1-0e6...1c9","creator_user_id":"user_1","limit":20,"limit_remaining":12.5,"usage":7.5,"is_free_tier":false,"is_provisioning_key":false,"expires_at":"2099-12-31T23:59:59Z"}}`,
		wrong: said{401, `{"error":{"message":"No auth credentials found","code":401}}`},
	},
	"huggingface": {
		probe: "GET /api/whoami-v2", prefix: "hf_",
		works: `{"type":"user","id":"5e","name":"acme","auth":{"type":"access_token","accessToken":{"displayName":"ci","role":"read"}}}`,
		wrong: said{401, `{"error":"Invalid credentials in Authorization header"}`},
	},
	"perplexity": {
		probe: "GET /async/chat/completions", prefix: "pplx-", works: `{"next_token":null,"requests":[]}`,
		wrong: said{401, `<html><head><title>401 Authorization Required</title></head></html>`},
	},
	"replicate": {
		probe: "GET /v1/predictions", prefix: "r8_", credential: afterScheme("Token"), works: `{"next":null,"previous":null,"results":[]}`,
		wrong: said{401, `{"title":"Unauthenticated","detail":"You did not pass a valid authentication token","status":401}`},
	},
	"slack": {
		probe: "POST /api/auth.test", prefix: "xoxb-1-", header: map[string]string{"X-OAuth-Scopes": "chat:write,users:read"},
		works: `{"ok":true,"url":"https://acme.slack.com/","team":"Acme","user":"bot","team_id":"T012","user_id":"U1","bot_id":"B1"}`,
		wrong: said{200, `{"ok":false,"error":"invalid_auth"}`}, forbidden: said{200, `{"ok":false,"error":"missing_scope"}`},
		busy: said{429, `{"ok":false,"error":"ratelimited"}`},
	},
	"github": {
		probe: "GET /user", prefix: "ghp_",
		header: map[string]string{"X-OAuth-Scopes": "repo, read:org", "github-authentication-token-expiration": "2099-11-23 08:41:00 UTC"},
		works:  `{"login":"octocat","id":1,"type":"User"}`,
		wrong:  said{401, `{"message":"Bad credentials","documentation_url":"https://docs.github.com/rest","status":"401"}`},
		// An app's token is no user.
		forbidden: said{403, `{"message":"Resource not accessible by integration","status":"403"}`},
		busy:      said{403, `{"message":"API rate limit exceeded for user ID 1.","status":"403"}`},
	},
	"sendgrid": {
		probe: "GET /v3/scopes", prefix: "SG.", works: `{"scopes":["mail.send","user.account.read"]}`,
		wrong:     said{401, `{"errors":[{"field":null,"message":"The provided authorization grant is invalid, expired, or revoked"}]}`},
		forbidden: said{403, `{"errors":[{"field":null,"message":"access forbidden"}]}`},
	},
	"twilio": {
		probe: "GET /2010-04-01/Accounts/{sid}", credential: userAndPassword,
		works: `{"sid":"AC00112233445566778899aabbccddeeff","friendly_name":"Acme","status":"active","type":"Full","auth_token":"` + base64.StdEncoding.EncodeToString([]byte("not for us")) + `"}`,
		wrong: said{401, `{"code":20003,"message":"Authenticate","more_info":"https://www.twilio.com/docs/errors/20003","status":401}`},
	},
	"hubspot": {
		probe: "GET /account-info/v3/api-usage/daily/private-apps", prefix: "pat-eu1-", works: `[{"name":"private-apps-api-calls-daily","usageLimit":250000,"currentUsage":10,"fetchStatus":"CACHED"}]`,
		wrong:     said{401, `{"status":"error","message":"Authentication credentials not found.","category":"INVALID_AUTHENTICATION"}`},
		forbidden: said{403, `{"status":"error","message":"This app hasn't been granted all required scopes.","category":"MISSING_SCOPES"}`},
		busy:      said{429, `{"status":"error","category":"RATE_LIMITS"}`},
	},
}
