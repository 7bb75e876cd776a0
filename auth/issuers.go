package auth

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// When keys are fetched.
const (
	// KeysEvery is how often an issuer is asked for its keys, give or take a tenth.
	KeysEvery = 5 * time.Minute
	// KeysPause is the least time between two fetches from one issuer, whatever
	// asks for them: a forged key id costs it nothing more.
	KeysPause = 10 * time.Second
	// KeysStaleMax is how long keys are believed while their issuer cannot be
	// asked. After it tokens of that issuer are answered 503.
	KeysStaleMax = 24 * time.Hour

	keysTimeout = 5 * time.Second // of one fetch
	keysWait    = 2 * time.Second // of a request for a fetch
)

// ErrIssuerAway says that an issuer's keys are not to be had.
var ErrIssuerAway = fault.New(fault.Unavailable, "issuer_unavailable", "The keys of this token's issuer cannot be had; try again shortly.").After(KeysPause)

// Issuers are the configured issuers with their keys. Make them with
// [NewIssuers]; [Issuers.Run] keeps the keys fresh.
type Issuers struct {
	all     []*issuer
	fetches *fetches
}

// fetches owns the goroutines that ask issuers. A request that waits for one may leave
// before it is done, and others go on waiting.
type fetches struct {
	mu     sync.Mutex
	ended  bool
	all    sync.WaitGroup
	ctx    context.Context // of every fetch
	cancel context.CancelFunc
}

// begin runs fetch, unless all have ended.
func (f *fetches) begin(fetch func(context.Context)) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		return false
	}
	f.all.Go(func() { fetch(f.ctx) })
	return true
}

// end gives up those that run, and lets none begin.
func (f *fetches) end() {
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()
	f.cancel()
	f.all.Wait()
}

// IssuersOptions sets up [Issuers].
type IssuersOptions struct {
	Client *http.Client     // how issuers are asked; one that follows no redirect when nil
	Now    func() time.Time // time.Now when nil
	Logger *slog.Logger     // nothing is logged when nil
}

// NewIssuers gives the issuers of configs, which [ParseIssuers] has checked.
// Nothing is fetched yet.
func NewIssuers(configs []IssuerConfig, opts IssuersOptions) *Issuers {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Client == nil {
		opts.Client = newIssuerClient()
	}
	in := &Issuers{fetches: new(fetches)}
	in.fetches.ctx, in.fetches.cancel = context.WithCancel(context.Background())
	for _, c := range configs {
		in.all = append(in.all, &issuer{IssuerConfig: c, opts: opts, fetches: in.fetches})
	}
	return in
}

// newIssuerClient gives a client that follows no redirect.
func newIssuerClient() *http.Client {
	return &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// find gives the issuer of a claim iss, nil for one that is not configured.
func (in *Issuers) find(iss string) *issuer {
	if in == nil {
		return nil
	}
	for _, i := range in.all {
		if i.Issuer == iss {
			return i
		}
	}
	return nil
}

// knows reports whether any issuer signs with algorithm.
func (in *Issuers) knows(algorithm string) bool {
	return in != nil && slices.ContainsFunc(in.all, func(i *issuer) bool { return i.Algorithm == algorithm })
}

// Run keeps the keys of every issuer fresh until ctx ends. No issuer is asked after
// it has returned.
func (in *Issuers) Run(ctx context.Context) {
	var all sync.WaitGroup
	for _, i := range in.all {
		all.Go(func() { i.run(ctx) })
	}
	all.Wait()
	in.fetches.end()
}

// issuer is one of them with what is known of its keys.
type issuer struct {
	IssuerConfig
	opts    IssuersOptions
	fetches *fetches

	keys atomic.Pointer[keySet]

	mu       sync.Mutex
	running  chan struct{} // closed when the fetch that runs is done; nil: none runs
	lastTry  time.Time
	lastFail error
}

type keySet struct {
	keys      []*verifyKey
	fetchedAt time.Time
}

// find gives the keys that may have signed a token with this key id: the one of that id, or,
// where the token names none, each of them while they are few.
func (s *keySet) find(id string) []*verifyKey {
	if id == "" {
		if len(s.keys) > maxUnnamed {
			return nil
		}
		return s.keys
	}
	for at, k := range s.keys {
		if k.id == id {
			return s.keys[at : at+1]
		}
	}
	return nil
}

func (i *issuer) run(ctx context.Context) {
	for {
		i.fetch(ctx, true)
		wait := KeysEvery
		if i.failing() {
			wait = 3 * KeysPause
		}
		wait += time.Duration((rand.Float64() - 0.5) * float64(wait) / 5) // so that instances do not ask in step
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (i *issuer) failing() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.lastFail != nil
}

// known gives the keys for an id that are at hand, none where all are too old.
func (i *issuer) known(id string) []*verifyKey {
	set := i.keys.Load()
	if set == nil || i.opts.Now().Sub(set.fetchedAt) >= KeysStaleMax {
		return nil
	}
	return set.find(id)
}

// keysFor gives the keys for an id, and asks the issuer for those that are not at
// hand, at most every [KeysPause]. It gives [ErrIssuerAway] when no keys are to be
// had at all, and none when there is no such key.
func (i *issuer) keysFor(ctx context.Context, id string) ([]*verifyKey, error) {
	if k := i.known(id); len(k) > 0 {
		return k, nil
	}
	wait, cancel := context.WithTimeout(ctx, keysWait)
	defer cancel()
	i.fetch(wait, false)
	if k := i.known(id); len(k) > 0 {
		return k, nil
	}
	if set := i.keys.Load(); set == nil || i.opts.Now().Sub(set.fetchedAt) >= KeysStaleMax {
		return nil, ErrIssuerAway
	}
	return nil, nil
}

// fetch asks the issuer for its keys unless it was asked within [KeysPause], and
// waits for a fetch that runs already, or until ctx ends.
func (i *issuer) fetch(ctx context.Context, background bool) {
	i.mu.Lock()
	running := i.running
	if running == nil {
		now := i.opts.Now()
		if since := now.Sub(i.lastTry); !i.lastTry.IsZero() && since >= 0 && since < KeysPause {
			i.mu.Unlock()
			return
		}
		running = make(chan struct{})
		if !i.fetches.begin(func(ctx context.Context) { i.fetchNow(ctx, running, background) }) {
			i.mu.Unlock()
			return
		}
		i.running, i.lastTry = running, now
	}
	i.mu.Unlock()
	select {
	case <-running:
	case <-ctx.Done():
	}
}

func (i *issuer) fetchNow(ctx context.Context, done chan struct{}, background bool) {
	ctx, cancel := context.WithTimeout(ctx, keysTimeout)
	defer cancel()
	at := i.opts.Now()
	set, err := i.ask(ctx, at)
	if err == nil {
		i.keys.Store(set)
	}
	i.mu.Lock()
	if err != nil && !errors.Is(err, context.Canceled) && (i.lastFail == nil || background) {
		i.opts.Logger.WarnContext(ctx, "an issuer's keys could not be fetched; those known are used", "issuer", i.Issuer, "error", err)
	}
	i.lastFail, i.running = err, nil
	i.mu.Unlock()
	close(done)
}

func (i *issuer) ask(ctx context.Context, at time.Time) (*keySet, error) {
	data, err := fetchKeySet(ctx, i.opts.Client, i.JWKS)
	if err != nil {
		return nil, err
	}
	keys, weak, err := readKeySet(data, i.Algorithm)
	if err != nil {
		return nil, err
	}
	if weak > 0 {
		i.opts.Logger.WarnContext(ctx, "an issuer's keys that are too weak (RSA below 2048 bits, Ed25519 of a small order) are not used", "issuer", i.Issuer, "keys", weak)
	}
	if len(keys) == 0 { // it may have taken away all in an emergency: none is good any more
		i.opts.Logger.WarnContext(ctx, "an issuer's key set has no key that can be used; its tokens are refused", "issuer", i.Issuer, "algorithm", i.Algorithm)
	}
	// A key that was known before stays the same one, so that what was verified
	// with it is known to hold still.
	if before := i.keys.Load(); before != nil {
		for n, k := range keys {
			if same := slices.IndexFunc(before.keys, k.equal); same >= 0 {
				keys[n] = before.keys[same]
			}
		}
	}
	return &keySet{keys, at}, nil
}
