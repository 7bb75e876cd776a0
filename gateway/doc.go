// Package gateway is the way out to the providers: it takes a request that has
// been authenticated and let through by the limits, puts the organization's
// credential on it, sends it to the one host the catalogue names, and streams
// the answer back.
//
// # Place in a request
//
// The server knows the caller and has its decision; it calls [Gateway.Serve]
// with a [Visit] and gets a [Result], from which it makes the one access event:
//
//	service, path, ok := gateway.SplitPath(r, gateway.Chat)
//	result := g.Serve(w, r, gateway.Visit{Route: gateway.Chat, Caller: caller, Service: service, Path: path})
//	record(result)
//	if result.Abort {
//		panic(http.ErrAbortHandler)
//	}
//
// Serve never panics for a broken answer: it returns with Abort set, so that
// the visit is recorded first and the connection is cut after.
//
// The routes must not go through [http.ServeMux]'s path cleaning, which answers
// a path with dot segments by a redirect; SplitPath reads the request line as
// it was sent.
//
// # Where a request goes
//
// The service's name picks an entry of the catalogue, whose origin (scheme,
// host, port, base path) is pinned. The escaped path after the name is appended
// byte for byte, the query goes along as it is. A path that could mean another
// one to some server (dot segments, encoded slashes, backslashes, control
// characters, in any number of encodings) is refused and never repaired; only a
// service whose API has slashes inside of segments takes one that is encoded once
// ([catalog.Service.EncodedSlashes], docs/adr/040-encoded-slashes.md).
// Redirects are handed to the caller and not followed.
//
// Two names are not third parties: echo answers here, without a network, in
// OpenAI's shape; app is the operator's own backend.
//
// # The identity that the operator's backend gets
//
// The service app carries no key. It is told who the caller is:
//
//	Gatehouse-Organization: acme
//	Gatehouse-Subject: u_1
//	Gatehouse-Roles: owner,operator
//	Gatehouse-Request-Id: req_1
//	Gatehouse-Timestamp: 1795423260
//	Gatehouse-Signature: v1=<hex HMAC-SHA256([Options.AppKey], text)>
//
// where text is, joined by newlines: "v1", the timestamp (Unix seconds), the
// method, the request URI as it stands on the request line, organization,
// subject, roles and request id, each exactly as in its header. Characters that
// cannot stand in a header, the space, "%", and in a role the comma, are
// percent-encoded (RFC 3986), so no value can hold a newline and shift the rest.
//
// A backend recomputes the signature, compares in constant time, and refuses a
// timestamp more than a few minutes off; the package's example does it. The body
// is not signed: the hop to the backend has to be one that nobody else can write
// to.
//
// # What is removed
//
// From a request: hop-by-hop headers (RFC 9110, 7.6.1) with whatever
// Connection names, cookies, everything that can carry the caller's own
// credential, forwarding headers, trace headers, Gatehouse-*, Accept-Encoding (an answer has to
// be readable to be ended properly, and to be counted), and names with anything but letters, digits
// and hyphens, which some backends fold into other names. The credential is put
// on after all that, so nothing in a request can take it off again.
//
// From an answer: hop-by-hop headers, cookies, Gatehouse-*, and headers that
// make a browser or a fronting proxy change its behaviour towards our origin
// (HSTS, Alt-Svc, CORS, X-Accel-*, ...). A header that the server has set
// already, and every rate-limit header, is passed on as Upstream-NAME.
//
// Of what is left, a service's lists in the catalogue say what passes, each way.
// The injected values are cut out of an answer's headers, out of the body of every
// answer from 300 up and out of event streams (scrub.go), in any of their spellings
// (cutter.go, escapes.go).
//
// # What a credential may be used for
//
// The opener finds a credential without opening it; its scope is looked at with
// the whole request at hand, and what it does not take is denied before the key
// is opened (scope.go). Nothing of that touches a breaker.
//
// # When a service is in trouble
//
// A request is sent again where nothing of it was sent, or where it is idempotent
// and the service out of order: after a random wait, within the time to the first
// byte and a budget of the organization and host (retry.go). Where the provider
// answers 401, 402 or 429, the credentials that the first one names step in
// (failover.go). A breaker for each organization, credential and host stops
// requests to what fails (breaker.go). All of it happens before the first byte of
// an answer is passed on.
//
// # A credential that is being rotated
//
// While a credential's previous version is in grace, an answer of 401 to the
// active one is not the last word: the request is sent once more with the
// previous one, before anything was sent to the caller. Its answer is passed on
// unless it is 401 or 403 too, and then Credential.Fallback is told. A 401 that the
// catalogue reads as a missing scope, and every other status, is passed on as it is.
//
// # Bodies and streams
//
// A request body is taken whole before the provider is called: into memory, or
// above [Options.MemoryBody] and where memory is short into a file of the spool
// ([Options.SpoolDir]) that has no name and is encrypted under a key in memory. The
// transport may then repeat it on a fresh connection, and a slow or broken upload
// never holds a connection to a provider. A body is given back when it was sent and
// cannot be asked for again, and not before the transport has closed what it reads
// from. Body buffers are not pooled: a reused one would carry one organization's
// prompt into another's request. Memory and spool are bounded, for all together and
// for each organization.
//
// Answers of a known and small length are read whole and sent in one write.
// Everything else is flushed chunk by chunk, event streams line by line: a line
// that is cut in two by the network is held until its end arrives, so that a
// stream that dies can always be ended with an error event of its own instead
// of half a line. It never gets a made-up [DONE]. Other answers that die half way
// are aborted, so that nobody takes them for complete.
//
// # What is counted
//
// Answers to POST on a chat service are watched as they pass, after each write,
// for the tokens that the provider says ([Result.Usage], package usage/tokens);
// such a request asks for an answer that is not compressed. Streams of chat
// completions at services that need it (catalog.Service.AsksUsage) are asked to say usage,
// by bytes inserted into the request, and what that adds to the stream is taken
// out again, line by line. Streams that are open are counted by organization, in
// this process's memory, and refused past [Options.StreamsPerOrganization].
//
// # Time
//
// [Bounds] are what a request to a service may take: to the first byte, in silence,
// and in all. Each write to the caller has a deadline, which takes the place of the
// server's WriteTimeout; a body has one that moves on with what has come; a caller
// who leaves cancels the upstream at once. Where [Bounds.Heartbeat] is set, event
// streams get comments while the upstream is silent. A caller who does not read
// makes the upstream wait: docs/gateway.md states what is held for one.
package gateway
