package catalog

import (
	"regexp"
	"slices"
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

	origin   func(fields map[string]string) string // nil: never put on a request
	inject   []injected
	defaults []header
	probe    probe
	read     reader
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
	Pattern     string   // RE2, the provider's usual form: another value earns a warning, never a refusal
	Env         []string // the environment variables that import reads, the first one set wins

	pattern *regexp.Regexp
}

// Destination says whether the field decides where the credential is sent. A
// secret must not outlive a change of it.
func (f *Field) Destination() bool {
	return f.Format == Label || f.Format == Host || f.Format == MailPort
}

// Format is what the value of a field must be, because of where it goes.
type Format uint8

// The formats. All of them refuse control characters and space at either end.
const (
	Token    Format = iota // visible ASCII without spaces: goes into a header
	Label                  // one DNS label, a-z, 0-9 and hyphen: goes into a host name
	Choice                 // one of Field.Choices
	Email                  // an address as user@domain, ASCII, without a colon
	Host                   // a DNS name or IP address
	MailPort               // 25, 465, 587 or 2525: a tester must not scan other ports
	Text                   // any printable text; a secret of this format is a password that a person chose
)

// String gives the name of the format, for forms and documents.
func (f Format) String() string {
	names := [...]string{"token", "label", "choice", "email", "host", "mail-port", "text"}
	if int(f) >= len(names) {
		return "unknown"
	}
	return names[f]
}

// Field gives the field of a name, and whether there is one.
func (s *Service) Field(name string) (Field, bool) {
	i := slices.IndexFunc(s.Fields, func(f Field) bool { return f.Name == name })
	if i < 0 {
		return Field{}, false
	}
	return s.Fields[i], true
}

// NeedsCredential says whether requests to the service carry a credential. It is
// false for echo only.
func (s *Service) NeedsCredential() bool { return len(s.Fields) > 0 }

// Injectable says whether [Service.Prepare] can put a credential on an HTTP
// request. It is false for smtp, which is no HTTP service, and for echo.
func (s *Service) Injectable() bool { return s.origin != nil }
