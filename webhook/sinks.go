package webhook

import (
	"context"
	"net/url"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// AuditEvents is the type of messages that hold the events of the trail. A webhook
// gets them only where it names the type, and is a sink then: it has a place in the
// logs of its organization and gets what comes after it, in batches.
const AuditEvents Type = "audit.events"

// AuditCheckpoint is the type of messages that hold a signed checkpoint of the
// instance's own log ([Webhooks.PostCheckpoint]). Only the operator's sink gets them.
const AuditCheckpoint Type = "audit.checkpoint"

// OperatorSink is a sink for the events of the reserved organization. The zero
// value is none.
type OperatorSink struct {
	URL    string      // its origin is allowed, whatever it is
	Secret seal.Secret // the bytes that messages are signed under
}

// operatorSink is the id of the [OperatorSink].
const operatorSink = "operator"

// Sink is how far the delivery of the trail to one webhook has come.
type Sink struct {
	Webhook       string // its id; "operator" for the operator's
	Origin        string // of its URL: the path of some receivers is a secret
	Disabled      bool
	Positions     audit.Positions // where it goes on in each class
	LagEvents     int64           // sealed and not delivered yet
	LagSince      time.Time       // when the oldest of them was recorded; zero: none
	Delivered     int64           // events, since it was made
	DeliveredAt   time.Time       // zero: never
	Attempts      int64           // that failed since the last delivery
	LastAttemptAt time.Time       // zero: none yet
	NextAttemptAt time.Time       // where attempts failed
	LastStatus    int64           // the HTTP status of the last answer, 0: none
	LastError     Failure         // empty: the last attempt succeeded
}

const positionColumns = `s.next_control, s.next_access, s.next_security, s.next_system`

// Sinks gives the sinks of an organization (the caller's own when empty). It needs
// audit:read.
func (w *Webhooks) Sinks(ctx context.Context, caller access.Caller, organization string) ([]Sink, error) {
	if organization == "" {
		organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditRead, organization); err != nil {
		return nil, err
	}
	var all []Sink
	err := w.db.View(ctx, organization, func(tx *store.Tx) error {
		all = nil
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var s Sink
			var address string
			var due, last, delivered store.Time
			p := &s.Positions
			err := scan(&s.Webhook, &address, &s.Disabled, &p[0], &p[1], &p[2], &p[3], &s.Delivered, &delivered, &s.Attempts, &last, &due, &s.LastStatus, &s.LastError)
			if s.Webhook == operatorSink {
				address = w.opts.Operator.URL
			}
			if u, err := url.Parse(address); err == nil && address != "" {
				s.Origin = netguard.Origin(u)
			}
			s.DeliveredAt, s.LastAttemptAt = delivered.Time, last.Time
			if s.Attempts > 0 {
				s.NextAttemptAt = due.Time
			}
			all = append(all, s)
			return err
		}, `SELECT s.webhook_id, coalesce(h.url, ''), coalesce(h.disabled, $2), `+positionColumns+`, s.delivered, s.delivered_at, s.attempts, s.last_attempt_at,
				s.due_at, s.last_status, s.last_error
			FROM webhook_sinks s LEFT JOIN webhooks h ON h.organization = s.organization AND h.id = s.webhook_id
			WHERE s.organization = $1 ORDER BY s.webhook_id`, organization, false)
		if err != nil || len(all) == 0 {
			return err
		}
		end, err := audit.EndOf(ctx, tx, organization)
		if err != nil {
			return err
		}
		for i := range all {
			if err := all[i].measure(ctx, tx, organization, end); err != nil {
				return err
			}
		}
		return nil
	})
	return all, public(err)
}

// measure fills in how far the sink is behind.
func (s *Sink) measure(ctx context.Context, tx *store.Tx, organization string, end audit.Positions) error {
	for i, class := range audit.Classes() {
		if s.Positions[i] >= end[i] {
			continue
		}
		s.LagEvents += end[i] - s.Positions[i]
		var oldest store.Time
		err := tx.Row(ctx, `SELECT min(recorded_at) FROM events WHERE organization = $1 AND class = $2 AND log_index IS NOT NULL
			AND log_index = (SELECT min(log_index) FROM events WHERE organization = $1 AND class = $2 AND log_index IS NOT NULL AND log_index >= $3)`,
			organization, string(class), s.Positions[i]).Scan(&oldest)
		if err != nil {
			return err
		}
		if s.LagSince.IsZero() || oldest.Before(s.LagSince) {
			s.LagSince = oldest.Time
		}
	}
	return nil
}

// mayTake checks that the caller may have the trail sent out, where c asks for it.
func (c *Content) mayTake(caller access.Caller) error {
	if !slices.Contains(c.Types, AuditEvents) {
		return nil
	}
	return access.Allow(caller, access.AuditExport, caller.Organization)
}

// keepSink makes the webhook a sink, from what is sealed by now on, or no sink any
// more, as its types say.
func keepSink(ctx context.Context, tx *store.Tx, organization, id string, types []Type, now store.Time) error {
	if !slices.Contains(types, AuditEvents) {
		_, err := tx.Exec(ctx, `DELETE FROM webhook_sinks WHERE organization = $1 AND webhook_id = $2`, organization, id)
		return err
	}
	p, err := audit.EndOf(ctx, tx, organization)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO webhook_sinks (organization, webhook_id, next_control, next_access, next_security, next_system, upto, attempts, due_at,
		delivered, last_status, last_error, created_at) VALUES ($1, $2, $3, $4, $5, $6, '', 0, $7, 0, 0, '', $7)
		ON CONFLICT (organization, webhook_id) DO NOTHING`, organization, id, p[0], p[1], p[2], p[3], now)
	return err
}

// hurrySink makes a sink due at once: how long to wait was said by, or of, the receiver
// that it had before.
func hurrySink(ctx context.Context, tx *store.Tx, organization, id string, now store.Time) error {
	_, err := tx.Exec(ctx, `UPDATE webhook_sinks SET attempts = 0, due_at = $1 WHERE organization = $2 AND webhook_id = $3`, now, organization, id)
	return err
}
