package ratelimit

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// The bounds of one decision.
const (
	MaxSubjects = 8   // subjects in one decision
	MaxLimits   = 8   // limits of one subject
	MaxType     = 32  // bytes in Subject.Type
	MaxKey      = 256 // bytes in Subject.Key that are kept as they are; longer keys are hashed
)

// The stores that a [Decision] names.
const (
	StoreMemory = "memory"
	StoreRedis  = "redis"
)

// Errors of [Limiter]. Test for them with [errors.Is].
var (
	// ErrInvalidSubject is wrapped by every error about subjects that no
	// decision can be made for: none or too many of them, the same one twice,
	// a type or limits out of bounds. It is a mistake of the calling program.
	ErrInvalidSubject = errors.New("invalid subject")

	// ErrInvalidTime is an instant before 1970 or past the year 10000.
	ErrInvalidTime = errors.New("time out of range")

	// ErrFull is Memory's answer when a new key does not fit, every key looked at
	// is limited just now, so that none may be pushed out for it, and there are
	// no buckets to share, see MemoryOptions.Overflow.
	ErrFull = errors.New("too many limited keys")

	// ErrUnavailable is wrapped by every error of [Redis] that is no decision:
	// not reachable, too slow, read-only, out of memory, not a Redis at all.
	ErrUnavailable = errors.New("rate limit store unavailable")
)

// Subject is one thing that is limited.
//
// Type says what kind of thing it is, for example "ip" or "organization": 1 to
// [MaxType] bytes. Key names it within its type: any bytes, also none; a key
// longer than [MaxKey] bytes is known by its SHA-256. Limits holds 1 to
// [MaxLimits] limits, which all apply; see "Several windows" in the package
// comment.
type Subject struct {
	Type   string
	Key    string
	Limits []Limit
}

// Validate says whether a decision can be made for the subject. The error
// wraps [ErrInvalidSubject], and [ErrInvalidLimit] where a limit is at fault.
func (s *Subject) Validate() error {
	if s.Type == "" || len(s.Type) > MaxType {
		return fmt.Errorf("%w: the type must be 1 to %d bytes", ErrInvalidSubject, MaxType)
	}
	if len(s.Limits) == 0 || len(s.Limits) > MaxLimits {
		return fmt.Errorf("%w: 1 to %d limits are needed", ErrInvalidSubject, MaxLimits)
	}
	for _, l := range s.Limits {
		if err := l.Validate(); err != nil {
			return fmt.Errorf("%w: %w", ErrInvalidSubject, err)
		}
	}
	return nil
}

// Status is how one subject stands after a decision. With several limits it is
// about one of them, the tightest: the one with the fewest requests remaining,
// among equals the one with the latest reset, among those the first.
type Status struct {
	// Limit is the limit this status is about.
	Limit Limit

	// Used is how many admitted requests count in the window, this one
	// included when it was admitted. It exceeds Limit.Requests only after the
	// limit was lowered.
	Used int

	// Remaining is how many more requests this limit has room for, never
	// negative.
	Remaining int

	// Reset is, for a full subject, the first instant at which it, alone,
	// admits again; otherwise the instant at which its oldest counted request
	// comes free; with nothing counted, Decision.Now. Whole milliseconds, UTC,
	// on the clock of Decision.Now.
	Reset time.Time

	// Full says that nothing remains: the subject denies the next request. In
	// a denied decision the full subjects are the ones that denied it; in an
	// admitted one, a full subject has just given its last.
	Full bool

	// RetryAfter is Reset minus Decision.Now for a full subject, otherwise 0.
	RetryAfter time.Duration

	// Shared says that the subject does not fit into memory and shares a bucket
	// with others: Used is what all of them used. See MemoryOptions.Overflow.
	Shared bool
}

// Decision is a limiter's answer. It belongs to the caller, who passes the same
// one again to save the allocation of Statuses; every field is overwritten.
type Decision struct {
	// Admitted says whether the request may pass. Take has then consumed one
	// unit of every subject, otherwise of none.
	Admitted bool

	// Now is the instant of the decision in whole milliseconds, UTC, on the
	// limiter's own clock: the instant passed in for Memory, that of the Redis
	// server for Redis.
	Now time.Time

	// Statuses holds one status for each subject, in the order of the
	// subjects.
	Statuses []Status

	// RetryAfter is, for a denied request, the largest RetryAfter of the
	// denying subjects; otherwise 0.
	RetryAfter time.Duration

	// Store is the store that decided: StoreMemory or StoreRedis.
	Store string

	// Degraded says that a Switch decided by this process's share because Redis
	// was away, or is only just back: then Store says that Redis agreed. Used is
	// then what this process admitted, Remaining what its share has room for.
	Degraded bool
}

// Limiter decides whether a request passes. Implementations are safe for
// concurrent use.
//
// A decision is all or nothing: a request is admitted when every subject has
// room in each of its windows, and only then is it counted, once for every
// subject. The order of subjects matters for the order of statuses only.
type Limiter interface {
	// Take decides on one request of all the subjects and counts it if it is
	// admitted. The answer is written to d. On an error d says nothing and,
	// as far as the limiter can know, nothing was counted.
	Take(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error

	// Peek says what Take would decide, and how the subjects stand, without
	// counting anything.
	Peek(ctx context.Context, now time.Time, subjects []Subject, d *Decision) error

	// Reset forgets everything counted for a subject. A key that is not known
	// is no error.
	Reset(ctx context.Context, subjectType, key string) error
}

// validateSubjects says what is wrong with subjects that no decision can be made for.
func validateSubjects(subjects []Subject) error {
	if len(subjects) == 0 || len(subjects) > MaxSubjects {
		return fmt.Errorf("%w: 1 to %d subjects are needed", ErrInvalidSubject, MaxSubjects)
	}
	for i := range subjects {
		if !subjects[i].valid() {
			return subjects[i].Validate()
		}
		for j := range i {
			if subjects[i].Type == subjects[j].Type && subjects[i].Key == subjects[j].Key {
				return fmt.Errorf("%w: the same subject twice", ErrInvalidSubject)
			}
		}
	}
	return nil
}

func validateType(subjectType string) error {
	if subjectType == "" || len(subjectType) > MaxType {
		return fmt.Errorf("%w: the type must be 1 to %d bytes", ErrInvalidSubject, MaxType)
	}
	return nil
}
