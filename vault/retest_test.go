package vault_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/vault"
)

// provider is what a probe asks in these tests; the network side has tests of
// its own (package internal/probe). It counts.
type provider struct {
	mu      sync.Mutex
	answer  catalog.Outcome
	asked   map[string]int // by key
	running map[string]int // by service
	most    map[string]int // running at once, by service
	block   chan struct{}  // where set, answers wait for it
}

func (p *provider) probe(_ context.Context, service *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error) {
	p.mu.Lock()
	if p.asked == nil {
		p.asked, p.running, p.most = map[string]int{}, map[string]int{}, map[string]int{}
	}
	p.asked[fields["apiKey"]+fields["apiToken"]]++
	p.running[service.Name]++
	p.most[service.Name] = max(p.most[service.Name], p.running[service.Name])
	answer, block := p.answer, p.block
	p.mu.Unlock()
	if block != nil {
		<-block
	}
	time.Sleep(time.Millisecond)
	p.mu.Lock()
	p.running[service.Name]--
	p.mu.Unlock()
	return answer, time.Millisecond, nil
}

func (p *provider) says(r catalog.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = catalog.Outcome{Result: r, Detail: "Said so."}
}

func (p *provider) count() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.asked {
		n += m
	}
	return n
}

func test(t testing.TB, checkers ...*vault.Checker) {
	t.Helper()
	var all sync.WaitGroup
	for _, k := range checkers {
		all.Go(func() {
			if err := k.TestDue(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}

// A key that dies is told within one period, once; no answer never counts as
// dead, nor as alive.
func TestAKeyThatDies(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		p := &provider{}
		h := newHouse(t, url, vault.Options{Probe: p.probe})
		h.hook(t)
		opts := checkOptions()
		var tested []string
		opts.Tested = func(result string) { tested = append(tested, result) }
		k := h.Checker(opts)
		h.create(t, owner, openai("", apiKey))
		period := func(when string, r catalog.Result, want ...string) {
			t.Helper()
			p.says(r)
			before := p.count()
			check(t, k)
			h.clock.Pass(day)
			test(t, k)
			if p.count() != before+1 {
				t.Errorf("%s: asked %d times within one period", when, p.count()-before)
			}
			h.expectTold(t, when, want...)
		}
		period("a key that works", catalog.Valid)
		period("a busy provider", catalog.Indeterminate)
		period("a key that works again", catalog.Restricted)
		period("a key that died", catalog.Invalid, "credential.test_failed")
		period("still dead", catalog.Misconfigured, "credential.test_failed")
		period("dead and busy", catalog.Indeterminate, "credential.test_failed")
		if diff := cmp.Diff(map[string][]string{"Default": {"test_failed"}}, kinds(t, k, owner)); diff != "" {
			t.Error(diff)
		}
		period("alive", catalog.Valid, "credential.test_failed")
		if len(kinds(t, k, owner)) != 0 {
			t.Error("a key that works has findings")
		}
		period("dead again", catalog.Invalid, "credential.test_failed", "credential.test_failed")
		if n := len(h.events(t, "acme", audit.CredentialTest)); n != len(tested) || n != 8 {
			t.Errorf("%d events of %d tests", n, len(tested))
		}
		e := h.events(t, "acme", audit.CredentialTest)[0]
		if e.Actor.Type != "system" || e.Actor.ID != "gatehouse" || e.Outcome != audit.Success {
			t.Errorf("the event of a test is %+v", e)
		}
		_, data := h.messages(t)
		if data[0]["result"] != "invalid" || data[0]["detail"] != "Said so." {
			t.Errorf("the message says %v", data[0])
		}
	})
}

// What a person's test says shows in the report within seconds too.
func TestAPersonsTestIsFound(t *testing.T) {
	p := &provider{}
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{Probe: p.probe})
	h.hook(t)
	k := h.Checker(checkOptions())
	c := h.create(t, owner, openai("", apiKey))
	check(t, k)
	for _, result := range []catalog.Result{catalog.Invalid, catalog.Valid} {
		p.says(result)
		if _, err := h.TestStored(t.Context(), owner, c.ID); err != nil {
			t.Fatal(err)
		}
		check(t, k)
		if found := len(kinds(t, k, owner)) > 0; found != (result == catalog.Invalid) {
			t.Errorf("after %s: found %v", result, found)
		}
	}
	h.expectTold(t, "after two tests", "credential.test_failed")
}

func TestUntestableIsShownOnly(t *testing.T) {
	p := &provider{}
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{Probe: p.probe})
	h.hook(t)
	k := h.Checker(checkOptions())
	h.create(t, owner, openai("", apiKey))
	p.says(catalog.Indeterminate)
	for i := range 4 {
		check(t, k)
		h.clock.Pass(day)
		test(t, k)
		if shown := len(kinds(t, k, owner)) > 0; shown != (i >= 2) {
			t.Errorf("after %d tests without an answer: shown %v", i+1, shown)
		}
	}
	h.expectTold(t, "a provider that is down")
	// An answer is looked for sooner than a period later.
	h.clock.Pass(3*time.Hour + time.Minute)
	p.says(catalog.Valid)
	test(t, k)
	if all := kinds(t, k, owner); len(all) != 0 {
		t.Errorf("after a clear answer: %v", all)
	}
}

// What does not open is found by the check, before anybody needs it.
func TestUnreadableIsFound(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		p := &provider{}
		p.says(catalog.Valid)
		h := newHouse(t, url, vault.Options{Probe: p.probe})
		h.hook(t)
		k := h.Checker(checkOptions())
		broken, fine := h.create(t, owner, openai("broken", apiKey)), h.create(t, owner, openai("fine", apiKeyTwo))
		check(t, k)
		health := func() vault.Health {
			t.Helper()
			all, err := k.Health(t.Context(), owner, vault.HealthFilter{})
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		if all := health(); all.Healthy != 0 || all.Unchecked != 2 {
			t.Errorf("before the check: %+v", all)
		}
		sealed := h.sealed(t, "acme", broken.ID)
		sealed[len(sealed)-1] ^= 1
		h.exec(t, `UPDATE credential_versions SET fields_sealed = $1 WHERE organization = 'acme' AND credential_id = $2`, sealed, broken.ID)
		h.clock.Pass(day)
		test(t, k)
		check(t, k)
		h.expectTold(t, "a version that does not open", "credential.unreadable")
		all := health()
		if all.Healthy != 1 || all.Unchecked != 1 || all.Findings[vault.Unreadable] != 1 || len(all.Items) != 1 || all.Items[0].ID != broken.ID {
			t.Errorf("%+v", all)
		}
		h.clock.Pass(day + time.Hour)
		test(t, k)
		h.expectTold(t, "a day later", "credential.unreadable")
		if p.asked[apiKey] != 0 || p.asked[apiKeyTwo] != 2 {
			t.Errorf("asked %v", p.asked)
		}
		// Nobody checks: what was green does not stay so.
		h.clock.Pass(3 * day)
		if all := health(); all.Healthy != 0 || all.Unchecked != 2 {
			t.Errorf("three days without a check: %+v", all)
		}
		if _, _, err := h.Rotate(t.Context(), owner, broken.ID, store.Match{}, vault.Rotation{Fields: map[string]string{"apiKey": apiKey}}); err != nil {
			t.Fatal(err)
		}
		test(t, k)
		if all := health(); all.Healthy != 2 || len(all.Items) != 0 {
			t.Errorf("stored again: %+v", all)
		}
		_ = fine
	})
}

// Instances share the tests: each is made once, and few at a time.
func TestInstancesShareTests(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		p := &provider{}
		p.says(catalog.Valid)
		h := newHouse(t, url, vault.Options{Probe: p.probe})
		one, two := h.Checker(checkOptions()), h.beside(t, url, vault.Options{Probe: p.probe}).Checker(checkOptions())
		const n = 30
		for i := range n {
			h.create(t, owner, openai(fmt.Sprint(i), fmt.Sprintf("sk-proj-%024d", i)))
		}
		h.create(t, stranger, zendesk())
		check(t, one, two)
		test(t, one, two)
		if p.count() != 0 {
			t.Fatalf("%d tests right after storing", p.count())
		}
		rounds := func() {
			for range 12 { // a round starts no more than there is room for
				test(t, one, two)
			}
		}
		h.clock.Pass(day / 2)
		rounds()
		if c := p.count(); c < n/6 || c > n-n/6 {
			t.Errorf("%d of %d tests in the first half of the period: are they spread?", c, n)
		}
		h.clock.Pass(day / 2)
		rounds()
		for key, times := range p.asked {
			if times != 1 {
				t.Errorf("%s was tested %d times in one period", key[:4], times)
			}
		}
		if len(p.asked) != n+1 {
			t.Errorf("%d of %d were tested", len(p.asked), n+1)
		}
		if p.most["openai"] > 4 { // two on each of two instances
			t.Errorf("%d tests at once with one service", p.most["openai"])
		}
		if all, err := one.Health(t.Context(), stranger, vault.HealthFilter{}); err != nil || all.Credentials != 1 || all.Healthy != 1 {
			t.Errorf("another organization: %+v, %v", all, err)
		}
	})
}

// An instance that is killed in the middle of a test does not keep it.
func TestALeaseEnds(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		stuck := &provider{block: make(chan struct{})}
		stuck.says(catalog.Valid)
		working := &provider{}
		working.says(catalog.Valid)
		h := newHouse(t, url, vault.Options{Probe: stuck.probe})
		killed, other := h.Checker(checkOptions()), h.beside(t, url, vault.Options{Probe: working.probe}).Checker(checkOptions())
		h.create(t, owner, openai("", apiKey))
		check(t, killed)
		h.clock.Pass(day)
		// Started whole before the clock goes on: it would take the test once more itself.
		if err := killed.StartDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		for stuck.count() == 0 {
			time.Sleep(time.Millisecond)
		}
		test(t, other)
		if working.count() != 0 {
			t.Error("a test that is under way is made twice")
		}
		h.clock.Pass(2*time.Minute + time.Second)
		test(t, other)
		if working.count() != 1 {
			t.Error("a test that was left is not made")
		}
		close(stuck.block)
		killed.WaitForTests()
	})
}

// A provider that asks for patience gets it; a host that a tenant chose holds
// back nobody.
func TestBusyProvider(t *testing.T) {
	p := &provider{}
	h := newHouse(t, t.TempDir()+"/gatehouse.db", vault.Options{Probe: p.probe})
	k := h.Checker(checkOptions())
	for i := range 6 {
		h.create(t, owner, openai(fmt.Sprint(i), fmt.Sprintf("sk-proj-%024d", i)))
	}
	check(t, k)
	h.clock.Pass(day)
	p.answer = catalog.Outcome{Result: catalog.Indeterminate, Busy: true, RetryAfter: 40 * time.Second}
	test(t, k)
	test(t, k)
	if n := p.count(); n < 1 || n > 2 { // two at once, where the second began before the first had its answer
		t.Errorf("%d tests with a provider that asked for patience", n)
	}
	h.clock.Pass(41 * time.Second)
	p.says(catalog.Valid)
	for range 4 {
		test(t, k)
	}
	if p.count() != 6 {
		t.Errorf("%d tests once the time was over", p.count())
	}
	// Zendesk's host is a tenant's: its answer holds back no other tenant's.
	h.create(t, owner, zendesk())
	second := zendesk()
	second.Fields["apiToken"] = "9999999999012345678901234567890123456789"
	h.create(t, stranger, second)
	check(t, k)
	h.clock.Pass(day)
	p.answer = catalog.Outcome{Result: catalog.Indeterminate, Busy: true, RetryAfter: time.Hour}
	p.asked = nil
	test(t, k)
	if p.asked["0123456789012345678901234567890123456789"]+p.asked["9999999999012345678901234567890123456789"] != 2 {
		t.Error("one tenant's host held back another tenant's test")
	}
}

func TestHealthPagesAndPermission(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		h := newHouse(t, url, vault.Options{})
		opts := checkOptions()
		k := h.Checker(opts)
		for i := range 7 {
			n := openai(fmt.Sprint(i), apiKey)
			if i != 3 {
				n.ExpiresAt = h.clock.Now().Add(2 * day)
			}
			h.create(t, owner, n)
		}
		check(t, k)
		var names []string
		f := vault.HealthFilter{Limit: 4}
		for range 3 {
			page, err := k.Health(t.Context(), owner, f)
			if err != nil || page.Findings[vault.Expires] != 6 {
				t.Fatal(page, err)
			}
			for _, item := range page.Items {
				names = append(names, item.Name)
			}
			if f.Cursor = page.NextCursor; f.Cursor == "" {
				break
			}
		}
		if diff := cmp.Diff([]string{"6", "5", "4", "2", "1", "0"}, names); diff != "" {
			t.Error(diff)
		}
		if page, err := k.Health(t.Context(), owner, vault.HealthFilter{Kind: vault.Unused}); err != nil || len(page.Items) != 0 {
			t.Error(page, err)
		}
		if page, err := k.Health(t.Context(), stranger, vault.HealthFilter{}); err != nil || page.Credentials != 0 || len(page.Items) != 0 {
			t.Error(page, err)
		}
		for _, bad := range []vault.HealthFilter{{Kind: "x"}, {Limit: -1}, {Limit: 1000}, {Cursor: "x"}, {Cursor: "Y3JlZF8n"}} {
			if _, err := k.Health(t.Context(), owner, bad); err == nil {
				t.Errorf("%+v is taken", bad)
			}
		}
		var denied *access.DeniedError
		machine := access.NewCaller("acme", access.Service, "m", access.ServiceRole)
		if _, err := k.Health(t.Context(), machine, vault.HealthFilter{}); !errors.As(err, &denied) {
			t.Errorf("a service: %v", err)
		}
	})
}
