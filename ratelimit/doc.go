// Package ratelimit decides whether a request may pass, by exact sliding
// windows.
//
// A [Limit] is a number of requests in any window of a length, written
// "100/1m". A [Subject] is what is limited, such as an IP address or an
// organization. A [Limiter] decides on one request of several subjects at once
// and says for each how it stands:
//
//	limiter := ratelimit.NewMemory(ratelimit.MemoryOptions{})
//	subjects := []ratelimit.Subject{
//		{Type: "ip", Key: "203.0.113.7", Limits: perIP},
//		{Type: "organization", Key: "acme", Limits: perOrganization},
//	}
//	var d ratelimit.Decision
//	if err := limiter.Take(ctx, time.Now(), subjects, &d); err != nil {
//		return err
//	}
//	if !d.Admitted {
//		// try again after d.RetryAfter
//	}
//
// # What is counted
//
// Time is whole milliseconds, rounded down. A request admitted at s counts at t
// while t - s < window. A request is admitted when, for each subject and each of
// its limits, fewer than Limit.Requests count. Only admitted requests count: a
// client that keeps knocking is not locked out for longer. All subjects are
// counted or none is: an address that is over its limit costs its organization
// nothing.
//
// So in no window of the length, wherever it begins, are more requests admitted
// than the limit says; fixed windows, windows weighed against the one before and
// token buckets admit up to twice as many in some. The price is a stamp for each
// counted request: 6 bytes in memory, some 10 in Redis.
//
// # Large limits
//
// A limit of more than MaxExact requests (4,096 unless told otherwise) keeps no
// stamp for each. Its window is counted in 256 sub-buckets, each of them a number
// of requests and the instant of the last: at most some 4 KB a window, however
// large the limit. All requests of a sub-bucket count until its last one is out of
// the window. So a large limit, too, never admits more than it says in any window;
// it may deny early, by less than a 256th of the window (14 seconds of an hour):
// what it denies, an exact window longer by that would deny. Resets and RetryAfter
// say when it admits, to the millisecond. A window of up to 256 ms is exact.
//
// Of a subject's limits only the large ones count so: in "20/1s" and "100000/1h",
// the second is exact. A limit that grows large begins with what was counted, and
// one that no longer is remains counted in sub-buckets for one window.
//
// # Several windows
//
// A subject may have several limits, such as "10/1s" and "1000/1h"; all apply.
// Its [Status] is about the tightest: the limit with the fewest requests
// remaining, among equals the one with the latest reset, among those the first.
// So when several are full, Reset and RetryAfter are those of the longest wait.
//
// Limits are passed with each decision and may change at any time. A lowered
// limit denies until enough of what counts has come free; a raised one has room
// at once. A key keeps what its longest window needs, so a window made longer
// begins with what the shorter one still remembered.
//
// # Clocks
//
// [Memory] takes the instant that is passed to it, [Redis] the clock of the
// Redis server. Decision.Now says which instant it was, and resets are on the
// same clock; RetryAfter is right whatever the clocks. A client that waits
// exactly RetryAfter is admitted by the subjects that denied it, unless others
// were faster; a millisecond less is too early.
//
// When the clock steps back, time stands still for each key that has a later
// stamp, until the clock has caught up. No window ever admits more for it.
//
// # Stores
//
// [Memory] is for one process: a decision on two subjects takes about a tenth of
// a microsecond and allocates nothing, and an idle key takes 100 bytes or less.
// [Redis] shares limits among processes with one round trip a decision, and
// always answers within its timeout. [Switch] puts Redis first and decides from
// memory while Redis is away. All three give the same answers to the same
// requests.
package ratelimit
