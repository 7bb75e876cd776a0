package webhook

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/gatehouse-io/gatehouse/seal"
)

// PostCheckpoint sends a signed checkpoint to the operator's sink, in one attempt of
// its own: it waits for no event, and no event for it. The same checkpoint has the same
// webhook-id, whichever instance sends it. An error says how the attempt failed, and
// nothing of the URL.
func (w *Webhooks) PostCheckpoint(ctx context.Context, note string) error {
	sum := sha256.Sum256([]byte(note))
	body, err := Message{Type: AuditCheckpoint, OccurredAt: w.opts.Now(), Data: map[string]any{"checkpoint": note}}.body()
	if err != nil {
		return err
	}
	a := w.post(ctx, w.opts.Operator.URL, "msg_"+hex.EncodeToString(sum[:16]), body, []seal.Secret{w.opts.Operator.Secret})
	if a.failure != "" {
		return fmt.Errorf("webhook: the receiver of checkpoints did not take one: %s, status %d", a.failure, a.status)
	}
	return nil
}
