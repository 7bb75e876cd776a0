package policy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
)

// rule is a policy made ready for decisions. It never changes.
type rule struct {
	id      string
	owner   string
	content *Content
	pattern pattern
	expires int64  // milliseconds since 1970; 0 never
	suffix  string // of the counters' keys; "" is the subject's own counter
}

// kind is what a rule is looked up for.
type kind uint8

const (
	kindBlock kind = iota
	kindExempt
	kindIP
	kindOrganization
	kinds
)

func kindOf(c *Content) kind {
	switch {
	case c.Effect == Block:
		return kindBlock
	case c.Effect == Exempt:
		return kindExempt
	case c.Subject == IP:
		return kindIP
	}
	return kindOrganization
}

// snapshot holds all rules of one state of the database, indexed for decisions.
// It never changes: a decision reads one through an atomic pointer, without a
// lock.
type snapshot struct {
	revision int64
	rules    int
	operator [2][kinds]ruleSet // by mode (enforced, observed) and kind
	own      [2][kinds]ruleSet // the organizations' own
	observes bool
}

const (
	enforced = 0
	observed = 1
)

// compile makes a snapshot of policies. bits is Options.IPv6Prefix.
func compile(revision int64, policies []Policy, bits int) *snapshot {
	s := &snapshot{revision: revision, rules: len(policies)}
	for i := range policies {
		r := newRule(&policies[i], bits)
		mode := enforced
		if r.content.Mode == Observe {
			mode, s.observes = observed, true
		}
		sets := &s.operator
		if r.owner != access.InstanceOrganization {
			sets = &s.own
		}
		sets[mode][kindOf(r.content)].add(r)
	}
	for mode := range 2 {
		for k := range kinds {
			s.operator[mode][k].sort()
			s.own[mode][k].sort()
		}
	}
	return s
}

func newRule(p *Policy, bits int) *rule {
	c := p.Content
	r := &rule{id: p.ID, owner: p.Owner, content: &c, pattern: compilePattern(c.Path)}
	if !c.ExpiresAt.IsZero() {
		r.expires = c.ExpiresAt.UnixMilli()
	}
	if p.Owner != access.InstanceOrganization {
		r.suffix = "|~" + p.Owner + c.counter() // no organization's id begins with ~
		return r
	}
	// A scope that the subject's key decides alone shares the subject's own
	// counter: then a key never meets two sets of windows.
	plain := c.Service == ""
	switch c.Subject {
	case IP:
		plain = plain && c.Organization == "" && (!c.CIDR.IsValid() || c.CIDR.Addr().Is4() || c.CIDR.Bits() <= bits)
	case Organization:
		plain = plain && !c.CIDR.IsValid()
	}
	if !plain {
		r.suffix = c.counter()
	}
	return r
}

// question is what a rule is looked up by. path is plain, and closed are its other readings where
// it holds encoded slashes, with those as a part of their segments.
type question struct {
	organization string
	addr         netip.Addr
	service      string
	path         string
	closed       []string
	now          int64
}

func questionOf(organization string, v Visit, now time.Time) question {
	path := plainPath(v.Path)
	return question{
		organization: organization, addr: v.Addr.Unmap().WithZone(""), service: v.Service, path: path, closed: closedReadings(v.Path, path), now: now.UnixMilli(),
	}
}

// reading gives the question with the closed reading i of its path.
func (q *question) reading(i int) *question {
	other := *q
	other.path = q.closed[i]
	return &other
}

// ruleSet finds the most specific rule: those that name the organization before
// those that do not, then the longest prefix, then those that name a service, then the
// most specific path.
type ruleSet struct {
	byOrganization map[string]*prefixSet
	any            *prefixSet
}

func (s *ruleSet) add(r *rule) {
	if r.content.Organization == "" {
		if s.any == nil {
			s.any = new(prefixSet)
		}
		s.any.add(r)
		return
	}
	if s.byOrganization == nil {
		s.byOrganization = make(map[string]*prefixSet)
	}
	set := s.byOrganization[r.content.Organization]
	if set == nil {
		set = new(prefixSet)
		s.byOrganization[r.content.Organization] = set
	}
	set.add(r)
}

func (s *ruleSet) sort() {
	for _, set := range s.byOrganization {
		set.sort()
	}
	if s.any != nil {
		s.any.sort()
	}
}

func (s *ruleSet) find(q *question) *rule {
	if set := s.byOrganization[q.organization]; set != nil {
		if r := set.find(q); r != nil {
			return r
		}
	}
	if s.any != nil {
		return s.any.find(q)
	}
	return nil
}

// each calls fn for every rule that may hold for the organization.
func (s *ruleSet) each(organization string, fn func(*rule)) {
	if set := s.byOrganization[organization]; set != nil {
		set.each(fn)
	}
	if s.any != nil {
		s.any.each(fn)
	}
}

// prefixSet finds rules by the prefix of an address: one look for each length
// that occurs, however many prefixes there are.
type prefixSet struct {
	any      []*rule // that name no prefix
	byPrefix map[netip.Prefix][]*rule
	bits4    []int // lengths that occur, longest first
	bits6    []int
}

func (s *prefixSet) add(r *rule) {
	if !r.content.CIDR.IsValid() {
		s.any = append(s.any, r)
		return
	}
	if s.byPrefix == nil {
		s.byPrefix = make(map[netip.Prefix][]*rule)
	}
	s.byPrefix[r.content.CIDR] = append(s.byPrefix[r.content.CIDR], r)
}

func (s *prefixSet) each(fn func(*rule)) {
	for _, list := range s.byPrefix {
		for _, r := range list {
			fn(r)
		}
	}
	for _, r := range s.any {
		fn(r)
	}
}

func (s *prefixSet) sort() {
	sortRules(s.any)
	lengths4, lengths6 := make(map[int]bool), make(map[int]bool)
	for p, list := range s.byPrefix {
		sortRules(list)
		if p.Addr().Is4() {
			lengths4[p.Bits()] = true
		} else {
			lengths6[p.Bits()] = true
		}
	}
	descending := func(a, b int) int { return cmp.Compare(b, a) }
	s.bits4 = slices.SortedFunc(maps.Keys(lengths4), descending)
	s.bits6 = slices.SortedFunc(maps.Keys(lengths6), descending)
}

func sortRules(list []*rule) {
	slices.SortFunc(list, func(a, b *rule) int { return cmp.Or(a.compare(b), cmp.Compare(a.id, b.id)) })
}

// compare orders rules that hold for one request, the more specific first. It is 0 for rules
// of one scope.
func (r *rule) compare(other *rule) int {
	named := func(a, b bool) int {
		switch {
		case a == b:
			return 0
		case a:
			return -1
		}
		return 1
	}
	a, b := r.content, other.content
	return cmp.Or(
		named(a.Organization != "", b.Organization != ""),
		cmp.Compare(b.CIDR.Bits(), a.CIDR.Bits()), // -1 of one that names no range
		named(a.Service != "", b.Service != ""),
		r.pattern.compare(&other.pattern))
}

func (s *prefixSet) find(q *question) *rule {
	lengths := s.bits6
	if q.addr.Is4() {
		lengths = s.bits4
	}
	for _, bits := range lengths {
		p, err := q.addr.Prefix(bits)
		if err != nil { // no address: no prefix holds it
			break
		}
		if r := first(s.byPrefix[p], q); r != nil {
			return r
		}
	}
	return first(s.any, q)
}

func first(list []*rule, q *question) *rule {
	for _, r := range list {
		if r.holds(q) {
			return r
		}
	}
	return nil
}

// holds reports whether the rule is in force and has the request's service and
// path in its scope.
func (r *rule) holds(q *question) bool {
	if r.expires != 0 && q.now >= r.expires {
		return false
	}
	return r.content.Service == "" || r.content.Service == q.service && (r.content.Path == "" || r.pattern.match(q.path))
}
