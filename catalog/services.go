package catalog

import (
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
	return []*Service{
		openai(), anthropic(), gemini(), azureOpenAI(), mistral(), codestral(), cohere(), groq(),
		xai(), deepSeek(), openRouter(), huggingFace(), perplexity(),
		zendesk(), intercom(), hubSpot(), slack(),
		stripe(), gitHub(), sendGrid(), twilio(), replicate(), smtp(),
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
		Name: name, Title: name, Chat: true, chatHost: true,
		Fields: []Field{{
			Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxToken,
			Description: "Sent as Authorization: Bearer.", Env: []string{env},
		}},
		origin: fixed(u.String()),
		inject: []injected{bearer("apiKey")},
		probe:  probe{path: template(models)},
		read:   readOpenAI,
	}
}

// The schemes of an Authorization header.
const (
	bearerScheme = "Bearer "
	basicScheme  = "Basic "
)

func bearer(field string) injected {
	return injected{name: "Authorization", scheme: bearerScheme, value: template("{" + field + "}")}
}

// basic is RFC 7617: userAndPassword is user:password before the encoding.
func basic(userAndPassword template) injected {
	return injected{name: "Authorization", scheme: basicScheme, value: userAndPassword}
}

func plain(name, field string) injected {
	return injected{name: http.CanonicalHeaderKey(name), value: template("{" + field + "}")}
}

// apiKey is the one field that most services have.
func apiKey(description, pattern, example string, env ...string) Field {
	return Field{
		Name: "apiKey", Title: "API key", Secret: true, Required: true, MaxLength: maxKey,
		Description: description, Pattern: pattern, Example: example, Env: env,
	}
}
