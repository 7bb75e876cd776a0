package catalog

import (
	"encoding/json"
	"net/http"
	"strings"
	"unicode"
)

// readOpenAI reads GET /v1/models, of OpenAI and of hosts that speak its API.
// A 401 is ambiguous: a restricted key without the scope of this one endpoint
// gets it too, with "Missing scopes: ..." in the message.
func readOpenAI(a answer) Outcome {
	if a.succeeded() {
		o := a.success()
		if o.Result == Valid {
			o.Account = a.header.Get("Openai-Organization")
		}
		return o
	}
	e := openAIError(a)
	o := byStatus(a)
	o.Code = e.code
	switch {
	case a.status == http.StatusUnauthorized && e.missingScopes():
		o.Result = Restricted
		o.Detail = "The key is real but lacks the scope to list models; chat may still work."
	case a.status == http.StatusUnauthorized && e.otherAccount() && (a.fields["organization"] != "" || a.fields["project"] != ""):
		o.Result = Misconfigured
		o.Detail = "The key does not belong to the organization or project given beside it."
	case a.status == http.StatusForbidden && e.code == "unsupported_country_region_territory":
		o.Result = Indeterminate
		o.Detail = "The provider does not serve the place that this request came from."
	case a.status == http.StatusTooManyRequests && e.code == "insufficient_quota":
		o.Detail = "The account behind the key is out of quota."
	}
	return o
}

type openAIErrorText struct{ code, message string }

func (e openAIErrorText) missingScopes() bool {
	return strings.Contains(e.message, "Missing scopes") || strings.Contains(e.message, "insufficient permissions")
}

func (e openAIErrorText) otherAccount() bool {
	switch e.code {
	case "mismatched_organization", "mismatched_project", "invalid_organization", "invalid_project":
		return true
	}
	return false
}

// openAIError reads {"error": {"message", "type", "code"}}; error can also be
// the message alone, and code null.
func openAIError(a answer) openAIErrorText {
	var envelope struct {
		Error json.RawMessage `json:"error"`
	}
	if !a.decode(&envelope) {
		return openAIErrorText{}
	}
	var message string
	if json.Unmarshal(envelope.Error, &message) == nil {
		return openAIErrorText{message: message}
	}
	var object struct {
		Message string `json:"message"`
		Type    string `json:"type"`
		Code    any    `json:"code"` // a number with some compatible hosts
	}
	if json.Unmarshal(envelope.Error, &object) != nil {
		return openAIErrorText{}
	}
	code, _ := object.Code.(string)
	if code == "" {
		code = object.Type
	}
	return openAIErrorText{code: code, message: object.Message}
}

// readAnthropic reads GET /v1/models.
func readAnthropic(a answer) Outcome {
	if a.succeeded() {
		o := a.success()
		if o.Result == Valid {
			o.Account = a.header.Get("Anthropic-Organization-Id")
		}
		return o
	}
	o := byStatus(a)
	o.Code = typedErrorCode(a)
	return o
}

// readAdmin reads a list that only a key for managing an organization may read.
// Such a key is real and does not chat, which is no news of a wrong one.
func readAdmin(a answer) Outcome {
	o := readPlain(a)
	switch {
	case o.Result == Valid:
		o.Result, o.Detail = Restricted, "The key is real, but it is an admin key, which manages its organization and does not chat."
	case a.status == http.StatusForbidden, a.status == http.StatusUnauthorized && openAIError(a).missingScopes():
		o.Result, o.Detail = Restricted, "The key is real, but it is an admin key, and one that may do little."
	}
	return o
}

// typedErrorCode reads {"error": {"code", "type"}}, the code before the type.
func typedErrorCode(a answer) string {
	var envelope struct {
		Error struct {
			Code string `json:"code"`
			Type string `json:"type"`
		} `json:"error"`
	}
	if !a.decode(&envelope) {
		return ""
	}
	if envelope.Error.Code != "" {
		return envelope.Error.Code
	}
	return envelope.Error.Type
}

// readStripe reads GET /v1/charges. A restricted key without read access to
// charges gets 403.
func readStripe(a answer) Outcome {
	mode := stripeMode(a.fields["secretKey"])
	if a.succeeded() {
		o := a.success()
		if o.Result == Valid && mode != "" {
			o.Detail = "The key works, in " + mode + " mode."
		}
		return o
	}
	o := byStatus(a)
	o.Code = typedErrorCode(a)
	switch {
	case o.Code == "secret_key_required" && o.Result != Indeterminate:
		o.Result = Invalid
		o.Detail = "This is a publishable key; the service needs a secret or restricted key."
	case o.Result == Restricted:
		o.Detail = "The key is real but restricted: it may not read charges. Other calls may still work."
	}
	return o
}

func stripeMode(key string) string {
	switch {
	case strings.HasPrefix(key, "sk_live_"), strings.HasPrefix(key, "rk_live_"):
		return "live"
	case strings.HasPrefix(key, "sk_test_"), strings.HasPrefix(key, "rk_test_"):
		return "test"
	}
	return ""
}

// readZendesk reads GET /api/v2/users.json. An anonymous visitor is told a user
// whose id is null by endpoints that allow one, so a user object alone proves
// nothing.
func readZendesk(a answer) Outcome {
	if a.succeeded() {
		o := a.success()
		if o.Result != Valid {
			return o
		}
		var me struct {
			User json.RawMessage `json:"user"`
		}
		a.fill(&me)
		if me.User != nil {
			var user struct {
				ID any `json:"id"`
			}
			if _ = json.Unmarshal(me.User, &user); user.ID == nil {
				return Outcome{Result: Invalid, Detail: "Zendesk took the request as that of an anonymous visitor."}
			}
		}
		o.Account = a.fields["subdomain"]
		return o
	}
	switch a.status {
	case http.StatusNotFound:
		return Outcome{Result: Misconfigured, Detail: "There is no Zendesk account at this subdomain."}
	case http.StatusForbidden:
		return Outcome{Result: Restricted, Detail: "The token is real, but its agent may not read users, or API access is limited in the Admin Center."}
	}
	return byStatus(a)
}

// readIntercom reads GET /me, which names the workspace and its region.
func readIntercom(a answer) Outcome {
	if !a.succeeded() {
		o := byStatus(a)
		o.Code = intercomErrorCode(a)
		if o.Code == "api_plan_restricted" {
			o.Result = Restricted
			o.Detail = "The token is real, but the plan of its workspace does not include the API."
		}
		return o
	}
	o := a.success()
	if o.Result != Valid {
		return o
	}
	var me struct {
		App struct {
			IDCode string `json:"id_code"`
			Name   string `json:"name"`
			Region string `json:"region"`
		} `json:"app"`
	}
	a.fill(&me)
	o.Account = me.App.Name
	if me.App.IDCode != "" {
		o.Account += " (" + me.App.IDCode + ")"
	}
	asked := a.fields["region"]
	if asked == "" {
		asked = "us"
	}
	there := strings.ToLower(me.App.Region)
	if there == asked {
		return o
	}
	switch there {
	case "us":
		o.Detail = "The token works, but its workspace is in the US: set region to us."
	case "eu":
		o.Detail = "The token works, but its workspace is in Europe: set region to eu."
	case "au":
		o.Detail = "The token works, but its workspace is in Australia: set region to au."
	default: // a region that this version does not know is no proof of a mistake
		return o
	}
	o.Result = Misconfigured
	return o
}

func intercomErrorCode(a answer) string {
	var list struct {
		Errors []struct {
			Code string `json:"code"`
		} `json:"errors"`
	}
	if !a.decode(&list) || len(list.Errors) == 0 {
		return ""
	}
	return list.Errors[0].Code
}

func isAccountRune(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(" ._:@()&,'/+-", r)
}
