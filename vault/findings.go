package vault

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/store"
)

// FindingKind names what can be wrong with a credential. A credential has at
// most one finding of each kind.
type FindingKind string

// The kinds of findings.
const (
	Expires     FindingKind = "expiring"     // a warning before expiresAt is due; Within says which
	HasExpired  FindingKind = "expired"      // past expiresAt
	Unused      FindingKind = "unused"       // no request carried it for CheckOptions.UnusedAfter
	TestFailed  FindingKind = "test_failed"  // its last clear test said invalid or misconfigured
	RotationDue FindingKind = "rotation_due" // its values are older than CheckOptions.RotateAfter
	Unreadable  FindingKind = "unreadable"   // the sealed version does not open
	FellBack    FindingKind = "fallback"     // within [fallbackShown] its provider refused the active version, and the one in grace served
	Untestable  FindingKind = "untestable"   // several tests in a row gave no clear answer; shown, told nobody
)

// FindingKinds lists the kinds of findings.
func FindingKinds() []FindingKind {
	return []FindingKind{Expires, HasExpired, Unused, TestFailed, RotationDue, Unreadable, FellBack, Untestable}
}

// fallbackShown is how long after the last refusal of an active version that a
// version in grace made good for the credential is shown as one that needs a look.
const fallbackShown = 24 * time.Hour

// unclearTests is after how many tests in a row without a clear answer a
// credential is shown as untestable.
const unclearTests = 3

// Finding is something about a credential that needs somebody's attention.
type Finding struct {
	Kind   FindingKind
	Since  time.Time // when the check found it
	Within string    // of expiring: the warning, such as "7d"
	Result string    // of test_failed: invalid or misconfigured
	Detail string    // of test_failed: what the provider's answer means

	version int64
	mark    string // another mark means that it has to be told again
}

// kept is the part of a finding that is stored as JSON.
type kept struct {
	Within string `json:"within,omitempty"`
	Result string `json:"result,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func (f Finding) column() (string, error) {
	b, err := json.Marshal(kept{f.Within, f.Result, f.Detail})
	return string(b), err
}

func (f *Finding) read(column string) {
	var k kept
	if json.Unmarshal([]byte(column), &k) == nil { // an altered row still says what kind it is
		f.Within, f.Result, f.Detail = k.Within, k.Result, k.Detail
	}
}

// quiet reports whether the finding is shown only.
func (f Finding) quiet() bool { return f.Kind == Untestable }

// opening is whether a credential's version was seen to open.
type opening uint8

const (
	notTried opening = iota
	opens
	opensNot
)

// state is all that findings follow from.
type state struct {
	credential Credential
	versionAt  time.Time // when its values were stored
	activeAt   time.Time // when they came into use
	usable     bool      // whether requests can carry it at all
	unclear    int64     // tests in a row without a clear answer
	opening    opening   // of this very version
	before     []Finding // as they were found last
}

// findings works out what is wrong with s at a moment, and when that can change
// by the passing of time alone; the zero time: never.
func (o *CheckOptions) findings(s state, now time.Time) (found []Finding, next time.Time) {
	c := s.credential
	if c.disabled { // somebody decided so
		return nil, time.Time{}
	}
	v := "v" + strconv.FormatInt(c.Version, 10)
	add := func(f Finding) {
		f.version = c.Version
		f.mark = v + f.mark
		found = append(found, f)
	}
	// due reports whether at has passed, and notes when it will have.
	due := func(at time.Time) bool {
		if !now.Before(at) {
			return true
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
		return false
	}
	if !c.ExpiresAt.IsZero() {
		at := "@" + strconv.FormatInt(store.At(c.ExpiresAt).UnixMicro(), 10)
		if due(c.ExpiresAt) {
			add(Finding{Kind: HasExpired, mark: at})
		} else {
			var tightest time.Duration // of the warnings that are due
			for _, before := range o.Warnings {
				if due(c.ExpiresAt.Add(-before)) && (tightest == 0 || before < tightest) {
					tightest = before
				}
			}
			if tightest > 0 {
				within := Days(tightest)
				add(Finding{Kind: Expires, Within: within, mark: "/" + within + at})
			}
		}
	}
	expired := !c.ExpiresAt.IsZero() && !now.Before(c.ExpiresAt)
	used := c.LastUsedAt
	if used.Before(s.activeAt) {
		used = s.activeAt
	}
	if o.UnusedAfter > 0 && s.usable && !expired && due(used.Add(o.UnusedAfter)) {
		add(Finding{Kind: Unused})
	}
	if o.RotateAfter > 0 && !expired && due(s.versionAt.Add(o.RotateAfter)) {
		add(Finding{Kind: RotationDue})
	}
	if !c.FallbackAt.IsZero() && !due(c.FallbackAt.Add(fallbackShown)) {
		add(Finding{Kind: FellBack})
	}
	s.afterTests(add)
	return found, next
}

// afterTests adds what the last test and the last opening say. A test without
// a clear answer, and no try at all, leave what was found before.
func (s *state) afterTests(add func(Finding)) {
	c := s.credential
	again := func(kind FindingKind) {
		i := slices.IndexFunc(s.before, func(f Finding) bool { return f.Kind == kind && f.version == c.Version })
		if i >= 0 {
			f := s.before[i]
			f.mark = ""
			add(f)
		}
	}
	var last TestResult
	if json.Unmarshal(c.LastTest, &last) == nil {
		switch last.Result {
		case catalog.Invalid, catalog.Misconfigured:
			add(Finding{Kind: TestFailed, Result: string(last.Result), Detail: last.Detail})
		case catalog.Indeterminate:
			again(TestFailed)
		}
	}
	if s.unclear >= unclearTests {
		add(Finding{Kind: Untestable})
	}
	switch s.opening {
	case opensNot:
		add(Finding{Kind: Unreadable})
	case notTried:
		again(Unreadable)
	}
}

// Days gives d in days where it is a whole number of them ("7d"), otherwise as
// Go writes durations ("36h0m0s").
func Days(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return fmt.Sprintf("%dd", d/day)
	}
	return d.String()
}
