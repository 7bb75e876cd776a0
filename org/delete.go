package org

import (
	"context"
	"errors"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

var errNotFound = fault.New(fault.NotFound, "organization_not_found", "There is no such organization.")

// Known gives an error where no organization has this id, nor had it: of a deleted
// one the trail remains. The instance's own is known. It is for commands, which a
// misspelt id must not tell of an empty organization.
func Known(ctx context.Context, db *store.DB, id string) error {
	if id != access.InstanceOrganization && !access.ValidOrganization(id) {
		return fault.New(errNotFound.Kind, errNotFound.Code, "An organization's id has 1 to 64 letters, digits, '.', '_' or '-' and begins with a letter or a digit.")
	}
	err := db.View(ctx, id, func(tx *store.Tx) error {
		return tx.Row(ctx, `SELECT id FROM organizations WHERE id = $1`, id).Scan(&id)
	})
	if errors.Is(err, store.ErrNotFound) {
		return errNotFound
	}
	return err
}

// Delete deletes an organization: its salt, its keys and everything sealed for
// it are destroyed, so that nothing of it opens again, not even a row that is
// put back from a copy. Its id stays dead, its trail remains. It needs
// org:manage. confirm must be the id once more.
//
// It holds on this instance at once, on others within [Fresh] and two seconds.
// Deleting one again destroys what came back since, and is no error.
func (d *Directory) Delete(ctx context.Context, caller access.Caller, id, confirm string) error {
	if err := access.Allow(caller, access.OrgManage, id); err != nil {
		return err
	}
	if !access.ValidOrganization(id) {
		return errNotFound
	}
	if confirm != id {
		return fault.InvalidFields(fault.Field{Name: "confirm", Message: "must be the id of the organization that is to be deleted"})
	}
	now := store.At(d.opts.Now())
	err := d.db.Update(ctx, id, func(tx *store.Tx) error {
		var deleted store.Time
		err := tx.Row(ctx, `SELECT deleted_at FROM organizations WHERE id = $1`, id).Scan(&deleted)
		if errors.Is(err, store.ErrNotFound) {
			return errNotFound
		}
		if err != nil {
			return err
		}
		rows := int64(0)
		if err := erase(ctx, tx, id); err != nil {
			return err
		}
		if d.opts.Destroy != nil {
			if rows, err = d.opts.Destroy(ctx, tx, id); err != nil {
				return err
			}
		}
		if !deleted.IsZero() && rows == 0 {
			return nil // it is gone already, all of it
		}
		// Other instances look for deletions that are new to them.
		if _, err := tx.Exec(ctx, `UPDATE organizations SET deleted_at = $1 WHERE id = $2`, now, id); err != nil {
			return err
		}
		e := audit.Event{
			Action: audit.OrgDelete, Outcome: audit.Success, Permission: access.OrgManage.String(),
			Targets: []audit.Target{{Type: "organization", ID: id}}, Metadata: map[string]any{"destroyed": rows, "again": !deleted.IsZero()},
		}
		// In the operators' trail too: nobody can sign in to read the organization's.
		e.Organization = id
		if err := d.log.Append(ctx, tx, caller, e); err != nil {
			return err
		}
		e.Organization = access.InstanceOrganization
		return tx.Across(ctx, func() error { return d.log.Append(ctx, tx, caller, e) })
	})
	if err != nil {
		return err
	}
	d.forget(id)
	return nil
}

// erase deletes what is known of the people of an organization, and its roles.
func erase(ctx context.Context, tx *store.Tx, organization string) error {
	for _, statement := range []string{
		`DELETE FROM member_persons WHERE organization = $1`,
		`DELETE FROM member_roles WHERE organization = $1`,
		`DELETE FROM roles WHERE organization = $1`,
		`DELETE FROM members WHERE organization = $1`,
	} {
		if _, err := tx.Exec(ctx, statement, organization); err != nil {
			return err
		}
	}
	return nil
}

func (d *Directory) forget(organization string) {
	d.known.ForgetWhere(func(key memberKey) bool { return key.organization == organization })
	d.roles.Forget(organization)
	if d.opts.Forget != nil {
		d.opts.Forget(organization)
	}
}

// lookBack is how far back [Directory.Run] looks for deletions, so that clocks
// that differ, and a database that was away, make it miss none.
const lookBack = 10 * time.Minute

// Run drops from memory what other processes delete, until ctx ends.
func (d *Directory) Run(ctx context.Context) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	gone := make(map[string]int64) // which are forgotten, by when they were deleted
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if err := d.followDeletions(ctx, gone); err != nil && ctx.Err() == nil {
				d.opts.Logger.WarnContext(ctx, "deleted organizations could not be looked for", "error", err)
			}
		}
	}
}

func (d *Directory) followDeletions(ctx context.Context, gone map[string]int64) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	deleted := make(map[string]int64)
	err := d.db.ViewAcross(ctx, func(tx *store.Tx) error {
		clear(deleted)
		return tx.Each(ctx, func(scan func(...any) error) error {
			var id string
			var at store.Time
			if err := scan(&id, &at); err != nil {
				return err
			}
			deleted[id] = at.UnixMicro()
			return nil
		}, `SELECT id, deleted_at FROM organizations WHERE deleted_at > $1`, store.At(d.opts.Now().Add(-lookBack)))
	})
	if err != nil {
		return err
	}
	for id, at := range deleted {
		if gone[id] != at {
			d.forget(id)
		}
	}
	clear(gone)
	for id, at := range deleted {
		gone[id] = at
	}
	return nil
}
