package catalog

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// injected is a header that a credential puts on a request: scheme, then the
// value, in base64 after the scheme Basic (RFC 7617). It is left out where a
// field of the value is not given, or an earlier one of its name was put on.
type injected struct {
	name   string // canonical
	scheme string // "Bearer ", "Basic ", or ""
	value  template
}

func (in injected) expand(fields map[string]string) (string, bool) {
	v, whole := in.value.expand(fields)
	if in.scheme == basicScheme {
		v = base64.StdEncoding.EncodeToString([]byte(v))
	}
	return v, whole && v != ""
}

type header struct{ name, value string }

// Injection is one opened credential, ready to be put on any number of
// requests: the origin they must go to and the headers they carry. It is safe
// for concurrent use. It cannot be printed, logged or marshalled by accident.
type Injection struct {
	// Behind a function, because fmt prints the unexported fields of whatever
	// holds an Injection by reflection, past every method below, and with a verb
	// that does not fit (%s of a pointer) follows pointers too.
	prepared func() *prepared
}

type prepared struct {
	origin   url.URL
	home     *url.URL    // the provider's own where the operator moved the service
	others   []otherHost // of the provider's, beside the usual one
	usual    bool        // which origin is: the operator did not move the service
	set      []header    // replace
	defaults []header    // only where the request has none
	secrets  []string
	forms    []string // of the secrets
	fields   map[string]string
}

// ErrNotInjectable is the error of preparing a credential of a service that
// takes none over HTTP.
var ErrNotInjectable = errors.New("catalog: the service takes no credential over HTTP")

// Prepare computes everything that a request needs from a credential's fields,
// once per opened version. It fails with [ErrNotInjectable], or when the fields
// do not pass [Service.Check]; the error never holds a value.
func (s *Service) Prepare(fields map[string]string) (*Injection, error) {
	if !s.Injectable() {
		return nil, ErrNotInjectable
	}
	// Checked again, because the host is made of these fields.
	if problems, _ := s.Check(fields); len(problems) > 0 {
		return nil, fmt.Errorf("catalog: fields of %s: %s: %s", s.Name, problems[0].Field, problems[0].Message)
	}
	origin, err := url.Parse(s.originOf(fields))
	if err != nil || origin.Host == "" {
		return nil, fmt.Errorf("catalog: fields of %s make no origin", s.Name)
	}
	p := &prepared{origin: *origin, defaults: s.defaults, fields: make(map[string]string, len(fields))}
	if own := cmp.Or(s.movedFrom, s.origin); own.field == "" || fields[own.field] == "" { // a host that the credential names has none beside it
		p.others, p.usual = s.others, s.movedFrom == nil
	}
	if s.movedFrom != nil {
		if home, err := url.Parse(s.originBy(s.movedFrom, fields)); err == nil && home.Host != "" {
			p.home = home
		}
	}
	for _, f := range s.Fields {
		v, ok := fields[f.Name]
		if !ok {
			continue
		}
		p.fields[f.Name] = v
		if f.Secret {
			p.addSecret(v)
		}
	}
	for _, in := range s.inject {
		v, whole := in.expand(fields)
		if !whole || slices.ContainsFunc(p.set, func(h header) bool { return h.name == in.name }) {
			continue
		}
		p.set = append(p.set, header{in.name, in.scheme + v})
		if in.scheme != "" {
			p.addSecret(v)
		}
		if in.scheme == basicScheme { // quoted without its end, or in the alphabet of URLs
			bare := strings.TrimRight(v, "=")
			p.forms = append(p.forms, bare, strings.NewReplacer("+", "-", "/", "_").Replace(bare))
		}
	}
	p.addForms()
	return &Injection{prepared: func() *prepared { return p }}, nil
}

// addSecret keeps v for scrubbing. A value of a few characters would match
// harmless text everywhere.
func (p *prepared) addSecret(v string) {
	const shortest = 8
	if len(v) < shortest {
		return
	}
	for _, known := range p.secrets {
		if known == v {
			return
		}
	}
	p.secrets = append(p.secrets, v)
}

// Origin gives where requests must go: scheme, host, port where one is set, and
// base path without a trailing slash. It is a copy; the caller may set its path.
func (in *Injection) Origin() *url.URL {
	u := in.prepared().origin
	return &u
}

// NamesHost reports whether a field of the credential decides where it is sent. One
// that is left out does not: then the catalogue says it.
func (s *Service) NamesHost(in *Injection) bool {
	fields := in.prepared().fields
	return slices.ContainsFunc(s.Fields, func(f Field) bool { return f.Destination() && fields[f.Name] != "" })
}

// Home gives the provider's own origin, which it names in links, where the operator
// moved the service to another; nil where it did not. It is not to be changed.
func (in *Injection) Home() *url.URL { return in.prepared().home }

// OriginFor is [Injection.Origin] for a request of method to path, which stands
// escaped as on the request line and begins with a slash: some providers take a
// few of their calls at another host of theirs.
func (in *Injection) OriginFor(method, path string) *url.URL {
	p := in.prepared()
	if !p.usual {
		return in.Origin()
	}
	for i := range p.others {
		if o := &p.others[i]; o.takes(method, path) {
			u := o.origin
			return &u
		}
	}
	return in.Origin()
}

// LeadsBack reports whether a link of the provider's, to another host of its own than the
// usual one, names what [Injection.OriginFor] sends there: a caller who asks for its path
// here gets it. Where the operator moved the service, the one origin takes all of that.
func (in *Injection) LeadsBack(link *url.URL) bool {
	for _, o := range in.prepared().others {
		if link.Scheme == o.origin.Scheme && strings.EqualFold(link.Host, o.origin.Host) && o.takesSome(link.EscapedPath()) {
			return true
		}
	}
	return false
}

// Apply puts the credential on a request's header: it replaces the headers that
// carry it, and sets those a provider requires (such as Anthropic-Version) where
// the request has none. Call it last, after hop-by-hop headers and the caller's
// own credentials are gone. Keys of h must be canonical.
func (in *Injection) Apply(h http.Header) {
	p := in.prepared()
	values := make([]string, len(p.set)) // one allocation for all
	for i, s := range p.set {
		values[i] = s.value
		h[s.name] = values[i : i+1 : i+1]
	}
	for _, d := range p.defaults {
		if len(h[d.name]) == 0 {
			h[d.name] = []string{d.value}
		}
	}
}

// ExposeSecretValues hands out, in plain text, every secret of the credential
// that is at least 8 bytes long, bare and as it stands in a header after the
// scheme. It exists so that an answer that leaks one of them can be scrubbed.
// The caller must not change, keep or log the slice.
func (in *Injection) ExposeSecretValues() []string { return in.prepared().secrets }

// ExposeSecretForms hands out, in plain text, what [Injection.ExposeSecretValues] does and
// how each of them looks inside a URL (RFC 3986, both cases of hex), in JSON that escapes
// slashes, and what is sent in base64 without its padding and in the alphabet of URLs; the
// longest first. The caller must not change, keep or log the slice.
func (in *Injection) ExposeSecretForms() []string { return in.prepared().forms }

// addForms works out the forms of the secrets.
func (p *prepared) addForms() {
	for _, v := range p.secrets {
		p.forms = append(p.forms, v, strings.ReplaceAll(v, "/", `\/`))
		for _, escaped := range []string{url.QueryEscape(v), url.PathEscape(v)} {
			p.forms = append(p.forms, escaped, lowerHex(escaped))
		}
	}
	slices.SortFunc(p.forms, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	p.forms = slices.Compact(p.forms)
}

// lowerHex writes the escapes of a URL in small letters.
func lowerHex(escaped string) string {
	b := []byte(escaped)
	for i := 0; i+2 < len(b); i++ {
		if b[i] == '%' {
			copy(b[i+1:i+3], bytes.ToLower(b[i+1:i+3]))
			i += 2
		}
	}
	return string(b)
}

func (p *prepared) leaksInto(s string) bool {
	for _, secret := range p.secrets {
		if strings.Contains(s, secret) {
			return true
		}
	}
	return false
}

const redacted = "[secret]"

// String gives "[secret]".
func (Injection) String() string { return redacted }

// GoString gives "[secret]".
func (Injection) GoString() string { return redacted }

// Format writes "[secret]" whatever the verb.
func (Injection) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue gives "[secret]".
func (Injection) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalJSON always fails.
func (Injection) MarshalJSON() ([]byte, error) { return nil, errMarshal }

// MarshalText always fails.
func (Injection) MarshalText() ([]byte, error) { return nil, errMarshal }

var errMarshal = errors.New("catalog: an injection cannot be marshalled")
