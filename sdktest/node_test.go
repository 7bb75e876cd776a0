package sdktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/vault"
)

// installed puts the SDKs of node/package-lock.json into place, once.
var installed = sync.OnceValue(func() error {
	want, err := os.Stat("node/package-lock.json")
	if err != nil {
		return err
	}
	if have, err := os.Stat("node/node_modules/.package-lock.json"); err == nil && have.ModTime().After(want.ModTime()) {
		return nil
	}
	npm := exec.Command("npm", "ci")
	npm.Dir = "node"
	if out, err := npm.CombinedOutput(); err != nil {
		return fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	return nil
})

// A came is what a scenario printed.
type came struct {
	Text, Email, Filename, ID string
	IDs                       []any
	Chunks, Bytes             int
	Error                     *struct {
		Status        int
		Name, Message string
	}
}

// node runs one scenario of node/drive.mjs.
func node(t *testing.T, sdk, scenario, baseURL, key string) came {
	t.Helper()
	if err := installed(); err != nil {
		t.Fatalf("the Node SDKs could not be installed: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	program := exec.CommandContext(ctx, "node", filepath.Join("node", "drive.mjs"), sdk, scenario)
	program.Env = append(os.Environ(), "BASE_URL="+baseURL, "KEY="+key)
	var errors bytes.Buffer
	program.Stderr = &errors
	out, err := program.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", sdk, scenario, err, out, errors.String())
	}
	var c came
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatalf("%s %s printed %q: %v", sdk, scenario, out, err)
	}
	return c
}

// leaves runs a scenario whose program ends in the middle of it, as one does that is stopped: an SDK that cannot abort a request still has
// this. The provider is silent until then.
func leaves(t *testing.T, sdk, scenario, baseURL, key string, fake *gatehousetest.Provider) {
	t.Helper()
	if err := installed(); err != nil {
		t.Fatalf("the Node SDKs could not be installed: %v", err)
	}
	before, seen := len(fake.Requests()), make(chan struct{})
	fake.Next(gatehousetest.Announce(seen, gatehousetest.Silent()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	program := exec.CommandContext(ctx, "node", filepath.Join("node", "drive.mjs"), sdk, scenario)
	program.Env = append(os.Environ(), "BASE_URL="+baseURL, "KEY="+key)
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-seen:
	case <-ctx.Done():
		t.Error("the provider was not asked")
	}
	_ = program.Process.Kill()
	_ = program.Wait()
	for _, r := range fake.Await(before + 1)[before:] {
		if !r.Aborted {
			t.Error("the provider was not told that the client has left")
		}
	}
}

// A nodeCase is one scenario through Gatehouse, beside the same one straight at the provider.
type nodeCase struct {
	scenario   string
	requests   int                              // that the provider sees
	behaviours func() []gatehousetest.Behaviour // of the provider, for these requests
	differs    bool                             // from the same scenario without Gatehouse in what it prints: new ids
	alone      bool                             // is not run without Gatehouse, where the SDK does not come to an end
	check      func(t *testing.T, c came, seen []gatehousetest.Request)
}

// nodeSDK drives an SDK through its scenarios: each prints, through Gatehouse, what it prints without.
func nodeSDK(t *testing.T, sdk string, fake *gatehousetest.Provider, s *instancetest.Server, direct, through, directKey string, cases []nodeCase) {
	token := s.Token(t, "acme", "u_1", access.Developer)
	for _, c := range cases {
		t.Run(c.scenario, func(t *testing.T) {
			run := func(baseURL, key string) (came, []gatehousetest.Request) {
				before := len(fake.Requests())
				if c.behaviours != nil {
					fake.Next(c.behaviours()...)
				}
				out := node(t, sdk, c.scenario, baseURL, key)
				if n := len(fake.Requests()) - before; n < c.requests {
					t.Fatalf("the provider saw %d requests, want %d; the SDK printed %+v %+v", n, c.requests, out, out.Error)
				}
				return out, fake.Await(before + c.requests)[before:]
			}
			var plain came
			if !c.alone {
				plain, _ = run(direct, directKey)
			}
			got, seen := run(through, token)
			if len(seen) != c.requests {
				t.Errorf("the provider saw %d requests, want %d", len(seen), c.requests)
			}
			if !c.differs && !c.alone {
				if a, b := fmt.Sprintf("%+v", plain), fmt.Sprintf("%+v", got); (plain.Error == nil || got.Error == nil) && a != b {
					t.Errorf("through Gatehouse %s\nwithout %s", b, a)
				}
			}
			c.check(t, got, seen)
		})
	}
	neverUpstream(t, target{key: token, fake: fake}, s)
}

func nodeServer(t *testing.T, fake *gatehousetest.Provider, service string, fields map[string]string) *instancetest.Server {
	t.Helper()
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": service + "=" + fake.URL, "GATEHOUSE_LISTEN_STRIPE": "127.0.0.1:0", "GATEHOUSE_DOMAIN": "localhost",
		"CHAT_IP_LIMIT": "10000/1m", "CHAT_ORG_LIMIT": "10000/1m",
	})
	caller := access.NewCaller("acme", access.User, "u_1", access.Developer)
	if err := s.Orgs.Admit(t.Context(), caller); err != nil {
		t.Fatal(err)
	}
	// Reading files is no inference: a credential of a service that chats takes it where its scope says so.
	all := vault.Bounds{Scope: &catalog.Scope{Paths: []string{"/**"}}}
	if _, _, err := s.Vault.Create(t.Context(), caller, vault.NewCredential{Service: service, Fields: fields, Bounds: all}); err != nil {
		t.Fatal(err)
	}
	return s
}

func noError(t *testing.T, c came) {
	t.Helper()
	if c.Error != nil {
		t.Errorf("the SDK threw %+v", *c.Error)
	}
}

func wants(want came) func(*testing.T, came, []gatehousetest.Request) {
	return func(t *testing.T, got came, _ []gatehousetest.Request) {
		t.Helper()
		noError(t, got)
		if a, b := fmt.Sprintf("%+v", want), fmt.Sprintf("%+v", got); a != b {
			t.Errorf("%s, want %s", b, a)
		}
	}
}

func ids(n int) func(*testing.T, came, []gatehousetest.Request) {
	return func(t *testing.T, got came, _ []gatehousetest.Request) {
		t.Helper()
		noError(t, got)
		distinct := slices.CompactFunc(got.IDs, func(a, b any) bool { return a == b })
		if len(got.IDs) != n || len(distinct) != n {
			t.Errorf("%d things, want %d: %v", len(got.IDs), n, got.IDs)
		}
	}
}

// retried checks that the SDK met a refusal first and came back for the answer.
func retried(status int, want came) func(*testing.T, came, []gatehousetest.Request) {
	return func(t *testing.T, got came, seen []gatehousetest.Request) {
		t.Helper()
		wants(want)(t, got, seen)
		if len(seen) != 2 || seen[0].Status != status || seen[1].Status/100 != 2 {
			t.Errorf("the provider saw %d requests", len(seen))
		}
	}
}

func aborted(t *testing.T, _ came, seen []gatehousetest.Request) {
	t.Helper()
	for _, r := range seen {
		if !r.Aborted {
			t.Error("the provider was not told that the client has left")
		}
	}
}

// limited has the provider refuse for two seconds, longer than the SDKs wait by themselves before they try again: one that does not go by the
// answer's headers is refused twice.
func limited() []gatehousetest.Behaviour {
	b := gatehousetest.RateLimitedFor(2 * time.Second)
	return []gatehousetest.Behaviour{b, b}
}

// lockTimeout is the 429 that Stripe says is worth another try.
func lockTimeout() gatehousetest.Behaviour {
	return gatehousetest.Handler(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Stripe-Should-Retry", "true")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"error":{"type":"invalid_request_error","code":"lock_timeout","message":"This object cannot be accessed right now."}}`)
	})
}

// refused checks that the SDK threw an error of this status, after one request.
func refused(status int) func(*testing.T, came, []gatehousetest.Request) {
	return func(t *testing.T, got came, seen []gatehousetest.Request) {
		t.Helper()
		if got.Error == nil || got.Error.Status != status || len(seen) != 1 {
			t.Errorf("the SDK gave %+v, threw %+v", got, got.Error)
		}
	}
}

func next(b gatehousetest.Behaviour) func() []gatehousetest.Behaviour {
	return func() []gatehousetest.Behaviour { return []gatehousetest.Behaviour{b} }
}

func TestNodeOpenAI(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.OpenAI(t, gatehousetest.Reply(openAIReply), gatehousetest.Items(3))
	s := nodeServer(t, fake, "openai", map[string]string{"apiKey": fake.Key()})
	nodeSDK(t, "openai", fake, s, fake.URL+"/v1", s.URL+"/api/chat/openai/v1", fake.Key(), []nodeCase{
		{scenario: "list", requests: 1, check: ids(3)},
		{scenario: "paginate", requests: 2, check: ids(3)},
		{scenario: "create", requests: 1, check: wants(came{Text: openAIReply})},
		{scenario: "stream", requests: 1, check: wants(came{Text: openAIReply, Chunks: 10})},
		{scenario: "respond", requests: 1, check: wants(came{Text: openAIReply})},
		{scenario: "events", requests: 1, check: wants(came{Text: openAIReply, Chunks: 10})},
		{scenario: "events", requests: 1, behaviours: next(gatehousetest.CutAfter(900)), check: interrupted},
		{scenario: "upload", requests: 1, check: wants(came{Bytes: 300_000, Filename: "data.jsonl"})},
		{scenario: "abort", requests: 1, behaviours: next(gatehousetest.Hold(nil)), check: aborted},
		{scenario: "retry", requests: 2, behaviours: limited, check: retried(429, came{Text: openAIReply})},
		{scenario: "stream", requests: 1, behaviours: next(gatehousetest.CutAfter(600)), check: interrupted},
		{scenario: "create", requests: 1, behaviours: next(gatehousetest.CutAfter(10)), check: half},
	})
}

func TestNodeAnthropic(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Anthropic(t, gatehousetest.Reply(anthropicReply), gatehousetest.Items(7))
	s := nodeServer(t, fake, "anthropic", map[string]string{"apiKey": fake.Key()})
	nodeSDK(t, "anthropic", fake, s, fake.URL, s.URL+"/api/chat/anthropic", fake.Key(), []nodeCase{
		{scenario: "list", requests: 1, check: ids(5)},
		{scenario: "paginate", requests: 3, check: ids(7)},
		{scenario: "upload", requests: 1, check: wants(came{Bytes: 300_000, Filename: "data.txt"})},
		{scenario: "create", requests: 1, check: wants(came{Text: anthropicReply})},
		{scenario: "stream", requests: 1, check: wants(came{Text: anthropicReply})},
		{scenario: "abort", requests: 1, behaviours: next(gatehousetest.Hold(nil)), check: aborted},
		{scenario: "retry", requests: 2, behaviours: limited, check: retried(429, came{Text: anthropicReply})},
		{scenario: "stream", requests: 1, behaviours: next(gatehousetest.CutAfter(600)), check: interrupted},
		{scenario: "create", requests: 1, behaviours: next(gatehousetest.CutAfter(10)), check: half},
		// At the link that the batch names: alone, since it names the provider's own address.
		{scenario: "results", requests: 2, alone: true, behaviours: batch, check: ids(2)},
	})
}

// batch answers as Anthropic does to whoever asks for a batch, and then for its results.
func batch() []gatehousetest.Behaviour {
	says := func(contentType, text string) gatehousetest.Behaviour {
		return gatehousetest.Handler(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			_, _ = io.WriteString(w, text)
		})
	}
	return []gatehousetest.Behaviour{
		says("application/json", `{"id":"msgbatch_1","type":"message_batch","processing_status":"ended","results_url":"https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"}`),
		says("application/x-jsonl", `{"custom_id":"a","result":{"type":"canceled"}}`+"\n"+`{"custom_id":"b","result":{"type":"canceled"}}`+"\n"),
	}
}

// stripe-node takes a host and a port and no path: once by the service's own port, once by its host name.
func TestNodeStripe(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Stripe(t, gatehousetest.Items(7))
	s := nodeServer(t, fake, "stripe", map[string]string{"secretKey": fake.Key()})
	_, port, _ := strings.Cut(strings.TrimPrefix(s.URL, "http://"), ":")
	for _, at := range []struct{ name, url string }{{"port", s.ServiceURLs["stripe"]}, {"host", "http://stripe.localhost:" + port}} {
		t.Run(at.name, func(t *testing.T) {
			pages := 0
			for n := len(customers(fake)); n > 0; n -= 3 {
				pages++
			}
			nodeSDK(t, "stripe", fake, s, fake.URL, at.url, fake.Key(), []nodeCase{
				{scenario: "list", requests: 1, check: ids(2)},
				{scenario: "paginate", requests: pages, check: ids(len(customers(fake)))},
				{scenario: "create", requests: 1, check: wants(came{Email: "a+b@example.com"})},
				{scenario: "retry", requests: 2, behaviours: next(gatehousetest.Overloaded()), check: retried(503, came{Email: "c@example.com"})},
				{scenario: "retry", requests: 2, behaviours: next(lockTimeout()), check: retried(429, came{Email: "c@example.com"})},
				{scenario: "retry", requests: 1, behaviours: next(gatehousetest.RateLimited(time.Second)), check: refused(429)},
				{scenario: "upload", requests: 1, check: wants(came{Bytes: 300_000, Filename: "evidence.pdf"})},
				{scenario: "stream", requests: 1, check: wants(came{Bytes: 100_000})},
				{scenario: "create", requests: 1, behaviours: next(gatehousetest.CutAfter(10)), check: half},
				{scenario: "abort", requests: 1, behaviours: next(gatehousetest.Silent()), check: endsEarly},
			})
		})
	}
}

// customers gives what the fake holds now: seven, and each one made since.
func customers(fake *gatehousetest.Provider) []int {
	n := make([]int, 7)
	for _, r := range fake.Requests() {
		if r.Method == "POST" && r.URL.Path == "/v1/customers" && r.Status == 200 {
			n = append(n, 0)
		}
	}
	return n
}

func TestNodeIntercom(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Intercom(t, gatehousetest.Items(7))
	s := nodeServer(t, fake, "intercom", map[string]string{"accessToken": fake.Key()})
	nodeSDK(t, "intercom", fake, s, fake.URL, s.URL+"/api/proxy/intercom", fake.Key(), []nodeCase{
		{scenario: "list", requests: 1, check: ids(5)},
		{scenario: "paginate", requests: 3, check: ids(7)},
		{scenario: "create", requests: 1, check: wants(came{Email: "a@example.com"})},
		{scenario: "retry", requests: 2, behaviours: next(gatehousetest.Overloaded()), check: retried(503, came{ID: "1295"})},
		// Intercom says when to come back in a header whose name is ours.
		{scenario: "retry", requests: 2, behaviours: limited, check: retried(429, came{ID: "1295"})},
		{scenario: "once", requests: 1, behaviours: next(gatehousetest.CutAfter(10)), check: half},
		{scenario: "abort", requests: 1, behaviours: next(gatehousetest.Silent()), check: endsEarly},
	})
}

// endsEarly checks that the SDK threw, and the provider knows.
func endsEarly(t *testing.T, c came, seen []gatehousetest.Request) {
	t.Helper()
	aborted(t, c, seen)
	if c.Error == nil {
		t.Error("an aborted call ended without an error")
	}
}

// node-zendesk follows the links in the pages, which lead through Gatehouse.
func TestNodeZendesk(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.Zendesk(t, gatehousetest.Items(250), gatehousetest.User("me@example.com"))
	s := nodeServer(t, fake, "zendesk", map[string]string{"subdomain": "acme", "email": "me@example.com", "apiToken": fake.Key()})
	nodeSDK(t, "zendesk", fake, s, fake.URL+"/api/v2", s.URL+"/api/proxy/zendesk/api/v2", fake.Key(), []nodeCase{
		{scenario: "paginate", requests: 3, check: ids(250)},
		{scenario: "create", requests: 1, check: wants(came{Email: "marie@example.com"})},
		{scenario: "upload", requests: 1, check: wants(came{Bytes: 300_000, Filename: "log.txt"})},
		// It tries nothing again and cannot abort a request. It takes 502 for an empty success, so it is told 503.
		{scenario: "create", requests: 1, alone: true, behaviours: next(gatehousetest.CutAfter(10)), check: throws("Service Unavailable")},
		{scenario: "create", requests: 1, alone: true, behaviours: next(gatehousetest.HangUp()), check: throws("Service Unavailable")},
	})
	leaves(t, "zendesk", "create", s.URL+"/api/proxy/zendesk/api/v2", s.Token(t, "acme", "u_1", access.Developer), fake)
}

// throws checks that the SDK threw an error that says this.
func throws(said string) func(*testing.T, came, []gatehousetest.Request) {
	return func(t *testing.T, got came, _ []gatehousetest.Request) {
		t.Helper()
		if got.Error == nil || !strings.Contains(got.Error.Message, said) {
			t.Errorf("the SDK gave %+v, threw %+v", got, got.Error)
		}
	}
}

// An SDK that meets our own limit waits as long as our headers say, and is admitted then.
func TestNodeWaitsOutOurLimit(t *testing.T) {
	t.Parallel()
	fake := gatehousetest.OpenAI(t, gatehousetest.Reply(openAIReply))
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + fake.URL, "CHAT_IP_LIMIT": "1/3s"})
	store(t, s, "openai", "apiKey", fake.Key())
	token := s.Token(t, "acme", "u_1", access.Developer)
	for range 2 { // the second finds the first one's request in the window, unless its process took 3 s to start
		if got := node(t, "openai", "retry", s.URL+"/api/chat/openai/v1", token); got.Text != openAIReply {
			t.Errorf("%+v", got)
		}
	}
}
