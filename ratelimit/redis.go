package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

//go:embed take.lua
var takeScript string

//go:embed reset.lua
var resetScript string

//go:embed notereset.lua
var noteResetScript string

// Defaults of [RedisOptions].
const (
	DefaultPrefix      = "gatehouse:limit:"
	DefaultTimeout     = 25 * time.Millisecond
	DefaultMaxInFlight = 1024
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
	// it, calls fail at once.
	MaxInFlight int

	// MaxExact is up to how many requests a limit's window is exact; 0 means
	// [DefaultMaxExact]. Instances that share limits use the same. See "Large
	// limits" in the package comment.
	MaxExact int

	// MaxDenials bounds the subjects whose denial is remembered, see [Redis];
	// 0 means [DefaultMaxDenials], and with a negative number none is.
	MaxDenials int
}

// Redis is an exact limiter that any number of processes share. Its clock is
// that of the Redis server, and the now passed to its methods is not used. Each
// decision is one round trip that runs one script, on Redis 5 or later.
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
// and answers further requests of the same subjects without a call; time is then
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
	exact     string // MaxExact, as the script reads it
	inFlight  chan struct{}
	take      *rueidis.Lua
	reset     *rueidis.Lua
	noteReset *rueidis.Lua
	giveBack  *rueidis.Lua
	mergeLua  *rueidis.Lua
	aliveLua  *rueidis.Lua
	denials   *denials

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
	return &Redis{
		exact:     strconv.Itoa(options.MaxExact),
		connect:   connect,
		close:     closeClient,
		prefix:    options.Prefix,
		timeout:   options.Timeout,
		inFlight:  make(chan struct{}, options.MaxInFlight),
		take:      rueidis.NewLuaScript(takeScript),
		reset:     rueidis.NewLuaScript(resetScript),
		noteReset: rueidis.NewLuaScript(noteResetScript),
		giveBack:  rueidis.NewLuaScript(giveBackScript),
		mergeLua:  rueidis.NewLuaScript(mergeScript),
		aliveLua:  rueidis.NewLuaScript(aliveScript),
		denials:   newDenials(options.MaxDenials),
	}
}

// Close closes the connection that [OpenRedis] made.
func (r *Redis) Close() { r.close() }

// Take implements [Limiter].
func (r *Redis) Take(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return r.decide(ctx, now, subjects, d, "take", nil)
}

// Peek implements [Limiter].
func (r *Redis) Peek(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error {
	return r.decide(ctx, now, subjects, d, "peek", nil)
}

// aside is what a Switch wants to know of a decision besides the answer.
type aside struct {
	counts []int // for each limit of each subject how many requests count; empty for a remembered denial

	// late is called when nobody waits for the answer any more. What it returns
	// is called if Redis admitted the request after all.
	late func() (admitted func())

	spent bool // nobody waited for the answer: Redis may have counted the request
}

func (r *Redis) decide(ctx context.Context, now time.Time, subjects []Subject, d *Decision, verb string, a *aside) error {
	if err := validateSubjects(subjects); err != nil {
		return err
	}
	// Redis's clock in the answer is floored: for what is remembered, the
	// question was sent up to a millisecond earlier.
	at, script := time.Now(), ""
	sent := at.Add(-time.Millisecond)
	if r.scripted {
		at = now.Truncate(time.Millisecond)
		sent, script = at, strconv.FormatInt(at.UnixMilli(), 10)
	}
	keys := make([]string, len(subjects))
	args := []string{verb, script, r.exact}
	subjectArgs := make([][]string, len(subjects))
	for i := range subjects {
		s := &subjects[i]
		keys[i] = storedName(s.Type, s.Key)
		own := make([]string, 1, 1+2*len(s.Limits))
		own[0] = strconv.Itoa(len(s.Limits))
		for _, l := range s.Limits {
			own = append(own, strconv.Itoa(l.Requests), strconv.FormatInt(l.windowMS(), 10))
		}
		subjectArgs[i] = own
	}
	age, known := r.denials.answer(at, keys, subjects, d)
	if known {
		return nil
	}
	redisKeys := make([]string, 0, 2*len(keys))
	for _, name := range keys {
		redisKeys = append(redisKeys, r.prefix+name, largeName(r.prefix, name))
	}
	var late func() func([]int64)
	if a != nil {
		a.counts, a.spent = a.counts[:0], false
		late = func() func([]int64) {
			a.spent = true
			admitted := func() {}
			if a.late != nil {
				admitted = a.late()
			}
			return func(numbers []int64) {
				if len(numbers) > 0 && numbers[0] == 1 {
					admitted()
				}
			}
		}
	}
	numbers, err := callLate(ctx, r, late, func(client rueidis.Client) ([]int64, error) {
		if len(subjectArgs) > 1 && client.Mode() == rueidis.ClientModeCluster && !strings.Contains(r.prefix, "{") {
			return r.decideSpread(client, redisKeys, args[:3], subjectArgs)
		}
		return r.take.Exec(context.Background(), client, redisKeys, slices.Concat(args[:3], slices.Concat(subjectArgs...))).AsIntSlice()
	})
	if err != nil {
		return err
	}
	if !readDecision(numbers, subjects, d) {
		return unavailable(errors.New("the answer is not that of the script"))
	}
	r.denials.learn(age, sent, keys, subjects, d)
	if a != nil {
		for _, n := range numbers[2+3*len(subjects):] {
			a.counts = append(a.counts, int(n))
		}
	}
	return nil
}

// readDecision fills d from the script's reply and says whether it makes sense.
func readDecision(reply []int64, subjects []Subject, d *Decision) bool {
	want := 2 + 3*len(subjects)
	for i := range subjects {
		want += len(subjects[i].Limits)
	}
	if len(reply) != want {
		return false
	}
	now := reply[1]
	d.Admitted = reply[0] == 1
	d.Now = time.UnixMilli(now).UTC()
	d.RetryAfter = 0
	d.Store = StoreRedis
	d.Degraded = false
	d.Statuses = d.Statuses[:0]
	for i := range subjects {
		number, used, reset := reply[2+3*i], reply[3+3*i], reply[4+3*i]
		if number < 1 || number > int64(len(subjects[i].Limits)) {
			return false
		}
		s := Status{Limit: subjects[i].Limits[number-1], Used: int(used), Reset: time.UnixMilli(reset).UTC()}
		s.Remaining = max(0, s.Limit.Requests-s.Used)
		if s.Full = s.Remaining == 0; s.Full {
			s.RetryAfter = time.Duration(reset-now) * time.Millisecond
			if !d.Admitted {
				d.RetryAfter = max(d.RetryAfter, s.RetryAfter)
			}
		}
		d.Statuses = append(d.Statuses, s)
	}
	return true
}

// Reset implements [Limiter].
func (r *Redis) Reset(ctx context.Context, subjectType, key string) error {
	if err := validateType(subjectType); err != nil {
		return err
	}
	return r.resetNamed(ctx, storedName(subjectType, key))
}

func (r *Redis) resetNamed(ctx context.Context, name string) error {
	r.denials.forget(name)
	defer r.denials.forget(name) // again, for an answer that was under way
	// Two scripts: on a cluster, the subject and the resets are in different slots.
	if _, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return r.reset.Exec(context.Background(), client, []string{r.prefix + name, largeName(r.prefix, name)}, nil)
	}); err != nil {
		return err
	}
	_, err := r.call(ctx, func(client rueidis.Client) rueidis.RedisResult {
		return r.noteReset.Exec(context.Background(), client, []string{r.prefix + resetsName},
			[]string{name, strconv.Itoa(resetsKept), strconv.FormatInt(resetsFor.Milliseconds(), 10)})
	})
	return err
}

// call is callLate for a command whose answer is of no use when it is late.
func (r *Redis) call(ctx context.Context, do func(rueidis.Client) rueidis.RedisResult) (rueidis.RedisResult, error) {
	return callLate(ctx, r, nil, func(client rueidis.Client) (rueidis.RedisResult, error) {
		reply := do(client)
		return reply, reply.Error()
	})
}

// callLate runs do and waits for it no longer than the timeout and ctx allow. The
// client is not given a deadline: on one it would close a connection that is
// merely slow, and while its pipeline is stuck it would not look at it. Instead,
// nobody waits any longer, and MaxInFlight bounds what is left behind. An answer
// that comes after the timeout is handed to what late returns.
func callLate[T any](ctx context.Context, r *Redis, late func() func(T), do func(rueidis.Client) (T, error)) (T, error) {
	var none T
	select {
	case r.inFlight <- struct{}{}:
	default:
		return none, unavailable(errors.New("too many calls are waiting"))
	}
	type answer struct {
		value T
		err   error
	}
	timer := time.NewTimer(r.timeout)
	defer timer.Stop()
	done := make(chan answer, 1)
	go func() {
		defer func() { <-r.inFlight }()
		client, err := r.connect()
		if err != nil {
			done <- answer{err: err}
			return
		}
		value, err := do(client)
		done <- answer{value, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return none, unavailable(a.err)
		}
		return a.value, nil
	case <-ctx.Done():
		return none, fmt.Errorf("%w: %w", ErrUnavailable, context.Cause(ctx))
	case <-timer.C:
		if late != nil {
			use := late()
			go func() {
				if a := <-done; a.err == nil {
					use(a.value)
				}
			}()
		}
		return none, unavailable(fmt.Errorf("no answer within %v", r.timeout))
	}
}

// unavailableError is an ErrUnavailable with its cause.
type unavailableError struct {
	cause    error
	answered bool // Redis itself answered with an error
}

func unavailable(cause error) error {
	_, answered := rueidis.IsRedisErr(cause)
	return &unavailableError{cause, answered}
}

func (e *unavailableError) Error() string        { return ErrUnavailable.Error() + ": " + e.cause.Error() }
func (e *unavailableError) Unwrap() error        { return e.cause }
func (e *unavailableError) Is(target error) bool { return target == ErrUnavailable }
