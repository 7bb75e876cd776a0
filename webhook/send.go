package webhook

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// delays are those before the second and each later attempt: the example
// schedule of Standard Webhooks 1.0.0.
var delays = [...]time.Duration{
	5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
	10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
}

// maxAttempts is after how many attempts a delivery has failed.
const maxAttempts = len(delays) + 1

// answer is how an attempt ended.
type answer struct {
	status     int64 // 0: none
	failure    Failure
	retryAfter time.Duration
	notMade    bool // nothing was sent, and that says nothing of the webhook
}

const (
	openingMaxFor = 10 * time.Second // of the secrets, so that an attempt ends before its lease
	notMadePause  = 5 * time.Second  // before an attempt that could not be made is tried again
)

// send makes one attempt and records how it ended.
func (w *Webhooks) send(ctx context.Context, d due) {
	defer w.flight.leave(d.webhookKey)
	a := w.attempt(ctx, d.webhookKey, d.url, d.message, d.body)
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordingMaxFor)
	defer cancel()
	var err error
	switch {
	case ctx.Err() != nil && a.failure != "":
		err = w.giveBack(recording, d, w.opts.Now()) // it is this instance that ends, which says nothing of the receiver
	case a.notMade:
		err = w.giveBack(recording, d, w.opts.Now().Add(notMadePause))
	default:
		err = w.record(recording, d, a)
	}
	if err != nil { // the lease ends, and the attempt is made again
		w.opts.Logger.WarnContext(ctx, "a webhook's attempt could not be recorded", "organization", d.organization, "delivery", d.delivery, "error", err)
	}
}

// attempt makes one request to a webhook, under its secrets.
func (w *Webhooks) attempt(ctx context.Context, k webhookKey, address, id, body string) answer {
	opening, cancel := context.WithTimeout(ctx, openingMaxFor)
	defer cancel()
	secrets, err := w.secrets(opening, k.organization, k.id)
	if fault.KindOf(public(err)) == fault.Unavailable { // the database is away, or too many keys are being derived
		return answer{failure: failedSecret, notMade: true}
	}
	if err != nil || len(secrets) == 0 {
		w.opts.Logger.WarnContext(ctx, "a webhook's secret does not open", "organization", k.organization, "webhook", k.id, "error", err)
		return answer{failure: failedSecret}
	}
	defer func() {
		for _, s := range secrets {
			s.Wipe()
		}
	}()
	return w.post(ctx, address, id, body, secrets)
}

// post sends a message, signed under each of secrets.
func (w *Webhooks) post(ctx context.Context, address, id, body string, secrets []seal.Secret) answer {
	now := w.opts.Now()
	sig := signature(secrets, id, now, body)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, strings.NewReader(body))
	if err != nil {
		return answer{failure: failedConnection}
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "gatehouse")
	r.Header["webhook-id"] = []string{id} // in the spelling of the specification
	r.Header["webhook-timestamp"] = []string{strconv.FormatInt(now.Unix(), 10)}
	r.Header["webhook-signature"] = []string{sig}
	response, err := w.client.Do(r)
	if err != nil {
		return answer{failure: failureOf(err)}
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body) // to a bound, so that the connection can be used again; what it says is the receiver's own
	a := answer{status: int64(response.StatusCode)}
	if a.status < 200 || a.status > 299 {
		a.failure, a.retryAfter = failedStatus, min(wiretime.RetryAfter(response.Header.Get("Retry-After"), now), maxRetryAfter)
	}
	return a
}

// failureOf names an error of the network without its text, which can hold
// what the other side sent, and addresses.
func failureOf(err error) Failure {
	var (
		dns       *net.DNSError
		verify    *tls.CertificateVerificationError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, netguard.ErrForbiddenAddress), errors.Is(err, netguard.ErrForbiddenOrigin), errors.Is(err, netguard.ErrForbiddenPort),
		errors.As(err, &dns) && dns.IsNotFound:
		return failedNotPublic
	case errors.As(err, &verify), errors.As(err, &hostname), errors.As(err, &authority):
		return failedCertificate
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return failedTimeout
	}
	return failedConnection
}

// maxRetryAfter bounds what a receiver may ask for.
const maxRetryAfter = 24 * time.Hour

// giveBack makes a delivery due at that time, as if it had not been taken.
func (w *Webhooks) giveBack(ctx context.Context, d due, at time.Time) error {
	return w.db.Update(ctx, d.organization, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET attempts = $1, next_at = $2 WHERE organization = $3 AND id = $4 AND attempts = $5 AND next_at = $6`,
			d.attempts-1, store.At(at), d.organization, d.delivery, d.attempts, d.next)
		return err
	})
}

// record writes how an attempt ended, unless the delivery is not this
// instance's any more.
func (w *Webhooks) record(ctx context.Context, d due, a answer) error {
	now := w.opts.Now()
	status, next, outcome := Pending, d.next, "retried"
	switch {
	case a.failure == "":
		status, outcome = Delivered, "delivered"
	case a.status == http.StatusGone, d.attempts >= int64(maxAttempts):
		status, outcome = Failed, "failed"
	default:
		delay := delays[d.attempts-1]
		next = store.At(now.Add(max(delay+rand.N(delay/10), a.retryAfter)))
	}
	held := false
	err := w.db.Update(ctx, d.organization, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE webhook_deliveries SET status = $1, next_at = $2, last_status = $3, last_error = $4
			WHERE organization = $5 AND id = $6 AND status = 'pending' AND attempts = $7 AND next_at = $8`,
			string(status), next, a.status, string(a.failure), d.organization, d.delivery, d.attempts, d.next)
		held = n == 1
		if err != nil || !held || status != Failed {
			return err
		}
		return w.log.Append(ctx, tx, access.SystemCaller(d.organization), audit.Event{
			Action: audit.WebhookFail, Outcome: audit.Failure, Reason: "webhook_" + string(a.failure),
			Targets:  []audit.Target{{Type: "webhook", ID: d.id}, {Type: "delivery", ID: d.delivery}},
			Metadata: map[string]any{"attempts": d.attempts, "status": a.status},
		})
	})
	if err != nil || !held {
		return err
	}
	w.opts.Attempted(outcome)
	if a.status == http.StatusGone {
		err = w.disableGone(ctx, d.webhookKey, d.url)
	}
	return err
}

// disableGone disables a webhook whose receiver at that URL said that it is gone (410), unless
// it is another receiver's by now.
func (w *Webhooks) disableGone(ctx context.Context, k webhookKey, url string) error {
	_, err := w.change(ctx, access.SystemCaller(k.organization), k.id, store.Match{}, audit.WebhookDisable, func(h *Webhook) bool {
		if h.Disabled || h.URL != url {
			return false
		}
		h.Disabled, h.DisabledReason = true, "gone"
		return true
	})
	return err
}
