package catalog_test

import "strings"

// secret values of the tests: no provider made them.
const (
	openAIKey    = "sk-proj-aaaabbbbccccddddeeeeffff0000"
	anthropicKey = "sk-ant-api03-aaaabbbbccccddddeeeeffff0000"
	stripeKey    = "rk_live_aaaabbbbccccdddd"
	zendeskToken = "aaaaaaaaaabbbbbbbbbbccccccccccdddddddddd"
	intercomKey  = "dG9rOmFhYWFiYmJiY2NjYw=="
	twilioSID    = "AC00112233445566778899aabbccddeeff"
)

// every is the name of each compiled-in service that takes a credential.
var every = []string{
	"anthropic", "azure-openai", "codestral", "cohere", "deepseek", "gemini", "github", "groq", "hubspot", "huggingface", "intercom",
	"mistral", "openai", "openrouter", "perplexity", "replicate", "sendgrid", "slack", "smtp", "stripe", "twilio", "xai", "zendesk",
}

// sound gives fields that pass Check without a warning.
func sound(service string) map[string]string {
	filled := func(n int) string { return strings.Repeat("aB3d", n/4+1)[:n] }
	hex := func(n int) string { return strings.Repeat("0a1b2c3d", n/8+1)[:n] }
	switch service {
	case "openai":
		return map[string]string{"apiKey": openAIKey, "organization": "org-abc123", "project": "proj_abc123", "model": "gpt-4o-mini"}
	case "anthropic":
		return map[string]string{"apiKey": anthropicKey}
	case "stripe":
		return map[string]string{"secretKey": stripeKey, "publishableKey": "pk_live_aaaabbbbcccc", "webhookSecret": "whsec_aaaabbbbcccc"}
	case "zendesk":
		return map[string]string{"subdomain": "acme", "email": "agent@example.com", "apiToken": zendeskToken}
	case "intercom":
		return map[string]string{"accessToken": intercomKey, "region": "eu"}
	case "smtp":
		return map[string]string{"host": "smtp.example.com", "port": "587", "user": "mailer@example.com", "pass": "correct horse battery"}
	case "azure-openai":
		return map[string]string{"endpoint": "https://acme.openai.azure.com/", "apiKey": hex(32), "apiVersion": "2024-10-21", "deployment": "gpt-4o"}
	case "gemini":
		return map[string]string{"apiKey": "AIza" + filled(35)}
	case "cohere":
		return map[string]string{"apiKey": filled(40)}
	case "groq":
		return map[string]string{"apiKey": "gsk_" + filled(52)}
	case "xai":
		return map[string]string{"apiKey": "xai-" + filled(80)}
	case "deepseek":
		return map[string]string{"apiKey": "sk-" + hex(32)}
	case "openrouter":
		return map[string]string{"apiKey": "sk-or-v1-" + hex(64)}
	case "huggingface":
		return map[string]string{"accessToken": "hf_" + filled(34)}
	case "perplexity":
		return map[string]string{"apiKey": "pplx-" + filled(48)}
	case "replicate":
		return map[string]string{"apiToken": "r8_" + filled(37)}
	case "slack":
		return map[string]string{"botToken": "xoxb-123456789012-1234567890123-" + filled(24), "appToken": "xapp-1-" + filled(20), "signingSecret": hex(32)}
	case "github":
		return map[string]string{"token": "ghp_" + filled(36)}
	case "sendgrid":
		return map[string]string{"apiKey": "SG." + filled(22) + "." + filled(43)}
	case "hubspot":
		return map[string]string{"accessToken": "pat-eu1-00112233-4455-6677-8899-aabbccddeeff"}
	case "twilio":
		return map[string]string{"accountSid": twilioSID, "authToken": hex(32)}
	}
	return map[string]string{"apiKey": "local-key-0123456789"}
}
