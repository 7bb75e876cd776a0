// Package wiretime is how an instant is written on the wire: in answers, events,
// webhooks and headers alike.
//
// The times of signed checkpoints look the same and are not of here: they stay as they
// were signed (package ledger).
package wiretime

import "time"

// Format is RFC 3339 in UTC with milliseconds, as layouts of package time are written.
const Format = "2006-01-02T15:04:05.000Z"

// Text gives t as it is written.
func Text(t time.Time) string { return t.UTC().Format(Format) }
