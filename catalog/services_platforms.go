package catalog

// The services that a product is built on: payments, code, messages, models, mail.

func stripe() *Service {
	return &Service{
		Name: "stripe", Title: "Stripe",
		Docs: "https://dashboard.stripe.com/apikeys",
		Fields: []Field{
			{
				Name: "secretKey", Title: "Secret key", Secret: true, Required: true, MaxLength: maxKey,
				Description: "A secret key (sk_) or, better, a restricted key (rk_).",
				Pattern:     `^(sk|rk)_(test|live|prod)_[A-Za-z0-9]{10,}$`, Example: "rk_live_…", Env: []string{"STRIPE_SECRET_KEY", "STRIPE_API_KEY"},
			},
			{
				Name: "publishableKey", Title: "Publishable key", MaxLength: maxKey,
				Description: "For browsers; kept with the credential, never put on a request.",
				Pattern:     `^pk_(test|live|prod)_[A-Za-z0-9]{10,}$`, Example: "pk_live_…", Env: []string{"STRIPE_PUBLISHABLE_KEY"},
			},
			{
				Name: "webhookSecret", Title: "Webhook signing secret", Secret: true, MaxLength: maxKey,
				Description: "Verifies what Stripe sends you; kept with the credential, never put on a request.",
				Pattern:     `^whsec_[A-Za-z0-9+/=]{10,}$`, Example: "whsec_…", Env: []string{"STRIPE_WEBHOOK_SECRET"},
			},
		},
		origin: fixed("https://api.stripe.com"),
		// As in stripe-node and stripe-go: uploads and downloads, and OAuth of Connect.
		others: []otherHost{
			alsoAt("https://files.stripe.com", "POST /v1/files", "GET /v1/files/*/contents", "GET /v1/quotes/*/pdf"),
			alsoAt("https://connect.stripe.com", "POST /oauth/token", "POST /oauth/deauthorize"),
		},
		inject: []injected{bearer("secretKey")},
		probe:  probe{path: "/v1/charges", query: "limit=1"},
		read:   readStripe,
	}
}

func gitHub() *Service {
	return &Service{
		Name: "github", Title: "GitHub",
		Docs: "https://github.com/settings/tokens", EncodedSlashes: true,
		Fields: []Field{
			{
				Name: "token", Title: "Token", Secret: true, Required: true, MaxLength: maxKey,
				Description: "A fine-grained or classic personal access token, or an app's token.",
				Pattern:     `^(gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{82})$`, Example: "github_pat_…",
				Env: []string{"GITHUB_TOKEN", "GH_TOKEN", "GITHUB_PAT", "GITHUB_PERSONAL_ACCESS_TOKEN"},
			},
			{
				Name: "baseUrl", Title: "Base URL", MaxLength: 253, Format: Base,
				Description: "Of a GitHub Enterprise Server that the operator of this instance allows; left out for github.com.",
				Example:     "https://github.example.com", Env: []string{"GITHUB_API_URL", "GITHUB_BASE_URL"},
			},
		},
		origin:    &origin{field: "baseUrl", at: gitHubOrigin},
		others:    []otherHost{alsoAt("https://uploads.github.com", "POST /repos/*/*/releases/*/assets")},
		PageLinks: []string{"upload_url"}, // of releases
		inject:    []injected{bearer("token")},
		defaults:  []header{{"Accept", "application/vnd.github+json"}, {"X-Github-Api-Version", "2022-11-28"}},
		probe:     probe{path: "/user"},
		read:      readGitHub,
	}
}

const gitHubOrigin = "https://api.github.com"

func sendGrid() *Service {
	return &Service{
		Name: "sendgrid", Title: "SendGrid",
		Docs: "https://app.sendgrid.com/settings/api_keys",
		Fields: []Field{apiKey("A key with the scopes that your application needs.",
			`^SG\.[A-Za-z0-9_-]{20,24}\.[A-Za-z0-9_-]{39,50}$`, "SG.…", "SENDGRID_API_KEY")},
		origin:    fixed("https://api.sendgrid.com"),
		inject:    []injected{bearer("apiKey")},
		PageLinks: []string{"next", "prev"}, // of _metadata
		probe:     probe{path: "/v3/scopes"},
		read:      readSendGrid,
	}
}

// twilio's standard and restricted API keys may not read the account, and are
// told so with the 401 of a wrong key (error 20003); the list of queues, which
// holds nobody's data, tells the two apart.
func twilio() *Service {
	return &Service{
		Name: "twilio", Title: "Twilio",
		Docs: "https://www.twilio.com/docs/iam/api-keys",
		Fields: []Field{
			{
				Name: "accountSid", Title: "Account SID", Required: true, MaxLength: 64, Format: Segment,
				Description: "From the Twilio Console.",
				Pattern:     `^AC[0-9a-f]{32}$`, Example: "AC…", Env: []string{"TWILIO_ACCOUNT_SID"},
			},
			{
				Name: "apiKeySid", Title: "API key SID", MaxLength: 64, Format: Segment,
				Description: "With its secret in place of the auth token; better, since it can be revoked alone.",
				Pattern:     `^SK[0-9a-f]{32}$`, Example: "SK…", Env: []string{"TWILIO_API_KEY_SID", "TWILIO_API_KEY"},
			},
			{
				Name: "apiKeySecret", Title: "API key secret", Secret: true, MaxLength: maxKey,
				Description: "The secret of the API key, shown once when it is made.",
				Pattern:     `^[A-Za-z0-9]{32}$`, Env: []string{"TWILIO_API_KEY_SECRET", "TWILIO_API_SECRET"},
			},
			{
				Name: "authToken", Title: "Auth token", Secret: true, MaxLength: maxKey,
				Description: "The account's own token; put on requests where no API key is given.",
				Pattern:     `^[0-9a-f]{32}$`, Env: []string{"TWILIO_AUTH_TOKEN"},
			},
		},
		Alternatives: [][]string{{"apiKeySid", "apiKeySecret"}, {"authToken"}},
		origin:       fixed("https://api.twilio.com"),
		PageLinks:    []string{"next_page_url", "previous_page_url", "first_page_url"}, // of meta; next_page_uri has no host
		inject:       []injected{basic("{apiKeySid}:{apiKeySecret}"), basic("{accountSid}:{authToken}")},
		probe:        probe{path: "/2010-04-01/Accounts/{accountSid}.json"},
		read:         readTwilio,
		follow: &follow{
			probe: probe{path: "/2010-04-01/Accounts/{accountSid}/Queues.json", query: "PageSize=1"},
			on:    []int{401, 403}, with: "apiKeySecret", read: readTwilioFollow,
		},
	}
}

func replicate() *Service {
	return &Service{
		Name: "replicate", Title: "Replicate",
		Docs: "https://replicate.com/account/api-tokens",
		Fields: []Field{{
			Name: "apiToken", Title: "API token", Secret: true, Required: true, MaxLength: maxKey,
			Description: "A token of your account.",
			Pattern:     `^r8_[A-Za-z0-9]{37}$`, Example: "r8_…", Env: []string{"REPLICATE_API_TOKEN", "REPLICATE_API_KEY"},
		}},
		origin:    fixed("https://api.replicate.com"),
		inject:    []injected{{name: "Authorization", scheme: "Token ", value: "{apiToken}"}},
		PageLinks: []string{"next", "previous"},
		probe:     probe{path: "/v1/predictions"},
		read:      readReplicate,
	}
}

func smtp() *Service {
	return &Service{
		Name: "smtp", Title: "SMTP",
		Fields: []Field{
			{
				Name: "host", Title: "Host", Required: true, MaxLength: 253, Format: Host,
				Description: "The mail server's name, such as smtp.example.com.", Example: "smtp.example.com", Env: []string{"SMTP_HOST"},
			},
			{
				Name: "port", Title: "Port", MaxLength: 5, Format: MailPort,
				Description: "587 (STARTTLS, unless said), 465 (TLS), 25 or 2525 (STARTTLS); others are kept and not tested.",
				Pattern:     `^(25|465|587|2525)$`, Example: "587", Env: []string{"SMTP_PORT"},
			},
			{
				Name: "user", Title: "User name", Required: true, MaxLength: 320, Format: Text,
				Description: "Often the full email address.", Example: "mailer@example.com", Env: []string{"SMTP_USER", "SMTP_USERNAME"},
			},
			{
				Name: "pass", Title: "Password", Secret: true, Required: true, MaxLength: maxKey, Format: Text,
				Description: "The password or app password of that user.", Env: []string{"SMTP_PASS", "SMTP_PASSWORD"},
			},
		},
	}
}
