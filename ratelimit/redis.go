package ratelimit

import (
	"context"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"
)

// Defaults of [RedisOptions].
const (
	DefaultPrefix      = "gatehouse:limit:"
	DefaultTimeout     = 25 * time.Millisecond
	DefaultMaxInFlight = 1024
	DefaultMaxShared   = 16
	DefaultMaxDenials  = 1 << 16
)

// RedisOptions configures [NewRedis] and [OpenRedis]. The zero value is ready to
// use.
type RedisOptions struct {
	// Prefix starts the name of every key in Redis; "" means [DefaultPrefix].
	// Instances that share limits use the same.
	Prefix string

	// Timeout bounds every call, whatever state Redis and its connection are
	// in; 0 means [DefaultTimeout].
	Timeout time.Duration

	// MaxInFlight bounds the calls that Redis has not answered yet, those that
	// nobody waits for any more included; 0 means [DefaultMaxInFlight]. Past
	// it, calls fail at once. Calls that are sent together, for at most 16
	// decisions, count as one.
	MaxInFlight int

	// MaxShared is how many decisions one call may carry, at most 16; 0 means
	// [DefaultMaxShared], and with 1 each has a call of its own, those that
	// gathered being sent together. See [Redis].
	MaxShared int

	// MaxExact is up to how many requests a limit's window is exact; 0 means
	// [DefaultMaxExact]; 65,536 is the most. Instances that share limits use the
	// same. See "Large limits" in the package comment.
	MaxExact int

	// MaxDenials bounds the subjects whose denial is remembered, see [Redis];
	// 0 means [DefaultMaxDenials], and with a negative number none is.
	MaxDenials int
}

// Redis is an exact limiter that any number of processes share. Its clock is
// that of the Redis server, and the now passed to its methods is not used. Each
// decision is one round trip that runs one script, on Redis 5 or later.
//
// A decision is never held back to wait for company. While calls are under way,
// though, those that come meanwhile gather, and up to 16 of them share the next
// call: its script decides them one after another, each as if it were alone, and
// each keeps its own timeout. A call that fails fails for all that shared it, and a
// connection that is lost for all that were sent together.
//
// On a Redis Cluster the subjects of a decision are in different slots: they are
// taken at once, each by a script of its own, and where one denies, what the others
// took is given back before the answer. No subject ever admits more than its limit;
// one may deny a request while a unit that is about to be given back, of a decision
// that another subject denied, still counts: for two round trips, or, where a node
// fails just then and the unit cannot be given back, for its window. A prefix with a
// hash tag, such as "{limits}:", keeps all subjects in one slot, with one script for
// each decision.
//
// A denial is remembered, for as long as it is certain and at most five seconds,
// and answers further requests of the same subjects without a call, under a [Switch]
// also of one of them with others; time is then
// taken from this process's monotonic clock. So a reset by another process may
// take that long to be seen, unless a [Switch] watches for it.
//
// Errors wrap [ErrUnavailable]. A call that timed out may still be counted by
// Redis later: the error is on the safe side, a request too many is counted
// rather than one too few.
type Redis struct {
	connect   func() (rueidis.Client, error)
	close     func()
	prefix    string
	timeout   time.Duration
	exact     int
	ofMerged  int // requests that are kept of what is merged
	inFlight  chan struct{}
	shared    int // decisions a call may carry
	sharer    sharer
	calls     atomic.Uint64 // for decisions
	spread    atomic.Bool   // on a cluster, where subjects are in different slots: no call is shared
	reset     luaScript
	noteReset luaScript
	giveBack  luaScript
	mergeLua  luaScript
	aliveLua  luaScript
	denials   *denials
	edition   atomic.Pointer[edition]
	own       string // a line that makes scripts of it this limiter's own: see ownLine

	// restarted is set where Redis, or a node of a cluster, did not know this limiter's own
	// script at a mark: it was restarted since, or forgot its scripts.
	restarted atomic.Bool
	began     time.Time

	// scripted makes now count instead of the clocks, for tests that compare
	// Redis with other limiters.
	scripted bool
}

var _ Limiter = (*Redis)(nil)

// NewRedis returns a limiter on a client that is connected. The client remains
// the caller's; Close does not close it.
func NewRedis(client rueidis.Client, options RedisOptions) *Redis {
	return newRedis(func() (rueidis.Client, error) { return client, nil }, func() {}, options)
}

func newRedis(connect func() (rueidis.Client, error), closeClient func(), options RedisOptions) *Redis {
	if options.Prefix == "" {
		options.Prefix = DefaultPrefix
	}
	if options.Timeout <= 0 {
		options.Timeout = DefaultTimeout
	}
	if options.MaxInFlight <= 0 {
		options.MaxInFlight = DefaultMaxInFlight
	}
	if options.MaxDenials == 0 {
		options.MaxDenials = DefaultMaxDenials
	}
	if options.MaxExact <= 0 {
		options.MaxExact = DefaultMaxExact
	}
	if options.MaxShared <= 0 || options.MaxShared > DefaultMaxShared {
		options.MaxShared = DefaultMaxShared
	}
	r := &Redis{
		exact:     min(options.MaxExact, MostExact),
		connect:   connect,
		close:     closeClient,
		prefix:    options.Prefix,
		timeout:   options.Timeout,
		inFlight:  make(chan struct{}, options.MaxInFlight),
		shared:    options.MaxShared,
		reset:     script("reset"),
		noteReset: script("notereset"),
		giveBack:  script("giveback"),
		mergeLua:  script("merge"),
		denials:   newDenials(options.MaxDenials),
		began:     time.Now(),
		own:       ownLine(),
	}
	r.ofMerged = r.exact
	r.aliveLua = script("alive", r.own)
	r.expectAny()
	return r
}

// Close closes the connection that [OpenRedis] made.
func (r *Redis) Close() { r.close() }

// Take implements [Limiter].
func (r *Redis) Take(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return r.decide(ctx, now, subjects, d, true, nil)
}

// Peek implements [Limiter].
func (r *Redis) Peek(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return r.decide(ctx, now, subjects, d, false, nil)
}

// aside is what a Switch wants to know of a decision besides the answer.
type aside struct {
	counts []int // for each limit of each subject how many requests count; empty for a remembered denial

	// late is called when nobody waits for the answer any more. What it returns
	// is called if Redis admitted the request after all.
	late func() (admitted func())

	spent bool // nobody waited for the answer: Redis may have counted the request
	asked bool // Redis answered, and not what is remembered

	// partly says that one subject whose denial is remembered decides, since it is known
	// elsewhere how the others stand.
	partly bool
}

func (r *Redis) decide(ctx context.Context, now time.Time, subjects []Subject, d *Decision, take bool, a *aside) error {
	if err := validateSubjects(subjects); err != nil {
		return err
	}
	// Redis's clock in the answer is floored: for what is remembered, the
	// question was sent up to a millisecond earlier.
	at := time.Since(r.began)
	sent := at - time.Millisecond
	if r.scripted {
		at = now.Truncate(time.Millisecond).Sub(r.began)
		sent = at
	}
	age, known := r.denials.answer(at, subjects, d, a != nil && a.partly)
	if known {
		return nil
	}
	q := r.newQuestion(subjects, take, now)
	if a != nil {
		a.counts, a.spent, a.asked = a.counts[:0], false, false
	}
	reply, err := r.ask(ctx, q, a)
	if err != nil {
		return err
	}
	var counts *[]int
	if a != nil {
		counts, a.asked = &a.counts, true
	}
	if !reply.read(subjects, d, counts) {
		return unavailable(errStrange)
	}
	received := at
	if !r.scripted {
		received = time.Since(r.began)
	}
	r.denials.learn(age, sent, received, q.names, subjects, d, reply.unsettled)
	return nil
}

// Reset implements [Limiter].
func (r *Redis) Reset(ctx context.Context, subjectType, key string) error {
	if err := validateType(subjectType); err != nil {
		return err
	}
	_, err := r.resetNamed(ctx, storedName(subjectType, key))
	return err
}

// resetNamed is Reset, and gives where the reset stands among everybody's.
func (r *Redis) resetNamed(ctx context.Context, name string) (point int64, err error) {
	r.denials.forget(name)
	defer r.denials.forget(name) // again, for an answer that was under way
	// Two scripts: on a cluster, the subject and the resets are in different slots.
	if _, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return r.reset.Exec(context.Background(), client, []string{redisKey(r.prefix, name)}, nil)
	}); err != nil {
		return 0, err
	}
	noted, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return r.noteReset.Exec(context.Background(), client, []string{r.prefix + resetsName},
			[]string{name, strconv.Itoa(resetsKept), strconv.FormatInt(resetsFor.Milliseconds(), 10)})
	})
	if err != nil {
		return 0, err
	}
	return noted.AsInt64()
}
