package masterkey

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Instance is a running instance, or one that ran lately.
type Instance struct {
	ID        string
	Name      string
	Version   string
	Keys      []seal.KeyID // that it holds
	Sealing   seal.KeyID   // that it seals under
	StartedAt time.Time
	SeenAt    time.Time
	Live      bool // it said so within the last 30 seconds
}

// register puts this instance on the list, in one transaction with a look at
// the keys: either a switch sees it, or it sees the switch.
func (k *Keys) register(ctx context.Context) error {
	held, err := k.heldKeys()
	if err != nil {
		return err
	}
	err = k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		st, err := readStateIn(ctx, tx)
		if err != nil {
			return err
		}
		if !k.ring.Holds(st.sealing) {
			return fmt.Errorf("the master key was switched while this instance started: it needs the secret of %s in ENCRYPTION_KEY or ENCRYPTION_KEYS_OLD", st.sealing)
		}
		now := k.opts.Now()
		if _, err := tx.Exec(ctx, `DELETE FROM running_instances WHERE seen_at < $1`, store.At(now.Add(-forgetIn))); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO running_instances (id, name, version, keys, sealing_key, started_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $6)`,
			k.id, k.opts.Instance, k.opts.Version, held, st.sealing, store.At(now))
		return err
	})
	k.listed.Store(true) // also after an error, which may have come too late
	return err
}

func (k *Keys) heldKeys() (string, error) {
	b, err := json.Marshal(k.ring.KeyIDs())
	return string(b), err
}

// Run follows the database until ctx ends: it notices new keys and a switch,
// says that this instance lives and what it holds, and does rotations that
// nobody else does.
func (k *Keys) Run(ctx context.Context) {
	var worker sync.WaitGroup
	worker.Go(func() { k.workWhenever(ctx) })
	tick := time.NewTicker(k.opts.Poll)
	defer tick.Stop()
	var last heartbeat
	sealing, _ := k.ring.Sealing()
	for ctx.Err() == nil {
		if err := k.follow(ctx, &last); err != nil && ctx.Err() == nil {
			k.opts.Logger.WarnContext(ctx, "the master keys could not be looked at", "error", err)
		}
		if now, _ := k.ring.Sealing(); now != sealing {
			sealing = now
			k.opts.Logger.InfoContext(ctx, "the master key was switched", "sealing", now.String())
			worker.Go(func() { _ = k.ring.Warm(ctx) }) // what it leaves is derived when it is needed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
	worker.Wait()
	k.Leave(context.WithoutCancel(ctx))
}

// Leave takes this instance off the list, so that no switch waits for it. [Keys.Run]
// does so at its end; a start that fails before it runs must.
func (k *Keys) Leave(ctx context.Context) {
	if !k.listed.Swap(false) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	// Nobody waits for one that has stopped. Where this fails its word runs out.
	_ = k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `DELETE FROM running_instances WHERE id = $1`, k.id)
		return err
	})
}

// heartbeat is what an instance said last.
type heartbeat struct {
	at   time.Time
	text string
}

// follow takes over what the database says, and says what this instance holds
// where that changed or is due.
func (k *Keys) follow(ctx context.Context, last *heartbeat) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := k.refresh(ctx); err != nil {
		return err
	}
	return k.say(ctx, last)
}

// say tells the others what this instance holds, unless it did so lately.
func (k *Keys) say(ctx context.Context, last *heartbeat) error {
	if k.opts.Instance == "" {
		return nil
	}
	held, err := k.heldKeys()
	if err != nil {
		return err
	}
	sealing, _ := k.ring.Sealing()
	now := k.opts.Now()
	text := held + sealing.String()
	if text == last.text && now.Sub(last.at) < beat && !now.Before(last.at) {
		return nil
	}
	err = k.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO running_instances (id, name, version, keys, sealing_key, started_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $6)
			ON CONFLICT (id) DO UPDATE SET keys = excluded.keys, sealing_key = excluded.sealing_key, seen_at = excluded.seen_at`,
			k.id, k.opts.Instance, k.opts.Version, held, sealing, store.At(now))
		return err
	})
	k.listed.Store(true)
	if err == nil {
		*last = heartbeat{now, text}
	}
	return err
}

// refresh takes over what the database says of the keys.
func (k *Keys) refresh(ctx context.Context) error {
	st, err := readState(ctx, k.db)
	if err != nil {
		return err
	}
	if err := k.take(st); err != nil {
		return err
	}
	if !k.ring.Holds(st.sealing) {
		k.mu.Lock()
		told := k.told[st.sealing]
		k.told[st.sealing] = true
		k.mu.Unlock()
		if !told {
			k.opts.Logger.ErrorContext(ctx, "the database seals under a key that this instance does not hold; start it again with that secret", "key", st.sealing.String())
		}
	}
	return nil
}

// instancesIn gives the instances on the list, the oldest first.
func (k *Keys) instancesIn(ctx context.Context, tx *store.Tx) ([]Instance, error) {
	now := k.opts.Now()
	var all []Instance
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var in Instance
		var held string
		var started, seen store.Time
		if err := scan(&in.ID, &in.Name, &in.Version, &held, &in.Sealing, &started, &seen); err != nil {
			return err
		}
		if err := json.Unmarshal([]byte(held), &in.Keys); err != nil {
			return errors.New("the list of running instances cannot be read")
		}
		in.StartedAt, in.SeenAt = started.Time, seen.Time
		in.Live = now.Sub(seen.Time) < liveFor // one whose clock is ahead lives too
		all = append(all, in)
		return nil
	}, `SELECT id, name, version, keys, sealing_key, started_at, seen_at FROM running_instances ORDER BY started_at, id`)
	return all, err
}

// liveThat names the live instances that are as is says.
func liveThat(all []Instance, is func(Instance) bool) []string {
	var names []string
	for _, in := range all {
		if in.Live && is(in) {
			names = append(names, in.Name)
		}
	}
	return names
}

// heldByAll gives the error that live instances do not hold a key, nil where all do.
func heldByAll(all []Instance, id seal.KeyID) error {
	names := liveThat(all, func(in Instance) bool { return !slices.Contains(in.Keys, id) })
	if len(names) == 0 {
		return nil
	}
	return fault.New(fault.Conflict, "key_not_everywhere", fmt.Sprintf("%d running instance(s) do not hold %s yet: %s. "+
		"They look every two seconds; start those again that were not given its secret. One that was killed is waited for 30 seconds.",
		len(names), id, strings.Join(names, ", ")))
}
