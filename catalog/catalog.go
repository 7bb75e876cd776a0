// Package catalog is the catalogue of services: for each third party, the
// fields a credential of it has, the host it is sent to, the headers it is put
// on a request with, and the harmless request that tells whether it works.
//
// It is data and small functions. It does no I/O, keeps no time and stores
// nothing; what it returns is safe for concurrent use and must not be changed.
//
// # From stored fields to a request
//
//	services, err := catalog.New(catalog.Options{})
//	service, ok := services.Service("zendesk")
//	problems, warnings := service.Check(fields) // when a credential is written
//	in, err := service.Prepare(fields)          // once per opened version
//	target := in.Origin()                       // for each request
//	in.Apply(header)                            // for each request, last
//
// A caller's own credentials have to leave the request first: see
// [CarriesCallerCredential].
//
// # Whether a credential works
//
// [Service.Probe] makes the cheapest request that changes nothing at the
// provider, and [Service.Read] turns the answer into an [Outcome]. An outcome
// is not a boolean: a key can be real and lack the scope that the probe needs
// (restricted), or be right at the wrong address (misconfigured), and a
// provider that is busy says nothing about the key (indeterminate). No text of
// a provider reaches an Outcome except through a short whitelist of characters
// and lengths.
//
// # Where a credential may go
//
// Hosts are compiled in. What a field can change of a host is one validated
// label ([Label], [Choice] and [Endpoint] fields) inside a fixed suffix. Only the
// operator, by [Options], names other origins; [Catalog.OperatorOrigins] lists
// those that the guard on outgoing connections lets pass.
//
// # Drawing a form
//
// [Service.Schema] gives a JSON Schema of a service's fields. It refuses nothing
// that [Service.Check] takes.
//
// # Adding a service
//
// Add an entry to builtin in services.go and to the file of its kind
// (services_chat.go, services_hosts.go, services_customers.go,
// services_platforms.go), a reader beside the others when its answers mean more
// than their status, its cases to the tests, and its line to docs/services.md.
// An operator adds services without a change of the program: docs/services.md.
package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Names that no service of the operator may take: they are routes of the gateway.
const (
	EchoName = "echo" // the built-in chat service that answers without a network
	AppName  = "app"  // the operator's own chat backend
)

// Options says what the operator adds to the compiled-in catalogue. The zero
// value adds nothing.
type Options struct {
	// ChatHosts maps a new service name to the origin of an OpenAI-compatible
	// host. Each becomes a chat service with the one field apiKey, sent as
	// Authorization: Bearer.
	ChatHosts map[string]string
	// ServiceHosts maps the name of a compiled-in service to another origin for
	// it, such as the provider's own mock or an egress proxy.
	ServiceHosts map[string]string
	// GitHubHosts are the GitHub Enterprise Server addresses that organizations
	// may name in the field baseUrl of github; none unless said. They are not
	// shown to organizations.
	GitHubHosts []string
	// Custom is the content of the operator's file of services, see [New] and
	// docs/services.md; nil is no file.
	Custom []byte
	// ForwardHeaders maps the name of a service to further headers that pass both
	// ways; a name that ends in * is a prefix.
	ForwardHeaders map[string][]string
	// Echo adds the service echo, which needs no credential.
	Echo bool
}

// Catalog is a fixed set of services. Make one with [New].
type Catalog struct {
	services []*Service // by name
	byName   map[string]*Service
	operator []string
}

// New makes the catalogue. Origins in o are an http or https scheme, a host, and
// optionally a port and a base path. Every mistake in o is in the returned error
// (joined with [errors.Join]), each naming the variable and the entry (of the
// file of services the place, such as services[2].fields[0].name) and never
// the rejected value, which could hold a password.
func New(o Options) (*Catalog, error) {
	c := &Catalog{byName: make(map[string]*Service)}
	for _, s := range builtin() {
		c.add(s)
	}
	if o.Echo {
		c.add(echo())
	}
	var mistakes []error
	for _, err := range c.addCustom(o.Custom) {
		mistakes = append(mistakes, fmt.Errorf("GATEHOUSE_SERVICES: %w", err))
	}
	for i, host := range o.GitHubHosts {
		if err := c.allowGitHub(host); err != nil {
			mistakes = append(mistakes, fmt.Errorf("GITHUB_HOSTS: entry %d: %w", i+1, err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.ServiceHosts)) {
		if err := c.moveTo(name, o.ServiceHosts[name]); err != nil {
			mistakes = append(mistakes, fmt.Errorf("SERVICE_HOSTS: %w", err))
		}
	}
	taken := maps.Clone(c.byName)
	for _, name := range slices.Sorted(maps.Keys(o.ChatHosts)) {
		if err := c.addChatHost(name, o.ChatHosts[name], taken); err != nil {
			mistakes = append(mistakes, fmt.Errorf("CHAT_HOSTS: %w", err))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.ForwardHeaders)) {
		if err := c.forward(name, o.ForwardHeaders[name]); err != nil {
			mistakes = append(mistakes, fmt.Errorf("UPSTREAM_FORWARD_HEADERS: %w", err))
		}
	}
	if len(mistakes) > 0 {
		return nil, errors.Join(mistakes...)
	}
	slices.SortFunc(c.services, func(a, b *Service) int { return cmp.Compare(a.Name, b.Name) })
	slices.Sort(c.operator)
	c.operator = slices.Compact(c.operator)
	return c, nil
}

func (c *Catalog) add(s *Service) {
	for i := range s.Fields {
		if p := s.Fields[i].Pattern; p != "" {
			s.Fields[i].pattern = regexp.MustCompile(p)
		}
	}
	s.scope = s.defaultScope().read()
	s.listHeaders(nil)
	c.services = append(c.services, s)
	c.byName[s.Name] = s
}

// allowGitHub lets organizations name a GitHub Enterprise Server.
func (c *Catalog) allowGitHub(raw string) error {
	u, err := parseOrigin(strings.TrimSpace(raw))
	if err != nil {
		return err
	}
	c.operator = append(c.operator, hostOrigin(u))
	if !strings.HasSuffix(u.Path, gitHubAPI) {
		u.Path += gitHubAPI
	}
	f := &c.byName["github"].Fields[1]
	f.allowed = append(f.allowed, u)
	return nil
}

func (c *Catalog) moveTo(name, raw string) error {
	if !validName(name) {
		return errName
	}
	s, ok := c.byName[name]
	if !ok || !s.Injectable() {
		return mistakef("it can be one of "+strings.Join(c.injectable(), ", "), "entry %q: no such service", name)
	}
	u, err := parseOrigin(raw)
	if err != nil {
		return fmt.Errorf("entry %q: %w", name, err)
	}
	s.movedFrom, s.origin, s.probe.origin = s.origin, fixed(u.String()), ""
	c.operator = append(c.operator, hostOrigin(u))
	return nil
}

func (c *Catalog) addChatHost(name, raw string, taken map[string]*Service) error {
	if !validName(name) {
		return errName
	}
	if name == EchoName || name == AppName {
		return mistakef("choose another", "entry %q: the name is reserved", name)
	}
	if taken[name] != nil {
		return mistakef("choose another, or set its origin in SERVICE_HOSTS", "entry %q: the catalogue has a service of this name", name)
	}
	u, err := parseOrigin(raw)
	if err != nil {
		return fmt.Errorf("entry %q: %w", name, err)
	}
	c.add(chatHost(name, u))
	c.operator = append(c.operator, hostOrigin(u))
	return nil
}

// forward lets further headers pass to and from a service.
func (c *Catalog) forward(name string, headers []string) error {
	s, ok := c.byName[name]
	if !ok || !s.Injectable() {
		return fmt.Errorf("entry %q: no such service", name)
	}
	for _, h := range headers {
		if !forwardable(h) {
			return fmt.Errorf("entry %q: must name headers that are no part of how a message is carried and hold no credential, such as X-Trace-Id or X-Acme-*", name)
		}
	}
	s.listHeaders(headers)
	return nil
}

// forwardable reports whether a header may be let pass by the operator.
func forwardable(name string) bool {
	bare := http.CanonicalHeaderKey(strings.TrimSuffix(name, "*"))
	return headerName.MatchString(bare) && !slices.Contains(notOurs, bare) && !CarriesCallerCredential(bare) &&
		!strings.HasPrefix(bare, "Gatehouse-") && !strings.HasPrefix(bare, "X-Forwarded-")
}

func (c *Catalog) injectable() []string {
	var names []string
	for _, s := range c.services {
		if s.Injectable() {
			names = append(names, s.Name)
		}
	}
	slices.Sort(names)
	return names
}

// Service gives the service of a name, and whether there is one.
func (c *Catalog) Service(name string) (*Service, bool) {
	s, ok := c.byName[name]
	return s, ok
}

// Services gives every service, by name. The slice is the caller's, the services
// are shared and read-only.
func (c *Catalog) Services() []*Service { return slices.Clone(c.services) }

// OperatorOrigins lists the origins (scheme, host and port, without a base path)
// that the operator named in ChatHosts and ServiceHosts. Only these may be plain
// http or on a private network.
func (c *Catalog) OperatorOrigins() []string { return slices.Clone(c.operator) }

func hostOrigin(u *url.URL) string { return u.Scheme + "://" + u.Host }
