package catalog_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// Bodies are of the providers' documented shapes.
func TestReadChatHosts(t *testing.T) {
	type out = catalog.Outcome
	models := `{"object":"list","data":[{"id":"m","object":"model","created":1,"owned_by":"x"}]}`
	expires := time.Date(2027, 12, 31, 23, 59, 59, 0, time.UTC)
	runReadCases(t, []readCase{
		{name: "works", service: "gemini", status: 200, body: `{"models":[{"name":"models/gemini-2.5-flash"}],"nextPageToken":"x"}`, want: out{Result: catalog.Valid}},
		{name: "no models", service: "gemini", status: 200, body: `{}`, want: out{Result: catalog.Valid}},
		{name: "a page", service: "gemini", status: 200, body: `<html>`, want: out{Result: catalog.Indeterminate}},
		{name: "wrong key", service: "gemini", status: 400, body: `{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}`,
			want: out{Result: catalog.Invalid, Code: "api_key_invalid"}},
		{name: "bare 400", service: "gemini", status: 400, want: out{Result: catalog.Invalid}},
		{name: "expired", service: "gemini", status: 400, body: `{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}`,
			want: out{Result: catalog.Invalid, Code: "api_key_invalid"}, detail: "expired"},
		{name: "place", service: "gemini", status: 400, body: `{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}`,
			want: out{Result: catalog.Indeterminate, Code: "failed_precondition"}},
		{name: "API off", service: "gemini", status: 403, body: `{"error":{"code":403,"status":"PERMISSION_DENIED","details":[{"reason":"SERVICE_DISABLED"}]}}`,
			want: out{Result: catalog.Misconfigured, Code: "service_disabled"}, detail: "enable"},
		{name: "new kind of key", service: "gemini", fields: map[string]string{"apiKey": "AQ.Ab8RN6abcdefghij"}, status: 401,
			body: `{"error":{"code":401,"status":"UNAUTHENTICATED","details":[{"reason":"ACCESS_TOKEN_TYPE_UNSUPPORTED"}]}}`,
			want: out{Result: catalog.Misconfigured, Code: "access_token_type_unsupported"}},
		{name: "401", service: "gemini", status: 401, body: `{"error":{"code":401,"status":"UNAUTHENTICATED"}}`, want: out{Result: catalog.Invalid, Code: "unauthenticated"}},
		{name: "busy", service: "gemini", status: 429, body: `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED"}}`, want: out{Result: catalog.Indeterminate, Code: "resource_exhausted"}},
		{name: "down", service: "gemini", status: 503, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "azure-openai", status: 200, header: http.Header{"Apim-Request-Id": {"9e7c"}}, body: models, want: out{Result: catalog.Valid, RequestID: "9e7c"}},
		{name: "wrong key", service: "azure-openai", status: 401, body: `{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}`,
			want: out{Result: catalog.Invalid, Code: "401"}, detail: "belong together"},
		{name: "network rule", service: "azure-openai", status: 403, body: `{"error":{"code":"AccessDenied","message":"Access denied due to Virtual Network/Firewall rules."}}`,
			want: out{Result: catalog.Misconfigured, Code: "accessdenied"}, detail: "network"},
		{name: "no OpenAI resource", service: "azure-openai", status: 404, body: `{"error":{"code":"404","message":"Resource not found"}}`, want: out{Result: catalog.Misconfigured, Code: "404"}},
		{name: "busy", service: "azure-openai", status: 429, want: out{Result: catalog.Indeterminate}},
		{name: "fault", service: "azure-openai", status: 500, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "mistral", status: 200, body: models, want: out{Result: catalog.Valid}},
		{name: "wrong key", service: "mistral", status: 401, body: `{"message":"Unauthorized","request_id":"a1be846c"}`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "mistral", status: 403, want: out{Result: catalog.Restricted}},
		{name: "busy", service: "mistral", status: 429, body: `{"message":"Requests rate limit exceeded"}`, want: out{Result: catalog.Indeterminate}},
		{name: "garbage", service: "mistral", status: 200, body: `ok`, want: out{Result: catalog.Indeterminate}},
		{name: "works", service: "codestral", status: 200, body: models, want: out{Result: catalog.Valid}},
		{name: "wrong key", service: "codestral", status: 401, body: `{"message":"Unauthorized"}`, want: out{Result: catalog.Invalid}},
		{name: "down", service: "codestral", status: 502, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "cohere", status: 200, body: `{"valid":true,"organization_id":"0f3c-org","owner_id":"u-1"}`, want: out{Result: catalog.Valid, Account: "0f3c-org"}},
		{name: "says no", service: "cohere", status: 200, body: `{"valid":false}`, want: out{Result: catalog.Invalid}},
		{name: "says nothing", service: "cohere", status: 200, body: `{}`, want: out{Result: catalog.Indeterminate}},
		{name: "wrong key", service: "cohere", status: 401, body: `{"message":"invalid api token"}`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "cohere", status: 403, want: out{Result: catalog.Restricted}},
		{name: "denied token", service: "cohere", status: 498, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "cohere", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "groq", status: 200, body: models, want: out{Result: catalog.Valid}},
		{name: "wrong key", service: "groq", status: 401, body: `{"error":{"message":"Invalid API Key","type":"invalid_request_error","code":"invalid_api_key"}}`,
			want: out{Result: catalog.Invalid, Code: "invalid_api_key"}},
		{name: "closed", service: "groq", status: 400, body: `{"error":{"message":"Organization has been restricted.","type":"invalid_request_error","code":"organization_restricted"}}`,
			want: out{Result: catalog.Restricted, Code: "organization_restricted"}},
		{name: "forbidden", service: "groq", status: 403, want: out{Result: catalog.Restricted}},
		{name: "busy", service: "groq", status: 429, body: `{"error":{"type":"tokens","code":"rate_limit_exceeded"}}`, want: out{Result: catalog.Indeterminate, Code: "rate_limit_exceeded"}},

		{name: "works", service: "xai", status: 200, body: `{"redacted_api_key":"xai-...b14o","user_id":"u","name":"ci","team_id":"5ea6","acls":["api-key:model:*","api-key:endpoint:*"],"api_key_id":"k","team_blocked":false,"api_key_blocked":false,"api_key_disabled":false}`,
			want: out{Result: catalog.Valid, Account: "ci (5ea6)", Scopes: []string{"api-key:model:*", "api-key:endpoint:*"}}},
		{name: "disabled", service: "xai", status: 200, body: `{"team_id":"5ea6","acls":[],"api_key_id":"k","api_key_disabled":true}`, want: out{Result: catalog.Invalid, Account: "5ea6"}, detail: "disabled"},
		{name: "blocked team", service: "xai", status: 200, body: `{"team_id":"5ea6","api_key_id":"k","team_blocked":true}`, want: out{Result: catalog.Restricted, Account: "5ea6"}, detail: "team"},
		{name: "wrong key", service: "xai", status: 400, body: `{"code":"Client specified an invalid argument","error":"Incorrect API key provided: xa***xx."}`, want: out{Result: catalog.Invalid}},
		{name: "401", service: "xai", status: 401, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "xai", status: 403, want: out{Result: catalog.Restricted}},
		{name: "garbage", service: "xai", status: 200, body: `<html>`, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "xai", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "deepseek", status: 200, body: `{"is_available":true,"balance_infos":[{"currency":"USD","total_balance":"110.00"}]}`, want: out{Result: catalog.Valid}},
		{name: "empty", service: "deepseek", status: 200, body: `{"is_available":false,"balance_infos":[]}`, want: out{Result: catalog.Valid}, detail: "balance"},
		{name: "unpaid", service: "deepseek", status: 402, body: `{"error":{"message":"Insufficient Balance","type":"unknown_error","code":"invalid_request_error"}}`,
			want: out{Result: catalog.Restricted, Code: "invalid_request_error"}, detail: "balance"},
		{name: "wrong key", service: "deepseek", status: 401, body: `{"error":{"message":"Authentication Fails","type":"authentication_error","code":"invalid_request_error"}}`,
			want: out{Result: catalog.Invalid, Code: "invalid_request_error"}},
		{name: "garbage", service: "deepseek", status: 200, body: `null`, want: out{Result: catalog.Indeterminate}},
		{name: "down", service: "deepseek", status: 503, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "openrouter", status: 200, body: `{"data":{"label":"sk-or-v1-0e6...1c9","creator_user_id":"user_1","limit":20,"limit_remaining":12.5,"usage":7.5,"is_free_tier":false,"expires_at":"2027-12-31T23:59:59Z"}}`,
			want: out{Result: catalog.Valid, Account: "user_1", ExpiresAt: &expires}, detail: "12.50 of its limit of 20.00 credits"},
		{name: "no limit", service: "openrouter", status: 200, body: `{"data":{"label":"x","limit":null,"limit_remaining":null,"expires_at":null}}`, want: out{Result: catalog.Valid}, detail: "works"},
		{name: "used up", service: "openrouter", status: 200, body: `{"data":{"limit":1e300,"limit_remaining":-1}}`, want: out{Result: catalog.Valid}, detail: "used up"},
		{name: "provisioning key", service: "openrouter", status: 200, body: `{"data":{"is_provisioning_key":true}}`, want: out{Result: catalog.Restricted}, detail: "managing"},
		{name: "wrong key", service: "openrouter", status: 401, body: `{"error":{"message":"No auth credentials found","code":401}}`, want: out{Result: catalog.Invalid}},
		{name: "error with 200", service: "openrouter", status: 200, body: `{"error":{"message":"Internal Server Error","code":500}}`, want: out{Result: catalog.Indeterminate}},
		{name: "forbidden", service: "openrouter", status: 403, want: out{Result: catalog.Restricted}},
		{name: "fault", service: "openrouter", status: 500, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "huggingface", status: 200, body: `{"type":"user","id":"5e","name":"acme","email":"a@example.com","auth":{"type":"access_token","accessToken":{"displayName":"ci","role":"fineGrained","fineGrained":{"global":["inference.serverless.write"],"scoped":[{"entity":{"type":"org"},"permissions":["repo.content.read"]}]}}}}`,
			want: out{Result: catalog.Valid, Account: "acme", Scopes: []string{"fineGrained", "inference.serverless.write", "repo.content.read"}}},
		{name: "organization", service: "huggingface", status: 200, body: `{"type":"org","name":"acme"}`, want: out{Result: catalog.Valid, Account: "acme (organization)"}},
		{name: "wrong token", service: "huggingface", status: 401, body: `{"error":"Invalid credentials in Authorization header"}`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "huggingface", status: 403, want: out{Result: catalog.Restricted}},
		{name: "a page", service: "huggingface", status: 200, body: `<html>`, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "huggingface", status: 429, want: out{Result: catalog.Indeterminate}},

		{name: "works", service: "perplexity", status: 200, body: `{"requests":[],"next_token":null}`, want: out{Result: catalog.Valid}},
		{name: "wrong key", service: "perplexity", status: 401, body: `<html><head><title>401 Authorization Required</title></head></html>`, want: out{Result: catalog.Invalid}},
		{name: "forbidden", service: "perplexity", status: 403, want: out{Result: catalog.Restricted}},
		{name: "garbage", service: "perplexity", status: 200, body: `1`, want: out{Result: catalog.Indeterminate}},
		{name: "busy", service: "perplexity", status: 429, want: out{Result: catalog.Indeterminate}},
	})
}
