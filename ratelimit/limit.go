package ratelimit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The bounds of a [Limit]. Both are far past any sensible limit; they keep one
// key's memory and all arithmetic bounded.
const (
	MaxRequests = 1_000_000
	MinWindow   = time.Millisecond
	MaxWindow   = 366 * 24 * time.Hour
)

// maxLimitText bounds what ParseLimit looks at. The longest limit that means
// anything ("1000000/8783h59m59.999s") is far shorter.
const maxLimitText = 64

// ErrInvalidLimit is wrapped by every error about a limit that is malformed or
// out of bounds.
var ErrInvalidLimit = errors.New("invalid limit")

// Limit is how many requests are admitted in any window of the given length.
// Requests is 1 to [MaxRequests]; Window is whole milliseconds from [MinWindow]
// to [MaxWindow]. The zero Limit is not valid.
type Limit struct {
	Requests int
	Window   time.Duration
}

// ParseLimit reads a limit written as REQUESTS/WINDOW, where WINDOW is a Go
// duration: "100/1m", "1000/1h", "5/250ms". There are no spaces and no signs.
// The error wraps [ErrInvalidLimit] and says what is wrong without repeating
// the text.
func ParseLimit(s string) (Limit, error) {
	if len(s) > maxLimitText {
		return Limit{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalidLimit, maxLimitText)
	}
	requests, window, ok := strings.Cut(s, "/")
	if !ok || requests == "" || window == "" {
		return Limit{}, fmt.Errorf("%w: want REQUESTS/WINDOW, for example 100/1m", ErrInvalidLimit)
	}
	for i := range len(requests) {
		if requests[i] < '0' || requests[i] > '9' {
			return Limit{}, fmt.Errorf("%w: the number of requests is not a whole number", ErrInvalidLimit)
		}
	}
	n, err := strconv.ParseInt(requests, 10, 64)
	if err != nil || n < 1 || n > MaxRequests {
		return Limit{}, errRequests()
	}
	if window[0] == '-' || window[0] == '+' {
		return Limit{}, fmt.Errorf("%w: the window has a sign", ErrInvalidLimit)
	}
	d, err := time.ParseDuration(window)
	if err != nil {
		return Limit{}, fmt.Errorf("%w: the window is not a duration with units, such as 30s, 1m or 24h", ErrInvalidLimit)
	}
	l := Limit{Requests: int(n), Window: d}
	if err := l.Validate(); err != nil {
		return Limit{}, err
	}
	return l, nil
}

// Validate says whether the limit is within bounds. The error wraps
// [ErrInvalidLimit].
func (l Limit) Validate() error {
	switch {
	case l.Requests < 1 || l.Requests > MaxRequests:
		return errRequests()
	case l.Window < MinWindow || l.Window > MaxWindow:
		return fmt.Errorf("%w: the window must be between %v and %d days", ErrInvalidLimit, MinWindow, MaxWindow/(24*time.Hour))
	case l.Window%time.Millisecond != 0:
		return fmt.Errorf("%w: the window must be whole milliseconds", ErrInvalidLimit)
	}
	return nil
}

func errRequests() error {
	return fmt.Errorf("%w: the number of requests must be between 1 and %d", ErrInvalidLimit, MaxRequests)
}

// valid is Validate without an error to build, for the path of a decision.
func (l Limit) valid() bool {
	return uint(l.Requests-1) < MaxRequests &&
		l.Window >= MinWindow && l.Window <= MaxWindow && l.Window%time.Millisecond == 0
}

// windowMS is the window in milliseconds.
func (l Limit) windowMS() int64 { return int64(l.Window / time.Millisecond) }

// String writes the limit as [ParseLimit] reads it, in its shortest form:
// "100/1m", not "100/1m0s".
func (l Limit) String() string {
	w := l.Window.String()
	if strings.HasSuffix(w, "m0s") {
		w = strings.TrimSuffix(w, "0s")
	}
	if strings.HasSuffix(w, "h0m") {
		w = strings.TrimSuffix(w, "0m")
	}
	return strconv.Itoa(l.Requests) + "/" + w
}

// MarshalText is [Limit.String] for encoders; it refuses a limit that is not
// valid, since nothing could read it back.
func (l Limit) MarshalText() ([]byte, error) {
	if err := l.Validate(); err != nil {
		return nil, err
	}
	return []byte(l.String()), nil
}

// UnmarshalText is [ParseLimit] for decoders.
func (l *Limit) UnmarshalText(text []byte) error {
	if len(text) > maxLimitText {
		text = text[:maxLimitText+1] // enough for ParseLimit to refuse it
	}
	parsed, err := ParseLimit(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}
