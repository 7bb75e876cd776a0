// Package gatehouse is the root of Gatehouse, which stands in front of a
// multi-tenant AI product: it keeps each organization's third-party API keys,
// decides which chat requests may pass, puts the right key on each that does,
// and keeps the trail.
//
// The rooms, from the leaves up; AGENTS.md says where to go for which change:
//
//	access      who is asking and what they may do
//	seal        keys derived, values encrypted; no I/O
//	catalog     the third-party services; no I/O
//	ratelimit   sliding windows, a library of its own
//	api         the wire types
//	store       SQLite or PostgreSQL, transactions, migrations
//	audit       the trail
//	org         organizations and members
//	auth        from a token to a caller
//	masterkey   the master keys: opened, staged, rotated, proved, retired
//	vault       credentials
//	policy      which limits hold for whom
//	backup      the whole database in one encrypted file, and back
//	gateway     to the providers and back
//	server      the HTTP edge
//	envoy       the same limits for Envoy, over gRPC
//	instance    everything wired together, from start to stop
//	cmd/gatehouse   the command line
//
// The package itself holds nothing but the test that pins which room may
// import which.
package gatehouse
