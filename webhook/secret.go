package webhook

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// The form of a signing secret (Standard Webhooks 1.0.0): whsec_ and the
// base64 of 24 to 64 random bytes.
const (
	secretPrefix = "whsec_"
	secretBytes  = 32
)

// The overlap of a rotation: how long messages are signed under the old secret too.
const (
	DefaultOverlap = 24 * time.Hour
	MaxOverlap     = 7 * 24 * time.Hour
)

// newSecret gives the bytes of a signing secret.
func newSecret() seal.Secret {
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails (crypto/rand)
	return seal.NewSecret(b)
}

// exposeSecretText gives the secret as its receiver keeps it.
func exposeSecretText(s seal.Secret) string {
	return secretPrefix + base64.StdEncoding.EncodeToString(s.ExposeSecretBytes())
}

// ParseSecret reads a signing secret as its receiver keeps it. The error holds
// nothing of it.
func ParseSecret(text string) (seal.Secret, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	b, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(b) < 24 || len(b) > 64 {
		return seal.Secret{}, errors.New("not a signing secret")
	}
	return seal.NewSecret(b), nil
}

// signature gives the header webhook-signature: one signature for each secret,
// separated by spaces, over id, timestamp and body.
func signature(secrets []seal.Secret, id string, at time.Time, body string) string {
	var all []string
	for _, s := range secrets {
		h := hmac.New(sha256.New, s.ExposeSecretBytes())
		h.Write([]byte(id + "." + strconv.FormatInt(at.Unix(), 10) + "." + body))
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(h.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// insertSecret writes version n of the webhook's secret.
func insertSecret(ctx context.Context, tx *store.Tx, organization, id string, n int64, sealed seal.Sealed, now store.Time) error {
	_, err := tx.Exec(ctx, `INSERT INTO webhook_secrets (organization, webhook_id, version, secret_sealed, created_at) VALUES ($1, $2, $3, $4, $5)`,
		organization, id, n, sealed, now)
	if err != nil {
		return err
	}
	return masterkey.Admit(ctx, tx, organization, sealed)
}

// Destroy deletes an organization's webhooks with their deliveries, and gives how
// many there were. It is part of the deletion of the organization.
func Destroy(ctx context.Context, tx *store.Tx, organization string) (rows int64, err error) {
	if _, err := tx.Exec(ctx, `DELETE FROM webhook_sinks WHERE organization = $1`, organization); err != nil {
		return 0, err
	}
	return tx.Exec(ctx, `DELETE FROM webhooks WHERE organization = $1`, organization)
}

// secrets opens what the webhook's messages are signed under at the moment, the
// newest first.
func (w *Webhooks) secrets(ctx context.Context, organization, id string) ([]seal.Secret, error) {
	type stored struct {
		version int64
		sealed  seal.Sealed
	}
	var rows []stored
	err := w.db.View(ctx, organization, func(tx *store.Tx) error {
		rows = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var s stored
			err := scan(&s.version, &s.sealed)
			rows = append(rows, s)
			return err
		}, `SELECT version, secret_sealed FROM webhook_secrets WHERE organization = $1 AND webhook_id = $2
			AND (expires_at IS NULL OR expires_at > $3) ORDER BY version DESC`, organization, id, store.At(w.opts.Now()))
	})
	if err != nil {
		return nil, err
	}
	var all []seal.Secret
	for _, row := range rows {
		secret, err := w.sealer.Open(ctx, organization, id, row.version, row.sealed)
		if err != nil {
			return nil, err
		}
		all = append(all, secret)
	}
	return all, nil
}
