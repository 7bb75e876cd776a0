package vault

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/store"
)

// How tests on the schedule are held back.
const (
	maxTests        = 8                // running at once on one instance
	maxTestsPerHost = 2                // of them with one service
	testLease       = 2 * time.Minute  // a test is over by then: after it, another instance may make it
	testAtMost      = 30 * time.Second // opening, asking and recording; what a stop waits for
	testCandidates  = 64               // read at a time
	busyPause       = 15 * time.Second // of a service after 429 without Retry-After
	maxBusyPause    = time.Minute      // of a service, whatever Retry-After says: it may speak of one account only
)

// lanes holds back tests with one service while enough of them run, or while
// it asked for patience. It holds nothing per credential: services are a closed
// list.
type lanes struct {
	mu      sync.Mutex
	running map[string]int
	total   int
	until   map[string]time.Time
	all     sync.WaitGroup
	freed   chan struct{}
}

// enter takes a place for a test with the service, if there is one.
func (l *lanes) enter(service string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= maxTests || l.running[service] >= maxTestsPerHost || now.Before(l.until[service]) {
		return false
	}
	if l.running == nil {
		l.running = make(map[string]int)
	}
	l.total++
	l.running[service]++
	l.all.Add(1)
	return true
}

func (l *lanes) leave(service string) {
	l.mu.Lock()
	l.total--
	l.running[service]--
	l.mu.Unlock()
	l.all.Done()
	select {
	case l.freed <- struct{}{}:
	default:
	}
}

// closed gives the services that no test can begin with, and whether there is a
// place at all.
func (l *lanes) closed(now time.Time) (services []string, room bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for service, n := range l.running {
		if n >= maxTestsPerHost {
			services = append(services, service)
		}
	}
	for service, until := range l.until {
		if !now.Before(until) {
			delete(l.until, service)
		} else if l.running[service] < maxTestsPerHost {
			services = append(services, service)
		}
	}
	return services, l.total < maxTests
}

// hold lets no test with the service begin before until.
func (l *lanes) hold(service string, until time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.until == nil {
		l.until = make(map[string]time.Time)
	}
	if until.After(l.until[service]) {
		l.until[service] = until
	}
}

// dueTest is a test that this instance has taken.
type dueTest struct {
	rowKey
	service string
	dueAt   int64 // microseconds; after it was taken, the lease's end
}

// endedTest is how a test on the schedule ended.
type endedTest struct {
	version int64
	result  catalog.Result // empty: the provider was not asked
	gone    bool           // the service is not in the catalogue
	opening opening
	next    time.Time
}

// unclear gives how many tests in a row gave no clear answer, after before many.
func (t *endedTest) unclear(before int64) int64 {
	switch {
	case t.gone:
		return unclearTests
	case t.result == catalog.Indeterminate:
		return before + 1
	case t.result == "":
		return before
	}
	return 0
}

// startTests takes the tests that are due and starts them, as far as there is
// room.
func (k *Checker) startTests(ctx context.Context) error {
	for ctx.Err() == nil {
		now := k.vault.opts.Now()
		closed, room := k.vault.lanes.closed(now)
		if !room {
			return nil
		}
		found, err := k.dueTests(ctx, closed, now)
		if err == nil && len(found) > 0 {
			err = k.vault.mayActBy(ctx, now)
		}
		if err != nil {
			return err
		}
		began := false
		for _, d := range found {
			if !k.vault.lanes.enter(d.service, k.vault.opts.Now()) {
				continue
			}
			began = true
			taken, err := k.takeTest(ctx, &d)
			if err != nil || !taken {
				k.vault.lanes.leave(d.service)
			}
			if err != nil {
				return err
			}
			if taken {
				go k.test(context.WithoutCancel(ctx), d)
			}
		}
		if !began {
			return nil
		}
	}
	return nil
}

// dueTests gives the tests that are due longest, without those of the services in closed.
func (k *Checker) dueTests(ctx context.Context, closed []string, now time.Time) ([]dueTest, error) {
	args := []any{store.At(now)}
	var but strings.Builder
	for _, service := range closed {
		args = append(args, service)
		but.WriteString(" AND c.service <> $" + strconv.Itoa(len(args)))
	}
	var all []dueTest
	err := k.vault.db.ViewAcross(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var d dueTest
			err := scan(&d.organization, &d.id, &d.service, &d.dueAt)
			all = append(all, d)
			return err
		}, `SELECT c.organization, c.id, c.service, c.test_due_at FROM credentials c
			JOIN organizations o ON o.id = c.organization AND o.deleted_at IS NULL
			WHERE c.test_due_at > 0 AND c.test_due_at <= $1`+but.String()+` ORDER BY c.test_due_at LIMIT `+strconv.Itoa(testCandidates), args...)
	})
	return all, err
}

// takeTest makes the test this instance's for the length of the lease, unless
// another was first.
func (k *Checker) takeTest(ctx context.Context, d *dueTest) (bool, error) {
	until := store.At(k.vault.opts.Now().Add(testLease)).UnixMicro()
	var n int64
	err := k.vault.db.Update(ctx, d.organization, func(tx *store.Tx) (err error) {
		n, err = tx.Exec(ctx, `UPDATE credentials SET test_due_at = $1 WHERE organization = $2 AND id = $3 AND test_due_at = $4`,
			until, d.organization, d.id, d.dueAt)
		return err
	})
	d.dueAt = until
	return n == 1, err
}

// test makes one test and settles what it says.
func (k *Checker) test(ctx context.Context, d dueTest) {
	defer k.vault.lanes.leave(d.service)
	ctx, cancel := context.WithTimeout(ctx, testAtMost)
	defer cancel()
	ended, err := k.ask(ctx, d)
	now := k.vault.opts.Now()
	if err == nil {
		err = k.vault.mayActBy(ctx, now)
	}
	if err == nil {
		var told []FindingKind
		err = k.vault.db.Update(ctx, d.organization, func(tx *store.Tx) (err error) {
			told, err = k.settle(ctx, tx, d.rowKey, &ended, now)
			return err
		})
		if err == nil {
			for _, kind := range told {
				k.opts.Found(kind)
			}
		}
	}
	if err != nil { // the lease ends, and the test is made again
		k.opts.Tested("failed")
		k.vault.opts.Logger.WarnContext(ctx, "a stored credential could not be tested", "organization", d.organization, "credential", d.id, "error", err)
	}
}

// ask opens and tests the credential. An error says that nothing is known.
func (k *Checker) ask(ctx context.Context, d dueTest) (endedTest, error) {
	now := k.vault.opts.Now()
	// At most one period after the last, and not all at once.
	ended := endedTest{next: now.Add(k.opts.TestEvery - rand.N(k.opts.TestEvery/8+1))}
	c, _, err := k.vault.read(ctx, d.rowKey)
	if errors.Is(err, store.ErrNotFound) {
		return ended, nil // deleted meanwhile
	}
	if err != nil {
		return ended, err
	}
	ended.version = c.Version
	if c.Status == Disabled || c.Status == Expired {
		return ended, nil // what may not be used is not opened
	}
	// What TestStored asks for is what the role developer has; a timer has nothing more.
	caller := access.NewCaller(d.organization, access.System, "gatehouse", access.Developer)
	result, err := k.vault.TestStored(ctx, caller, d.id)
	switch {
	case err == nil:
		ended.result, ended.opening = result.Result, opens
		k.opts.Tested(string(result.Result))
		if result.Result == catalog.Indeterminate {
			again := max(k.opts.TestEvery/8, time.Second) // sooner than the next period, so that a key that died meanwhile is found
			ended.next = now.Add(again - rand.N(again/8+1))
		}
	case errors.Is(err, ErrUnreadable):
		ended.opening = opensNot
		k.opts.Tested("unreadable")
	case errors.Is(err, ErrNoService):
		ended.gone = true
	case errors.Is(err, ErrNotFound):
	default:
		return ended, err
	}
	return ended, nil
}

// watching gives probe with an ear for providers that ask for patience. A host
// that tenants choose cannot hold back the tests of others.
func (l *lanes) watching(probe Probe, now func() time.Time) Probe {
	return func(ctx context.Context, service *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error) {
		outcome, took, err := probe(ctx, service, fields)
		if outcome.Busy && !slices.ContainsFunc(service.Fields, func(f catalog.Field) bool { return f.Destination() }) {
			pause := busyPause
			if outcome.RetryAfter > 0 {
				pause = min(outcome.RetryAfter, maxBusyPause)
			}
			l.hold(service.Name, now().Add(pause))
		}
		return outcome, took, err
	}
}
