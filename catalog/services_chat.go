package catalog

// The services that chat and are named in the design: OpenAI, Anthropic, Gemini,
// Azure OpenAI, Mistral, Cohere and Groq.

// openai's admin keys list no models, and may be told that they are wrong: they
// are asked about where they can be used.
func openai() *Service {
	return &Service{
		Name: "openai", Title: "OpenAI", Chat: true, AsksUsage: true,
		Docs: "https://platform.openai.com/api-keys",
		Fields: []Field{
			{
				Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxKey,
				Description: "A project, service account or user key.",
				Pattern:     `^sk-[A-Za-z0-9_-]{20,}$`, Example: "sk-proj-…", Env: []string{"OPENAI_API_KEY"},
			},
			{
				Name: "organization", Title: "Organization ID", MaxLength: 128,
				Description: "Sent as OpenAI-Organization; needed only where the key belongs to several organizations.",
				Pattern:     `^org-[A-Za-z0-9]+$`, Example: "org-…", Env: []string{"OPENAI_ORG_ID", "OPENAI_ORGANIZATION"},
			},
			{
				Name: "project", Title: "Project ID", MaxLength: 128,
				Description: "Sent as OpenAI-Project; needed only where the key belongs to several projects.",
				Pattern:     `^proj_[A-Za-z0-9]+$`, Example: "proj_…", Env: []string{"OPENAI_PROJECT_ID", "OPENAI_PROJECT"},
			},
			{
				Name: "model", Title: "Model", MaxLength: 128,
				Description: "The model your application uses; kept with the credential, never put on a request.",
				Example:     "gpt-4o-mini", Env: []string{"OPENAI_MODEL"},
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
		other: &otherKind{
			probe: probe{path: "/v1/organization/admin_api_keys", query: "limit=1"},
			field: "apiKey", prefix: "sk-admin-", read: readAdmin,
		},
	}
}

// anthropic's admin keys are asked about as openai's are.
func anthropic() *Service {
	return &Service{
		Name: "anthropic", Title: "Anthropic", Chat: true, NamedErrors: true,
		Docs: "https://console.anthropic.com/settings/keys",
		Fields: []Field{{
			Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxKey,
			Description: "A key of one workspace; an admin key does not chat.",
			Pattern:     `^sk-ant-api[0-9]{2}-[A-Za-z0-9_-]{20,}$`, Example: "sk-ant-api03-…", Env: []string{"ANTHROPIC_API_KEY"},
		}},
		origin:    fixed("https://api.anthropic.com"),
		PageLinks: []string{"results_url"}, // of batches
		inject:    []injected{plain("X-Api-Key", "apiKey")},
		defaults:  []header{{"Anthropic-Version", "2023-06-01"}},
		probe:     probe{path: "/v1/models", query: "limit=1"},
		read:      readAnthropic,
		other: &otherKind{
			probe: probe{path: "/v1/organizations/api_keys", query: "limit=1"},
			field: "apiKey", prefix: "sk-ant-admin", read: readAdmin,
		},
	}
}

// gemini sends the key in a header: in the query it would stand in logs.
func gemini() *Service {
	return &Service{
		Name: "gemini", Title: "Google Gemini", Chat: true, genAI: "gcp.gemini",
		Docs: "https://aistudio.google.com/apikey",
		Fields: []Field{apiKey("From Google AI Studio: an auth key (AQ.) or a classic key (AIza).",
			`^(AIza[A-Za-z0-9_-]{35}|AQ\.[A-Za-z0-9_-]{10,})$`, "AQ.…",
			"GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY")},
		origin: fixed("https://generativelanguage.googleapis.com"),
		inject: []injected{plain("X-Goog-Api-Key", "apiKey")},
		probe:  probe{path: "/v1/models", query: "pageSize=1"},
		read:   readGemini,
	}
}

func azureOpenAI() *Service {
	return &Service{
		Name: "azure-openai", Title: "Azure OpenAI", Chat: true, genAI: "azure.ai.openai", AsksUsage: true, UsageSince: "2024-09-01-preview",
		Docs: "https://learn.microsoft.com/azure/ai-foundry/openai/reference",
		Fields: []Field{
			{
				Name: "endpoint", Title: "Endpoint", Required: true, MaxLength: 253, Format: Endpoint,
				Suffixes: []string{
					".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com",
					".api.cognitive.microsoft.com", ".openai.azure.us", ".cognitiveservices.azure.us",
				},
				Description: "The address of your resource, as the Azure portal shows it.",
				Example:     "https://acme.openai.azure.com", Env: []string{"AZURE_OPENAI_ENDPOINT", "AZURE_API_BASE"},
			},
			apiKey("One of the two keys of the resource.", "", "", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_KEY", "AZURE_API_KEY"),
			{
				Name: "apiVersion", Title: "API version", MaxLength: 64,
				Description: "The version your application asks for; kept with the credential, never put on a request.",
				Pattern:     `^(v1|preview|[0-9]{4}-[0-9]{2}-[0-9]{2}(-preview)?)$`, Example: "2024-10-21",
				Env: []string{"AZURE_OPENAI_API_VERSION", "OPENAI_API_VERSION", "AZURE_API_VERSION"},
			},
			{
				Name: "deployment", Title: "Deployment", MaxLength: 128,
				Description: "The deployment your application uses; kept with the credential, never put on a request.",
				Example:     "gpt-4o", Env: []string{"AZURE_OPENAI_DEPLOYMENT", "AZURE_OPENAI_DEPLOYMENT_NAME"},
			},
		},
		origin: &origin{field: "endpoint"},
		inject: []injected{plain("Api-Key", "apiKey")},
		probe:  probe{path: "/openai/models", query: "api-version=2024-10-21"},
		read:   readAzureOpenAI,
	}
}

func mistral() *Service {
	return &Service{
		Name: "mistral", Title: "Mistral", Chat: true, genAI: "mistral_ai",
		Docs:   "https://console.mistral.ai/api-keys",
		Fields: []Field{apiKey("A key of one workspace; keys of the Codestral endpoint are the service codestral.", "", "", "MISTRAL_API_KEY")},
		origin: fixed("https://api.mistral.ai"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/v1/models"},
		read:   readMistral,
	}
}

// codestral is a host of Mistral's with keys of its own. Its list of models is
// not documented: where there is none, a request without a prompt tells, which
// is refused for the key (401) or for what it lacks (422) and completes nothing.
func codestral() *Service {
	return &Service{
		Name: "codestral", Title: "Codestral", Chat: true, genAI: "mistral_ai",
		Docs:   "https://console.mistral.ai/codestral",
		Fields: []Field{apiKey("A key of the Codestral endpoint; Mistral's other keys do not work there.", "", "", "CODESTRAL_API_KEY")},
		origin: fixed("https://codestral.mistral.ai"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/v1/models"},
		read:   readMistral,
		follow: &follow{
			probe: probe{method: "POST", path: "/v1/fim/completions", body: "{}"},
			on:    []int{404}, read: readCodestralFollow,
		},
	}
}

func cohere() *Service {
	return &Service{
		Name: "cohere", Title: "Cohere", Chat: true,
		Docs:   "https://dashboard.cohere.com/api-keys",
		Fields: []Field{apiKey("A trial or production key.", `^[A-Za-z0-9]{40}$`, "", "COHERE_API_KEY", "CO_API_KEY")},
		origin: fixed("https://api.cohere.com"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{method: "POST", path: "/v1/check-api-key"},
		read:   readCohere,
	}
}

func groq() *Service {
	return &Service{
		Name: "groq", Title: "Groq", Chat: true,
		Docs:   "https://console.groq.com/keys",
		Fields: []Field{apiKey("A key of one project.", `^gsk_[A-Za-z0-9]{52}$`, "gsk_…", "GROQ_API_KEY")},
		origin: fixed("https://api.groq.com"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/openai/v1/models"},
		read:   readGroq,
	}
}
