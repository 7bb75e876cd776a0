package catalog

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"time"
)

// MaxProbeBody is how many bytes of an answer to a probe are read; pass no more
// to [Service.Read]. A body of exactly this length is taken to be cut off.
const MaxProbeBody = 64 << 10

// Result is what a probe says about a credential.
type Result string

// The results.
const (
	Valid         Result = "valid"         // it works
	Restricted    Result = "restricted"    // it is real, but lacks the permission that the probe needs
	Misconfigured Result = "misconfigured" // a field beside the secret is wrong: region, subdomain, organization
	Invalid       Result = "invalid"       // the provider does not know it
	Indeterminate Result = "indeterminate" // nothing can be said: busy, down, unreachable, or an unknown answer
)

// Outcome is the reading of a probe's answer. Detail is always one of our own
// sentences; Code, Account, Scopes and RequestID are the provider's words, let
// through only in a narrow alphabet and length, and dropped when they hold a
// secret of the credential. Everything but Result can be empty.
type Outcome struct {
	Result    Result
	Detail    string     // what it means and what to do
	Code      string     // the provider's error code, [a-z0-9_.-]{1,64}
	Account   string     // whose credential it is, at most 100 printable characters
	Scopes    []string   // what it may do, where the provider says; at most 64
	ExpiresAt *time.Time // when it ends, where the provider says
	RequestID string     // the provider's id of the probe, [A-Za-z0-9_.:-]{1,128}

	// Busy says that the provider asks for fewer requests: 429, or a fault with
	// Retry-After. RetryAfter is how long it asks to wait, 0 where it does not say.
	// Whoever makes the request fills them in (package internal/probe).
	Busy       bool
	RetryAfter time.Duration
}

// answer is what a reader works on.
type answer struct {
	status int
	header http.Header
	body   []byte
	fields map[string]string
}

// reader turns an answer into an outcome. It may fill Code, Account and Scopes
// with whatever the provider said; Service.Read cleans them.
type reader func(answer) Outcome

// Read turns the answer to [Service.Probe], made with in, into an [Outcome].
// body is at most [MaxProbeBody] bytes. It accepts any bytes and never fails:
// what it does not understand is [Indeterminate].
func (s *Service) Read(in *Injection, status int, h http.Header, body []byte) Outcome {
	if s.read == nil {
		return Outcome{Result: Indeterminate, Detail: "The service has no HTTP probe."}
	}
	p := in.prepared()
	read := s.read
	if s.other.holds(p) {
		read = s.other.read
	}
	o := read(answer{status: status, header: h, body: body, fields: p.fields})
	o.RequestID = firstHeader(h, requestIDHeaders...)
	return o.clean(p)
}

// ReadFollow turns the answer to [Service.Follow] into an [Outcome]; first is
// that of the answer before. Like Read it accepts any bytes and never fails.
func (s *Service) ReadFollow(in *Injection, first Outcome, status int, h http.Header, body []byte) Outcome {
	if s.follow == nil {
		return first
	}
	p := in.prepared()
	o := s.follow.read(first, answer{status: status, header: h, body: body, fields: p.fields})
	if id := firstHeader(h, requestIDHeaders...); id != "" {
		o.RequestID = id
	}
	return o.clean(p)
}

// requestIDHeaders are the names under which providers send a request's id.
var requestIDHeaders = []string{
	"Request-Id", "X-Request-Id", "X-Zendesk-Request-Id", "X-Github-Request-Id", "X-Slack-Req-Id", "Twilio-Request-Id",
	"Apim-Request-Id", "X-Hubspot-Correlation-Id",
}

var (
	codeForm      = regexp.MustCompile(`^[a-z0-9_.-]{1,64}$`)
	scopeForm     = regexp.MustCompile(`^[A-Za-z0-9_.:/*-]{1,64}$`)
	requestIDForm = regexp.MustCompile(`^[A-Za-z0-9_.:-]{1,128}$`)
)

func (o Outcome) clean(p *prepared) Outcome {
	const maxScopes = 64
	pass := func(s string, form *regexp.Regexp) bool { return form.MatchString(s) && !p.leaksInto(s) }
	if !pass(o.Code, codeForm) {
		o.Code = ""
	}
	if !pass(o.RequestID, requestIDForm) {
		o.RequestID = ""
	}
	account := accountText(o.Account)
	if p.leaksInto(o.Account) || p.leaksInto(account) {
		account = ""
	}
	o.Account = account
	var scopes []string
	for _, scope := range o.Scopes {
		if len(scopes) < maxScopes && pass(scope, scopeForm) {
			scopes = append(scopes, scope)
		}
	}
	o.Scopes = scopes
	return o
}

// accountText keeps letters, digits and a few signs of a name, so that it can
// stand in a page, a terminal and a log.
func accountText(s string) string {
	const maxRunes = 100
	var b strings.Builder
	n := 0
	for _, r := range s {
		if n == maxRunes {
			break
		}
		if !isAccountRune(r) {
			continue
		}
		b.WriteRune(r)
		n++
	}
	return strings.TrimSpace(b.String())
}

// byStatus reads what a status means with every provider that follows RFC 9110.
func byStatus(a answer) Outcome {
	switch {
	case a.status == http.StatusUnauthorized:
		return Outcome{Result: Invalid, Detail: "The provider does not accept this credential."}
	case a.status == http.StatusForbidden:
		return Outcome{Result: Restricted, Detail: "The credential is real but lacks the permission to be tested this way."}
	case a.status == http.StatusTooManyRequests:
		return Outcome{Result: Indeterminate, Detail: "The provider limits requests at the moment; test again later."}
	case a.status >= 500:
		return Outcome{Result: Indeterminate, Detail: "The provider has a fault at the moment; test again later."}
	case a.status >= 300 && a.status < 400:
		return Outcome{Result: Indeterminate, Detail: "The provider answered with a redirect, which is not followed."}
	}
	return unknownAnswer()
}

func unknownAnswer() Outcome {
	return Outcome{Result: Indeterminate, Detail: "The answer is not one that this service is known to give."}
}

func works() Outcome { return Outcome{Result: Valid, Detail: "The credential works."} }

// readPlain reads an answer whose status says all: success, or what RFC 9110 says.
func readPlain(a answer) Outcome {
	if a.succeeded() {
		return a.success()
	}
	o := byStatus(a)
	o.Code = errorCode(a)
	return o
}

// errorCode looks for the provider's code where most put it: error.code,
// error.status, error.type, code, type or category. It may be anything; clean
// lets only codes through.
func errorCode(a answer) string {
	var envelope struct {
		Error    json.RawMessage `json:"error"`
		Code     any             `json:"code"`
		Type     any             `json:"type"`
		Category any             `json:"category"`
	}
	if !a.decode(&envelope) {
		return ""
	}
	var inner struct {
		Code   any `json:"code"`
		Status any `json:"status"`
		Type   any `json:"type"`
	}
	_ = json.Unmarshal(envelope.Error, &inner) // a text is no code
	for _, v := range []any{inner.Code, inner.Status, inner.Type, envelope.Code, envelope.Category, envelope.Type} {
		if text, ok := v.(string); ok && text != "" {
			return strings.ToLower(text)
		}
	}
	return ""
}

// decode reads the body into v and says whether it could.
func (a answer) decode(v any) bool { return json.Unmarshal(a.body, v) == nil }

func firstHeader(h http.Header, names ...string) string {
	for _, name := range names {
		if v := h.Get(name); v != "" {
			return v
		}
	}
	return ""
}
