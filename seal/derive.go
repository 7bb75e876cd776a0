package seal

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// organizationKeyID says which organization key: the master key's id decides
// the secret and the iterations, the salt the rest. The organization's id is
// there for forget.
type organizationKeyID struct {
	master       KeyID
	organization string
	salt         OrganizationSalt
}

// deriver gives organization keys. It derives each once, however many ask for
// it at the same time, and no more than maxRunning at a time; up to maxPending
// more wait in line.
type deriver struct {
	maxRunning, maxPending int
	derive                 func(MasterKey, OrganizationSalt) ([]byte, error)

	mu          sync.Mutex
	keys        *cache[organizationKeyID, []byte]
	derivations map[organizationKeyID]*derivation // those that can be joined
	running     int
	pending     []*derivation
	started     uint64 // how many were ever started
	refused     uint64 // how many got ErrBusy
}

// derivation is one PBKDF2 that is waiting or running.
type derivation struct {
	id     organizationKeyID
	master MasterKey
	done   chan struct{} // closed once key or err is set

	// Under the deriver's lock:
	waiters   int
	forgotten bool // its key goes to those who wait, not to the cache

	key []byte
	err error
}

func newDeriver(maxRunning, maxPending, capacity int) *deriver {
	return &deriver{
		maxRunning:  maxRunning,
		maxPending:  maxPending,
		derive:      deriveOrganizationKey,
		keys:        newCache[organizationKeyID, []byte](capacity),
		derivations: make(map[organizationKeyID]*derivation),
	}
}

// organizationKey gives the key of an organization under a master key. The
// result is shared and must not be changed. Only waiting ends with ctx; a
// derivation that has begun runs to its end and is cached.
func (d *deriver) organizationKey(ctx context.Context, master MasterKey, organization string, salt OrganizationSalt) ([]byte, error) {
	id := organizationKeyID{master.id, organization, salt}
	d.mu.Lock()
	if key, found := d.keys.get(id); found {
		d.mu.Unlock()
		return key, nil
	}
	if err := ctx.Err(); err != nil {
		d.mu.Unlock()
		return nil, waitError(ctx)
	}
	v, err := d.join(id, master)
	d.mu.Unlock()
	if err != nil {
		return nil, err
	}

	select {
	case <-v.done:
		return v.key, v.err
	case <-ctx.Done():
		d.leave(v)
		return nil, waitError(ctx)
	}
}

func waitError(ctx context.Context) error {
	return fmt.Errorf("seal: waiting for a key to be derived: %w", context.Cause(ctx))
}

// join gives the derivation of id with one more waiter, started or in line, or
// [ErrBusy]. The lock is held.
func (d *deriver) join(id organizationKeyID, master MasterKey) (*derivation, error) {
	if v, found := d.derivations[id]; found {
		v.waiters++
		return v, nil
	}
	v := &derivation{id: id, master: master, done: make(chan struct{}), waiters: 1}
	switch {
	case d.running < d.maxRunning:
		d.running++
		d.started++
		go d.run(v)
	case len(d.pending) < d.maxPending:
		d.pending = append(d.pending, v)
	default:
		d.refused++
		return nil, ErrBusy
	}
	d.derivations[id] = v
	return v, nil
}

// leave takes one waiter away. A derivation that nobody waits for any more
// gives up its place in line.
func (d *deriver) leave(v *derivation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	v.waiters--
	if v.waiters > 0 {
		return
	}
	if i := slices.Index(d.pending, v); i >= 0 {
		d.pending = slices.Delete(d.pending, i, i+1)
		d.detach(v)
	}
}

// detach makes sure that nobody joins v from now on. The lock is held.
func (d *deriver) detach(v *derivation) {
	if d.derivations[v.id] == v {
		delete(d.derivations, v.id)
	}
}

// run derives v's key, then those of the derivations that wait in line.
func (d *deriver) run(v *derivation) {
	for v != nil {
		v.key, v.err = d.derive(v.master, v.id.salt)
		v = d.finish(v)
	}
}

// finish hands v's key to those who wait for it and gives the next derivation
// to run, or nil.
func (d *deriver) finish(v *derivation) (next *derivation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v.err == nil && !v.forgotten {
		d.keys.put(v.id, v.key)
	}
	d.detach(v)
	close(v.done)
	if len(d.pending) == 0 {
		d.running--
		return nil
	}
	next = d.pending[0]
	d.pending = slices.Delete(d.pending, 0, 1)
	d.started++
	return next
}

// notUnder gives what a key is derived of, but for the master key, of every
// cached key that is not under this master key.
func (d *deriver) notUnder(master KeyID) []organizationKeyID {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ids []organizationKeyID
	for id := range d.keys.entries {
		if id.master != master {
			ids = append(ids, id)
		}
	}
	return ids
}

// forget drops the keys that match accepts, those being derived as well.
func (d *deriver) forget(match func(organizationKeyID) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys.drop(func(id organizationKeyID, _ []byte) bool { return match(id) })
	for id, v := range d.derivations {
		if match(id) {
			v.forgotten = true
			delete(d.derivations, id)
		}
	}
}
