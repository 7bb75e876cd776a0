package store

import (
	"context"
	"sync"
	"time"
)

// LastUses collects when rows were last used, so that a use costs no write. Its zero
// value is ready.
type LastUses struct {
	mu   sync.Mutex
	last map[string]map[string]time.Time // by organization and id
}

// Note remembers a use of the organization's row with that id.
func (u *LastUses) Note(organization, id string, at time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.last == nil {
		u.last = make(map[string]map[string]time.Time)
	}
	if u.last[organization] == nil {
		u.last[organization] = make(map[string]time.Time)
	}
	u.last[organization][id] = at
}

// Record writes what was noted since the last time as last_used_at of table, which
// never goes back. failed is told whose could not be written: a last use is a hint,
// not the trail, and the next use records it again.
func (u *LastUses) Record(ctx context.Context, db *DB, table string, failed func(organization string, err error)) {
	u.mu.Lock()
	last := u.last
	u.last = nil
	u.mu.Unlock()
	update := `UPDATE ` + table + ` SET last_used_at = $1 WHERE organization = $2 AND id = $3 AND (last_used_at IS NULL OR last_used_at < $1)`
	for organization, ids := range last {
		err := db.Update(ctx, organization, func(tx *Tx) error {
			for id, at := range ids {
				if _, err := tx.Exec(ctx, update, At(at), organization, id); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			failed(organization, err)
		}
	}
}
