package gateway

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/bearer"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// Usage is what a visit used, as far as the provider says.
type Usage struct {
	Model    string        // through [tokens.ModelName]: the answer's, or else the request's; may be empty
	Tokens   tokens.Counts // unknown where the provider said nothing
	Expected bool          // the operation is one whose answer says tokens
	Stream   bool          // a stream was asked for
	Events   int64         // server-sent events that the upstream sent whole
}

var errStreams = fault.New(fault.Limited, "too_many_streams",
	"Your organization has as many streams open as it may. Try again when one of them has ended.").After(time.Second)

// account reads what a request asks for, takes one of the organization's streams
// where it asks for one, and makes the body ask for usage where it does not and the
// service would keep quiet otherwise. What that adds to the answer is hidden again.
//
// A spooled body is not looked into: it asks for nothing more, its model is what
// the answer says, and it takes a stream wherever it may ask for one.
func (t *transfer) account(p *payload) error {
	if t.visit.Route != Chat {
		return nil
	}
	body := p.inMemory()
	var asked tokens.Request
	var said operation
	if t.service != nil {
		said = operationOf(t.visit.Path)
	}
	t.operation.errors = said.errors // a stream that was begun before is gone on with by a GET
	if t.r.Method == http.MethodPost {
		t.operation = said
		t.watched = said.spends || t.service != nil && !t.service.BuiltIn() && !keepsStored(t.visit.Path)
		asked = tokens.ReadRequest(body)
		if forms := t.r.Header["Content-Type"]; asked.Model == "" && len(forms) == 1 && !strings.HasPrefix(forms[0], "application/json") {
			asked.Model = tokens.FormModel(body, forms[0])
		}
	}
	o, u := &t.operation, &t.result.Usage
	u.Expected, u.Model = o.name != "", asked.Model
	if u.Model == "" {
		u.Model = o.model
	}
	u.Model = t.harmless(u.Model)
	u.Stream = asked.Stream || o.stream || acceptsEvents(t.r.Header["Accept"])
	if u.Stream || p.spooled() && u.Expected {
		if !t.gateway.streams.enter(t.visit.Caller.Organization) {
			return errStreams
		}
		t.streaming = true
	}
	if !o.completions || !asked.CanAsk() || !t.takesStreamOptions(asked) {
		return nil
	}
	large := len(body) > firstRead
	if large && !p.held.grow(2*int64(len(body))) {
		return nil // no room for a second one: its usage stays unknown
	}
	t.hiding, t.edited = true, true
	p.memory = asked.AskUsage(body)
	p.size = int64(len(p.memory))
	if large {
		p.held.grow(p.size)
	}
	return nil
}

func (t *transfer) takesStreamOptions(asked tokens.Request) bool {
	if t.service == nil || !t.service.AsksUsage && !t.gateway.asks[t.service.Name] {
		return false
	}
	since := t.service.UsageSince
	if since == "" {
		return true
	}
	if asked.DataSource {
		return false
	}
	versions := t.r.URL.Query()["api-version"]
	// A dated version sorts by its date, and "preview" and "latest" are newer than all.
	return len(versions) == 0 && strings.HasPrefix(t.visit.Path, "openai/v1/") || len(versions) == 1 && versions[0] >= since
}

func acceptsEvents(accept []string) bool {
	for _, list := range accept {
		for media := range strings.SplitSeq(list, ",") {
			if isEventStream(media) {
				return true
			}
		}
	}
	return false
}

// watch starts counting an answer.
func (t *transfer) watch(e *exchange, answer *http.Response) {
	e.watching = t.watched && answer.StatusCode < http.StatusMultipleChoices &&
		e.watcher.Start(answer.Header.Get("Content-Type"), answer.Header.Get("Content-Encoding"))
}

// counted takes over what was counted of an answer.
func (t *transfer) counted(e *exchange) {
	if !e.watching {
		return
	}
	u := &t.result.Usage
	u.Tokens, u.Events = e.watcher.Counts(), e.watcher.Events()
	if model := e.watcher.Model(); model != "" && model != u.Model {
		u.Model = t.harmless(model)
	}
	if e.watcher.Failed() && (u.Stream || u.Events > 0) && t.result.Outcome == audit.Success {
		// The status was sent before the provider broke off, so only the stream tells.
		t.result.Outcome, t.result.Reason = audit.Partial, "upstream_error"
	}
}

// harmless gives a model's name as it may be recorded: one that holds a token, or the
// credential at hand, is not.
func (t *transfer) harmless(model string) string {
	if model == "" {
		return ""
	}
	if leaks([]string{model}, t.secrets()) || bearer.Without(model, t.r.Header) != model {
		return tokens.OtherModel
	}
	return model
}

// streams counts the streams that are open, by organization, on this instance.
type streams struct {
	mu  sync.Mutex
	of  map[string]int
	max int // 0: any number
}

func (s *streams) enter(organization string) bool {
	if s.max == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[organization] >= s.max {
		return false
	}
	s.of[organization]++
	return true
}

func (s *streams) leave(organization string) {
	if s.max == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of[organization]--; s.of[organization] == 0 {
		delete(s.of, organization)
	}
}
