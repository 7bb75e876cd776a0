package catalog

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
)

// Length limits in bytes. A key is far shorter in practice; OAuth and JWT
// bearers of OpenAI-compatible hosts are the long ones.
const (
	maxKey   = 1024
	maxToken = 4096
)

// builtin gives fresh copies of the compiled-in services. Hosts, headers and
// probes follow the providers' public documentation.
func builtin() []*Service {
	return []*Service{openai(), anthropic(), stripe(), zendesk(), intercom(), smtp()}
}

func openai() *Service {
	return &Service{
		Name: "openai", Title: "OpenAI", Chat: true,
		Docs: "https://platform.openai.com/api-keys",
		Fields: []Field{
			{
				Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxKey,
				Description: "A project, service account or user key.",
				Pattern:     `^sk-[A-Za-z0-9_-]{20,}$`, Env: []string{"OPENAI_API_KEY"},
			},
			{
				Name: "organization", Title: "Organization ID", MaxLength: 128,
				Description: "Sent as OpenAI-Organization; needed only where the key belongs to several organizations.",
				Pattern:     `^org-[A-Za-z0-9]+$`, Env: []string{"OPENAI_ORG_ID", "OPENAI_ORGANIZATION"},
			},
			{
				Name: "project", Title: "Project ID", MaxLength: 128,
				Description: "Sent as OpenAI-Project; needed only where the key belongs to several projects.",
				Pattern:     `^proj_[A-Za-z0-9]+$`, Env: []string{"OPENAI_PROJECT_ID", "OPENAI_PROJECT"},
			},
			{
				Name: "model", Title: "Model", MaxLength: 128,
				Description: "The model your application uses; kept with the credential, never put on a request.",
				Env:         []string{"OPENAI_MODEL"},
			},
		},
		origin: fixed("https://api.openai.com"),
		inject: []injected{
			bearer("apiKey"),
			plain("OpenAI-Organization", "organization"),
			plain("OpenAI-Project", "project"),
		},
		probe: probe{path: "/v1/models"},
		read:  readOpenAI,
	}
}

func anthropic() *Service {
	return &Service{
		Name: "anthropic", Title: "Anthropic", Chat: true,
		Docs: "https://console.anthropic.com/settings/keys",
		Fields: []Field{{
			Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxKey,
			Description: "A key of one workspace; an admin key does not chat.",
			Pattern:     `^sk-ant-api[0-9]{2}-[A-Za-z0-9_-]{20,}$`, Env: []string{"ANTHROPIC_API_KEY"},
		}},
		origin:   fixed("https://api.anthropic.com"),
		inject:   []injected{plain("X-Api-Key", "apiKey")},
		defaults: []header{{"Anthropic-Version", "2023-06-01"}},
		probe:    probe{path: "/v1/models", query: "limit=1"},
		read:     readAnthropic,
	}
}

func stripe() *Service {
	return &Service{
		Name: "stripe", Title: "Stripe",
		Docs: "https://dashboard.stripe.com/apikeys",
		Fields: []Field{
			{
				Name: "secretKey", Title: "Secret key", Secret: true, Required: true, MaxLength: maxKey,
				Description: "A secret key (sk_) or, better, a restricted key (rk_).",
				Pattern:     `^(sk|rk)_(test|live|prod)_[A-Za-z0-9]{10,}$`, Env: []string{"STRIPE_SECRET_KEY", "STRIPE_API_KEY"},
			},
			{
				Name: "publishableKey", Title: "Publishable key", MaxLength: maxKey,
				Description: "For browsers; kept with the credential, never put on a request.",
				Pattern:     `^pk_(test|live|prod)_[A-Za-z0-9]{10,}$`, Env: []string{"STRIPE_PUBLISHABLE_KEY"},
			},
			{
				Name: "webhookSecret", Title: "Webhook signing secret", Secret: true, MaxLength: maxKey,
				Description: "Verifies what Stripe sends you; kept with the credential, never put on a request.",
				Pattern:     `^whsec_[A-Za-z0-9+/=]{10,}$`, Env: []string{"STRIPE_WEBHOOK_SECRET"},
			},
		},
		origin: fixed("https://api.stripe.com"),
		inject: []injected{bearer("secretKey")},
		probe:  probe{path: "/v1/charges", query: "limit=1"},
		read:   readStripe,
	}
}

func zendesk() *Service {
	return &Service{
		Name: "zendesk", Title: "Zendesk",
		Docs: "https://support.zendesk.com/hc/en-us/articles/4408889192858",
		Fields: []Field{
			{
				Name: "subdomain", Title: "Subdomain", Required: true, MaxLength: 63, Format: Label,
				Description: "The first part of your address: acme of acme.zendesk.com.",
				Env:         []string{"ZENDESK_SUBDOMAIN"},
			},
			{
				Name: "email", Title: "Email", Required: true, MaxLength: 254, Format: Email,
				Description: "The agent that the token acts for.",
				Env:         []string{"ZENDESK_EMAIL"},
			},
			{
				Name: "apiToken", Title: "API token", Secret: true, Required: true, MaxLength: maxKey,
				Description: "From Admin Center, Apps and integrations, APIs.",
				Pattern:     `^[A-Za-z0-9]{40}$`, Env: []string{"ZENDESK_API_TOKEN", "ZENDESK_TOKEN"},
			},
		},
		origin: func(f map[string]string) string { return "https://" + f["subdomain"] + ".zendesk.com" },
		inject: []injected{{
			name: "Authorization", scheme: "Basic ",
			value: func(f map[string]string) string {
				return base64.StdEncoding.EncodeToString([]byte(f["email"] + "/token:" + f["apiToken"]))
			},
		}},
		// Offset pages, cursor pages (in "links" and, older, beside them), incremental exports.
		PageLinks: []string{"next_page", "previous_page", "next", "prev", "after_url", "before_url"},
		// users/me.json would answer 200 to a visitor without any credential.
		probe: probe{path: "/api/v2/users.json", query: "per_page=1"},
		read:  readZendesk,
	}
}

func intercom() *Service {
	hosts := map[string]string{
		"":   "https://api.intercom.io",
		"us": "https://api.intercom.io",
		"eu": "https://api.eu.intercom.io",
		"au": "https://api.au.intercom.io",
	}
	return &Service{
		Name: "intercom", Title: "Intercom",
		Docs: "https://developers.intercom.com/docs/build-an-integration/learn-more/authentication",
		Fields: []Field{
			{
				Name: "accessToken", Title: "Access token", Secret: true, Required: true, MaxLength: maxKey,
				Description: "From the Developer Hub, your app, Authentication.",
				Pattern:     `^dG9r[A-Za-z0-9+/]+=*$`, Env: []string{"INTERCOM_ACCESS_TOKEN"},
			},
			{
				Name: "region", Title: "Region", MaxLength: 2, Format: Choice, Choices: []string{"us", "eu", "au"},
				Description: "Where the workspace is hosted: us (unless said), eu or au.",
				Env:         []string{"INTERCOM_REGION"},
			},
		},
		origin: func(f map[string]string) string { return hosts[f["region"]] },
		inject: []injected{bearer("accessToken")},
		probe:  probe{path: "/me"},
		read:   readIntercom,
	}
}

func smtp() *Service {
	return &Service{
		Name: "smtp", Title: "SMTP",
		Fields: []Field{
			{
				Name: "host", Title: "Host", Required: true, MaxLength: 253, Format: Host,
				Description: "The mail server's name, such as smtp.example.com.", Env: []string{"SMTP_HOST"},
			},
			{
				Name: "port", Title: "Port", MaxLength: 4, Format: MailPort,
				Description: "587 (STARTTLS, unless said), 465 (TLS), 25 or 2525 (STARTTLS).", Env: []string{"SMTP_PORT"},
			},
			{
				Name: "user", Title: "User name", Required: true, MaxLength: 320, Format: Text,
				Description: "Often the full email address.", Env: []string{"SMTP_USER", "SMTP_USERNAME"},
			},
			{
				Name: "pass", Title: "Password", Secret: true, Required: true, MaxLength: maxKey, Format: Text,
				Description: "The password or app password of that user.", Env: []string{"SMTP_PASS", "SMTP_PASSWORD"},
			},
		},
	}
}

func echo() *Service {
	return &Service{Name: EchoName, Title: "Echo", Chat: true}
}

// chatHost is an OpenAI-compatible service at an origin of the operator's. Some
// write the origin with /v1 at its end, as SDKs do, and some without.
func chatHost(name string, u *url.URL) *Service {
	models := "/v1/models"
	if strings.HasSuffix(u.Path, "/v1") {
		models = "/models"
	}
	env := strings.ToUpper(strings.ReplaceAll(name, "-", "_")) + "_API_KEY"
	return &Service{
		Name: name, Title: name, Chat: true,
		Fields: []Field{{
			Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxToken,
			Description: "Sent as Authorization: Bearer.", Env: []string{env},
		}},
		origin: fixed(u.String()),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: models},
		read:   readOpenAI,
	}
}

func fixed(origin string) func(map[string]string) string {
	return func(map[string]string) string { return origin }
}

func bearer(field string) injected {
	return injected{name: "Authorization", scheme: "Bearer ", value: valueOf(field)}
}

func plain(name, field string) injected {
	return injected{name: http.CanonicalHeaderKey(name), value: valueOf(field)}
}

func valueOf(field string) func(map[string]string) string {
	return func(fields map[string]string) string { return fields[field] }
}
