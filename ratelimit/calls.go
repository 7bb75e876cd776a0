package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/rueidis"
)

var errTooMany = errors.New("too many calls are waiting")

// call runs do, which is no decision, and waits for it no longer than the timeout
// and ctx allow; see exchange for why the client has no deadline.
func (r *Redis) call(ctx context.Context, do func(rueidis.Client) rueidis.RedisResult) (rueidis.RedisResult, error) {
	var none rueidis.RedisResult
	select {
	case r.inFlight <- struct{}{}:
	default:
		return none, unavailable(errTooMany)
	}
	type answer struct {
		value rueidis.RedisResult
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
		reply := do(client)
		done <- answer{reply, reply.Error()}
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
		return none, unavailable(fmt.Errorf("no answer within %v", r.timeout))
	}
}

// quiet waits until Redis has answered all calls that are under way, nobody waiting for some
// of them any more, but no longer than the timeout.
func (r *Redis) quiet(ctx context.Context) {
	for end := time.Now().Add(r.timeout); len(r.inFlight) > 0 && ctx.Err() == nil && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// unavailableError is an ErrUnavailable with its cause.
type unavailableError struct {
	cause    error
	answered bool // Redis itself answered with an error
}

func unavailable(cause error) error {
	var said *rueidis.RedisError // also one of several, of a cluster
	return &unavailableError{cause, errors.As(cause, &said) || errors.Is(cause, errLost)}
}

func (e *unavailableError) Error() string        { return ErrUnavailable.Error() + ": " + e.cause.Error() }
func (e *unavailableError) Unwrap() error        { return e.cause }
func (e *unavailableError) Is(target error) bool { return target == ErrUnavailable }
