package policy_test

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/policy"
	"github.com/gatehouse-io/gatehouse/ratelimit"
	"github.com/gatehouse-io/gatehouse/store"
)

// room is a policy over real parts: a database, the trail and a limiter.
type room struct {
	*policy.Limits
	db       *store.DB
	log      *audit.Log
	now      time.Time
	observed int
}

var (
	admin    = access.NewCaller("acme", access.User, "admin", access.Admin)
	member   = access.NewCaller("acme", access.Service, "backend", access.ServiceRole)
	stranger = access.NewCaller("other", access.User, "admin", access.Admin)
	auditor  = access.NewCaller(access.InstanceOrganization, access.User, "auditor", access.Operator)
)

func newRoom(t testing.TB, url string) *room {
	t.Helper()
	db, err := store.Open(t.Context(), url, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	r := &room{db: db, log: audit.New(db, audit.Options{}), now: noon}
	running, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); r.log.Run(running) }()
	t.Cleanup(func() {
		stop()
		<-done
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	r.Limits = r.again(t)
	return r
}

// again gives the policy of another instance over the same database.
func (r *room) again(t testing.TB) *policy.Limits {
	t.Helper()
	l := policy.New(ratelimit.NewMemory(ratelimit.MemoryOptions{}), r.db, r.log, policy.Defaults{
		IP: limits("100/1m"), Organization: limits("1000/1h"), Tests: limits("20/1m"),
	}, policy.Options{
		KnownService: func(name string) bool { return slices.Contains([]string{"openai", "stripe", "app"}, name) },
		Observed:     func(string) { r.observed++ },
		Now:          func() time.Time { return r.now },
	})
	if err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

func sqlite(t testing.TB) string { return filepath.Join(t.TempDir(), "gatehouse.db") }

func limits(texts ...string) (all []ratelimit.Limit) {
	for _, text := range texts {
		l, err := ratelimit.ParseLimit(text)
		if err != nil {
			panic(err)
		}
		all = append(all, l)
	}
	return all
}

// make stores a policy; its reason is made up where it has none.
func (r *room) make(t testing.TB, caller access.Caller, d policy.Draft) policy.Policy {
	t.Helper()
	if d.Reason == "" {
		d.Reason = "test"
	}
	p, err := r.CreatePolicy(t.Context(), caller, d)
	if err != nil {
		t.Fatalf("%+v: %v %+v", d, err, fieldsOf(err))
	}
	return p
}

// visit is a request of a member of an organization.
type visit struct{ organization, addr, service, path string }

// prepare gives the decision that a visit would meet.
func (r *room) prepare(v visit) (*policy.Request, access.Caller) {
	var q policy.Request
	caller := access.NewCaller(v.organization, access.Service, "backend", access.ServiceRole)
	addr, _ := netip.ParseAddr(v.addr)
	r.Prepare(&q, caller, policy.Visit{Addr: addr, Service: v.service, Path: v.path}, r.now)
	return &q, caller
}

// take makes a request and gives its outcome.
func (r *room) take(t testing.TB, v visit) policy.Outcome {
	t.Helper()
	q, caller := r.prepare(v)
	if err := r.Take(t.Context(), caller, r.now, q); err != nil && q.Outcome != policy.Blocked {
		t.Fatal(err)
	}
	return q.Outcome
}

// admitted gives how many of n requests pass at once.
func (r *room) admitted(t testing.TB, v visit, n int) (passed int) {
	t.Helper()
	for range n {
		if o := r.take(t, v); o == policy.Admitted || o == policy.Exempted {
			passed++
		}
	}
	return passed
}

// fieldsOf gives the names of the fields that an error says are wrong.
func fieldsOf(err error) []string {
	var names []string
	if f, ok := fault.As(err); ok {
		for _, field := range f.Fields {
			names = append(names, field.Name)
		}
	}
	return names
}

func checkFault(t testing.TB, err error, kind fault.Kind, fields ...string) {
	t.Helper()
	if fault.KindOf(err) != kind || !slices.Equal(fieldsOf(err), fields) {
		t.Errorf("got %v (kind %d, fields %q), want kind %d and fields %q", err, fault.KindOf(err), fieldsOf(err), kind, fields)
	}
}

// databases runs test on both.
func databases(t *testing.T, test func(t *testing.T, r *room)) {
	gatehousetest.Databases(t, func(t *testing.T, url string) { test(t, newRoom(t, url)) })
}
