package masterkey

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
)

// Others names the live instances on the list, without this one. One that was killed counts
// for half a minute more.
func (k *Keys) Others(ctx context.Context) (names []string, err error) {
	err = k.db.View(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		all, err := k.instancesIn(ctx, tx)
		names = liveThat(all, func(in Instance) bool { return in.ID != k.id })
		return err
	})
	return names, err
}
