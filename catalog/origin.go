package catalog

import (
	"net/url"
	"strings"
)

// template is text with {field} in it, for the value of a field.
type template string

// expand puts the values in and says whether every field was given.
func (t template) expand(fields map[string]string) (text string, whole bool) {
	var b strings.Builder
	whole = true
	rest := string(t)
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		if !found {
			return b.String(), whole
		}
		name, behind, _ := strings.Cut(after, "}")
		value, given := fields[name]
		whole = whole && given
		b.WriteString(value)
		rest = behind
	}
}

// names gives the fields in t, in order.
func (t template) names() []string {
	var names []string
	for part := range strings.SplitSeq(string(t), "{") {
		if name, _, closed := strings.Cut(part, "}"); closed {
			names = append(names, name)
		}
	}
	return names
}

// origin says where requests with a credential go. The first of these that is
// set decides: the field of a format that holds a host, the value of a Choice
// field, the address with Label fields in it.
type origin struct {
	field  string            // an Endpoint or Base field; address where it is not given
	choice string            // a Choice field, whose value picks from byChoice
	by     map[string]string // origins by that value, "" where it is not given
	at     template          // such as https://{subdomain}.zendesk.com
}

func fixed(at string) *origin { return &origin{at: template(at)} }

// originOf gives the origin for fields that passed Check.
func (s *Service) originOf(fields map[string]string) string { return s.originBy(s.origin, fields) }

func (s *Service) originBy(o *origin, fields map[string]string) string {
	if f, ok := s.Field(o.field); ok && fields[f.Name] != "" {
		if f.Format == Endpoint {
			return f.endpoint(fields[f.Name])
		}
		if u := f.base(fields[f.Name]); u != nil {
			return u.String()
		}
		return ""
	}
	if o.choice != "" {
		return o.by[fields[o.choice]]
	}
	at, whole := o.at.expand(fields)
	if !whole {
		return ""
	}
	return at
}

// endpoint gives the origin that the value of an Endpoint field names, or "".
func (f *Field) endpoint(value string) string {
	host := strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(value, "https://"), "/"))
	for _, suffix := range f.Suffixes {
		if label, ok := strings.CutSuffix(host, suffix); ok && label != "" && isLabel(label) {
			return "https://" + host
		}
	}
	return ""
}

// gitHubAPI is where the API stands on GitHub Enterprise Server.
const gitHubAPI = "/api/v3"

// base gives the API's address that the value of a Base field names, or nil
// when the operator does not allow it. A path may be given as far as the API's.
func (f *Field) base(value string) *url.URL {
	u, err := parseOrigin(value)
	if err != nil {
		return nil
	}
	if u.String() == gitHubOrigin { // what GitHub Actions sets, and nothing else
		return u
	}
	u.Path = strings.TrimSuffix(u.Path, gitHubAPI)
	for _, a := range f.allowed {
		if a.Scheme != u.Scheme || a.Host != u.Host || strings.TrimSuffix(a.Path, gitHubAPI) != u.Path {
			continue
		}
		api := *a
		return &api
	}
	return nil
}
