package ratelimit

import "unsafe"

// RedisStats is what [Redis.Stats] reports.
type RedisStats struct {
	Calls      uint64 // of Redis for decisions, each for one or more
	Remembered int    // subjects whose standing in a denial is remembered
	FromMemory uint64 // decisions from what is remembered
}

// Stats counts what was asked since the start. It asks nobody.
func (r *Redis) Stats() RedisStats {
	r.denials.mu.RLock()
	defer r.denials.mu.RUnlock()
	return RedisStats{Calls: r.calls.Load(), Remembered: len(r.denials.known), FromMemory: r.denials.answered.Load()}
}

// keys is how many keys the mirror holds.
func (m *mirror) keys() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.known)
}

// Bytes is about how much memory the keys take. It looks at each of them, one shard
// at a time, and is meant for a look now and then.
func (m *Memory) Bytes() int {
	bytes := 0
	for i := range m.shards {
		bytes += m.shards[i].bytes()
	}
	return bytes
}

func (s *shard) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	bytes := int(unsafe.Sizeof(*s)) + len(s.tags)*int(unsafe.Sizeof(s.tags[0])+unsafe.Sizeof(entry{}))
	for i := range s.entries {
		if e := &s.entries[i]; e.ring != nil {
			bytes += int(e.size)*stampSize + stampSlack
			if !e.short() {
				bytes += int(e.name)
			}
		}
	}
	for name, ws := range s.large {
		bytes += len(name) + int(unsafe.Sizeof(*ws))
		for _, w := range ws.all {
			bytes += int(unsafe.Sizeof(w)) + cap(w.runs)*int(unsafe.Sizeof(run{}))
		}
	}
	return bytes
}
