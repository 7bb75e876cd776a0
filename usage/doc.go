// Package usage keeps what organizations use: how many requests and tokens, by
// service, model, credential, member and hour.
//
// # From a visit to an answer
//
// The server hands every visit to [Meter.Record] once it has ended. From there
// it goes to a spool file, within a quarter of a second; from the spool into the
// table usage_hours, within about a second, many visits in one transaction; and
// from there into the answers of [Meter.Query]. There is one row for each hour
// and each combination of what can be asked by. What a single visit used stands
// in its event in the trail.
//
// # Nothing is lost
//
// The spool is a folder of files ([Options.Dir]), so a visit that has reached it
// outlives the process and waits for the database as long as it is away. A
// process that is killed loses what it had not written: at most the last second
// (a quarter, and the time that a write takes). The files are synced, so a
// machine that loses power loses about as much. A file that a dead process left
// is taken over by the next that starts with the same folder.
//
// Nothing is counted twice: how far a file has gone into the table is written in
// the same transaction as what it adds, and what was counted already is passed
// over, whether a commit's answer was lost or the process was.
//
// The spool is bounded ([Options.MaxSpool]). When it is full, or the disk did not
// take the last write, [Meter.Ready] says so and the server answers new visits with
// 503 usage_unavailable, while those that run are still recorded: past a disk that
// refuses, they go from memory into the table. A line that a crash or a disk has damaged is left
// out, and counted in [Backlog.Lost].
//
// # Unknown is not zero
//
// A request is counted where the provider said something of its tokens, and
// uncounted where its answer should have and did not: a stream that was left or
// broke before its end, most of all. Sums of tokens are over the counted ones,
// and nil where there are none. Requests of which nobody expects tokens, such as
// a list of models, are neither.
//
// # Hostile names
//
// Services and credentials are Gatehouse's own names, members those of the
// signed tokens. Models are whatever callers and providers write: tokens.ModelName
// bounds their form, and an organization has [MaxModels] of them in an hour; the
// rest is added to "other".
package usage
