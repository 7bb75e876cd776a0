package ratelimit

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// HTTPOptions configures [Middleware]. Limiter and Subjects are required.
type HTTPOptions struct {
	Limiter Limiter

	// Subjects appends the subjects of a request. A request without any is not
	// limited. Take an address from a header only when a proxy of your own
	// wrote it: otherwise the client chooses whom it is counted as.
	Subjects func(r *http.Request, subjects []Subject) []Subject

	// Denied answers a request over its limit, when the headers of [SetHeaders]
	// are set already; nil means a plain 429.
	Denied func(w http.ResponseWriter, r *http.Request, d *Decision)

	// Failed answers a request that could not be decided; nil means a plain
	// 503, also for [ErrFull]. It may also serve the request.
	Failed func(w http.ResponseWriter, r *http.Request, err error)

	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Middleware returns what puts a limiter before a handler: requests are counted,
// told how they stand, and refused with 429 over their limit.
func Middleware(options HTTPOptions) func(http.Handler) http.Handler {
	if options.Denied == nil {
		options.Denied = func(w http.ResponseWriter, _ *http.Request, _ *Decision) {
			http.Error(w, http.StatusText(http.StatusTooManyRequests), http.StatusTooManyRequests)
		}
	}
	if options.Failed == nil {
		options.Failed = func(w http.ResponseWriter, _ *http.Request, _ error) {
			http.Error(w, http.StatusText(http.StatusServiceUnavailable), http.StatusServiceUnavailable)
		}
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			subjects := options.Subjects(r, nil)
			if len(subjects) == 0 {
				next.ServeHTTP(w, r)
				return
			}
			var d Decision
			if err := options.Limiter.Take(r.Context(), options.Now(), subjects, &d); err != nil {
				if cause := r.Context().Err(); cause != nil && errors.Is(err, cause) {
					return // the client is gone
				}
				options.Failed(w, r, err)
				return
			}
			SetHeaders(w.Header(), subjects, &d)
			if !d.Admitted {
				options.Denied(w, r, &d)
				return
			}
			next.ServeHTTP(w, r)
		})
	}
}

// SetHeaders tells a client where it stands: RateLimit-Policy and RateLimit as
// in draft-ietf-httpapi-ratelimit-headers-10, one item for each subject, named by
// its type; and, where the request was denied, Retry-After in whole seconds and
// Retry-After-Ms in milliseconds, which some SDKs read. All of them are rounded up,
// so that a client which obeys any of them is not early.
func SetHeaders(h http.Header, subjects []Subject, d *Decision) {
	var policies, states strings.Builder
	for i := range d.Statuses {
		s := &d.Statuses[i]
		if i > 0 {
			policies.WriteString(", ")
			states.WriteString(", ")
		}
		name := structuredString(subjects[i].Type)
		policies.WriteString(name + ";q=" + strconv.Itoa(s.Limit.Requests) + ";w=" + ceil(s.Limit.Window, time.Second))
		states.WriteString(name + ";r=" + strconv.Itoa(s.Remaining) + ";t=" + ceil(s.Reset.Sub(d.Now), time.Second))
	}
	h.Set("RateLimit-Policy", policies.String())
	h.Set("RateLimit", states.String())
	if !d.Admitted {
		h.Set("Retry-After", ceil(d.RetryAfter, time.Second))
		h.Set("Retry-After-Ms", ceil(d.RetryAfter, time.Millisecond))
	}
}

// ceil writes how many units a duration has, rounded up.
func ceil(d, unit time.Duration) string {
	return strconv.FormatInt(int64((max(d, 0)+unit-1)/unit), 10)
}

// structuredString writes a string of a structured field (RFC 9651): printable
// ASCII in quotes. Anything else becomes a question mark.
func structuredString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < 0x20 || c > 0x7e:
			b.WriteByte('?')
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
