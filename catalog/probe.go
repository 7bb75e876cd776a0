package catalog

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// probe is the cheapest request that changes nothing at the provider, relative
// to the origin. Its path may
// hold fields of the formats Label and Segment.
type probe struct {
	method string   // GET when empty
	origin string   // another host of the provider's, where the probe is not at the origin
	path   template // "/v1/models"
	query  string   // "limit=1"
	body   string   // JSON; none when empty
}

// Probe makes the request that tells whether a credential works: it changes
// nothing at the provider, costs nothing, and returns as little of the
// organization's data as the provider allows. The secret is in a header, never
// in the URL. Read its answer with [Service.Read].
func (s *Service) Probe(ctx context.Context, in *Injection) (*http.Request, error) {
	if s.probe.path == "" {
		return nil, ErrNotInjectable
	}
	if s.other.holds(in.prepared()) {
		return s.ask(ctx, in, s.other.probe)
	}
	return s.ask(ctx, in, s.probe)
}

// otherKind is a kind of key that is known by its beginning and is of no use where
// the service's other keys are tested.
type otherKind struct {
	probe
	field, prefix string
	read          reader
}

func (k *otherKind) holds(p *prepared) bool {
	return k != nil && strings.HasPrefix(p.fields[k.field], k.prefix)
}

// follow is a second question, for services whose answer to the first can mean
// two things.
type follow struct {
	probe
	on   []int  // statuses of the first answer that ask for it
	with string // and only where this field is given; "" is any
	read func(first Outcome, a answer) Outcome
}

// Follow makes the second request that the first one's status asks for, or gives
// nil where it asks for none. It is as harmless as the first. Read its answer
// with [Service.ReadFollow].
func (s *Service) Follow(ctx context.Context, in *Injection, status int) (*http.Request, error) {
	if s.follow == nil || !slices.Contains(s.follow.on, status) {
		return nil, nil
	}
	if with := s.follow.with; with != "" && in.prepared().fields[with] == "" {
		return nil, nil
	}
	return s.ask(ctx, in, s.follow.probe)
}

func (s *Service) ask(ctx context.Context, in *Injection, p probe) (*http.Request, error) {
	fields := in.prepared().fields
	u := in.Origin()
	if p.origin != "" {
		other, err := url.Parse(p.origin)
		if err != nil {
			return nil, fmt.Errorf("catalog: no probe for %s", s.Name)
		}
		u = other
	}
	path, whole := p.path.expand(fields)
	if !whole {
		return nil, fmt.Errorf("catalog: no probe for %s", s.Name)
	}
	u.Path += path
	u.RawQuery = p.query
	method := p.method
	if method == "" {
		method = http.MethodGet
	}
	r, err := http.NewRequestWithContext(ctx, method, u.String(), strings.NewReader(p.body))
	if err != nil {
		return nil, fmt.Errorf("catalog: no probe for %s", s.Name)
	}
	if p.body != "" {
		r.Header.Set("Content-Type", "application/json")
	} else {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.Header.Set("User-Agent", "gatehouse")
	in.Apply(r.Header)
	if r.Header.Get("Accept") == "" {
		r.Header.Set("Accept", "application/json")
	}
	return r, nil
}
