package ratelimit

// Scripted makes Redis take the now that is passed to it instead of the
// server's clock, so that its answers can be compared.
func (r *Redis) Scripted() *Redis {
	r.scripted = true
	return r
}

// StoredName names a subject in Redis, below the prefix.
func StoredName(subjectType, key string) string { return storedName(subjectType, key) }

// SplitName takes a stored name apart again.
func SplitName(name string) (subjectType, key string, hashed, ok bool) { return splitName(name) }
