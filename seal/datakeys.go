package seal

import (
	"bytes"
	"crypto/cipher"
	"slices"
	"sync"
)

// dataKeyID says where to look for a data key: the tag of its wrap. It is short
// so that finding it costs less than opening; what is found counts only where
// all of [dataKey.of] holds too.
type dataKeyID [tagSize]byte

// dataKey is the cipher of a data key and what it was found for: everything of
// a sealed value up to its payload, and the salt. Finding it by these bytes
// skips the check of the wrap's additional data, which is sound since the
// payload's binds the same context and is checked at every open. The salt is
// not in the sealed value, so it has to be in here, or a wrong one would pass.
type dataKey struct {
	aead    cipher.AEAD
	header  [offsetPayload]byte
	salt    OrganizationSalt
	context Context // that it was last opened in, canonical
	data    []byte  // the payload's additional data of that context
}

// newDataKey gives the data key of sealed, which was opened in the canonical
// context c. data is kept.
func newDataKey(aead cipher.AEAD, c Context, salt OrganizationSalt, sealed Sealed, data []byte) *dataKey {
	c.Fields = slices.Clone(c.Fields) // the caller's slice may change
	return &dataKey{aead: aead, header: [offsetPayload]byte(sealed[:offsetPayload]), salt: salt, context: c, data: data}
}

// of reports whether k is the data key of sealed under salt.
func (k *dataKey) of(sealed Sealed, salt *OrganizationSalt) bool {
	return bytes.Equal(k.header[:], sealed[:offsetPayload]) && k.salt == *salt
}

// additionalData gives the payload's additional data for c, or nil where it is
// not at hand.
func (k *dataKey) additionalData(c *Context) []byte {
	if c.ID == k.context.ID && c.Version == k.context.Version && c.Organization == k.context.Organization &&
		c.Kind == k.context.Kind && c.Environment == k.context.Environment && slices.Equal(c.Fields, k.context.Fields) {
		return k.data
	}
	return nil
}

// dataKeys keeps the ciphers of data keys whose payload has opened before.
type dataKeys struct {
	mu         sync.RWMutex
	keys       *cache[dataKeyID, *dataKey]
	generation uint64 // how often an organization or a master key was forgotten
}

func newDataKeys(capacity int) *dataKeys {
	return &dataKeys{keys: newCache[dataKeyID, *dataKey](capacity)}
}

// get gives the data key, or nil and the generation to pass to put.
func (d *dataKeys) get(sealed Sealed, salt *OrganizationSalt) (*dataKey, uint64) {
	id := dataKeyID(sealed[offsetPayload-tagSize : offsetPayload])
	d.mu.RLock()
	key, _ := d.keys.get(id)
	generation := d.generation
	d.mu.RUnlock()
	if key == nil || !key.of(sealed, salt) {
		return nil, generation
	}
	return key, generation
}

// put keeps a key unless something was forgotten since generation was read:
// the key may then be of that organization, opened with an organization key
// from before. Dropping one that is not costs a few microseconds later.
func (d *dataKeys) put(key *dataKey, generation uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.generation == generation {
		d.keys.put(dataKeyID(key.header[offsetPayload-tagSize:]), key)
	}
}

// forget drops the keys that match accepts.
func (d *dataKeys) forget(match func(*dataKey) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.generation++
	d.keys.drop(func(_ dataKeyID, key *dataKey) bool { return match(key) })
}

func (d *dataKeys) len() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.keys.entries)
}
