// Package bench compares Gatehouse with what a team would otherwise use: its
// limiter with other limiters, in memory and on Redis, and the whole server with
// a bare httputil.ReverseProxy. It is a module of its own so that none of the
// others is a dependency of Gatehouse.
//
//	cd bench && go test -run '^$' -bench . -benchtime 15x
//
// The sides of a comparison take turns at the same work, in an order that changes
// from round to round. What is reported is the median over the rounds, and a
// ratio, a name that starts with "x_", is taken within each round first: another
// process that has the machine for a while slows all sides or falls out. An
// iteration of the benchmark is one round or, where turns are short, several.
//
// A test, TestAccuracy, counts what limiters admit and deny wrongly beside an exact
// window, and prints a table with -v. GATEHOUSE_TRACE=FILE names the recorded
// traffic that it plays, of which the first 2,000 requests are in this repository.
//
// The Redis benchmark needs a redis-server in PATH, the whole server needs nothing.
// With GATEHOUSE_BENCH_PROFILE=FILE the process that runs Gatehouse writes a CPU
// profile to FILE and its allocations to FILE.allocs, for `go tool pprof`.
package bench
