// Package policy says which rate limits hold for whom, and shows and resets
// where a subject stands.
//
// A request has two subjects, its client's address and its organization, and
// both must have room: [Limits.Take] decides on them in one step. An IPv4
// address is a subject of its own; IPv6 addresses are taken by their /64, since
// that is what one client has. A denial is a security event.
//
// # Policies
//
// The environment's limits are defaults. A [Policy] says something else for the
// requests in its scope: an organization, an address range, a service, a path of
// a service, each of which may be left open. Its [Effect] is one of
//
//	limit    its windows, up to [MaxWindows] of which all hold, for one subject
//	exempt   the requests pass and are not counted
//	block    the requests are refused with 403
//
// with a reason, and where wanted an instant from which on it does not hold.
// The operator's policies are owned by the instance; an organization has its
// own. No two policies of one owner hold for exactly the same requests: two
// limits on the same subject, or a block and an exemption.
//
// # Precedence
//
// First match wins, in this order:
//
//  1. Blocks, the operator's and the organization's own.
//  2. Exemptions, which only the operator makes.
//  3. For the address and for the organization, each by itself: the operator's
//     most specific limit, or else the environment's default.
//  4. Beside those, the organization's own most specific limits.
//
// The more specific of two policies is, at the first of these that differs, the
// one that
//
//  1. names the organization,
//  2. names an address range; of two, the longer prefix,
//  3. names a service,
//  4. names a path; of two, the one with more literal segments, then with more
//     segments, then without ** at its end.
//
// The limits of 3 and 4 must all have room, and all are counted or none is. So
// an organization's own limits only tighten the operator's, whatever they say and
// however the operator's change later. One that could never be reached beside
// the operator's is refused when it is made, as a mistake.
//
// A policy replaces less specific ones: a service with a limit of its own does
// not count against the organization's general one. What a limit counts is its
// scope. A limit for an organization, or for everybody's organization, is about
// the organization's own counter, and so is one for an address or a range about
// the address's own; so these can change and keep the counts. Every other scope
// (a service, a path, an organization's addresses, a range's organizations)
// counts for itself.
//
// # Paths
//
// A path pattern is about the path after the service: "*" is any one segment,
// "**" at the end any number of them, also none. Paths are compared after
// escapes are decoded, dot segments resolved, empty segments and parameters
// (";...") dropped, so that another spelling is no way around a limit. A slash that is encoded is read
// as a separator and as a part of its segment: limits and blocks of both readings
// hold, and what is exempt in both. One that is encoded several times is read so by who
// decodes once, by who decodes twice, and so on ([Readings]). Queries and methods do not matter.
//
// # Observing
//
// A limit or block with the mode [Observe] refuses nothing. Requests that were
// admitted are put to it, and to a block those that were exempt: a limit keeps counts of its
// own, beside the real ones. Where a more specific limit is in force, it would not hold, and tells
// nothing. What it would have refused is an event limit.observe, in the trail of the
// policy's owner, and is counted. Put it into force by changing its mode.
//
// # Changes
//
// A change, its revision and its control event are one transaction. The instance
// that made it decides by it at once, others within [Poll] and the time to read
// the policies again; they are compiled into a snapshot that decisions read
// without a lock. While the database is away the last one holds. A policy's last
// 100 states are kept: [Limits.RollBack] brings one back, also of a deleted
// policy.
package policy
