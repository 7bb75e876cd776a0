package webhook

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Status is how far a delivery has come.
type Status string

// The statuses.
const (
	Pending   Status = "pending"   // waits for its next attempt
	Delivered Status = "delivered" // the receiver answered 2xx
	Failed    Status = "failed"    // given up; can be replayed
)

// Failure says why the last attempt of a delivery failed, in one word. It says
// no more of the network than a tenant may know: a name that does not exist and
// a private address are the same word.
type Failure string

// The failures.
const (
	failedStatus      Failure = "status"      // an answer other than 2xx, LastStatus has it
	failedTimeout     Failure = "timeout"     // no answer in time
	failedNotPublic   Failure = "not_public"  // the host does not lead to the public internet
	failedConnection  Failure = "connection"  // no connection, or it broke
	failedCertificate Failure = "certificate" // the certificate is not valid for the host
	failedSecret      Failure = "secret"      // the signing secret does not open
	failedDisabled    Failure = "disabled"    // the webhook was disabled while it waited
)

// Delivery is one message on its way to one webhook.
type Delivery struct {
	ID            string
	Webhook       string
	Message       string // the header webhook-id
	Type          Type
	Status        Status
	Attempts      int64
	NextAt        time.Time // of a pending one
	LastAttemptAt time.Time // zero: none yet
	LastStatus    int64     // the HTTP status of the last answer, 0: none
	LastError     Failure   // empty: none
	CreatedAt     time.Time
}

// Filter picks deliveries. Empty fields pick all.
type Filter struct {
	Status Status
	Limit  int    // 1 to 200; 50 when 0
	Cursor string // NextCursor of the page before
}

// The bounds of [Filter.Limit].
const (
	defaultLimit = 50
	MaxLimit     = 200
)

// Page is one page of deliveries, newest first. NextCursor is empty on the last.
type Page struct {
	Deliveries []Delivery
	NextCursor string
}

const deliveryColumns = `id, webhook_id, message_id, type, status, attempts, next_at, last_attempt_at, last_status, last_error, created_at`

func scanDelivery(scan func(...any) error) (Delivery, error) {
	var d Delivery
	var next, last, created store.Time
	err := scan(&d.ID, &d.Webhook, &d.Message, &d.Type, &d.Status, &d.Attempts, &next, &last, &d.LastStatus, &d.LastError, &created)
	d.LastAttemptAt, d.CreatedAt = last.Time, created.Time
	if d.Status == Pending {
		d.NextAt = next.Time
	}
	return d, err
}

// Deliveries gives a page of a webhook's deliveries, those of the last
// [KeepFor]. It needs webhook:read. Errors: [ErrNotFound], Invalid.
func (w *Webhooks) Deliveries(ctx context.Context, caller access.Caller, id string, f Filter) (Page, error) {
	if err := access.Allow(caller, access.WebhookRead, caller.Organization); err != nil {
		return Page{}, err
	}
	before, err := f.check()
	if err != nil {
		return Page{}, err
	}
	var page Page
	err = w.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		page = Page{}
		if _, err := find(ctx, tx, caller.Organization, id); err != nil {
			return err
		}
		return tx.Each(ctx, func(scan func(...any) error) error {
			d, err := scanDelivery(scan)
			page.Deliveries = append(page.Deliveries, d)
			return err
		}, `SELECT `+deliveryColumns+` FROM webhook_deliveries WHERE organization = $1 AND webhook_id = $2 AND ($3 = '' OR id < $3)
			AND ($4 = '' OR status = $4) ORDER BY id DESC LIMIT `+strconv.Itoa(f.Limit+1), caller.Organization, id, before, string(f.Status))
	})
	if err != nil {
		return Page{}, public(err)
	}
	if len(page.Deliveries) > f.Limit {
		page.Deliveries = page.Deliveries[:f.Limit]
		page.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(page.Deliveries[f.Limit-1].ID))
	}
	return page, nil
}

func (f *Filter) check() (before string, err error) {
	var wrong []fault.Field
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	if f.Limit < 1 || f.Limit > MaxLimit {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)})
	}
	switch f.Status {
	case "", Pending, Delivered, Failed:
	default:
		wrong = append(wrong, fault.Field{Name: "status", Message: "must be pending, delivered or failed"})
	}
	if f.Cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		if before = string(last); err != nil || !store.IsID("dlv", before) {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
		}
	}
	if len(wrong) > 0 {
		return "", fault.InvalidFields(wrong...)
	}
	return before, nil
}

// Replay sends a delivery again, whatever became of it: its attempts start
// afresh, under the same webhook-id. It needs webhook:manage. Errors:
// [ErrNotFound], [ErrDeliveryNotFound], [ErrDisabled].
func (w *Webhooks) Replay(ctx context.Context, caller access.Caller, id, delivery string) (Delivery, error) {
	if err := access.Allow(caller, access.WebhookManage, caller.Organization); err != nil {
		return Delivery{}, err
	}
	now := store.At(w.opts.Now())
	var d Delivery
	err := w.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		h, err := find(ctx, tx, caller.Organization, id)
		if err != nil {
			return err
		}
		if !store.IsID("dlv", delivery) {
			return ErrDeliveryNotFound
		}
		d, err = scanDelivery(tx.Row(ctx, `SELECT `+deliveryColumns+` FROM webhook_deliveries WHERE organization = $1 AND webhook_id = $2 AND id = $3`,
			caller.Organization, id, delivery).Scan)
		if errors.Is(err, store.ErrNotFound) {
			return ErrDeliveryNotFound
		}
		if err != nil {
			return err
		}
		if h.Disabled {
			return ErrDisabled
		}
		d.Status, d.Attempts, d.NextAt = Pending, 0, now.Time
		_, err = tx.Exec(ctx, `UPDATE webhook_deliveries SET status = $1, attempts = 0, next_at = $2 WHERE organization = $3 AND id = $4`,
			string(Pending), now, caller.Organization, delivery)
		if err != nil {
			return err
		}
		e := event(audit.WebhookReplay, h)
		e.Targets = append(e.Targets, audit.Target{Type: "delivery", ID: delivery})
		return w.log.Append(ctx, tx, caller, e)
	})
	w.flight.poke()
	return d, public(err)
}

// SendTest sends a message of the type [Test] to one webhook. It needs
// webhook:manage. Errors: [ErrNotFound], [ErrDisabled].
func (w *Webhooks) SendTest(ctx context.Context, caller access.Caller, id string) (Delivery, error) {
	if err := access.Allow(caller, access.WebhookManage, caller.Organization); err != nil {
		return Delivery{}, err
	}
	now := w.opts.Now()
	var d Delivery
	err := w.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		h, err := find(ctx, tx, caller.Organization, id)
		if err != nil {
			return err
		}
		if h.Disabled {
			return ErrDisabled
		}
		m := Message{Type: Test, OccurredAt: now, Data: map[string]any{"organizationId": caller.Organization, "webhookId": h.ID}}
		body, err := m.body()
		if err != nil {
			return err
		}
		if d, err = insertDelivery(ctx, tx, caller.Organization, id, store.NewID("msg"), Test, body, now); err != nil {
			return err
		}
		e := event(audit.WebhookTest, h)
		e.Targets = append(e.Targets, audit.Target{Type: "delivery", ID: d.ID})
		return w.log.Append(ctx, tx, caller, e)
	})
	w.flight.poke()
	return d, public(err)
}
