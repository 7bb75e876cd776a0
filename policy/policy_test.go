package policy_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

func TestMain(m *testing.M) { gatehousetest.Main(m) }

var (
	noon     = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	ipLimit  = ratelimit.Limit{Requests: 3, Window: time.Minute}
	orgLimit = ratelimit.Limit{Requests: 5, Window: time.Hour}

	developer = access.NewCaller("acme", access.User, "u-1", access.Developer)
	operator  = access.NewCaller("ops", access.User, "root", access.Operator)
)

// gate is a policy and what it stands on; its time is noon until it is moved.
type gate struct {
	*policy.Limits
	db      *store.DB
	trail   *audit.Log
	limiter ratelimit.Limiter
	now     time.Time
}

func newGate(t testing.TB, url string, limiter ratelimit.Limiter) *gate {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.UpdateAcross(t.Context(), func(tx *store.Tx) error {
		_, err := tx.Exec(t.Context(), `INSERT INTO organizations (id, name, created_at) VALUES ('acme', 'Acme', 1) ON CONFLICT (id) DO NOTHING`)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	g := &gate{db: db, trail: audit.New(db, audit.Options{}), limiter: limiter, now: noon}
	running, stop := context.WithCancel(context.Background())
	var writer sync.WaitGroup
	writer.Go(func() { g.trail.Run(running) })
	t.Cleanup(func() { stop(); writer.Wait() })
	g.Limits = policy.New(limiter, db, g.trail, policy.Defaults{
		IP: []ratelimit.Limit{ipLimit}, Organization: []ratelimit.Limit{orgLimit},
	}, policy.Options{Now: func() time.Time { return g.now }})
	return g
}

func memory() ratelimit.Limiter { return ratelimit.NewMemory(ratelimit.MemoryOptions{}) }

// take asks for one request and gives whether it may pass.
func (g *gate) take(t testing.TB, c access.Caller, ip string) bool {
	t.Helper()
	ctx := audit.WithRequest(t.Context(), &audit.Request{
		ID: "req_1", Method: "POST", Route: "/api/chat/{service}/{path...}", IP: ip, UserAgent: "curl/8", Status: 429,
	})
	var r policy.Request
	g.Prepare(&r, c, policy.Visit{Addr: netip.MustParseAddr(ip)}, g.now)
	if err := g.Take(ctx, c, g.now, &r); err != nil {
		t.Fatal(err)
	}
	return r.Decision.Admitted
}

func (g *gate) events(t testing.TB, organization string) []audit.Event {
	t.Helper()
	reader := access.NewCaller(organization, access.User, "reader", access.Auditor)
	page, err := g.trail.Events(t.Context(), reader, audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

func TestIPKey(t *testing.T) {
	tests := map[string]string{
		"192.0.2.7":                             "192.0.2.7",
		"::ffff:192.0.2.7":                      "192.0.2.7", // mapped: the same client
		"::ffff:c000:207":                       "192.0.2.7",
		"2001:db8:1:2:3:4:5:6":                  "2001:db8:1:2::",
		"2001:db8:1:2:ffff:ffff:ffff:ffff":      "2001:db8:1:2::",
		"2001:db8:1:3::":                        "2001:db8:1:3::",
		"2001:0DB8:0001:0002::1":                "2001:db8:1:2::",
		"fe80::1%eth0":                          "fe80::",
		"fe80::2%a-very-long-zone-of-a-client":  "fe80::",
		"::ffff:192.0.2.7%eth0":                 "192.0.2.7",
		"::1":                                   "::",
		"64:ff9b::192.0.2.7":                    "64:ff9b::",
		"0.0.0.0":                               "0.0.0.0",
		"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff": "ffff:ffff:ffff:ffff::",
	}
	l := policy.New(memory(), nil, nil, policy.Defaults{}, policy.Options{})
	for in, want := range tests {
		if got := l.IPKey(netip.MustParseAddr(in)); got != want {
			t.Errorf("IPKey(%s) = %s, want %s", in, got, want)
		}
	}
	wide := policy.New(memory(), nil, nil, policy.Defaults{}, policy.Options{IPv6Prefix: 48})
	if got := wide.IPKey(netip.MustParseAddr("2001:db8:1:2::7")); got != "2001:db8:1::" {
		t.Errorf("by /48: %s", got)
	}
}

func TestTake(t *testing.T) {
	g := newGate(t, t.TempDir()+"/gatehouse.db", memory())
	other := access.NewCaller("globex", access.User, "u-1", access.Developer)
	steps := []struct {
		caller access.Caller
		ip     string
		want   bool
	}{
		{developer, "192.0.2.1", true},
		{developer, "::ffff:192.0.2.1", true}, // the same client
		{developer, "192.0.2.1", true},
		{developer, "192.0.2.1", false}, // the address is full
		{other, "192.0.2.1", false},     // whoever asks from there
		{developer, "2001:db8::1", true},
		{developer, "2001:db8::2", true},
		{developer, "2001:db8::3", false}, // the organization is full: five in all
		{developer, "192.0.2.9", false},
		{other, "2001:db8::4", true}, // what was denied did not count for the /64
		{other, "2001:db8::5", false},
		{other, "2001:db8:0:1::1", true},
	}
	for i, step := range steps {
		if got := g.take(t, step.caller, step.ip); got != step.want {
			t.Errorf("step %d, %s from %s: admitted %v", i, step.caller.Organization, step.ip, got)
		}
	}
	g.now = noon.Add(time.Minute)
	if !g.take(t, other, "192.0.2.1") || g.take(t, developer, "192.0.2.2") {
		t.Error("after a minute the address has room and the organization has none")
	}
}

// The event of a denial says which subject, which limit, who, from where; the
// address stands on the side row only.
func TestDenialEvent(t *testing.T) {
	gatehousetest.Databases(t, func(t *testing.T, url string) {
		g := newGate(t, url, memory())
		for i := range 5 {
			if ip := []string{"192.0.2.1", "2001:db8::7"}[i%2]; !g.take(t, developer, ip) {
				t.Fatal("denied too early")
			}
		}
		if g.take(t, developer, "192.0.2.1") { // both are full
			t.Fatal("admitted")
		}
		events := g.events(t, "acme")
		if len(events) != 2 {
			t.Fatalf("%d events: %+v", len(events), events)
		}
		byType := map[any]audit.Event{}
		for _, e := range events {
			byType[e.Metadata["type"]] = e
			want := audit.Request{ID: "req_1", Method: "POST", Route: "/api/chat/{service}/{path...}", IP: "192.0.2.1", UserAgent: "curl/8", Status: 429}
			if diff := cmp.Diff(want, e.Request); diff != "" {
				t.Errorf("the request (-want +got):\n%s", diff)
			}
			if e.Action != audit.LimitExceed || e.Outcome != audit.Denied || e.Reason != "limit_exceeded" || e.Class != audit.Security || e.Actor.ID != "u-1" {
				t.Errorf("the event: %+v", e)
			}
		}
		ip, organization := byType["ip"], byType["org"]
		wantIP := map[string]any{"type": "ip", "limit": 3.0, "windowSeconds": 60.0, "store": "memory"}
		if diff := cmp.Diff(wantIP, ip.Metadata); diff != "" {
			t.Errorf("of the address (-want +got):\n%s", diff)
		}
		if ip.Personal["key"] != "192.0.2.1" || len(ip.Targets) != 1 || ip.Targets[0].ID == "192.0.2.1" {
			t.Errorf("of the address: %+v", ip)
		}
		wantOrganization := map[string]any{"type": "org", "limit": 5.0, "windowSeconds": 3600.0, "store": "memory", "key": "acme"}
		if diff := cmp.Diff(wantOrganization, organization.Metadata); diff != "" || len(organization.Personal) != 0 {
			t.Errorf("of the organization (-want +got):\n%s", diff)
		}
		err := g.db.ViewAcross(t.Context(), func(tx *store.Tx) error {
			return tx.Each(t.Context(), func(scan func(...any) error) error {
				var canonical []byte
				if err := scan(&canonical); err != nil {
					return err
				}
				for _, personal := range []string{"192.0.2.1", "2001:db8", "curl"} {
					if containsText(canonical, personal) {
						t.Errorf("%s is in what is hashed: %s", personal, canonical)
					}
				}
				return nil
			}, `SELECT canonical FROM events`)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}

func TestStatus(t *testing.T) {
	g := newGate(t, t.TempDir()+"/gatehouse.db", memory())
	g.take(t, developer, "2001:db8::1")
	tests := []struct {
		name     string
		caller   access.Caller
		typ, key string
		kind     fault.Kind // with denied: access's own error
		denied   bool
		used     int
		wantKey  string
	}{
		{name: "own organization", caller: developer, typ: "org", key: "acme", used: 1, wantKey: "acme"},
		{name: "the long word", caller: developer, typ: "organization", key: "acme", used: 1, wantKey: "acme"},
		{name: "another organization", caller: developer, typ: "org", key: "globex", denied: true},
		{name: "an owner and another organization", caller: access.NewCaller("globex", access.User, "x", access.Owner, access.Admin), typ: "org", key: "acme", denied: true},
		{name: "an address", caller: developer, typ: "ip", key: "2001:db8::1", denied: true},
		{name: "no role", caller: access.NewCaller("acme", access.User, "x"), typ: "org", key: "acme", denied: true},
		{name: "operator, any organization", caller: operator, typ: "org", key: "acme", used: 1, wantKey: "acme"},
		{name: "operator, one that is not known", caller: operator, typ: "org", key: "never-seen", wantKey: "never-seen"},
		{name: "operator, an address of the /64", caller: operator, typ: "ip", key: "2001:db8::ffff", used: 1, wantKey: "2001:db8::"},
		{name: "operator, a mapped address", caller: operator, typ: "ip", key: "::ffff:192.0.2.1", wantKey: "192.0.2.1"},
		{name: "no type", caller: operator, typ: "user", key: "x", kind: fault.Invalid},
		{name: "a prefix", caller: operator, typ: "ip", key: "2001:db8::/64", kind: fault.Invalid},
		{name: "an address with a port", caller: operator, typ: "ip", key: "192.0.2.1:80", kind: fault.Invalid},
		{name: "no address", caller: operator, typ: "ip", key: "localhost", kind: fault.Invalid},
		{name: "the reserved organization", caller: operator, typ: "org", key: access.InstanceOrganization, kind: fault.Invalid},
		{name: "no id", caller: operator, typ: "org", key: "a/b\x00", kind: fault.Invalid},
		{name: "empty", caller: operator, typ: "org", key: "", kind: fault.Invalid},
	}
	for _, test := range tests {
		got, err := g.Status(t.Context(), test.caller, test.typ, test.key)
		var denied *access.DeniedError
		switch {
		case test.denied:
			if !errors.As(err, &denied) {
				t.Errorf("%s: %+v, %v", test.name, got, err)
			}
		case test.kind != fault.Internal:
			if fault.KindOf(err) != test.kind {
				t.Errorf("%s: %+v, %v", test.name, got, err)
			}
		case err != nil || got.Used != test.used || got.Key != test.wantKey:
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	ip, organization, d, err := g.Own(t.Context(), access.NewCaller("acme", access.User, "x"), netip.MustParseAddr("2001:db8::1"))
	if err != nil || ip.Used != 1 || organization.Used != 1 || ip.Type != "ip" || organization.Key != "acme" || !d.Admitted {
		t.Errorf("Own: %+v, %+v, %v", ip, organization, err)
	}
}
