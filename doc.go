// Package gatehouse is the root of Gatehouse, which stands in front of a
// multi-tenant AI product: it keeps each organization's third-party API keys,
// decides which chat requests may pass, puts the right key on each that does,
// and keeps the trail.
//
// The rooms, from the leaves up; AGENTS.md says where to go for which change:
//
//	access             who is asking and what they may do
//	seal               keys derived, values encrypted; no I/O
//	catalog            the third-party services; no I/O
//	ratelimit          sliding windows, a library of its own
//	ratelimit/replay   recorded traffic through a limit
//	api                the wire types
//	internal/fault     the few kinds of errors and their public messages
//	internal/...       log and metrics, connections that may be steered, and the like
//	store              SQLite or PostgreSQL, transactions, migrations
//	audit              the trail
//	masterkey          the master keys: opened, staged, rotated, proved, retired
//	ledger             the trail sealed, proved and verified
//	org                organizations and members
//	auth               from a token to a caller
//	webhook            what organizations and SIEMs are told of
//	vault              credentials
//	policy             which limits hold for whom
//	policy/compare     two sets of policies over recorded traffic
//	retention          how long data is kept, holds and sweeps
//	usage              requests and tokens counted
//	usage/tokens       what an answer says of tokens, for each provider
//	backup             the whole database in one encrypted file, and back
//	gateway            to the providers and back
//	server             the HTTP edge
//	envoy              the same limits for Envoy, over gRPC
//	instance           everything wired together, from start to stop
//	cmd/gatehouse      the command line
//	gatehousetest      what tests need: databases, Redis, providers, a whole server
//
// The package itself holds nothing but the tests that look at all rooms at
// once: which may import which, and which SQL works across organizations.
package gatehouse
