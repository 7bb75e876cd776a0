package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Webhook is where an organization wants messages sent.
type Webhook struct {
	ID string
	Content
	DisabledReason string // "gone" where its receiver answered 410
	Revision       int64  // grows with each change; the ETag
	CreatedAt      time.Time
	CreatedBy      string
	UpdatedAt      time.Time
}

// Content is what people decide of a webhook.
type Content struct {
	URL         string
	Types       []Type // empty: all
	Description string
	Disabled    bool
}

// Create makes a webhook and its signing secret, which is given here and never
// again. It needs webhook:manage. Errors: Invalid, Conflict past [MaxWebhooks].
func (w *Webhooks) Create(ctx context.Context, caller access.Caller, c Content) (h Webhook, exposedSecret string, err error) {
	if err := access.Allow(caller, access.WebhookManage, caller.Organization); err != nil {
		return Webhook{}, "", err
	}
	if err := w.check(&c); err != nil {
		return Webhook{}, "", err
	}
	if err := c.mayTake(caller); err != nil {
		return Webhook{}, "", err
	}
	organization, now := caller.Organization, store.At(w.opts.Now())
	h = Webhook{ID: store.NewID("whk"), Content: c, Revision: 1, CreatedAt: now.Time, CreatedBy: caller.ID, UpdatedAt: now.Time}
	secret := newSecret()
	defer secret.Wipe()
	sealed, err := w.sealer.Seal(ctx, organization, h.ID, 1, secret)
	if err != nil {
		return Webhook{}, "", public(err)
	}
	err = w.db.Update(ctx, organization, func(tx *store.Tx) error {
		var n int64
		if err := tx.Row(ctx, `SELECT count(*) FROM webhooks WHERE organization = $1`, organization).Scan(&n); err != nil {
			return err
		}
		if n >= MaxWebhooks {
			return errTooMany
		}
		types, err := json.Marshal(c.Types)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO webhooks (organization, id, url, types, description, disabled, disabled_reason, revision,
			secret_version, created_at, created_by, updated_at) VALUES ($1, $2, $3, $4, $5, $6, '', 1, 1, $7, $8, $7)`,
			organization, h.ID, c.URL, string(types), c.Description, c.Disabled, now, caller.ID)
		if err != nil {
			return err
		}
		if err := insertSecret(ctx, tx, organization, h.ID, 1, sealed, now); err != nil {
			return err
		}
		if err := keepSink(ctx, tx, organization, h.ID, h.Types, now); err != nil {
			return err
		}
		return w.log.Append(ctx, tx, caller, event(audit.WebhookCreate, h))
	})
	if err != nil {
		return Webhook{}, "", public(err)
	}
	return h, exposeSecretText(secret), nil
}

// event tells of a webhook. Of its URL the event has the origin only: the path
// of some receivers is a secret.
func event(action audit.Action, h Webhook) audit.Event {
	e := audit.Event{
		Action: action, Outcome: audit.Success, Permission: access.WebhookManage.String(),
		Targets: []audit.Target{{Type: "webhook", ID: h.ID}}, Metadata: map[string]any{"disabled": h.Disabled},
	}
	if u, err := url.Parse(h.URL); err == nil {
		e.Metadata["origin"] = netguard.Origin(u)
	}
	return e
}

// List gives the organization's webhooks, newest first. It needs webhook:read.
func (w *Webhooks) List(ctx context.Context, caller access.Caller) ([]Webhook, error) {
	if err := access.Allow(caller, access.WebhookRead, caller.Organization); err != nil {
		return nil, err
	}
	var all []Webhook
	err := w.db.View(ctx, caller.Organization, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			h, err := scanWebhook(scan)
			all = append(all, h)
			return err
		}, `SELECT `+columns+` FROM webhooks WHERE organization = $1 ORDER BY id DESC`, caller.Organization)
	})
	return all, public(err)
}

// Get gives one webhook. It needs webhook:read.
func (w *Webhooks) Get(ctx context.Context, caller access.Caller, id string) (Webhook, error) {
	if err := access.Allow(caller, access.WebhookRead, caller.Organization); err != nil {
		return Webhook{}, err
	}
	var h Webhook
	err := w.db.View(ctx, caller.Organization, func(tx *store.Tx) (err error) {
		h, err = find(ctx, tx, caller.Organization, id)
		return err
	})
	return h, public(err)
}

// Update replaces all that c says. It needs webhook:manage. Disabling a webhook ends
// the deliveries that wait. Errors: Invalid, [ErrNotFound], [ErrStale].
func (w *Webhooks) Update(ctx context.Context, caller access.Caller, id string, match store.Match, c Content) (Webhook, error) {
	if err := access.Allow(caller, access.WebhookManage, caller.Organization); err != nil {
		return Webhook{}, err
	}
	if err := w.check(&c); err != nil {
		return Webhook{}, err
	}
	if err := c.mayTake(caller); err != nil {
		return Webhook{}, err
	}
	return w.change(ctx, caller, id, match, audit.WebhookUpdate, func(h *Webhook) bool {
		if h.Disabled != c.Disabled {
			h.DisabledReason = ""
		}
		h.Content = c
		return true
	})
}

// change writes what fn makes of a webhook, with its event, unless fn gives false.
func (w *Webhooks) change(ctx context.Context, caller access.Caller, id string, match store.Match, action audit.Action, fn func(*Webhook) bool) (Webhook, error) {
	organization, now := caller.Organization, store.At(w.opts.Now())
	var h Webhook
	err := w.db.Update(ctx, organization, func(tx *store.Tx) (err error) {
		if h, err = find(ctx, tx, organization, id); err != nil {
			return err
		}
		if !match.Allows(h.Revision) {
			return ErrStale
		}
		was := h.Content
		if action == audit.WebhookUpdate { // to end what was there takes as much as to begin it
			if err := was.mayTake(caller); err != nil {
				return err
			}
		}
		if !fn(&h) {
			return nil
		}
		h.Revision, h.UpdatedAt = h.Revision+1, now.Time
		types, err := json.Marshal(h.Types)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE webhooks SET url = $1, types = $2, description = $3, disabled = $4, disabled_reason = $5, revision = $6,
			updated_at = $7 WHERE organization = $8 AND id = $9`, h.URL, string(types), h.Description, h.Disabled, h.DisabledReason, h.Revision, now, organization, id)
		if err != nil {
			return err
		}
		if err := keepSink(ctx, tx, organization, id, h.Types, now); err != nil {
			return err
		}
		if h.URL != was.URL || h.Disabled != was.Disabled {
			if err := hurrySink(ctx, tx, organization, id, now); err != nil {
				return err
			}
		}
		if h.Disabled && !was.Disabled {
			_, err = tx.Exec(ctx, `UPDATE webhook_deliveries SET status = $1, last_error = $2 WHERE organization = $3 AND webhook_id = $4 AND status = $5`,
				string(Failed), string(failedDisabled), organization, id, string(Pending))
			if err != nil {
				return err
			}
		}
		e := event(action, h)
		e.Reason = h.DisabledReason
		return w.log.Append(ctx, tx, caller, e)
	})
	return h, public(err)
}

// Delete removes a webhook with its secrets and deliveries. It needs
// webhook:manage. Errors: [ErrNotFound], [ErrStale].
func (w *Webhooks) Delete(ctx context.Context, caller access.Caller, id string, match store.Match) error {
	if err := access.Allow(caller, access.WebhookManage, caller.Organization); err != nil {
		return err
	}
	err := w.db.Update(ctx, caller.Organization, func(tx *store.Tx) error {
		h, err := find(ctx, tx, caller.Organization, id)
		if err != nil {
			return err
		}
		if !match.Allows(h.Revision) {
			return ErrStale
		}
		if err := h.mayTake(caller); err != nil {
			return err
		}
		if err := keepSink(ctx, tx, caller.Organization, id, nil, store.Time{}); err != nil {
			return err
		}
		tx.Destroys()
		if _, err := tx.Exec(ctx, `DELETE FROM webhooks WHERE organization = $1 AND id = $2`, caller.Organization, id); err != nil {
			return err
		}
		return w.log.Append(ctx, tx, caller, event(audit.WebhookDelete, h))
	})
	return public(err)
}

// rotateAttempts bounds how often a new secret that lost a race is sealed again as
// the next version.
const rotateAttempts = 64

// RotateSecret makes a new signing secret, given here and never again. For
// overlap, up to [MaxOverlap], messages are signed under the old one too; any
// older one ends at once. It needs webhook:manage. Errors: Invalid, [ErrNotFound],
// [ErrStale] where others rotate it all the time.
func (w *Webhooks) RotateSecret(ctx context.Context, caller access.Caller, id string, overlap time.Duration) (h Webhook, exposedSecret string, err error) {
	if err := access.Allow(caller, access.WebhookManage, caller.Organization); err != nil {
		return Webhook{}, "", err
	}
	if overlap < 0 || overlap > MaxOverlap {
		return Webhook{}, "", fault.InvalidFields(fault.Field{Name: "overlapSeconds", Message: fmt.Sprintf("must be from 0 to %.0f", MaxOverlap.Seconds())})
	}
	secret := newSecret()
	defer secret.Wipe()
	for range rotateAttempts {
		var version int64
		err := w.db.View(ctx, caller.Organization, func(tx *store.Tx) (err error) {
			h, err := find(ctx, tx, caller.Organization, id)
			if err != nil {
				return err
			}
			if err := h.mayTake(caller); err != nil { // who has the secret can say what the trail said
				return err
			}
			return tx.Row(ctx, `SELECT secret_version FROM webhooks WHERE organization = $1 AND id = $2`, caller.Organization, id).Scan(&version)
		})
		if err != nil {
			return Webhook{}, "", public(err)
		}
		sealed, err := w.sealer.Seal(ctx, caller.Organization, id, version+1, secret)
		if err != nil {
			return Webhook{}, "", public(err)
		}
		h, raced, err := w.replaceSecret(ctx, caller, id, version, sealed, overlap)
		if err != nil {
			return Webhook{}, "", public(err)
		}
		if !raced {
			return h, exposeSecretText(secret), nil
		}
		if err := store.Wait(ctx, rand.N(20*time.Millisecond)); err != nil {
			return Webhook{}, "", public(err)
		}
	}
	return Webhook{}, "", ErrStale
}

// replaceSecret makes sealed the secret after version, with its event, unless another
// is that already: raced.
func (w *Webhooks) replaceSecret(ctx context.Context, caller access.Caller, id string, version int64, sealed seal.Sealed, overlap time.Duration) (h Webhook, raced bool, err error) {
	organization, now := caller.Organization, store.At(w.opts.Now())
	err = w.db.Update(ctx, organization, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE webhooks SET secret_version = $1, revision = revision + 1, updated_at = $2
			WHERE organization = $3 AND id = $4 AND secret_version = $5`, version+1, now, organization, id, version)
		raced = n == 0
		if err != nil || raced {
			return err
		}
		tx.Destroys()
		_, err = tx.Exec(ctx, `DELETE FROM webhook_secrets WHERE organization = $1 AND webhook_id = $2 AND (version < $3 OR $4)`,
			organization, id, version, overlap == 0)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE webhook_secrets SET expires_at = $1 WHERE organization = $2 AND webhook_id = $3`,
			store.At(now.Add(overlap)), organization, id)
		if err != nil {
			return err
		}
		if err := insertSecret(ctx, tx, organization, id, version+1, sealed, now); err != nil {
			return err
		}
		if h, err = find(ctx, tx, organization, id); err != nil {
			return err
		}
		e := event(audit.WebhookRotate, h)
		e.Metadata["overlapSeconds"] = int64(overlap.Seconds())
		return w.log.Append(ctx, tx, caller, e)
	})
	return h, raced, err
}

// columns of a webhook, as scanWebhook reads them.
const columns = `id, url, types, description, disabled, disabled_reason, revision, created_at, created_by, updated_at`

func scanWebhook(scan func(...any) error) (Webhook, error) {
	var h Webhook
	var types string
	var created, updated store.Time
	err := scan(&h.ID, &h.URL, &types, &h.Description, &h.Disabled, &h.DisabledReason, &h.Revision, &created, &h.CreatedBy, &updated)
	h.Types, h.CreatedAt, h.UpdatedAt = typesOf(types), created.Time, updated.Time
	return h, err
}

// find gives a webhook of the organization; a malformed id is like an unknown one.
func find(ctx context.Context, tx *store.Tx, organization, id string) (Webhook, error) {
	if !store.IsID("whk", id) {
		return Webhook{}, ErrNotFound
	}
	h, err := scanWebhook(tx.Row(ctx, `SELECT `+columns+` FROM webhooks WHERE organization = $1 AND id = $2`, organization, id).Scan)
	if errors.Is(err, store.ErrNotFound) {
		return h, ErrNotFound
	}
	return h, err
}

// check says what is wrong with c, and puts its types in order.
func (w *Webhooks) check(c *Content) error {
	var wrong []fault.Field
	if message := w.checkURL(c.URL); message != "" {
		wrong = append(wrong, fault.Field{Name: "url", Message: message})
	}
	c.Types = slices.Clone(c.Types)
	slices.Sort(c.Types)
	c.Types = slices.Compact(c.Types)
	for _, t := range c.Types {
		if !slices.Contains(Types(), t) {
			var names []string
			for _, known := range Types() {
				names = append(names, string(known))
			}
			wrong = append(wrong, fault.Field{Name: "events", Message: "must be some of " + strings.Join(names, ", ")})
			break
		}
	}
	if !utf8.ValidString(c.Description) || utf8.RuneCountInString(c.Description) > maxDescription ||
		strings.ContainsFunc(c.Description, func(r rune) bool { return !unicode.IsPrint(r) }) {
		wrong = append(wrong, fault.Field{Name: "description", Message: "must be at most " + strconv.Itoa(maxDescription) + " printable characters"})
	}
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}

// checkURL says what is wrong with a URL by itself. Where its host leads is
// checked each time it is dialled.
func (w *Webhooks) checkURL(raw string) string {
	const form = "must be an https URL on port 443 with a public host, such as https://hooks.example.com/gatehouse"
	u, err := url.Parse(raw)
	if err != nil || len(raw) > maxURL || u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "" ||
		!utf8.ValidString(raw) || strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return form
	}
	if w.allowed[netguard.Origin(u)] || w.opts.Loopback && netguard.IsLoopback(u) {
		return ""
	}
	if u.Scheme != "https" || u.Port() != "" && u.Port() != "443" {
		return form
	}
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && netguard.Forbidden(a) {
		return form
	}
	return ""
}
