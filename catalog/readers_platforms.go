package catalog

import (
	"net/http"
	"strings"
	"time"
)

// readGitHub reads GET /user, whose headers say when the token ends and, for
// classic tokens, what it may do. 403 is a limit, or an app's token, which is no
// user.
func readGitHub(a answer) Outcome {
	if a.succeeded() {
		o := a.success()
		if o.Result != Valid {
			return o
		}
		var user struct {
			Login string `json:"login"`
		}
		a.fill(&user)
		o.Account, o.Scopes, o.ExpiresAt = user.Login, scopesOf(a.header), gitHubExpiry(a.header)
		return o
	}
	switch a.status {
	case http.StatusForbidden:
		var refusal struct {
			Message string `json:"message"`
		}
		_ = a.decode(&refusal) // without a message it is a limit
		if strings.HasPrefix(refusal.Message, "Resource not accessible by") {
			return Outcome{Result: Restricted, Scopes: scopesOf(a.header), ExpiresAt: gitHubExpiry(a.header),
				Detail: "The token is real, but it is not one of a user, so it cannot be asked whose it is."}
		}
		return Outcome{Result: Indeterminate, Detail: "GitHub refuses requests from here at the moment, by a limit or a policy; test again later."}
	case http.StatusNotFound:
		if a.fields["baseUrl"] != "" {
			return Outcome{Result: Misconfigured, Detail: "There is no GitHub API at the base URL."}
		}
	}
	return byStatus(a)
}

// gitHubExpiry reads the header that GitHub sends for tokens that end.
func gitHubExpiry(h http.Header) *time.Time {
	value := h.Get("Github-Authentication-Token-Expiration")
	for _, layout := range []string{"2006-01-02 15:04:05 UTC", "2006-01-02 15:04:05 -0700", time.RFC3339} {
		if at, err := time.Parse(layout, value); err == nil {
			at = at.UTC()
			return &at
		}
	}
	return nil
}

// scopesOf reads X-OAuth-Scopes, as GitHub and Slack send it.
func scopesOf(h http.Header) []string {
	var scopes []string
	for scope := range strings.SplitSeq(h.Get("X-Oauth-Scopes"), ",") {
		if scope = strings.TrimSpace(scope); scope != "" {
			scopes = append(scopes, scope)
		}
	}
	return scopes
}

// readSlack reads POST /api/auth.test, which is 200 whatever it says.
func readSlack(a answer) Outcome {
	if !a.succeeded() {
		return byStatus(a)
	}
	var test struct {
		OK     *bool  `json:"ok"`
		Error  string `json:"error"`
		Team   string `json:"team"`
		TeamID string `json:"team_id"`
		User   string `json:"user"`
	}
	if !a.decode(&test) || test.OK == nil {
		return unknownAnswer()
	}
	if *test.OK {
		o := works()
		o.Scopes = scopesOf(a.header)
		o.Account = test.Team
		if test.TeamID != "" {
			o.Account = strings.TrimSpace(o.Account + " (" + test.TeamID + ")")
		}
		if test.User != "" {
			o.Account = strings.TrimSpace(o.Account + " " + test.User)
		}
		return o
	}
	o := Outcome{Code: test.Error}
	switch test.Error {
	case "invalid_auth", "not_authed", "token_revoked", "token_expired", "account_inactive":
		o.Result, o.Detail = Invalid, "The provider does not accept this credential."
	case "missing_scope", "no_permission", "access_denied", "team_access_not_granted", "ekm_access_denied":
		o.Result, o.Detail = Restricted, "The token is real, but the workspace does not let it be tested this way."
	case "not_allowed_token_type":
		o.Result, o.Detail = Misconfigured, "The token is real, but of another kind: the bot token starts with xoxb."
	default:
		o.Result, o.Detail = Indeterminate, "Slack cannot say at the moment whether the token works; test again later."
	}
	return o
}

// readSendGrid reads GET /v3/scopes.
func readSendGrid(a answer) Outcome {
	o := readPlain(a)
	if o.Result != Valid {
		return o
	}
	var granted struct {
		Scopes []string `json:"scopes"`
	}
	a.fill(&granted)
	o.Scopes = granted.Scopes
	return o
}

// readTwilio reads GET /2010-04-01/Accounts/{SID}.json. 403 also comes to an
// account that is suspended, and for a while after a token was changed.
func readTwilio(a answer) Outcome {
	if a.succeeded() {
		o := a.success()
		if o.Result != Valid {
			return o
		}
		var account struct {
			SID    string `json:"sid"`
			Name   string `json:"friendly_name"`
			Status string `json:"status"`
		}
		a.fill(&account)
		o.Account = account.Name
		if account.SID != "" {
			o.Account = strings.TrimSpace(account.Name + " (" + account.SID + ")")
		}
		if account.Status != "" && account.Status != "active" {
			o.Result, o.Detail = Restricted, "The credential is real, but its account is suspended or closed."
		}
		return o
	}
	switch a.status {
	case http.StatusForbidden:
		return Outcome{Result: Indeterminate, Detail: "Twilio refuses the account at the moment: it can be suspended, or the token have changed a minute ago."}
	case http.StatusNotFound:
		return Outcome{Result: Misconfigured, Detail: "There is no Twilio account of this SID for the credential."}
	}
	return byStatus(a)
}

// readTwilioFollow reads the list of queues, which an API key may read that may
// not read its account.
func readTwilioFollow(first Outcome, a answer) Outcome {
	if a.succeeded() {
		o := a.success()
		if o.Result != Valid {
			return o
		}
		o.Detail = "The API key works; like most it may not read its account."
		o.Account = a.fields["accountSid"]
		return o
	}
	switch a.status {
	case http.StatusForbidden:
		return Outcome{Result: Restricted, Detail: "The API key is real, but lacks the permission to be tested this way."}
	case http.StatusUnauthorized:
		return Outcome{Result: Invalid, Detail: "The provider does not accept this credential."}
	case http.StatusNotFound:
		return first
	}
	return byStatus(a)
}

// readHubSpot reads the daily usage of private apps, a list without an object
// around it.
func readHubSpot(a answer) Outcome {
	o := readPlain(a)
	if a.status == http.StatusUnauthorized && o.Code == "expired_authentication" {
		o.Detail = "The token has expired; make a new one."
	}
	return o
}

// readReplicate reads GET /v1/predictions.
func readReplicate(a answer) Outcome { return readPlain(a) }
