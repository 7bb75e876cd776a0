package gateway_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
)

const graceKey = "sk-in-grace-0123456789abcdefghijklmnop"

// rotating opens keys as a vault does while a version is in grace.
type rotating struct {
	gone   bool // the grace is over by the time it is asked for
	opened atomic.Int64
	told   atomic.Int64
}

func (o *rotating) OpenForUse(ctx context.Context, caller access.Caller, service *catalog.Service, name string, _ bool) (gateway.Credential, error) {
	c, err := keys{}.OpenForUse(ctx, caller, service, name, true)
	c.Previous = func(context.Context) (gateway.Credential, error) {
		o.opened.Add(1)
		if o.gone {
			return gateway.Credential{}, errors.New("its grace is over")
		}
		fields := map[string]string{"apiKey": graceKey}
		if service.Name == "stripe" {
			fields = map[string]string{"secretKey": graceKey}
		}
		in, err := service.Prepare(fields)
		return gateway.Credential{ID: c.ID, Name: c.Name, Version: c.Version - 1, Injection: in}, err
	}
	c.Fallback = func(context.Context) { o.told.Add(1) }
	return c, err
}

// says is an upstream's answer to a key.
type says struct {
	status int
	body   string
}

const (
	wrongKeyBody = `{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}`
	noScopeBody  = `{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request."}}`
)

func TestFallback(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	works := says{200, `{"ok":true}`}
	for name, test := range map[string]struct {
		method         string
		body           string
		active, former says
		gone           bool
		want           says
		asked          int // of the upstream
		opened         int64
		fellBack       bool
	}{
		"the new key works":                         {active: works, former: works, want: works, asked: 1},
		"the new key is refused, the old one works": {active: says{401, wrongKeyBody}, former: works, want: works, asked: 2, opened: 1, fellBack: true},
		"a GET":                         {method: "GET", active: says{401, wrongKeyBody}, former: works, want: works, asked: 2, opened: 1, fellBack: true},
		"a HEAD":                        {method: "HEAD", active: says{401, ""}, former: says{200, ""}, want: says{200, ""}, asked: 2, opened: 1, fellBack: true},
		"a large body":                  {body: large, active: says{401, ""}, former: works, want: works, asked: 2, opened: 1, fellBack: true},
		"a 401 that is no JSON":         {active: says{401, "<html>"}, former: works, want: works, asked: 2, opened: 1, fellBack: true},
		"both are refused":              {active: says{401, wrongKeyBody}, former: says{401, "the old one"}, want: says{401, wrongKeyBody}, asked: 2, opened: 1},
		"the old one may not":           {active: says{401, wrongKeyBody}, former: says{403, "the old one"}, want: says{401, wrongKeyBody}, asked: 2, opened: 1},
		"the old one is let in, and no": {active: says{401, wrongKeyBody}, former: says{404, "no such thing"}, want: says{404, "no such thing"}, asked: 2, opened: 1, fellBack: true},
		"a missing scope":               {active: says{401, noScopeBody}, former: works, want: says{401, noScopeBody}, asked: 1},
		"a 403":                         {active: says{403, "no"}, former: works, want: says{403, "no"}, asked: 1},
		"a 429":                         {active: says{429, "slow"}, former: works, want: says{429, "slow"}, asked: 1},
		"a 500":                         {active: says{500, "oh"}, former: works, want: says{500, "oh"}, asked: 1},
		"the grace is over":             {gone: true, active: says{401, wrongKeyBody}, former: works, want: says{401, wrongKeyBody}, asked: 1, opened: 1},
		"a long 401 that is passed on":  {active: says{401, large}, former: says{401, ""}, want: says{401, large}, asked: 2, opened: 1},
		"the old one is not reachable":  {active: says{401, wrongKeyBody}, former: says{0, ""}, want: says{401, wrongKeyBody}, asked: 2, opened: 1},
	} {
		t.Run(name, func(t *testing.T) {
			upstream, got := recorder(t, func(w http.ResponseWriter, r *http.Request) {
				answer := test.active
				if r.Header.Get("Authorization") == "Bearer "+graceKey {
					answer = test.former
				}
				if answer.status == 0 {
					panic(http.ErrAbortHandler)
				}
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("X-Answer", strconv.Itoa(answer.status))
				w.WriteHeader(answer.status)
				_, _ = io.WriteString(w, answer.body)
			})
			opener := &rotating{gone: test.gone}
			f := serve(t, upstream, func(o *gateway.Options) { o.Opener = opener })
			method, body := test.method, test.body
			if method == "" {
				method = "POST"
			}
			if body == "" && method == "POST" {
				body = `{"model":"m"}`
			}
			answer, text := f.call(t, method, "/api/chat/up/v1/chat/completions?a=b", body)
			if answer.StatusCode != test.want.status || text != test.want.body || answer.Header.Get("X-Answer") != strconv.Itoa(test.want.status) {
				t.Errorf("answered %d %.100q", answer.StatusCode, text)
			}
			if len(got) != test.asked {
				t.Fatalf("the upstream was asked %d times, want %d", len(got), test.asked)
			}
			first := <-got
			if test.asked == 2 {
				second := <-got
				if first.Body != body || second.Body != body || first.URI != second.URI || first.Method != second.Method || first.Length != second.Length {
					t.Error("the two tries differ in more than the key")
				}
				if a, b := first.Header.Get("Authorization"), second.Header.Get("Authorization"); a != "Bearer "+injectedKey || b != "Bearer "+graceKey {
					t.Errorf("sent %q, then %q", a, b)
				}
			}
			r := f.result(t)
			version, refused, told := int64(3), int64(0), int64(0)
			if test.fellBack {
				version, refused, told = 2, 3, 1
			}
			if r.CredentialVersion != version || r.RefusedVersion != refused || opener.told.Load() != told || opener.opened.Load() != test.opened {
				t.Errorf("%+v, told %d times, opened %d times", r, opener.told.Load(), opener.opened.Load())
			}
			if want := map[bool]audit.Outcome{true: audit.Success, false: audit.Failure}[test.want.status < 400]; r.Outcome != want || r.Status != test.want.status {
				t.Errorf("%+v", r)
			}
		})
	}
}

// A stream begins with the version that works, and what the provider says of the
// refused key reaches nobody.
func TestFallbackOfAStream(t *testing.T) {
	upstream, _ := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+graceKey {
			w.Header().Set("X-Refused", "yes")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, wrongKeyBody)
			return
		}
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		for range 3 {
			_, _ = io.WriteString(w, "data: word\n\n")
			_ = http.NewResponseController(w).Flush()
		}
	})
	opener := &rotating{}
	f := serve(t, upstream, func(o *gateway.Options) { o.Opener = opener })
	answer, text := f.call(t, "POST", "/api/chat/up/v1/chat/completions", `{"stream":true}`)
	if answer.StatusCode != 200 || text != strings.Repeat("data: word\n\n", 3) || answer.Header.Get("X-Refused") != "" || answer.Header.Get("X-Echo") != "" {
		t.Errorf("%d %q %q", answer.StatusCode, text, answer.Header)
	}
	if r := f.result(t); r.Outcome != audit.Success || r.RefusedVersion != 3 || r.BytesOut != int64(len(text)) {
		t.Errorf("%+v", r)
	}
}

// The second try has the limits of the first: a caller who leaves ends it, and a
// provider that says nothing more is given up.
func TestFallbackIsGivenUp(t *testing.T) {
	left := make(chan struct{})
	upstream, _ := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+graceKey {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		<-r.Context().Done()
		close(left)
	})
	f := serve(t, upstream, func(o *gateway.Options) { o.Opener, o.FirstByte = &rotating{}, 200*time.Millisecond })
	answer, _ := f.call(t, "POST", "/api/chat/up/v1/chat/completions", `{}`)
	<-left
	if r := f.result(t); answer.StatusCode != 401 && answer.StatusCode != 504 || r.RefusedVersion != 0 {
		t.Errorf("%d %+v", answer.StatusCode, r)
	}
}
