package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/store"
)

// Sealed is an event with its place in the log of its organization and class.
type Sealed struct {
	Event
	Index int64
	After Positions // where to go on after it
}

// Positions says for each class which index of its log comes next. It is how
// readers keep their place: commits arrive late, so that neither times nor ids
// tell what was seen, while indices are dense and given in the order of sealing.
type Positions [4]int64 // in the order of [Classes]

const classLetters = "casy"

// String gives the form c12-a400-s3-y0.
func (p Positions) String() string {
	parts := make([]string, len(p))
	for i, n := range p {
		parts[i] = classLetters[i:i+1] + strconv.FormatInt(n, 10)
	}
	return strings.Join(parts, "-")
}

var errPositions = errors.New("audit: not the place of a reader")

// ParsePositions reads what [Positions.String] gives.
func ParsePositions(text string) (p Positions, err error) {
	parts := strings.Split(text, "-")
	if len(text) > 128 || len(parts) != len(p) {
		return p, errPositions
	}
	for i, part := range parts {
		digits, ok := strings.CutPrefix(part, classLetters[i:i+1])
		if !ok || strings.Trim(digits, "0123456789") != "" {
			return p, errPositions
		}
		if p[i], err = strconv.ParseInt(digits, 10, 64); err != nil {
			return p, errPositions
		}
	}
	return p, nil
}

// before reports whether some class of p is not as far as end.
func (p Positions) before(end Positions) bool {
	for i := range p {
		if p[i] < end[i] {
			return true
		}
	}
	return false
}

// End gives the place after everything that is sealed of the organization, also where
// retention took it. It is
// for the instance's own readers, which have checked whom they read for.
func (l *Log) End(ctx context.Context, organization string) (end Positions, err error) {
	err = l.db.View(ctx, organization, func(tx *store.Tx) error {
		end, err = EndOf(ctx, tx, organization)
		return err
	})
	return end, err
}

// EndOf is [Log.End] inside a transaction.
func EndOf(ctx context.Context, tx *store.Tx, organization string) (end Positions, err error) {
	size, placed := "size", "log_index IS NOT NULL"
	if tx.TakesAnyType() { // what is no number is for verification to tell of
		size, placed = "CASE WHEN typeof(size) = 'integer' THEN size END", "log_index IS NOT NULL AND typeof(log_index) = 'integer'"
	}
	for i, class := range Classes() {
		var removed int64
		err := tx.Row(ctx, `SELECT (SELECT coalesce(max(log_index) + 1, 0) FROM events WHERE organization = $1 AND class = $2 AND `+placed+`),
			(SELECT coalesce(max(`+size+`), 0) FROM ledger_prefixes WHERE organization = $1 AND class = $2)`,
			organization, string(class)).Scan(&end[i], &removed)
		if err != nil {
			return end, err
		}
		end[i] = max(end[i], removed)
	}
	return end, nil
}

// Following gives the sealed events from a place on, class by class, at most limit
// of them and none at upto or after it (nil: all). Indices that are missing, since
// retention took their events, are passed over. It is for the instance's own
// readers, which have checked whom they read for.
func (l *Log) Following(ctx context.Context, organization string, from Positions, upto *Positions, limit int) (all []Sealed, err error) {
	err = l.db.View(ctx, organization, func(tx *store.Tx) error {
		all = nil
		after := from
		for i, class := range Classes() {
			bound, args := "", []any{organization, string(class), from[i]}
			if upto != nil {
				bound, args = " AND e.log_index < $4", append(args, upto[i])
			}
			if limit == len(all) {
				return nil
			}
			err := tx.Each(ctx, func(scan func(...any) error) error {
				var s Sealed
				var err error
				if s.Event, err = scanEvent(organization, scan, &s.Index); err != nil {
					return err
				}
				after[i] = s.Index + 1
				s.After = after
				all = append(all, s)
				if len(all) == limit {
					return errEnough
				}
				return nil
			}, `SELECT `+columns+`, e.log_index FROM events e`+persons+` WHERE e.organization = $1 AND e.class = $2
				AND e.log_index IS NOT NULL AND e.log_index >= $3`+bound+` ORDER BY e.log_index LIMIT `+strconv.Itoa(limit), args...)
			if err != nil && !errors.Is(err, errEnough) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("following the trail: %w", err)
	}
	return all, nil
}
