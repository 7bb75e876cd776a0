package store

import "slices"

// Match says which revisions of a row a change is meant for, as a caller names them
// by If-Match. The zero Match is any.
type Match struct {
	named     bool
	revisions []int64
}

// MatchOf takes only these revisions; without any it takes none.
func MatchOf(revisions ...int64) Match { return Match{true, revisions} }

// Allows reports whether a change may be made to a row at that revision.
func (m Match) Allows(revision int64) bool { return !m.named || slices.Contains(m.revisions, revision) }
