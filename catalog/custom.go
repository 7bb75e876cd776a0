package catalog

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// MaxCustomFile is how large the operator's file of services may be, in bytes.
const MaxCustomFile = 1 << 20

const maxCustomServices = 200

// addCustom adds the services of the operator's file, or none of them when
// anything in it is wrong; docs/services.md is the file's manual.
func (c *Catalog) addCustom(content []byte) []error {
	if content == nil {
		return nil
	}
	if len(content) > MaxCustomFile {
		return []error{fmt.Errorf("the file is larger than %d bytes", MaxCustomFile)}
	}
	tree, err := parseTree(content)
	if err != nil {
		return []error{err}
	}
	var mistakes []error
	root, ok := at("", tree, &mistakes, "services")
	if !ok {
		return mistakes
	}
	read := customReader{taken: make(map[string]bool), env: make(map[string]bool)}
	for _, s := range c.services {
		read.taken[s.Name] = true
		for _, f := range s.Fields {
			for _, name := range f.Env {
				read.env[name] = true
			}
		}
	}
	var made []*Service
	for i, v := range root.list("services", 1, maxCustomServices) {
		p, ok := at(fmt.Sprintf("services[%d]", i), v, &mistakes,
			"name", "title", "docs", "chat", "origin", "private", "fields", "alternatives", "headers", "probe", "paths", "forwardHeaders")
		if ok {
			made = append(made, read.service(p))
		}
	}
	if len(mistakes) > 0 {
		return mistakes
	}
	for _, s := range made {
		c.add(s)
		if s.private {
			u, _ := url.Parse(s.originOf(nil)) // it was made of one
			c.operator = append(c.operator, hostOrigin(u))
		}
	}
	return nil
}

// customReader reads the services of one file.
type customReader struct {
	taken map[string]bool // names of services
	env   map[string]bool // variables that import reads already
}

func (r *customReader) service(p place) *Service {
	s := &Service{Name: p.text("name", 32), Docs: p.text("docs", 512), Chat: p.flag("chat"), custom: true, private: p.flag("private")}
	switch {
	case !validName(s.Name):
		p.fail("name", "must be 1 to 32 of a-z, 0-9 and hyphen, starting with a letter or digit")
	case s.Name == EchoName || s.Name == AppName:
		p.fail("name", "is reserved; choose another")
	case r.taken[s.Name]:
		p.fail("name", "is taken by another service of the catalogue or the file; choose another")
	}
	r.taken[s.Name] = true
	if s.Title = s.Name; p.has("title") {
		s.Title = p.text("title", 100)
	}
	if docs, err := url.Parse(s.Docs); s.Docs != "" && (err != nil || docs.Scheme != "https" && docs.Scheme != "http" || docs.Host == "" || docs.User != nil) {
		p.fail("docs", "must be the address of a page, such as https://example.com/keys")
	}
	s.origin = r.origin(p, s.private)
	fields := p.list("fields", 1, 32)
	for i, v := range fields {
		path := fmt.Sprintf("%s.fields[%d]", p.path, i)
		f, ok := at(path, v, p.mistakes,
			"name", "title", "description", "secret", "required", "maxLength", "format", "choices", "pattern", "example", "env")
		if ok {
			s.Fields = append(s.Fields, r.field(f, s))
		}
	}
	s.Alternatives = r.alternatives(p, s)
	if len(fields) > 0 && len(s.Alternatives) == 0 && !slices.ContainsFunc(s.Fields, func(f Field) bool { return f.Required }) {
		p.fail("fields", "must hold one that is required, or alternatives must be given: a credential without any field is none")
	}
	for i, v := range p.list("headers", 1, 32) {
		path := fmt.Sprintf("%s.headers[%d]", p.path, i)
		if h, ok := at(path, v, p.mistakes, "name", "scheme", "value"); ok {
			r.header(h, s)
		}
	}
	if len(s.inject) > 0 && !slices.ContainsFunc(s.inject, s.putsSecret) {
		p.fail("headers", "must put a secret field on requests")
	}
	r.probe(p, s)
	s.fileHeaders = p.texts("forwardHeaders", 0, 32, 64)
	if slices.ContainsFunc(s.fileHeaders, func(h string) bool { return !forwardable(h) }) {
		p.fail("forwardHeaders", "must name headers that are no part of how a message is carried and hold no credential, such as X-Trace-Id or X-Acme-*")
	}
	if p.has("paths") {
		s.scope = &Scope{Paths: p.texts("paths", 1, maxScopeList, maxScopeEntry)}
		if len(s.scope.Check()) > 0 {
			p.fail("paths", "must be patterns such as POST /v1/chat/completions, or /** for every path")
		}
	}
	return s
}

func (s *Service) putsSecret(in injected) bool {
	return slices.ContainsFunc(in.value.names(), func(name string) bool {
		f, _ := s.Field(name)
		return f.Secret
	})
}

func (r *customReader) origin(p place, private bool) *origin {
	raw, _ := p.members["origin"].(string)
	u, err := parseOrigin(raw)
	switch {
	case err != nil:
		p.fail("origin", "%v", err)
		return fixed("")
	case u.Scheme != "https" && !private:
		p.fail("origin", `must start with https://; set "private": true when the host is on your own network`)
	case u.Port() != "" && u.Port() != "443" && !private:
		p.fail("origin", `must be on port 443; set "private": true when the host is on your own network`)
	}
	return fixed(u.String())
}

var fieldName = regexp.MustCompile(`^[a-z][A-Za-z0-9]{0,63}$`)

var envName = regexp.MustCompile(`^[A-Z][A-Z0-9_]{0,99}$`)

// customFormats are the formats that a file may use: the others go into hosts.
var customFormats = []Format{Token, Text, Choice, Email, Segment}

func (r *customReader) field(p place, s *Service) Field {
	f := Field{
		Name: p.text("name", 64), Description: p.text("description", 500), Secret: p.flag("secret"), Required: p.flag("required"),
		MaxLength: p.number("maxLength", 1, 8192, maxKey), Pattern: p.text("pattern", 500), Example: p.text("example", 200),
	}
	switch _, twice := s.Field(f.Name); {
	case !fieldName.MatchString(f.Name):
		p.fail("name", "must be a letter a-z, then letters and digits, such as apiKey")
	case twice:
		p.fail("name", "is the name of an earlier field")
	}
	if f.Title = f.Name; p.has("title") {
		f.Title = p.text("title", 100)
	}
	if format := p.text("format", 32); p.has("format") {
		i := slices.IndexFunc(customFormats, func(f Format) bool { return f.String() == format })
		if i < 0 {
			p.fail("format", "must be token, text, choice, email or segment")
		} else {
			f.Format = customFormats[i]
		}
	}
	f.Choices = p.texts("choices", 0, 64, 100)
	if (f.Format == Choice) != (len(f.Choices) > 0) {
		p.fail("choices", "must be given with the format choice, and with no other")
	}
	if slices.ContainsFunc(f.Choices, func(c string) bool { return refuseToken(c) != "" }) {
		p.fail("choices", "must be ASCII without spaces")
	}
	if _, err := regexp.Compile(f.Pattern); err != nil {
		p.fail("pattern", "must be a regular expression of RE2")
		f.Pattern = ""
	}
	f.Env = p.texts("env", 0, 16, 100)
	for i, name := range f.Env {
		if !envName.MatchString(name) {
			p.fail("", "env[%d] must be the name of a variable: A-Z, 0-9 and _", i)
		} else if r.env[name] {
			p.fail("", "env[%d] is read for another field or service already", i)
		}
		r.env[name] = true
	}
	return f
}

func (r *customReader) alternatives(p place, s *Service) [][]string {
	var ways [][]string
	list := p.list("alternatives", 0, 8)
	for i, v := range list {
		names, ok := v.([]any)
		if !ok || len(names) == 0 {
			p.fail("", "alternatives[%d] must be a list of field names", i)
			continue
		}
		var way []string
		for _, n := range names {
			name, _ := n.(string)
			if f, known := s.Field(name); !known || f.Required || slices.Contains(way, name) {
				p.fail("", "alternatives[%d] must name fields that are not required, each once", i)
				break
			}
			way = append(way, name)
		}
		ways = append(ways, way)
	}
	if len(list) == 1 {
		p.fail("alternatives", "must be at least two; make the fields of a single one required")
	}
	return ways
}

var (
	headerName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,63}$`)
	schemeForm = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,31}$`)
)

// notOurs are headers that say how a message is carried, or that the caller or
// Gatehouse itself writes.
var notOurs = []string{
	"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Keep-Alive", "Upgrade", "Te",
	"Trailer", "Expect", "Proxy-Authorization", "Proxy-Connection", "Accept-Encoding", "Range", "X-Forwarded-For", "Forwarded", "Via",
}

// header adds what puts fields on requests, or a default where no field is in it.
func (r *customReader) header(p place, s *Service) {
	name := http.CanonicalHeaderKey(p.text("name", 64))
	if !headerName.MatchString(name) || slices.Contains(notOurs, name) || strings.HasPrefix(name, "Gatehouse-") {
		p.fail("name", "must be the name of a header that carries a credential or a version, such as Authorization")
	}
	value := template(p.text("value", 1024))
	if value == "" {
		if !p.has("value") {
			p.fail("value", `must be given, such as "{apiKey}"`)
		}
		return
	}
	literal, fields, ok := value.split()
	if !ok || !onlyBytes(literal, func(b byte) bool { return b >= ' ' && b < 0x7f }) {
		p.fail("value", "must be ASCII, with fields in braces: {apiKey}")
		return
	}
	in := injected{name: name, value: value}
	if scheme := p.text("scheme", 32); p.has("scheme") {
		if !schemeForm.MatchString(scheme) {
			p.fail("scheme", "must be a word such as Bearer, Basic or Token")
		}
		in.scheme = scheme + " "
		if strings.EqualFold(scheme, "Basic") {
			in.scheme = basicScheme
		}
	}
	if in.scheme == basicScheme && !strings.Contains(literal, ":") {
		p.fail("value", "must be user:password with the scheme Basic, such as {apiKey}:")
	}
	for _, name := range fields {
		f, known := s.Field(name)
		switch {
		case !known:
			p.fail("value", "names a field that the service does not have")
		case f.Format == Text && in.scheme != basicScheme:
			p.fail("value", "puts a field of the format text into a header; use the format token, or the scheme Basic")
		}
	}
	if len(fields) == 0 {
		s.defaults = append(s.defaults, header{name, in.scheme + string(value)})
		return
	}
	s.inject = append(s.inject, in)
}

// split gives what of t stands outside braces, and the fields in them. It is not
// ok where braces do not close, nest, or hold no name.
func (t template) split() (literal string, fields []string, ok bool) {
	rest := string(t)
	for {
		before, after, found := strings.Cut(rest, "{")
		if strings.Contains(before, "}") {
			return "", nil, false
		}
		literal += before
		if !found {
			return literal, fields, true
		}
		name, behind, closed := strings.Cut(after, "}")
		if !closed || !fieldName.MatchString(name) {
			return "", nil, false
		}
		fields = append(fields, name)
		rest = behind
	}
}
