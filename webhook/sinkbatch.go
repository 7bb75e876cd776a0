package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
)

// How large a batch is. A body stays within 1 MiB as a whole, which is what nginx takes
// unless it is told otherwise.
const (
	sinkBatch    = 500     // events
	sinkBody     = 1 << 20 // bytes
	sinkEnvelope = 1 << 10 // of them, that are no events
	maxSizes     = 1024    // sinks whose size is remembered
)

// trailMessage gives a batch as it is sent and signed. Its id is made of the sink
// and what it holds, so that a repeat, by whatever instance, has the same.
func trailMessage(s dueSink, events []audit.Sealed, now time.Time) (id, body string, sent []audit.Sealed, err error) {
	size := sinkEnvelope
	lines := make([]json.RawMessage, 0, len(events))
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			return "", "", nil, err
		}
		if size += len(line) + len(","); size > sinkBody && len(lines) > 0 {
			break
		}
		lines, sent = append(lines, line), append(sent, e)
	}
	if len(sent) == 0 {
		return "", "", nil, nil
	}
	upto := sent[len(sent)-1].After
	sum := sha256.Sum256([]byte(s.organization + "/" + s.id + "/" + s.from.String() + "/" + upto.String()))
	body, err = Message{Type: AuditEvents, OccurredAt: now, Data: map[string]any{
		"organizationId": s.organization, "schemaVersion": audit.SchemaVersion, "from": s.from.String(), "to": upto.String(), "events": lines,
	}}.body()
	return "msg_" + hex.EncodeToString(sum[:16]), body, sent, err
}

// mostEvents gives how many events the next batch of a sink may have.
func (w *Webhooks) mostEvents(k webhookKey) int {
	w.sinks.mu.Lock()
	defer w.sinks.mu.Unlock()
	if most, there := w.sinks.most[k]; there {
		return most
	}
	return sinkBatch
}

// noteSize remembers what a batch showed of what its sink takes: half of one that was too
// large, and a little more after each that was taken and was as large as one may be: a
// smaller one shows nothing. It is only where the next batch begins; what one that was
// tried holds is in the database.
func (w *Webhooks) noteSize(k webhookKey, events int, taken, tooLarge bool) {
	w.sinks.mu.Lock()
	defer w.sinks.mu.Unlock()
	most, there := w.sinks.most[k]
	switch {
	case tooLarge:
		most = events / 2
	case there && taken && events >= most:
		most += max(1, most/8)
	default:
		return
	}
	if most >= sinkBatch {
		delete(w.sinks.most, k)
		return
	}
	if w.sinks.most == nil || !there && len(w.sinks.most) >= maxSizes { // what is forgotten is found out again
		w.sinks.most = make(map[webhookKey]int)
	}
	w.sinks.most[k] = most
}
