package catalog

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Service is one third party. Services come from a [Catalog] and are shared:
// read them, never change them.
type Service struct {
	Name   string  // "openai": in routes, stored rows and events
	Title  string  // "OpenAI": for people
	Docs   string  // where a person makes or finds the credential, a URL; may be empty
	Chat   bool    // true on the chat routes, false on the proxy routes
	Fields []Field // in the order of a form; none when no credential is needed

	// PageLinks are the members of JSON answers that hold an absolute link to
	// the provider, such as the next page; the gateway makes them lead through it.
	PageLinks []string

	// EncodedSlashes says that the API has paths with a slash inside of a segment, as
	// %2F: GitHub's branches. For all others such a path is refused, since servers
	// read it in two ways.
	EncodedSlashes bool

	// AsksUsage says that its streams of chat completions say usage only when
	// stream_options.include_usage asks, and that it takes that option. The others say it
	// in any case (Mistral, Groq, xAI, DeepSeek, OpenRouter), or might refuse a member
	// that they do not know. UsageSince is the first api-version that takes it, of a
	// service that has such.
	AsksUsage  bool
	UsageSince string

	// What its SDKs need to raise an error. NamedErrors: inside a stream an event that is
	// named so, in Anthropic's shape, and not OpenAI's (Anthropic's own and Perplexity's). No502: another status than 502 and
	// 504, which node-zendesk takes for a success that says nothing.
	NamedErrors, No502 bool

	genAI string // see [Service.GenAIProvider]

	// Alternatives are the ways to be a whole credential, where there are
	// several: beside the required fields, all fields of one of these must be
	// given. The first that is whole is put on requests.
	Alternatives [][]string

	custom    bool    // out of the operator's file
	chatHost  bool    // out of CHAT_HOSTS
	private   bool    // out of the file, and on the network of the operator
	movedFrom *origin // by the operator, to origin
	origin    *origin // nil: never put on a request
	others    []otherHost
	inject    []injected
	defaults  []header
	probe     probe
	other     *otherKind // nil where all keys are tested alike
	follow    *follow    // nil where one question is enough
	scope     *Scope     // of a credential that has none of its own

	fileHeaders                   []string // that the operator's file lets pass, both ways
	requestHeaders, answerHeaders headerList
	read                          reader
}

// Field is one named part of a credential.
type Field struct {
	Name        string   // camelCase, as in the API
	Title       string   // a label for a form
	Description string   // one sentence: what it is and where it is found
	Secret      bool     // whoever knows it can act as the organization
	Required    bool     // a credential without it is refused
	MaxLength   int      // in bytes
	Format      Format   // what a value must be; another value is refused
	Choices     []string // the values of a Choice field
	Suffixes    []string // what an Endpoint field may end in, such as .openai.azure.com
	Pattern     string   // RE2, the provider's usual form: another value earns a warning, never a refusal
	Example     string   // how a value looks, cut short so that it is none
	Env         []string // the environment variables that import reads, the first one set wins

	pattern *regexp.Regexp
	allowed []*url.URL // of a Base field; the operator's, so never shown
}

// Destination reports whether the field decides where the credential is sent. A
// secret must not outlive a change of it.
func (f *Field) Destination() bool {
	switch f.Format {
	case Label, Host, MailPort, Endpoint, Base:
		return true
	}
	return false
}

// Format is what the value of a field must be, because of where it goes.
type Format uint8

// The formats. All of them refuse control characters and space at either end.
const (
	Token    Format = iota // visible ASCII without spaces: goes into a header
	Label                  // one DNS label, a-z, 0-9, underscore and hyphen: goes into a host name
	Choice                 // one of Field.Choices
	Email                  // an address as user@domain, ASCII, without a colon
	Host                   // a DNS name or IP address
	MailPort               // a port from 1 to 65535; a tester dials few of them
	Text                   // any printable text; a secret of this format is a password that a person chose
	Segment                // letters, digits, hyphen and underscore: goes into a path
	Endpoint               // a label in front of one of Field.Suffixes, with or without https://
	Base                   // an address that the operator allows, see [Options.GitHubHosts]
)

// String gives the name of the format, for forms and documents.
func (f Format) String() string {
	names := [...]string{"token", "label", "choice", "email", "host", "mail-port", "text", "segment", "endpoint", "base-url"}
	if int(f) >= len(names) {
		return "unknown"
	}
	return names[f]
}

// GenAIProvider gives what the OpenTelemetry conventions for generative AI call the
// provider: a well-known value, or the service's own name where there is none.
func (s *Service) GenAIProvider() string {
	if s.genAI != "" {
		return s.genAI
	}
	return s.Name // OpenAI, Anthropic, Cohere, Groq, DeepSeek and Perplexity are called as theirs are
}

// Field gives the field of a name, and whether there is one.
func (s *Service) Field(name string) (Field, bool) {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return s.Fields[i], true
}

// Missing names the fields that keep the given ones from being a whole
// credential, in the order of Fields: the required ones, and where no
// alternative is whole, what lacks of the one that is nearest (the first, when
// none is begun). has says whether a field is given.
func (s *Service) Missing(has func(field string) bool) []string {
	lacking := func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), has)
	}
	var nearest []string
	best := -1
	for _, way := range s.Alternatives {
		lacks := lacking(way)
		if given := len(way) - len(lacks); given > best || len(lacks) == 0 {
			nearest, best = lacks, given
		}
		if len(lacks) == 0 {
			break
		}
	}
	var missing []string
	for _, f := range s.Fields {
		if f.Required && !has(f.Name) || slices.Contains(nearest, f.Name) {
			missing = append(missing, f.Name)
		}
	}
	return missing
}

// Needs reports whether the field is required, or is of an alternative.
func (s *Service) Needs(field string) bool {
	f, _ := s.Field(field)
	return f.Required || slices.ContainsFunc(s.Alternatives, func(way []string) bool { return slices.Contains(way, field) })
}

// alternativesText says the ways, for people: "apiKeySid and apiKeySecret, or authToken".
func (s *Service) alternativesText() string {
	ways := make([]string, len(s.Alternatives))
	for i, way := range s.Alternatives {
		ways[i] = strings.Join(way, " and ")
	}
	return strings.Join(ways, ", or ")
}

// Custom reports whether the service comes from the operator's file.
func (s *Service) Custom() bool { return s.custom }

// BuiltIn reports whether the service is known to this program: neither of the operator's
// file nor of CHAT_HOSTS.
func (s *Service) BuiltIn() bool { return !s.custom && !s.chatHost }

// Private reports whether the operator's file puts the service on plain http or a
// network of its own, past the guard on outgoing connections.
func (s *Service) Private() bool { return s.private }

// PathPrefix gives the path under which the gateway serves the service, such as
// /api/chat/openai, or "" where there is none.
func (s *Service) PathPrefix() string {
	switch {
	case s.Chat:
		return "/api/chat/" + s.Name
	case s.Injectable():
		return "/api/proxy/" + s.Name
	}
	return ""
}

// NeedsCredential reports whether requests to the service carry a credential. It is
// false for echo only.
func (s *Service) NeedsCredential() bool { return len(s.Fields) > 0 }

// Injectable reports whether [Service.Prepare] can put a credential on an HTTP
// request. It is false for smtp, which is no HTTP service, and for echo.
func (s *Service) Injectable() bool { return s.origin != nil }
