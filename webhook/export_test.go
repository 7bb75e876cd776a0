package webhook

import "context"

// Deliver starts what is due, as far as there is room, and waits for it.
func (w *Webhooks) Deliver(ctx context.Context) error {
	err := w.dispatch(ctx)
	w.flight.all.Wait()
	return err
}

// Start starts what is due and does not wait.
func (w *Webhooks) Start(ctx context.Context) error { return w.dispatch(ctx) }

// Wait waits for what was started.
func (w *Webhooks) Wait() { w.flight.all.Wait() }

// Sweep deletes what is too old.
func (w *Webhooks) Sweep(ctx context.Context) error { return w.sweep(ctx) }

// Delays is the schedule of attempts.
var Delays = delays

// CheckURL says what is wrong with a URL by itself.
func (w *Webhooks) CheckURL(raw string) string { return w.checkURL(raw) }

// StartTrail looks for sinks that are due once, and does not wait.
func (w *Webhooks) StartTrail(ctx context.Context) error { return w.startSinks(ctx) }

// WaitTrail waits for the batches that were started.
func (w *Webhooks) WaitTrail() { w.sinks.all.Wait() }

// DeliverTrail looks for sinks that are due once, and waits until their batches have
// ended.
func (w *Webhooks) DeliverTrail(ctx context.Context) error {
	if err := w.serveSinks(ctx); err != nil {
		return err
	}
	w.sinks.all.Wait()
	return nil
}

// MaxAttempts is after how many attempts a delivery has failed.
const MaxAttempts = maxAttempts

// TakeLate finds what is due, and takes it when meanwhile has run. It gives how many were taken.
func (w *Webhooks) TakeLate(ctx context.Context, meanwhile func()) (int, error) {
	found, err := w.find(ctx, nil, nil)
	if err != nil {
		return 0, err
	}
	meanwhile()
	taken, err := w.take(ctx, found)
	return len(taken), err
}
