package masterkey

import (
	"errors"
	"fmt"
	"slices"

	"github.com/gatehouse-io/gatehouse/seal"
)

// Reading is another secret that entries of [Options].Old may stand for, Old[From:To]:
// a secret with a comma in it stands there as two.
type Reading struct {
	Secret   seal.Secret
	From, To int
}

// secret is a master secret that was given to this process.
type secret struct {
	seal.Secret
	source   Source
	from, to int // the places in Options.Old that it is of; none of others
}

// secrets gives what this process was given, each once, the first to seal first. What
// is too short to have been a key is left out.
func (o *Options) secrets() []secret {
	var all []secret
	add := func(s seal.Secret, source Source, from, to int) {
		if s.Len() >= seal.MinSecret && !slices.ContainsFunc(all, func(other secret) bool { return other.Equal(s) }) {
			all = append(all, secret{s, source, from, to})
		}
	}
	if o.Secret.Equal(o.Fallback) { // it is the fallback, whatever variable says so
		add(o.Fallback, FromFallback, 0, 0)
	}
	add(o.Secret, FromKey, 0, 0)
	for i, s := range o.Old {
		add(s, FromOld, i, i+1)
	}
	add(o.Fallback, FromFallback, 0, 0)
	for _, r := range o.Readings {
		add(r.Secret, FromOld, r.From, r.To)
	}
	return all
}

// primary gives the secret that seals in a new database.
func (o *Options) primary() seal.Secret {
	if o.Secret.IsZero() {
		return o.Fallback
	}
	return o.Secret
}

// try looks for the secret of a record among those that are here.
func (k *Keys) try(r *record) error {
	for _, s := range k.opts.secrets() {
		key, err := seal.NewMasterKey(r.KeyRecord, s.Secret)
		if errors.Is(err, seal.ErrWrongSecret) {
			continue
		}
		if err != nil {
			return fmt.Errorf("the record of %s: %w", r.ID, err)
		}
		k.sources[r.ID] = s.source
		for i := s.from; i < s.to; i++ {
			k.used[i] = true
		}
		return k.ring.Add(key)
	}
	k.tried[r.ID] = true // what is here does not change while the process runs
	return nil
}
