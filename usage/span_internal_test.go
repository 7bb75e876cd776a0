package usage

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// A span is refused for the reason that there is, and at the end that it is about.
func TestWhatIsWrongWithASpan(t *testing.T) {
	at := func(text string) time.Time {
		if text == "" {
			return time.Time{}
		}
		at, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	const years, long = "must be within the years 1970 to 9999 of UTC", "must be at most 400 days before to"
	for _, c := range []struct{ from, to, want string }{
		{"1970-01-01T00:00:00Z", "1970-01-02T00:00:00Z", ""},
		{"", "1970-01-01T05:00:00Z", ""},
		{"9999-12-30T00:00:00Z", "9999-12-31T22:59:59Z", ""},
		{"1969-12-31T23:00:00Z", "1970-01-02T00:00:00Z", "from " + years},
		{"1970-01-01T00:00:00+05:00", "1970-01-02T00:00:00Z", "from " + years},
		{"1969-01-01T00:00:00Z", "1969-01-02T00:00:00Z", "to " + years},
		{"", "1969-01-02T00:00:00Z", "to " + years},
		{"9999-12-31T00:00:00Z", "9999-12-31T23:30:00-05:00", "to " + years},
		{"2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z", "from must be before to"},
		{"2026-01-01T00:00:00Z", "2027-02-05T00:00:00Z", ""},
		{"2026-01-01T00:00:00Z", "2027-02-05T00:00:01Z", "from " + long},
	} {
		q := Query{From: at(c.from), To: at(c.to)}
		var got string
		if f, ok := fault.As(q.complete(time.Now())); ok {
			got = strings.Trim(fmt.Sprint(f.Fields), "[{}]")
		}
		if got != c.want {
			t.Errorf("%s to %s: %q, want %q", c.from, c.to, got, c.want)
		}
	}
}
