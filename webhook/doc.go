// Package webhook tells organizations' own systems what happens to their
// credentials, by HTTP requests signed as Standard Webhooks 1.0.0 asks
// (https://www.standardwebhooks.com).
//
// An organization keeps [Webhook]s: a URL, the types of messages it wants, and a
// signing secret that is shown once and stored sealed. A domain package tells of
// something with [Enqueue], inside the transaction of the event itself, so that
// a message exists if and only if what it tells is true. [Webhooks.Run], on any
// number of instances, sends what is due.
//
// # Delivery
//
// At least once: a receiver recognises a repeat by the header webhook-id. An
// answer of 2xx within [Timeout] is a success; everything else is tried again
// after the delays of the specification's schedule, each longer by up to a tenth
// at random, or after Retry-After where that is later. After the tenth attempt,
// about three days, the delivery has failed and can be replayed. 410 switches
// the webhook off.
//
// A delivery is taken by moving its next attempt past the longest that an
// attempt can last, so that an instance that is killed in the middle loses
// nothing: another takes it up then. One webhook gets at most two requests at a
// time from an instance and one organization four, so that receivers that hang
// do not hold up others'.
//
// # The trail
//
// A webhook that names the type [AuditEvents] is a sink: it gets the events of its
// organization once they are sealed, in batches, from where it was made on. Its
// place is kept as the next index of each class's log, not as a copy of what is to
// be sent, so that a sink that is away costs nothing and falls behind, for as long
// as retention keeps the events. One batch is under way at a time; it is repeated,
// with the same webhook-id, until the receiver takes it, after pauses of up to 15
// minutes. [Webhooks.Sinks] says how far each is.
//
// # Where requests go
//
// The URL is a tenant's: requests are https on port 443 to public addresses,
// checked when they are dialled, and follow no redirect (package
// internal/netguard). The operator's [Options.AllowedOrigins] are exempt. Of an
// answer the status is kept; the body is read to a bound and dropped.
package webhook

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Bounds of webhooks and deliveries.
const (
	MaxWebhooks = 20                  // of one organization
	Timeout     = 15 * time.Second    // of one attempt, dialling included
	KeepFor     = 30 * 24 * time.Hour // how long a delivery that has ended can be listed and replayed, counted from when it was made

	maxURL         = 2000 // bytes
	maxDescription = 200  // characters
	maxAnswer      = 16 << 10
)

// The errors that callers meet, each safe to show.
var (
	ErrNotFound         = fault.New(fault.NotFound, "webhook_not_found", "There is no such webhook.")
	ErrDeliveryNotFound = fault.New(fault.NotFound, "delivery_not_found", "There is no such delivery of this webhook.")
	ErrStale            = fault.New(fault.Stale, "webhook_changed", "The webhook was changed meanwhile; read it again and repeat the change.")
	ErrDisabled         = fault.New(fault.Conflict, "webhook_disabled", "The webhook is disabled; enable it first.")
	errTooMany          = fault.New(fault.Conflict, "too_many_webhooks", fmt.Sprintf("There may be at most %d webhooks; delete one first.", MaxWebhooks))
)

// Sealer seals the signing secrets under their organization's keys. Version n of
// the secret of webhook id opens only as that one.
type Sealer interface {
	Seal(ctx context.Context, organization, id string, version int64, secret seal.Secret) (seal.Sealed, error)
	Open(ctx context.Context, organization, id string, version int64, sealed seal.Sealed) (seal.Secret, error)
}

// Options sets up [Webhooks].
type Options struct {
	// AllowedOrigins are scheme://host[:port] that the operator named: they may be
	// plain http and on a private network, for every organization.
	AllowedOrigins []string
	Loopback       bool                 // also http and https on this machine, any port: for development
	Attempted      func(outcome string) // told of each attempt: delivered, retried or failed; trail_delivered or trail_retried of a sink
	Operator       OperatorSink         // gets the events of the reserved organization
	Now            func() time.Time     // time.Now when nil
	Logger         *slog.Logger         // nothing is logged when nil
}

// Webhooks keeps webhooks in a database and sends what is due. Its methods may
// be called by several goroutines at once.
type Webhooks struct {
	db      *store.DB
	log     *audit.Log
	sealer  Sealer
	opts    Options
	client  *http.Client
	allowed map[string]bool
	flight  flight
	sinks   sinkRun

	operatorKept bool // the operator's sink has its row; only the goroutine that runs the sinks asks
}

// New gives the webhooks kept in db. It fails when an allowed origin is not of
// the form scheme://host[:port]. [Webhooks.Run] must be running for anything to
// be sent.
func New(db *store.DB, log *audit.Log, sealer Sealer, opts Options) (*Webhooks, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	if opts.Attempted == nil {
		opts.Attempted = func(string) {}
	}
	reachable := slices.Clone(opts.AllowedOrigins)
	if u, err := url.Parse(opts.Operator.URL); err == nil && opts.Operator.URL != "" {
		reachable = append(reachable, netguard.Origin(u))
	}
	client, err := netguard.NewClient(netguard.Options{
		AllowedOrigins: reachable, Loopback: opts.Loopback, Timeout: Timeout, MaxBody: maxAnswer,
	})
	if err != nil {
		return nil, err
	}
	w := &Webhooks{db: db, log: log, sealer: sealer, opts: opts, client: client, allowed: make(map[string]bool)}
	w.flight.freed = make(chan struct{}, 1)
	for _, origin := range opts.AllowedOrigins {
		if u, err := url.Parse(origin); err == nil { // the client would not have been made otherwise
			w.allowed[netguard.Origin(u)] = true
		}
	}
	return w, nil
}

// public gives err in the form that callers may meet.
func public(err error) error {
	if _, known := fault.As(err); err == nil || known {
		return err
	}
	if errors.Is(err, store.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded) {
		return fault.DatabaseAway.Because(err)
	}
	return err
}
