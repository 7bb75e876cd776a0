package instance

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
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

// Diagnose looks at everything that an instance of this configuration stands
// on: the settings, the database, the master keys, Redis, the clocks, the modes
// of files, the ports and the trusted proxies. It changes nothing: it runs no
// migration and makes no key. mistakes are those of reading the environment.
func Diagnose(ctx context.Context, c Config, mistakes error) []Finding {
	d := &diagnosis{config: &c}
	d.settings(ctx, mistakes)
	d.database(ctx)
	d.redis(ctx)
	d.files()
	d.ports(ctx)
	d.proxies()
	return d.findings
}

// settings reports every mistake, and what a start would warn of.
func (d *diagnosis) settings(ctx context.Context, mistakes error) {
	seen := make(map[string]bool)
	for _, err := range []error{mistakes, d.config.Check()} {
		if err == nil {
			continue
		}
		for line := range strings.SplitSeq(err.Error(), "\n") {
			if !seen[line] {
				text, mend := cutMend(line)
				d.add("configuration", Failed, mend, "%s", text)
			}
			seen[line] = true
		}
	}
	if len(seen) > 0 {
		return
	}
	before := len(d.findings)
	d.config.warn(slog.New(warnings{d, "configuration"}))
	if len(d.findings) == before {
		d.add("configuration", Fine, "", "every setting can be used (environment %s)", d.config.Environment)
	}
}

// cutMend parts a message of this package, "what is wrong; what to do".
func cutMend(text string) (what, mend string) {
	if i := strings.LastIndex(text, "; "); i > 0 {
		return text[:i], text[i+2:]
	}
	return text, ""
}

// warnings is a [slog.Handler] that makes findings of warnings.
type warnings struct {
	d     *diagnosis
	check string
}

// Enabled implements [slog.Handler].
func (warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

// Handle implements [slog.Handler].
func (w warnings) Handle(_ context.Context, r slog.Record) error {
	text, mend := cutMend(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" (%s: %v)", a.Key, a.Value)
		return true
	})
	w.d.add(w.check, Doubtful, mend, "%s", text)
	return nil
}

// WithAttrs implements [slog.Handler]; no warning uses it.
func (w warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements [slog.Handler]; no warning uses it.
func (w warnings) WithGroup(string) slog.Handler { return w }

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
