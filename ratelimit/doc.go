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
// counted request: 6 to 8 bytes in memory, 5 in Redis.
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
// the first is exact. A limit that grows large begins with what was counted, and
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
// [Memory] and, without Redis, [Switch] take the instant that is passed to them, [Redis]
// the clock of the Redis server. Decision.Now says which instant it was, and resets are on
// the same clock; RetryAfter is right whatever the clocks. Of an instant that time.Now gave
// the monotonic reading counts, so that a wall clock that is set makes no window longer or
// shorter; Now and resets are told by the wall clock as it is then. A client that waits
// exactly RetryAfter is admitted by the subjects that denied it, unless others
// were faster; a millisecond less is too early.
//
// When Redis's clock steps back, or instants without a monotonic reading do, time stands still for
// each key that has a later stamp, until the clock has caught up. No window ever admits
// more for it.
//
// # Full of limited keys
//
// [Memory] holds a bounded number of keys. A new one takes the place of one that
// counts nothing or, if none is near, of one that is not limited now. Where there
// are only limited ones, none is pushed out: the new key shares a bucket with all
// of its group, which MemoryOptions.Overflow names, such as the network of its
// address. A bucket admits as much as a single key does, so that however many new
// addresses come, they are admitted no more than the limit for each network.
//
// A shared key's Status is that of its bucket, and says so in Status.Shared. When
// there is room again, a key begins with what its bucket counts and goes on by
// itself, so that it is never admitted by both. A bucket is shared by subjects of
// one type and the same windows. There is one for 16 keys, at most 65,536, and
// groups are spread over them by a random hash: two may meet in one. Reset leaves a
// bucket as it is.
//
// Without Overflow the decision is [ErrFull]. A [Switch] shares no buckets: Redis
// alone decides on a key that does not fit, and while it is away, ErrFull.
//
// # Without Redis
//
// While Redis is away, a [Switch] in its default mode, [Share], admits to each
// process at most
//
//	max(1, (limit - known) / instances)
//
// requests of a key, rounded down. known is what still counts of what Redis last
// told this process of the key, and of what it admitted itself since; instances is
// how many said that they were alive when Redis last answered, which each says
// about twice a second. So in any window N processes admit at most
//
//		admitted before + sum over the processes of max(1, (limit - known) / instances)
//
//	  - Where every process has heard of the key's last requests, that is the limit,
//	    plus one for each process when less than one each is left.
//	  - What other processes admitted since a process last heard of the key it does
//	    not know: at worst it knows nothing, and the sum is the limit once more.
//	    Twice the limit (plus one for each process) is never exceeded.
//	  - A process that starts during the outage knows of no key and counts itself as
//	    alone, unless SwitchOptions.Instances says better: it may admit the limit.
//	  - A key that only one process asks for, such as an address that a load balancer
//	    pins to it, gets its share there and no more: honest requests are denied.
//	  - A key that the mirror had to forget, for lack of room, is one never heard of.
//
// One window after Redis went away, what was admitted before counts no more, and
// all processes that were alive then admit the limit at most, as the share of each
// is at most limit / instances (but at least one).
//
// A decision that was not answered in time is decided by the share, and counts
// whether Redis has counted it or not. When Redis is back, also with an older
// snapshot or empty, each process first counts in it what it admitted and Redis does
// not know, and a request must pass both the share and Redis until all processes
// alive are so far. So no quota is handed out twice, but for the writes that a
// snapshot or a replica lacks of the last half second or so: what is missing of those
// cannot be seen.
//
// On a cluster the subjects of a decision are on several nodes. They are taken at once,
// and what was taken is given back when another subject denies. Until then, a round trip
// or at most two seconds where its node fails over, it counts, so that somebody else may
// be denied for it; the total never exceeds the limit.
//
// With [Full] each process holds the limits by itself, N times the limit in all;
// with [Deny] nothing is admitted.
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
