package store

import (
	"database/sql/driver"
	"fmt"
	"time"
)

// Time is an instant as both databases keep it: a BIGINT of microseconds
// since 1970 in UTC. The zero Time is NULL.
type Time struct{ time.Time }

// At gives t as the database keeps it, cut to whole microseconds.
func At(t time.Time) Time {
	if t.IsZero() {
		return Time{}
	}
	return Time{t.UTC().Truncate(time.Microsecond)}
}

// Value implements [driver.Valuer].
func (t Time) Value() (driver.Value, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UnixMicro(), nil
}

// Scan implements [database/sql.Scanner].
func (t *Time) Scan(src any) error {
	switch v := src.(type) {
	case nil:
		*t = Time{}
	case int64:
		*t = Time{time.UnixMicro(v).UTC()}
	default:
		return fmt.Errorf("store: a time column held %T", src)
	}
	return nil
}
