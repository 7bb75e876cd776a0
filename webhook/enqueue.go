package webhook

import (
	"context"
	"encoding/json"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/wiretime"
	"github.com/gatehouse-io/gatehouse/store"
)

// Type is what a message tells of, from the closed list below. Messages of one
// type have data of one shape (docs/health.md).
type Type string

// The types of messages.
const (
	CredentialExpiring    Type = "credential.expiring"     // one of the warnings before expiresAt
	CredentialExpired     Type = "credential.expired"      // past expiresAt
	CredentialUnused      Type = "credential.unused"       // not used for a long while
	CredentialTestFailed  Type = "credential.test_failed"  // its provider does not accept it (any more)
	CredentialRotationDue Type = "credential.rotation_due" // its values are older than they should get
	CredentialUnreadable  Type = "credential.unreadable"   // the sealed version does not open
	CredentialFallback    Type = "credential.fallback"     // its provider refuses the active version, and the one in grace serves
	Test                  Type = "webhook.test"            // asked for by a person; sent to one webhook, whatever it subscribed to
)

// Types lists the types that a webhook can subscribe to.
func Types() []Type {
	return []Type{CredentialExpiring, CredentialExpired, CredentialUnused, CredentialTestFailed, CredentialRotationDue, CredentialUnreadable, CredentialFallback, AuditEvents}
}

// Message is what is told. Data holds ids and names, never a value or a hint.
type Message struct {
	Type       Type
	OccurredAt time.Time
	Data       map[string]any
}

// body gives the message as it is sent and signed. The member names are those
// that Standard Webhooks recommends.
func (m Message) body() (string, error) {
	b, err := json.Marshal(struct {
		Type      Type           `json:"type"`
		Timestamp string         `json:"timestamp"`
		Data      map[string]any `json:"data"`
	}{m.Type, wiretime.Text(m.OccurredAt), m.Data})
	return string(b), err
}

// Enqueue hands a message to the organization's webhooks that want it, inside
// tx: it is sent if and only if tx commits. Without a webhook it does nothing.
func Enqueue(ctx context.Context, tx *store.Tx, organization string, now time.Time, m Message) error {
	var wanted []string
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var id, types string
		if err := scan(&id, &types); err != nil {
			return err
		}
		if subscribesTo(typesOf(types), m.Type) {
			wanted = append(wanted, id)
		}
		return nil
	}, `SELECT id, types FROM webhooks WHERE organization = $1 AND disabled = $2`, organization, false)
	if err != nil || len(wanted) == 0 {
		return err
	}
	body, err := m.body()
	if err != nil {
		return err
	}
	message := store.NewID("msg")
	for _, id := range wanted {
		if _, err := insertDelivery(ctx, tx, organization, id, message, m.Type, body, now); err != nil {
			return err
		}
	}
	return nil
}

func insertDelivery(ctx context.Context, tx *store.Tx, organization, webhook, message string, typ Type, body string, now time.Time) (Delivery, error) {
	d := Delivery{
		ID: store.NewID("dlv"), Webhook: webhook, Message: message, Type: typ, Status: Pending,
		CreatedAt: store.At(now).Time, NextAt: store.At(now).Time,
	}
	_, err := tx.Exec(ctx, `INSERT INTO webhook_deliveries (organization, id, webhook_id, message_id, type, body, status, attempts,
		next_at, last_status, last_error, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, 0, $8, 0, '', $8)`,
		organization, d.ID, webhook, message, string(typ), body, string(Pending), store.At(now))
	return d, err
}

// typesOf reads the column types; what cannot be read subscribes to everything.
func typesOf(column string) []Type {
	var types []Type
	if json.Unmarshal([]byte(column), &types) != nil {
		return nil
	}
	return types
}
