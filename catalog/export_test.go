package catalog

import (
	"maps"
	"slices"
	"strings"
)

// Hosts lists the hosts that a credential can be sent to, for documents: fixed
// ones, and such as {subdomain}.zendesk.com. Origins that the operator named are
// left out.
func (s *Service) Hosts() []string {
	if s.origin == nil || s.custom || s.movedFrom != nil {
		return nil
	}
	var hosts []string
	add := func(at string) {
		if _, host, ok := strings.Cut(at, "://"); ok && !slices.Contains(hosts, host) {
			hosts = append(hosts, host)
		}
	}
	if f, ok := s.Field(s.origin.field); ok {
		for _, suffix := range f.Suffixes {
			add("https://*" + suffix)
		}
	}
	for _, choice := range append([]string{""}, slices.Sorted(maps.Keys(s.origin.by))...) {
		add(s.origin.by[choice])
	}
	add(string(s.origin.at))
	for _, o := range s.others {
		add(o.origin.String())
	}
	add(s.probe.origin)
	return hosts
}
