package seal

import (
	"crypto/cipher"
	"sync"
)

// dataKeyID says which data key: everything of a sealed value up to its
// payload, and the salt. Finding a data key by these bytes skips the check of
// the wrap's additional data, which is sound since the payload's binds the
// same context and is checked at every open. The salt is not in the sealed
// value, so it has to be in here, or a wrong one would pass.
type dataKeyID struct {
	header [offsetPayload]byte
	salt   OrganizationSalt
}

type dataKey struct {
	aead         cipher.AEAD
	organization string
}

// dataKeys keeps the ciphers of data keys whose payload has opened before.
type dataKeys struct {
	mu         sync.RWMutex
	keys       *cache[dataKeyID, dataKey]
	generation uint64 // how often an organization was forgotten
}

func newDataKeys(capacity int) *dataKeys {
	return &dataKeys{keys: newCache[dataKeyID, dataKey](capacity)}
}

// get gives the cipher, or nil and the generation to pass to put.
func (d *dataKeys) get(id dataKeyID) (cipher.AEAD, uint64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	key, _ := d.keys.get(id)
	return key.aead, d.generation
}

// put keeps a key unless some organization was forgotten since generation was
// read: the key may then be of that organization, opened with an organization
// key from before. Dropping one that is not costs a few microseconds later.
func (d *dataKeys) put(id dataKeyID, key dataKey, generation uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.generation == generation {
		d.keys.put(id, key)
	}
}

func (d *dataKeys) forget(organization string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	d.keys.drop(func(_ dataKeyID, key dataKey) bool { return key.organization == organization })
}

func (d *dataKeys) len() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.keys.entries)
}
