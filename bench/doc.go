// Package bench compares Gatehouse with what a team would otherwise use: its
// limiter with other limiters, in memory and on Redis, and the whole server with
// a bare httputil.ReverseProxy. It is a module of its own so that none of the
// others is a dependency of Gatehouse.
//
//	cd bench && go test -run '^$' -bench . -benchtime 15x
//
// An iteration is one round: every side does the same work once, in turns, and
// the order changes from round to round. What is reported is the median over the
// rounds, and ratios are taken within a round, so that another process that has
// the machine for a while slows all sides or falls out. A name that starts with
// "x_" is such a ratio. An odd number of rounds from 11 on is sensible.
//
// The Redis benchmark needs a redis-server in PATH, the whole server needs nothing.
// With GATEHOUSE_BENCH_PROFILE=FILE the process that runs Gatehouse writes a CPU
// profile to FILE and its allocations to FILE.allocs, for `go tool pprof`.
package bench
