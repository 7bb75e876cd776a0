package webhook

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// The delivery of the trail: one batch of a sink at a time, repeated until it is
// taken, so that a sink that is away falls behind and loses nothing.
const (
	maxSinks     = 16 // that an instance sends to at once
	sinkAlarm    = 10 // failed attempts in a row that are told of in the trail
	sinkMaxDelay = 15 * time.Minute
)

// sinkRun is what this instance sends to sinks at the moment.
type sinkRun struct {
	mu     sync.Mutex
	busy   map[webhookKey]bool
	behind map[webhookKey]backlog
	most   map[webhookKey]int // events that a batch may have, of sinks that refused a larger one
	all    sync.WaitGroup
}

// backlog is what a sink has not taken of this instance.
type backlog struct {
	since time.Time       // when the first event of it was recorded
	from  audit.Positions // where it begins
}

// dueSink is a sink that there are events for.
type dueSink struct {
	webhookKey
	url      string
	from     audit.Positions
	upto     *audit.Positions // of the batch that was tried before
	attempts int64
	due      store.Time
}

// SinkLag gives how old the oldest event is that this instance tries to deliver
// to a sink; 0 where there is none.
func (w *Webhooks) SinkLag() time.Duration {
	w.sinks.mu.Lock()
	defer w.sinks.mu.Unlock()
	var lag time.Duration
	for _, b := range w.sinks.behind {
		lag = max(lag, w.opts.Now().Sub(b.since))
	}
	return lag
}

// runSinks delivers the trail until ctx ends.
func (w *Webhooks) runSinks(ctx context.Context) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	failing := false
	for {
		err := w.serveSinks(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			w.opts.Logger.WarnContext(ctx, "the delivery of the trail waits for the database", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			w.sinks.all.Wait()
			return
		case <-tick.C:
		}
	}
}

// serveSinks looks for sinks that are due, and starts their batches.
func (w *Webhooks) serveSinks(ctx context.Context) error {
	if err := w.keepOperatorSink(ctx); err != nil {
		return err
	}
	if err := w.forgetBacklogs(ctx); err != nil {
		return err
	}
	return w.startSinks(ctx)
}

// keepOperatorSink makes the row of the operator's sink, once.
func (w *Webhooks) keepOperatorSink(ctx context.Context) error {
	if w.operatorKept || w.opts.Operator.URL == "" {
		return nil
	}
	err := w.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		return keepSink(ctx, tx, access.InstanceOrganization, operatorSink, []Type{AuditEvents}, store.At(w.opts.Now()))
	})
	w.operatorKept = err == nil
	return err
}

// startSinks starts a batch for each sink that has events and none under way.
func (w *Webhooks) startSinks(ctx context.Context) error {
	all, err := w.findSinks(ctx)
	if err != nil {
		return err
	}
	w.sinks.mu.Lock()
	defer w.sinks.mu.Unlock()
	for _, s := range all {
		if len(w.sinks.busy) >= maxSinks || w.sinks.busy[s.webhookKey] || s.id == operatorSink && w.opts.Operator.URL == "" {
			continue
		}
		if w.sinks.busy == nil {
			w.sinks.busy, w.sinks.behind = make(map[webhookKey]bool), make(map[webhookKey]backlog)
		}
		w.sinks.busy[s.webhookKey] = true
		w.sinks.all.Go(func() {
			err := w.deliverTrail(ctx, s)
			w.sinks.mu.Lock()
			delete(w.sinks.busy, s.webhookKey)
			w.sinks.mu.Unlock()
			if err != nil && ctx.Err() == nil { // the lease ends, and the batch is sent again
				w.opts.Logger.WarnContext(ctx, "a batch of the trail could not be delivered", "organization", s.organization, "webhook", s.id, "error", err)
			}
		})
	}
	return nil
}

// findSinks gives sinks that are due and have events, those due longest first.
func (w *Webhooks) findSinks(ctx context.Context) ([]dueSink, error) {
	has := make([]string, 0, 4)
	for _, class := range audit.Classes() {
		has = append(has, `EXISTS (SELECT 1 FROM events e WHERE e.organization = s.organization AND e.class = '`+string(class)+
			`' AND e.log_index IS NOT NULL AND e.log_index >= s.next_`+string(class)+`)`)
	}
	var all []dueSink
	err := w.db.ViewAcross(ctx, func(tx *store.Tx) error {
		all = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var s dueSink
			var upto string
			err := scan(&s.organization, &s.id, &s.url, &s.from[0], &s.from[1], &s.from[2], &s.from[3], &upto, &s.attempts, &s.due)
			if p, wrong := audit.ParsePositions(upto); wrong == nil {
				s.upto = &p
			}
			all = append(all, s)
			return err
		}, `SELECT s.organization, s.webhook_id, coalesce(h.url, ''), `+positionColumns+`, s.upto, s.attempts, s.due_at
			FROM webhook_sinks s LEFT JOIN webhooks h ON h.organization = s.organization AND h.id = s.webhook_id
			LEFT JOIN organizations o ON o.id = s.organization
			WHERE s.due_at <= $1 AND (s.webhook_id = $2 OR h.disabled = $3 AND o.deleted_at IS NULL) AND (`+strings.Join(has, " OR ")+`)
			ORDER BY s.due_at LIMIT 64`, store.At(w.opts.Now()), operatorSink, false)
	})
	return all, err
}

// deliverTrail sends batches to one sink until it has all, or one fails.
func (w *Webhooks) deliverTrail(ctx context.Context, s dueSink) error {
	for ctx.Err() == nil {
		limit := sinkBatch
		if s.upto == nil { // a batch that was tried before stays what it is
			limit = w.mostEvents(s.webhookKey)
		}
		events, err := w.log.Following(ctx, s.organization, s.from, s.upto, limit)
		if err != nil {
			return err
		}
		id, body, sent, err := trailMessage(s, events, w.opts.Now())
		if err != nil {
			return err
		}
		var upto audit.Positions
		switch {
		case len(sent) > 0:
			upto = sent[len(sent)-1].After
			w.setBacklog(s.webhookKey, &backlog{since: sent[0].RecordedAt, from: s.from})
		case s.upto != nil: // retention was faster
			upto = *s.upto
		default:
			return nil
		}
		held, err := w.takeBatch(ctx, &s, upto)
		if err != nil || !held {
			return err
		}
		a := answer{}
		if len(sent) > 0 {
			a = w.postTrail(ctx, s, id, body)
		}
		recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordingMaxFor)
		err = w.recordBatch(recording, &s, upto, sent, a, ctx.Err() != nil)
		cancel()
		if err != nil || a.failure != "" || len(events) < limit && len(sent) == len(events) {
			return err
		}
	}
	return nil
}

// setBacklog notes what a sink has not taken; nil: it has all.
func (w *Webhooks) setBacklog(k webhookKey, b *backlog) {
	w.sinks.mu.Lock()
	defer w.sinks.mu.Unlock()
	if b == nil {
		delete(w.sinks.behind, k)
		return
	}
	w.sinks.behind[k] = *b
}

// forgetBacklogs forgets those of sinks to which another instance has delivered since, which
// are disabled, or which there are no more.
func (w *Webhooks) forgetBacklogs(ctx context.Context) error {
	w.sinks.mu.Lock()
	none := len(w.sinks.behind) == 0
	w.sinks.mu.Unlock()
	if none {
		return nil
	}
	var at map[webhookKey]audit.Positions
	err := w.db.ViewAcross(ctx, func(tx *store.Tx) error {
		at = make(map[webhookKey]audit.Positions)
		return tx.Each(ctx, func(scan func(...any) error) error {
			var k webhookKey
			var p audit.Positions
			err := scan(&k.organization, &k.id, &p[0], &p[1], &p[2], &p[3])
			at[k] = p
			return err
		}, `SELECT s.organization, s.webhook_id, `+positionColumns+` FROM webhook_sinks s
			LEFT JOIN webhooks h ON h.organization = s.organization AND h.id = s.webhook_id
			LEFT JOIN organizations o ON o.id = s.organization
			WHERE s.webhook_id = $1 OR h.disabled = $2 AND o.deleted_at IS NULL`, operatorSink, false)
	})
	if err != nil {
		return err
	}
	w.sinks.mu.Lock()
	defer w.sinks.mu.Unlock()
	for k, b := range w.sinks.behind {
		if from, there := at[k]; (!there || from != b.from) && !w.sinks.busy[k] {
			delete(w.sinks.behind, k)
		}
	}
	return nil
}

// takeBatch makes the batch this instance's for the length of the lease.
func (w *Webhooks) takeBatch(ctx context.Context, s *dueSink, upto audit.Positions) (held bool, err error) {
	now := w.opts.Now()
	until := store.At(now.Add(lease))
	err = w.db.Update(ctx, s.organization, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE webhook_sinks SET attempts = $1, due_at = $2, last_attempt_at = $3, upto = $4
			WHERE organization = $5 AND webhook_id = $6 AND attempts = $7 AND due_at = $8
			AND next_control = $9 AND next_access = $10 AND next_security = $11 AND next_system = $12`, // or another has delivered it, on the same tick
			s.attempts+1, until, store.At(now), upto.String(), s.organization, s.id, s.attempts, s.due, s.from[0], s.from[1], s.from[2], s.from[3])
		held = n == 1
		return err
	})
	if held {
		s.attempts, s.due, s.upto = s.attempts+1, until, &upto
	}
	return held, err
}

// postTrail makes one request.
func (w *Webhooks) postTrail(ctx context.Context, s dueSink, id, body string) answer {
	if s.id == operatorSink {
		return w.post(ctx, w.opts.Operator.URL, id, body, []seal.Secret{w.opts.Operator.Secret})
	}
	return w.attempt(ctx, s.webhookKey, s.url, id, body)
}

// batchEnd is how a batch ended, and what becomes of its sink.
type batchEnd struct {
	answer
	untaken  bool            // the sink is as if the batch had not been taken
	halved   bool            // the same events come in smaller batches, which is no failure of the sink
	upto     audit.Positions // where the batch ends, or the next one
	attempts int64
	next     store.Time
	outcome  string // what Options.Attempted is told; "": nothing
}

// endOf works out what becomes of the sink. stopped says that it is this instance that
// ends, which says nothing of the sink.
func (s *dueSink) endOf(a answer, upto audit.Positions, sent []audit.Sealed, stopped bool, now time.Time) batchEnd {
	switch {
	case a.failure == "":
		return batchEnd{answer: a, upto: upto, next: store.At(now), outcome: "trail_delivered"}
	case stopped:
		return batchEnd{answer: a, untaken: true, upto: upto, attempts: s.attempts - 1, next: store.At(now)}
	case a.notMade:
		return batchEnd{answer: a, untaken: true, upto: upto, attempts: s.attempts - 1, next: store.At(now.Add(notMadePause))}
	case a.status == http.StatusRequestEntityTooLarge && len(sent) > 1:
		return batchEnd{
			answer: a, halved: true, upto: sent[len(sent)/2-1].After, attempts: s.attempts - 1,
			next: store.At(now.Add(min(a.retryAfter, sinkMaxDelay))), outcome: "trail_retried",
		}
	}
	delay := min(delays[0]<<min(s.attempts-1, 10), sinkMaxDelay)
	next := store.At(now.Add(max(delay+rand.N(delay/10), min(a.retryAfter, sinkMaxDelay))))
	return batchEnd{answer: a, upto: upto, attempts: s.attempts, next: next, outcome: "trail_retried"}
}

// recordBatch writes how a batch ended, unless it is not this instance's any more.
func (w *Webhooks) recordBatch(ctx context.Context, s *dueSink, upto audit.Positions, sent []audit.Sealed, a answer, stopped bool) error {
	end := s.endOf(a, upto, sent, stopped, w.opts.Now())
	if end.failure == "" {
		w.setBacklog(s.webhookKey, nil)
	}
	w.noteSize(s.webhookKey, len(sent), end.failure == "", end.halved)
	err := w.db.Update(ctx, s.organization, func(tx *store.Tx) error {
		if err := s.write(ctx, tx, end, int64(len(sent))); err != nil {
			return err
		}
		if end.failure == "" || end.untaken || end.halved || s.attempts != sinkAlarm {
			return nil
		}
		return w.log.Append(ctx, tx, access.SystemCaller(s.organization), audit.Event{
			Action: audit.WebhookFail, Outcome: audit.Failure, Reason: "sink_" + string(end.failure), Targets: []audit.Target{{Type: "webhook", ID: s.id}},
			Metadata: map[string]any{"attempts": s.attempts, "status": end.status},
		})
	})
	if errors.Is(err, errLost) {
		return errLost
	}
	if err != nil {
		return err
	}
	s.attempts, s.due, s.from, s.upto = end.attempts, end.next, end.upto, nil
	if end.outcome != "" {
		w.opts.Attempted(end.outcome)
	}
	if end.status == http.StatusGone && s.id != operatorSink {
		err = w.disableGone(ctx, s.webhookKey, s.url)
	}
	return err
}

// write puts what becomes of the sink into its row; [errLost] where that is not this
// instance's any more.
func (s *dueSink) write(ctx context.Context, tx *store.Tx, end batchEnd, events int64) (err error) {
	var n int64
	switch {
	case end.failure == "":
		n, err = tx.Exec(ctx, `UPDATE webhook_sinks SET next_control = $1, next_access = $2, next_security = $3, next_system = $4, upto = '', attempts = 0,
			due_at = $5, delivered_at = $5, delivered = delivered + $6, last_status = $7, last_error = ''
			WHERE organization = $8 AND webhook_id = $9 AND attempts = $10 AND due_at = $11`,
			end.upto[0], end.upto[1], end.upto[2], end.upto[3], end.next, events, end.status, s.organization, s.id, s.attempts, s.due)
	case end.untaken:
		n, err = tx.Exec(ctx, `UPDATE webhook_sinks SET attempts = $1, due_at = $2 WHERE organization = $3 AND webhook_id = $4 AND attempts = $5 AND due_at = $6`,
			end.attempts, end.next, s.organization, s.id, s.attempts, s.due)
	default:
		n, err = tx.Exec(ctx, `UPDATE webhook_sinks SET attempts = $1, due_at = $2, last_status = $3, last_error = $4, upto = $5
			WHERE organization = $6 AND webhook_id = $7 AND attempts = $8 AND due_at = $9`,
			end.attempts, end.next, end.status, string(end.failure), end.upto.String(), s.organization, s.id, s.attempts, s.due)
	}
	if err == nil && n != 1 {
		err = errLost
	}
	return err
}

var errLost = errors.New("webhook: another instance has the batch, or there is no such sink any more")

// subscribesTo reports whether types (empty: all but the trail) name t.
func subscribesTo(types []Type, t Type) bool {
	return len(types) == 0 && t != AuditEvents || slices.Contains(types, t)
}
