package fault

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
)

// Mistake is what is wrong with a setting or what it leads to, and what to do about
// it: a start lists both on one line, and the doctor says them apart. It holds no
// value that was set.
type Mistake struct {
	What string
	Mend string // "" where What says it
}

// Mistakef gives one as an error.
func Mistakef(mend, format string, args ...any) error {
	return Mistake{fmt.Sprintf(format, args...), mend}
}

// Error gives both on one line.
func (m Mistake) Error() string {
	if m.Mend == "" {
		return m.What
	}
	return m.What + "; " + m.Mend
}

// Parts gives both. A leaf, which does not know this package, tells them apart by it too.
func (m Mistake) Parts() (what, mend string) { return m.What, m.Mend }

// Mistakes gives the mistakes that are joined in err, in order. An error that
// knows no mend says what is wrong.
func Mistakes(err error) []Mistake {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []Mistake
		for _, one := range joined.Unwrap() {
			all = append(all, Mistakes(one)...)
		}
		return all
	}
	m := Mistake{What: err.Error()}
	var parted interface{ Parts() (what, mend string) }
	if errors.As(err, &parted) {
		_, mend := parted.Parts()
		if what, ok := strings.CutSuffix(m.What, "; "+mend); ok && mend != "" { // also with a place in front
			m = Mistake{what, mend}
		}
	}
	return []Mistake{m}
}

// EachOf puts the variable in front of every mistake in err.
func EachOf(variable string, err error) error {
	var all []error
	for _, m := range Mistakes(err) {
		all = append(all, Mistake{variable + ": " + m.What, m.Mend})
	}
	return errors.Join(all...)
}

// Warning is what is allowed and should not stay.
type Warning struct {
	Mistake
	Details []any // names and values in turn, as of a log line
}

// Log writes it to a log.
func (w Warning) Log(log *slog.Logger) { log.Warn(w.Error(), w.Details...) }

// Text gives what is wrong with the details, without the mend.
func (w Warning) Text() string {
	text := w.What
	for i := 0; i < len(w.Details); i += 2 {
		text += fmt.Sprintf(" (%s: %v)", w.Details[i], w.Details[i+1])
	}
	return text
}
