package catalog

import (
	"fmt"
	"net/http"
	"strings"
	"time"
)

// readGemini reads GET /v1/models. A wrong key is 400, with the reason
// API_KEY_INVALID in the details; a key that Google knows and does not let
// through here is 403.
func readGemini(a answer) Outcome {
	if a.succeeded() {
		return a.success()
	}
	e := googleErrorOf(a)
	o := byStatus(a)
	o.Code = e.code()
	switch {
	case a.status == http.StatusBadRequest && e.Status == "FAILED_PRECONDITION":
		return Outcome{Result: Indeterminate, Code: o.Code, Detail: "The provider does not serve the place that this request came from, or asks for billing first."}
	case a.status == http.StatusBadRequest:
		return Outcome{Result: Invalid, Code: o.Code, Detail: "The provider does not know this key, or it has expired."}
	case a.status == http.StatusForbidden:
		return Outcome{Result: Misconfigured, Code: o.Code, Detail: "The key is real, but its project does not let it through: enable the Generative Language API and look at the restrictions of the key."}
	case a.status == http.StatusUnauthorized && e.has("ACCESS_TOKEN_TYPE_UNSUPPORTED"):
		return Outcome{Result: Misconfigured, Code: o.Code, Detail: "The key is real, but of a kind that this API does not take: make another in AI Studio."}
	}
	return o
}

// googleError is google.rpc.Status as Google's APIs send it.
type googleError struct {
	Status  string `json:"status"`
	Details []struct {
		Reason string `json:"reason"`
	} `json:"details"`
}

func googleErrorOf(a answer) googleError {
	var envelope struct {
		Error googleError `json:"error"`
	}
	if !a.decode(&envelope) {
		return googleError{}
	}
	return envelope.Error
}

func (e googleError) has(reason string) bool {
	for _, d := range e.Details {
		if d.Reason == reason {
			return true
		}
	}
	return false
}

// code gives the first reason, which says more than the status.
func (e googleError) code() string {
	for _, d := range e.Details {
		if d.Reason != "" {
			return strings.ToLower(d.Reason)
		}
	}
	return strings.ToLower(e.Status)
}

// readAzureOpenAI reads GET /openai/models. 403 comes from the network rules of
// the resource, 404 from an address that is no OpenAI resource.
func readAzureOpenAI(a answer) Outcome {
	o := readPlain(a)
	switch a.status {
	case http.StatusForbidden:
		return Outcome{Result: Misconfigured, Code: o.Code, Detail: "The network rules of the resource do not let this instance in."}
	case http.StatusNotFound:
		return Outcome{Result: Misconfigured, Code: o.Code, Detail: "The endpoint answers, but it is no Azure OpenAI resource."}
	case http.StatusUnauthorized:
		o.Detail = "The resource does not accept this key; check that key and endpoint belong together."
	}
	return o
}

// readMistral reads GET /v1/models.
func readMistral(a answer) Outcome { return readPlain(a) }

// readCodestralFollow reads what a completion without a prompt is answered.
func readCodestralFollow(_ Outcome, a answer) Outcome {
	switch a.status {
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return works()
	}
	return readPlain(a)
}

// readCohere reads POST /v1/check-api-key, which says in the body whether the
// key is valid.
func readCohere(a answer) Outcome {
	if !a.succeeded() {
		o := byStatus(a)
		o.Code = errorCode(a)
		return o
	}
	var check struct {
		Valid          *bool  `json:"valid"`
		OrganizationID string `json:"organization_id"`
	}
	if !a.decode(&check) || check.Valid == nil {
		return unknownAnswer()
	}
	if !*check.Valid {
		return Outcome{Result: Invalid, Detail: "The provider does not accept this credential."}
	}
	o := works()
	o.Account = check.OrganizationID
	return o
}

// readGroq reads GET /openai/v1/models. An organization that Groq has closed is
// told so with 400.
func readGroq(a answer) Outcome {
	o := readPlain(a)
	if a.status == http.StatusBadRequest && o.Code == "organization_restricted" {
		o.Result = Restricted
		o.Detail = "The key is real, but Groq has restricted its organization."
	}
	return o
}

// readXAI reads GET /v1/api-key, which describes the key. A wrong one is 400.
func readXAI(a answer) Outcome {
	if a.status == http.StatusBadRequest {
		return Outcome{Result: Invalid, Code: errorCode(a), Detail: "The provider does not accept this credential."}
	}
	o := readPlain(a)
	if o.Result != Valid {
		return o
	}
	var key struct {
		Name     string   `json:"name"`
		Team     string   `json:"team_id"`
		ACLs     []string `json:"acls"`
		Blocked  bool     `json:"api_key_blocked"`
		Disabled bool     `json:"api_key_disabled"`
		NoTeam   bool     `json:"team_blocked"`
	}
	a.fill(&key)
	o.Scopes = key.ACLs
	o.Account = key.Team
	if key.Name != "" && key.Team == "" {
		o.Account = key.Name
	} else if key.Name != "" {
		o.Account = strings.TrimSpace(key.Name + " (" + key.Team + ")")
	}
	switch {
	case key.Blocked || key.Disabled:
		o.Result, o.Detail = Invalid, "The key is real, but it is blocked or disabled at the provider."
	case key.NoTeam:
		o.Result, o.Detail = Restricted, "The key is real, but its team is blocked at the provider."
	}
	return o
}

// readDeepSeek reads GET /user/balance.
func readDeepSeek(a answer) Outcome {
	if a.status == http.StatusPaymentRequired {
		return Outcome{Result: Restricted, Code: errorCode(a), Detail: "The key is real, but its account has no balance left."}
	}
	o := readPlain(a)
	var balance struct {
		Available *bool `json:"is_available"`
	}
	if a.fill(&balance); o.Result == Valid && balance.Available != nil && !*balance.Available {
		o.Detail = "The key works, but its account has no balance left for calls."
	}
	return o
}

// readOpenRouter reads GET /api/v1/key. The label is left out: it shows
// characters of the key.
func readOpenRouter(a answer) Outcome {
	o := readPlain(a)
	if o.Result != Valid {
		return o
	}
	var key struct {
		Data struct {
			Creator      string     `json:"creator_user_id"`
			Limit        *float64   `json:"limit"`
			Remaining    *float64   `json:"limit_remaining"`
			Provisioning bool       `json:"is_provisioning_key"`
			Management   bool       `json:"is_management_key"`
			ExpiresAt    *time.Time `json:"expires_at"`
		} `json:"data"`
	}
	a.fill(&key)
	o.Account, o.ExpiresAt = key.Data.Creator, key.Data.ExpiresAt
	switch limit, left := key.Data.Limit, key.Data.Remaining; {
	case key.Data.Provisioning || key.Data.Management:
		o.Result, o.Detail = Restricted, "The key is real, but it is one for managing keys, which does not chat."
	case limit == nil || left == nil:
	case *left <= 0:
		o.Detail = fmt.Sprintf("The key works, but its limit of %s credits is used up.", credits(*limit))
	default:
		o.Detail = fmt.Sprintf("The key works; %s of its limit of %s credits are left.", credits(*left), credits(*limit))
	}
	return o
}

// credits writes an amount with two digits after the point, bounded so that no
// number fills a page.
func credits(n float64) string {
	const most = 1e12
	return fmt.Sprintf("%.2f", max(min(n, most), 0))
}

// readHuggingFace reads GET /api/whoami-v2.
func readHuggingFace(a answer) Outcome {
	o := readPlain(a)
	if o.Result != Valid {
		return o
	}
	type permissions struct {
		Permissions []string `json:"permissions"`
	}
	var who struct {
		Name string `json:"name"`
		Type string `json:"type"`
		Auth struct {
			AccessToken *struct {
				Role        string `json:"role"`
				FineGrained struct {
					Global []string      `json:"global"`
					Scoped []permissions `json:"scoped"`
				} `json:"fineGrained"`
			} `json:"accessToken"`
		} `json:"auth"`
	}
	a.fill(&who)
	o.Account = who.Name
	if who.Type == "org" && who.Name != "" {
		o.Account += " (organization)"
	}
	if token := who.Auth.AccessToken; token != nil {
		o.Scopes = append(o.Scopes, token.Role)
		o.Scopes = append(o.Scopes, token.FineGrained.Global...)
		for _, s := range token.FineGrained.Scoped {
			o.Scopes = append(o.Scopes, s.Permissions...)
		}
	}
	return o
}

// readPerplexity reads the list of asynchronous requests.
func readPerplexity(a answer) Outcome { return readPlain(a) }
