package catalog

// Further hosts of language models. All of them chat: what they serve is chat
// completions in OpenAI's form, so the chat routes and their limits fit.

func xai() *Service {
	return &Service{
		Name: "xai", Title: "xAI", Chat: true, genAI: "x_ai",
		Docs:   "https://console.x.ai",
		Fields: []Field{apiKey("A key of one team; a management key does not chat.", `^xai-[A-Za-z0-9_-]{70,}$`, "xai-…", "XAI_API_KEY")},
		origin: fixed("https://api.x.ai"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/v1/api-key"},
		read:   readXAI,
	}
}

func deepSeek() *Service {
	return &Service{
		Name: "deepseek", Title: "DeepSeek", Chat: true,
		Docs:   "https://platform.deepseek.com/api_keys",
		Fields: []Field{apiKey("A key of your account.", `^sk-[a-z0-9]{32}$`, "sk-…", "DEEPSEEK_API_KEY")},
		origin: fixed("https://api.deepseek.com"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/user/balance"},
		read:   readDeepSeek,
	}
}

func openRouter() *Service {
	return &Service{
		Name: "openrouter", Title: "OpenRouter", Chat: true,
		Docs:   "https://openrouter.ai/settings/keys",
		Fields: []Field{apiKey("A key for calls; a provisioning key does not chat.", `^sk-or-v1-[0-9a-f]{64}$`, "sk-or-v1-…", "OPENROUTER_API_KEY")},
		origin: fixed("https://openrouter.ai"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/api/v1/key"},
		read:   readOpenRouter,
	}
}

// huggingFace chats through the router of its inference providers; the hub says
// whose a token is.
func huggingFace() *Service {
	return &Service{
		Name: "huggingface", Title: "Hugging Face", Chat: true,
		Docs: "https://huggingface.co/settings/tokens",
		Fields: []Field{{
			Name: "accessToken", Title: "Access token", Secret: true, Required: true, MaxLength: maxKey,
			Description: "A fine-grained token that may make calls to inference providers, or a read token.",
			Pattern:     `^(hf|api_org)_[A-Za-z0-9]{34}$`, Example: "hf_…",
			Env: []string{"HF_TOKEN", "HUGGINGFACE_API_KEY", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACEHUB_API_TOKEN"},
		}},
		origin: fixed("https://router.huggingface.co"),
		inject: []injected{bearer("accessToken")},
		probe:  probe{origin: "https://huggingface.co", path: "/api/whoami-v2"},
		read:   readHuggingFace,
	}
}

// perplexity has no call that is made for testing a key. The list of a key's own
// asynchronous requests costs nothing.
func perplexity() *Service {
	return &Service{
		Name: "perplexity", Title: "Perplexity", Chat: true, NamedErrors: true,
		Docs:   "https://www.perplexity.ai/account/api/keys",
		Fields: []Field{apiKey("A key of one API group.", `^pplx-[A-Za-z0-9]{48}$`, "pplx-…", "PERPLEXITY_API_KEY", "PPLX_API_KEY")},
		origin: fixed("https://api.perplexity.ai"),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: "/async/chat/completions", query: "limit=1"},
		read:   readPerplexity,
	}
}
