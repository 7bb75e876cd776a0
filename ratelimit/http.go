package ratelimit

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// HTTPOptions configures [Middleware]. Limiter and Subjects are required.
type HTTPOptions struct {
	Limiter Limiter

	// Subjects appends the subjects of a request. A request without any is not
	// limited. Take an address from a header only when a proxy of your own
	// wrote it: otherwise the client chooses whom it is counted as. One client
	// has a whole /64 of IPv6: [AddressKey] makes one key of it.
	Subjects func(r *http.Request, subjects []Subject) []Subject

	// Denied answers a request over its limit, when the headers of [SetHeaders]
	// are set already; nil means a plain 429.
	Denied func(w http.ResponseWriter, r *http.Request, d *Decision)

	// Failed answers a request that could not be decided, also in the time that its context
	// has; nil means a plain 503, also for [ErrFull]. It may also serve the request. Of one
	// that was cancelled it is not told: its client is gone or, where the server cancelled it,
	// gets an empty 503.
	Failed func(w http.ResponseWriter, r *http.Request, err error)

	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Middleware returns what puts a limiter before a handler: requests are counted,
// told how they stand, and refused with 429 over their limit. It panics where
// Limiter or Subjects is nil.
func Middleware(options HTTPOptions) func(http.Handler) http.Handler {
	if options.Limiter == nil || options.Subjects == nil {
		panic("ratelimit: Middleware needs a Limiter and Subjects")
	}
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
				if errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled) {
					// Mostly nobody reads it, but a 200 would be a lie to whoever does.
					w.WriteHeader(http.StatusServiceUnavailable)
					return
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

// SetHeaders tells a client where it stands, as in
// draft-ietf-httpapi-ratelimit-headers-10. RateLimit-Policy lists every limit of
// every subject; an item is named by the subject's type, and where that has several
// limits by the limit too, as in "user-20/1s". RateLimit says of each subject's
// tightest limit what remains, and in how many seconds more does. A denied request
// is told Retry-After in whole seconds and Retry-After-Ms in milliseconds, which some
// SDKs read. All times are rounded up, so that a client which obeys any of them is
// not early.
func SetHeaders(h http.Header, subjects []Subject, d *Decision) {
	var policies, states []string
	for i := range d.Statuses {
		s, limits := &d.Statuses[i], subjects[i].Limits
		name := func(l Limit) string {
			if len(limits) == 1 {
				return structuredString(subjects[i].Type)
			}
			return structuredString(subjects[i].Type + "-" + l.String())
		}
		for _, l := range limits {
			policies = append(policies, name(l)+";q="+strconv.Itoa(l.Requests)+";w="+ceil(l.Window, time.Second))
		}
		states = append(states, name(s.Limit)+";r="+strconv.Itoa(s.Remaining)+";t="+ceil(s.Reset.Sub(d.Now), time.Second))
	}
	h.Set("RateLimit-Policy", strings.Join(policies, ", "))
	h.Set("RateLimit", strings.Join(states, ", "))
	if !d.Admitted {
		h.Set("Retry-After", ceil(d.RetryAfter, time.Second))
		h.Set("Retry-After-Ms", ceil(d.RetryAfter, time.Millisecond))
	}
}

// AddressKey is the key of a client's address: IPv4 and mapped IPv4 in its usual
// form, IPv6 as the first address of its network of ipv6Prefix bits, 64 for what one
// client has at least, 48 for what one site may have; 0 to 128. An address that is
// not valid has the key "invalid IP".
func AddressKey(addr netip.Addr, ipv6Prefix int) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		addr = netip.PrefixFrom(addr, min(max(ipv6Prefix, 0), 128)).Masked().Addr()
	}
	return addr.String()
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
