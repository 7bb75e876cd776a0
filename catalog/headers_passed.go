package catalog

import (
	"net/http"
	"slices"
	"strings"
)

// Headers that the gateway passes on, each way: those of every service, which
// say what a message is, and those that a service documents for its own API. A
// name that ends in * is a prefix. What is in no list stays behind: what a
// browser, a proxy or a tracer of the caller's adds is nobody's business there,
// and headers such as X-HTTP-Method-Override make another request out of one that
// a scope let pass.
var (
	requestBase = []string{
		"Accept", "Accept-Charset", "Accept-Language", "Cache-Control", "Pragma", "Content-Type", "Content-Encoding", "Content-Language",
		"Content-Disposition", "Content-Md5", "Content-Digest", "Digest", "Range", "If-Match", "If-None-Match", "If-Modified-Since",
		"If-Unmodified-Since", "If-Range", "Prefer", "User-Agent",
		"Idempotency-Key", "X-Idempotency-Key",
		"X-Stainless-*", // of the SDKs that Stainless makes: OpenAI's, Anthropic's and others
	}
	answerBase = []string{
		"Content-Type", "Content-Length", "Content-Encoding", "Content-Language", "Content-Disposition", "Content-Range", "Content-Location",
		"Content-Md5", "Content-Digest", "Digest", "Accept-Ranges", "Etag", "Last-Modified", "Date", "Age", "Expires", "Cache-Control", "Pragma", "Vary",
		"Allow", "Location", "Link", "Preference-Applied", "Deprecation", "Sunset", "Warning", "Www-Authenticate",
		"Retry-After", "Retry-After-Ms", "X-Should-Retry", // what SDKs go by
		"Request-Id", "X-Request-Id", "X-Correlation-Id", "X-Trace-Id", "Cf-Ray", // what a provider's support asks for
		"Idempotency-Key", "Idempotent-Replayed", "Original-Request",
		"X-Total-Count", "X-Next-Page", "X-Page", "X-Per-Page", "X-Total", "X-Total-Pages", "X-Prev-Page",
		"Ratelimit*", "X-Ratelimit*", "X-Rate-Limit*",
		"Server-Timing", "X-Api-Version", "X-Api-Warning",
	}
)

// headersOf are a service's own, beside the base: of requests, and of answers.
var headersOf = map[string][2][]string{
	"openai":    {openAIRequest, openAIAnswer},
	"anthropic": {append([]string{"X-App"}, anthropicHeaders...), anthropicHeaders},
	"gemini":    {geminiRequest, geminiAnswer},
	"azure-openai": { // whose services.ai.azure.com speaks Anthropic's API too
		slices.Concat([]string{"X-Ms-*", "Extra-Parameters"}, openAIRequest, anthropicHeaders),
		slices.Concat([]string{"X-Ms-*", "Ms-*", "Apim-Request-Id", "Azureml-*", "Operation-Location"}, openAIAnswer, anthropicHeaders),
	},
	"mistral":     {nil, []string{"Mistral-*", "X-Kong-*", "X-Mistral-*"}},
	"codestral":   {nil, []string{"Mistral-*", "X-Kong-*", "X-Mistral-*"}},
	"cohere":      {{"X-Client-Name", "Request-Source"}, {"X-Debug-Trace-Id", "X-Endpoint-*", "X-Trial-Endpoint-*", "Num_chars", "Num_tokens"}},
	"groq":        {append([]string{"Groq-*"}, openAIRequest...), append([]string{"X-Groq-*"}, openAIAnswer...)},
	"xai":         {append([]string{"X-Grok-*", "Anthropic-*"}, openAIRequest...), append([]string{"X-Grok-*", "X-Zero-*"}, openAIAnswer...)},
	"deepseek":    {append([]string{"Anthropic-*"}, openAIRequest...), append([]string{"X-Ds-*"}, openAIAnswer...)},
	"openrouter":  {append([]string{"Http-Referer", "X-Title", "X-Openrouter-*", "Anthropic-*"}, openAIRequest...), append([]string{"X-Generation-Id", "X-Openrouter-*"}, openAIAnswer...)},
	"huggingface": {append([]string{"X-Hf-*", "X-Use-Cache", "X-Wait-For-Model"}, openAIRequest...), append([]string{"X-Hf-*", "X-Inference-*", "X-Compute-*", "Inference-Id", "X-Error-*"}, openAIAnswer...)},
	"perplexity":  {openAIRequest, openAIAnswer},
	"stripe":      {{"Stripe-*", "X-Stripe-Client-*"}, {"Stripe-*", "X-Stripe-*"}},
	"zendesk":     {{"X-Zendesk-*", "X-On-Behalf-Of"}, {"X-Zendesk-*", "Zendesk-*"}},
	"intercom":    {{"Intercom-Version"}, {"Intercom-*", "X-Intercom-*", "X-Runtime"}},
	"hubspot":     {nil, {"X-Hubspot-*"}},
	"slack":       {nil, {"X-Slack-*", "X-Oauth-Scopes", "X-Accepted-Oauth-Scopes"}},
	"github":      {{"X-Github-*"}, {"X-Github-*", "Github-Authentication-Token-Expiration", "X-Oauth-Scopes", "X-Accepted-*", "X-Poll-Interval"}},
	"sendgrid":    {{"On-Behalf-Of"}, {"X-Message-Id"}},
	"twilio":      {{"I-Twilio-Idempotency-Token", "X-Twilio-*"}, {"Twilio-*", "X-Twilio-*"}},
	"replicate":   {{"Cancel-After"}, {"Replicate-*", "X-Replicate-*"}},
}

// What is documented of the APIs that hosts of others speak too. Gemini's requests have no
// prefix: a proxy of Google's before us puts who somebody is into headers of the same.
var (
	openAIRequest    = []string{"Openai-*", "X-Openai-*", "X-Client-Request-Id"}
	openAIAnswer     = []string{"Openai-*", "X-Openai-*"}
	anthropicHeaders = []string{"Anthropic-*"}
	geminiRequest    = []string{"X-Goog-Api-Client", "X-Goog-Request-Params", "X-Goog-Fieldmask", "X-Goog-Upload-*", "X-Server-Timeout"}
	geminiAnswer     = []string{"X-Goog-*", "X-Gemini-*"}
)

// headerList is a compiled list of names.
type headerList struct {
	names    map[string]bool
	prefixes []string
}

func newHeaderList(lists ...[]string) headerList {
	l := headerList{names: make(map[string]bool)}
	for _, list := range lists {
		for _, name := range list {
			if prefix, ok := strings.CutSuffix(name, "*"); ok {
				l.prefixes = append(l.prefixes, http.CanonicalHeaderKey(prefix))
			} else {
				l.names[http.CanonicalHeaderKey(name)] = true
			}
		}
	}
	return l
}

func (l *headerList) has(canonical string) bool {
	return l.names[canonical] ||
		slices.ContainsFunc(l.prefixes, func(prefix string) bool { return strings.HasPrefix(canonical, prefix) })
}

// listHeaders compiles what the service passes on; more are of the operator's,
// both ways.
func (s *Service) listHeaders(more []string) {
	own, known := headersOf[s.Name]
	if !known && s.Chat { // what the dialects of hostPaths need
		own = [2][]string{
			slices.Concat(openAIRequest, anthropicHeaders, geminiRequest),
			slices.Concat(openAIAnswer, anthropicHeaders, geminiAnswer),
		}
	}
	s.requestHeaders = newHeaderList(requestBase, own[0], s.fileHeaders, more)
	s.answerHeaders = newHeaderList(answerBase, own[1], s.fileHeaders, more)
}

// PassesToProvider reports whether a header of a request, by its canonical name, is
// one that the service is sent. Those that carry a caller's credential never are:
// see [CarriesCallerCredential].
func (s *Service) PassesToProvider(canonical string) bool {
	return s.requestHeaders.has(canonical) && !CarriesCallerCredential(canonical)
}

// PassesToCaller reports whether a header of the service's answer, by its canonical
// name, is one that the caller is given.
func (s *Service) PassesToCaller(canonical string) bool { return s.answerHeaders.has(canonical) }
