package instance

import (
	"context"
	"fmt"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// A Level says how bad a [Finding] is.
type Level string

// The levels.
const (
	Fine     Level = "ok"
	Doubtful Level = "warn" // works, and is worth a change
	Failed   Level = "fail" // does not work, or is not safe
)

// Finding is what [Diagnose] found in one place. It holds no secret.
type Finding struct {
	Check string `json:"check"` // configuration, database, keys, trail, redis, clock, files, ports or proxies
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Mend  string `json:"mend,omitempty"` // what to do
}

// diagnosis collects findings.
type diagnosis struct {
	config   *Config
	findings []Finding
}

func (d *diagnosis) add(check string, level Level, mend, format string, args ...any) {
	d.findings = append(d.findings, Finding{check, level, fmt.Sprintf(format, args...), mend})
}

// failed adds what an error says, and warn what a start would warn of.
func (d *diagnosis) failed(check string, err error) {
	for _, m := range fault.Mistakes(err) {
		d.add(check, Failed, m.Mend, "%s", m.What)
	}
}

func (d *diagnosis) warn(check string, w fault.Warning) {
	d.add(check, Doubtful, w.Mend, "%s", w.Text())
}

// Diagnose looks at everything that an instance of this configuration stands on: the
// settings, the database, the master keys, Redis, issuers' keys, the clocks, the modes of
// files, the ports and the trusted proxies. It runs no migration and makes no key; all that
// it changes is a count in Redis, which it takes away again. mistakes are those of reading
// the environment.
func Diagnose(ctx context.Context, c Config, mistakes error) []Finding {
	d := &diagnosis{config: &c}
	d.settings(mistakes)
	d.database(ctx)
	d.redis(ctx)
	d.issuers(ctx)
	d.files()
	d.ports(ctx)
	d.proxies()
	return d.findings
}

// settings reports every mistake, and what a start would warn of.
func (d *diagnosis) settings(mistakes error) {
	seen := make(map[fault.Mistake]bool)
	for _, err := range []error{mistakes, d.config.Check()} {
		for _, m := range fault.Mistakes(err) {
			if !seen[m] {
				d.add("configuration", Failed, m.Mend, "%s", m.What)
			}
			seen[m] = true
		}
	}
	if len(seen) > 0 {
		return
	}
	warnings := d.config.warnings()
	for _, w := range warnings {
		d.warn("configuration", w)
	}
	if len(warnings) == 0 {
		d.add("configuration", Fine, "", "every setting can be used (environment %s)", d.config.Environment)
	}
}

// The bounds of a clock that differs from another: past the first limits and
// events are told in a confusing order, past the second tokens are refused that
// are good, or taken that are not.
const (
	clockDoubtful = time.Second
	clockFailed   = 30 * time.Second
)

// clock compares this machine's clock with another one, read between before and
// after.
func (d *diagnosis) clock(whose string, remote, before, after time.Time) {
	off := remote.Sub(before.Add(after.Sub(before) / 2))
	certain := max(off.Abs()-after.Sub(before)/2, 0)
	level, mend := Fine, ""
	switch {
	case certain > clockFailed:
		level, mend = Failed, "set both clocks by NTP; tokens are judged by this machine's"
	case certain > clockDoubtful:
		level, mend = Doubtful, "set both clocks by NTP"
	}
	d.add("clock", level, mend, "%s's clock and this machine's are %s apart", whose, certain.Round(time.Millisecond))
}

// past compares this machine's clock with the latest time in the database, of which
// what says the kind: by the clock of the server that wrote it, the one comparison
// there is without PostgreSQL and Redis. Time that has passed since is no fault, and
// time that is still to come is.
func (d *diagnosis) past(what string, at, now time.Time) {
	ahead := at.Sub(now)
	level, mend := Fine, ""
	switch {
	case ahead > clockFailed:
		level, mend = Failed, "set this machine's clock by NTP, and those of the other servers; tokens, expiry and graces are judged by it"
	case ahead > clockDoubtful:
		level, mend = Doubtful, "set this machine's clock by NTP"
	default:
		d.add("clock", level, mend, "this machine's clock is not behind what is in the database")
		return
	}
	d.add("clock", level, mend, "%s %s after what this machine's clock says", what, ahead.Round(time.Millisecond))
}

// checkTimeout bounds each check of something that may not answer.
const checkTimeout = 10 * time.Second
