package telemetry

import "sync"

// labelLimit is how many values an attribute of a metric may have that callers or
// tenants have a say in; what comes later is counted as overflow.
const (
	labelLimit = 200
	overflow   = "other"
)

// labels bounds the values of one attribute.
type labels struct {
	mu   sync.RWMutex
	seen map[string]struct{}
}

// bounded gives value if it is one of the first, or overflow. admit says whether a
// value not seen before may become one.
func (l *labels) bounded(value string, admit bool) string {
	if value == "" {
		return ""
	}
	l.mu.RLock()
	_, known := l.seen[value]
	l.mu.RUnlock()
	if known {
		return value
	}
	if !admit {
		return overflow
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.seen[value]; known {
		return value
	}
	if len(l.seen) >= labelLimit {
		return overflow
	}
	if l.seen == nil {
		l.seen = make(map[string]struct{})
	}
	l.seen[value] = struct{}{}
	return value
}
