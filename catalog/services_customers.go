package catalog

// The services that hold a company's conversations and customers.

func zendesk() *Service {
	return &Service{
		Name: "zendesk", Title: "Zendesk", No502: true,
		Docs: "https://support.zendesk.com/hc/en-us/articles/4408889192858",
		Fields: []Field{
			{
				Name: "subdomain", Title: "Subdomain", Required: true, MaxLength: 63, Format: Label,
				Description: "The first part of your address: acme of acme.zendesk.com.",
				Example:     "acme", Env: []string{"ZENDESK_SUBDOMAIN"},
			},
			{
				Name: "email", Title: "Email", MaxLength: 254, Format: Email,
				Description: "The agent that the API token acts for.",
				Example:     "agent@example.com", Env: []string{"ZENDESK_EMAIL"},
			},
			{
				Name: "apiToken", Title: "API token", Secret: true, MaxLength: maxKey,
				Description: "From Admin Center, Apps and integrations, APIs.",
				Pattern:     `^[A-Za-z0-9]{40}$`, Env: []string{"ZENDESK_API_TOKEN", "ZENDESK_TOKEN"},
			},
			{
				Name: "oauthToken", Title: "OAuth access token", Secret: true, MaxLength: maxToken,
				Description: "In place of email and API token.",
				Env:         []string{"ZENDESK_OAUTH_TOKEN", "ZENDESK_ACCESS_TOKEN"},
			},
		},
		Alternatives: [][]string{{"email", "apiToken"}, {"oauthToken"}},
		origin:       &origin{at: "https://{subdomain}.zendesk.com"},
		inject:       []injected{basic("{email}/token:{apiToken}"), bearer("oauthToken")},
		// Offset pages, cursor pages (in "links" and, older, beside them), incremental exports.
		PageLinks: []string{"next_page", "previous_page", "next", "prev", "after_url", "before_url"},
		// users/me.json would answer 200 to a visitor without any credential.
		probe: probe{path: "/api/v2/users.json", query: "per_page=1"},
		read:  readZendesk,
	}
}

func intercom() *Service {
	return &Service{
		Name: "intercom", Title: "Intercom",
		Docs: "https://developers.intercom.com/docs/build-an-integration/learn-more/authentication",
		Fields: []Field{
			{
				Name: "accessToken", Title: "Access token", Secret: true, Required: true, MaxLength: maxKey,
				Description: "From the Developer Hub, your app, Authentication.",
				Pattern:     `^dG9r[A-Za-z0-9+/]+=*$`, Example: "dG9r…", Env: []string{"INTERCOM_ACCESS_TOKEN"},
			},
			{
				Name: "region", Title: "Region", MaxLength: 2, Format: Choice, Choices: []string{"us", "eu", "au"},
				Description: "Where the workspace is hosted: us (unless said), eu or au.",
				Example:     "us", Env: []string{"INTERCOM_REGION"},
			},
		},
		origin: &origin{choice: "region", by: map[string]string{
			"":   "https://api.intercom.io",
			"us": "https://api.intercom.io",
			"eu": "https://api.eu.intercom.io",
			"au": "https://api.au.intercom.io",
		}},
		inject:    []injected{bearer("accessToken")},
		PageLinks: []string{"next", "prev"}, // of lists that have no cursor
		probe:     probe{path: "/me"},
		read:      readIntercom,
	}
}

func hubSpot() *Service {
	return &Service{
		Name: "hubspot", Title: "HubSpot",
		Docs: "https://developers.hubspot.com/docs/guides/apps/private-apps/overview",
		Fields: []Field{{
			Name: "accessToken", Title: "Access token", Secret: true, Required: true, MaxLength: maxToken,
			Description: "The access token of a private app, or of an OAuth app.",
			Pattern:     `^pat-[a-z0-9]+-[0-9a-f-]{36}$`, Example: "pat-eu1-…",
			Env: []string{"HUBSPOT_ACCESS_TOKEN", "HUBSPOT_PRIVATE_APP_TOKEN", "HUBSPOT_TOKEN", "HUBSPOT_API_KEY"},
		}},
		origin:    fixed("https://api.hubapi.com"),
		inject:    []injected{bearer("accessToken")},
		PageLinks: []string{"link"}, // of paging.next
		// oauth/v1/access-tokens/TOKEN would put the secret into the URL.
		probe: probe{path: "/account-info/v3/api-usage/daily/private-apps"},
		read:  readHubSpot,
	}
}

func slack() *Service {
	return &Service{
		Name: "slack", Title: "Slack",
		Docs: "https://api.slack.com/apps",
		Fields: []Field{
			{
				Name: "botToken", Title: "Bot token", Secret: true, Required: true, MaxLength: maxKey,
				Description: "From your app, OAuth and Permissions; a user token works as well.",
				Pattern:     `^xox[bp]-[A-Za-z0-9-]{10,}$|^xoxe\.xox[bp]-[A-Za-z0-9-]{10,}$`, Example: "xoxb-…",
				Env: []string{"SLACK_BOT_TOKEN", "SLACK_TOKEN", "SLACK_API_TOKEN"},
			},
			{
				Name: "appToken", Title: "App-level token", Secret: true, MaxLength: maxKey,
				Description: "For Socket Mode; kept with the credential, never put on a request.",
				Pattern:     `^xapp-[0-9]-[A-Za-z0-9-]{10,}$`, Example: "xapp-1-…", Env: []string{"SLACK_APP_TOKEN"},
			},
			{
				Name: "signingSecret", Title: "Signing secret", Secret: true, MaxLength: maxKey,
				Description: "Verifies what Slack sends you; kept with the credential, never put on a request.",
				Pattern:     `^[0-9a-f]{32}$`, Env: []string{"SLACK_SIGNING_SECRET"},
			},
		},
		origin:    fixed("https://slack.com"),
		others:    []otherHost{alsoAt("https://files.slack.com", "POST /upload/v1/**")},
		PageLinks: []string{"upload_url"}, // of files.getUploadURLExternal, at which SDKs go on
		inject:    []injected{bearer("botToken")},
		probe:     probe{method: "POST", path: "/api/auth.test"},
		read:      readSlack,
	}
}
