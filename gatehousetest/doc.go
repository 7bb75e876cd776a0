// Package gatehousetest holds what the tests of Gatehouse stand on: real servers where a real one can be had, and
// fakes only of third parties that a test cannot reach.
//
// # Real servers
//
// [Postgres] gives the URL of a fresh database on a real PostgreSQL, and [Redis] a real redis-server of the test's own.
// Both programs are looked for in PATH (PostgreSQL in /usr/lib/postgresql/*/bin too). A test that needs one and does not find it
// fails and says what to install; it never skips. tools/setup-tests.sh installs both.
//
//	func TestStore(t *testing.T) {
//		db, err := pgxpool.New(t.Context(), gatehousetest.Postgres(t))
//		...
//	}
//
// One PostgreSQL serves a whole test process. It ends with the process; a package that wants it gone in order, before
// the process ends, says so in one line:
//
//	func TestMain(m *testing.M) { gatehousetest.Main(m) }
//
// Where GATEHOUSE_TEST_POSTGRES holds the URL of a superuser, databases are made on that server instead, so that many
// test processes share one. The command gatehousetest/withpostgres starts such a server, runs a command beside it and stops it:
//
//	go run ./gatehousetest/withpostgres go test ./...
//
// # Fake providers
//
// [OpenAI], [Anthropic], [Stripe], [Zendesk] and [Intercom] start an HTTP server that answers as the provider is
// documented to: the paths that Gatehouse and the official SDKs ask for, the documented error bodies, and the headers
// that matter to a gateway (request ids, the provider's own rate-limit headers). [SMTP] speaks RFC 5321 with STARTTLS and AUTH.
// [Documented] does the same for the one call by which a key of any other service is tested.
// Each checks the key it is given and records what it saw. Statuses, error types and codes are the documented ones; where the
// documentation shows no body (an overload, an unknown path, a missing scope at Anthropic, Zendesk or Intercom) the fake makes one up in the
// provider's form. No test should lean on an error's wording, but for OpenAI's "Missing scopes", which clients do read.
//
//	fake := gatehousetest.OpenAI(t, gatehousetest.Key("sk-one"))
//	fake.Next(gatehousetest.RateLimited(20*time.Second), gatehousetest.ServerError())
//	...                                     // two requests go wrong, the third is served
//	seen := fake.Await(3)
//
// The fakes listen on plain http at [Provider.URL] (what SERVICE_HOSTS=openai=URL wants) or, with [TLS], on https under
// a certificate for the names the test asks for, signed by a [CA] that nothing else trusts.
package gatehousetest
