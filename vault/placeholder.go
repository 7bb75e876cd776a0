package vault

import (
	"regexp"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// The forms of a placeholder. A value counts as one only when nothing in it
// could be real: a key taken for a placeholder would be a key left behind.
var (
	// <your key>, [your key], {{ key }}, ${KEY}: a template that nobody filled in.
	brackets = regexp.MustCompile(`^(<[A-Za-z][A-Za-z0-9 _.-]*>|\[[A-Za-z][A-Za-z0-9 _.-]*\])$`)
	template = regexp.MustCompile(`^(\{\{.*\}\}|\$\{[A-Z][A-Z0-9_]*\})$`)
	// xxxx, ****, ..., sk-..., sk_live_xxxx, org-XXX: filler, also behind a prefix.
	filler = regexp.MustCompile(`(?i)^([a-z]{1,10}[0-9]*[_-])*(x{3,}|[*•.…_-]+)$`)
	// sk-12...cd, sk_live_51Hxxxxxxxxxx: filler inside a token.
	fillerInside = regexp.MustCompile(`(?i)\.\.\.|x{8}`)
	// Only a value that is nothing but words can say "your key here".
	plainWords = regexp.MustCompile(`^[A-Za-z0-9 _.@-]+$`)
	word       = regexp.MustCompile(`[a-z0-9]+`)
)

// standIns are whole values that mean "nothing yet" in any field.
var standIns = []string{"placeholder", "changeme", "changeit", "changethis", "replaceme", "fillme", "example", "none", "null", "undefined"}

// noSecrets are whole values that mean "nothing yet" in place of a secret.
var noSecrets = []string{"todo", "tbd", "fixme", "nil", "na", "unset", "empty", "removed"}

// nouns are what a placeholder asks for, as in your-api-key or token_here.
var nouns = []string{"key", "keys", "apikey", "secret", "secretkey", "token", "apitoken", "accesstoken", "password", "pass", "pwd", "passwd",
	"credential", "credentials", "id", "org", "organization", "project", "subdomain", "domain", "company", "email", "mail", "user", "username",
	"login", "account", "host", "hostname", "server", "model", "value", "here", "name", "webhook", "region",
	"sid", "endpoint", "resource", "deployment", "version", "bot", "url"}

// labels say where a secret is from or that there is none; none of them is one.
var labels = []string{"sk", "pk", "rk", "ant", "proj", "test", "live", "prod", "whsec", "api", "access", "my", "the", "a", "openai", "anthropic",
	"stripe", "zendesk", "intercom", "smtp", "gemini", "google", "azure", "mistral", "codestral", "cohere", "groq", "xai", "grok", "deepseek",
	"openrouter", "hf", "huggingface", "perplexity", "pplx", "replicate", "slack", "xoxb", "xoxp", "xapp", "github", "gh", "ghp", "pat",
	"sendgrid", "sg", "twilio", "ac", "hubspot", "oauth", "auth", "publishable", "signing", "only", "not", "real",
	"placeholder", "dummy", "fake", "example", "sample", "redacted", "todo"}

// calls are pairs of words that ask for a change.
var calls = []string{"change me", "change this", "change it", "replace me", "replace this", "replace it", "replace with", "fill me", "fill in"}

// isPlaceholder reports whether a field's value stands for one that somebody
// was meant to fill in.
func isPlaceholder(f *catalog.Field, value string) bool {
	value = strings.TrimSpace(value)
	words := word.FindAllString(strings.ToLower(value), -1)
	token := f.Secret && f.Format == catalog.Token || f.Format == catalog.Segment
	if template.MatchString(value) || filler.MatchString(value) || token && fillerInside.MatchString(value) {
		return true
	}
	if brackets.MatchString(value) { // a password may stand in brackets, too
		return token || slices.ContainsFunc(words, isNoun) || onlyNames(words)
	}
	if !plainWords.MatchString(value) || len(words) == 0 {
		return false
	}
	if f.Format == catalog.Host && strings.HasSuffix(strings.ToLower(value), ".your-server.de") {
		return false // a hosting company's real domain
	}
	joined := strings.Join(words, "")
	return slices.Contains(standIns, joined) || asksForValue(words) ||
		f.Secret && (slices.Contains(noSecrets, joined) || onlyNames(words))
}

// asksForValue holds for your_openai_api_key, sk-your-key, yourdomain,
// insert_token_here, change-this-in-production.
func asksForValue(words []string) bool {
	for i, w := range words {
		next := words[i+1:]
		of, joined := strings.CutPrefix(w, "your")
		switch {
		case w == "your" && slices.ContainsFunc(next, isNoun), joined && isNoun(of):
			return true
		case len(next) > 0 && slices.Contains(calls, w+" "+next[0]):
			return true
		case i > 0 && w == "here" && len(next) == 0 && slices.ContainsFunc(words[:i], isNoun):
			return true
		}
	}
	return false
}

// onlyNames holds for password, my-api-key, sk_test_, sk-placeholder: what
// only says what it stands for.
func onlyNames(words []string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !isNoun(w) && !slices.Contains(labels, w) })
}

func isNoun(w string) bool { return slices.Contains(nouns, w) }
