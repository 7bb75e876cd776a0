package vault

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/store"
)

// A credential has one expiry, the earlier of two: what a person set, and what
// the provider said in the last test that it said anything in. The column holds
// the one that counts. Where that is the provider's, the stored test holds it
// too, and beside it what the person had set, so that nothing a person set is
// lost and nothing is put off past it.

// storedTest is a test as the column last_test holds it.
type storedTest struct {
	TestResult
	FilledExpiry *time.Time `json:"filledExpiry,omitempty"` // the provider's, where it is the credential's
	OwnExpiry    *time.Time `json:"ownExpiry,omitempty"`    // what a person had set before it
}

// providersExpiry reports whether the expiry of c is the provider's, and what a
// person had set (zero: nothing).
func providersExpiry(c Credential) (own time.Time, is bool) {
	var t storedTest
	if c.LastTest == nil || json.Unmarshal(c.LastTest, &t) != nil || t.FilledExpiry == nil || !t.FilledExpiry.Equal(c.ExpiresAt) {
		return c.ExpiresAt, false // a person changed it since, or it was never filled
	}
	if t.OwnExpiry != nil {
		own = *t.OwnExpiry
	}
	return own, true
}

// ownExpiry gives the expiry that a person set for c, zero where none did.
func ownExpiry(c Credential) time.Time {
	own, _ := providersExpiry(c)
	return own
}

// fillExpiry gives the test r of c as it is to be stored, and the expiry that c
// has after it.
func fillExpiry(c Credential, r TestResult) (storedTest, time.Time) {
	own, was := providersExpiry(c)
	provider := time.Time{}
	switch {
	case r.Result != catalog.Valid && r.Result != catalog.Restricted:
		if was { // nothing was learnt: what was known before stays
			provider = c.ExpiresAt
		}
	case r.ExpiresAt != nil && r.ExpiresAt.After(r.TestedAt) && r.ExpiresAt.Year() <= 9999:
		provider = store.At(*r.ExpiresAt).Time // as the column holds it, so that both compare equal
	}
	kept := storedTest{TestResult: r}
	if provider.IsZero() || !own.IsZero() && !provider.Before(own) {
		return kept, own
	}
	kept.FilledExpiry, kept.OwnExpiry = &provider, timeOrNil(own)
	return kept, provider
}

// takeExpiry gives t the expiry that the credential has with the version that t
// makes the active one, and the test of that version as the credential is to
// hold it (nil: it was never tested). What the provider said of the values that
// are replaced goes with them; what it said of the new ones counts.
func (t *transition) takeExpiry(old current) (kept []byte, err error) {
	own := t.next.ExpiresAt
	if own.Equal(old.ExpiresAt) { // nobody set another in this change
		own = ownExpiry(old.Credential)
	}
	t.next.ExpiresAt = own
	i := slices.IndexFunc(old.others, func(o Version) bool { return o.Number == t.next.Version })
	if i < 0 || old.others[i].LastTest == nil {
		return nil, nil
	}
	var last storedTest
	if json.Unmarshal(old.others[i].LastTest, &last) != nil {
		return nil, nil //nolint:nilerr // what cannot be read is as good as no test
	}
	with, expires := fillExpiry(Credential{ExpiresAt: own}, last.TestResult)
	if at := last.FilledExpiry; with.FilledExpiry == nil && at != nil && (own.IsZero() || at.Before(own)) {
		with.FilledExpiry, with.OwnExpiry, expires = at, timeOrNil(own), *at
	}
	t.next.ExpiresAt = expires
	return json.Marshal(with)
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// recordTest stores the result of a test of version c.Version, with the expiry
// that it brings and its event. A test of values that were replaced meanwhile
// says nothing of the new ones: then only the event is written.
func (v *Vault) recordTest(ctx context.Context, caller access.Caller, key rowKey, c Credential, r TestResult) error {
	event := testEvent(r)
	event.Targets = []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}}
	event.Metadata["version"] = c.Version
	for range changeAttempts {
		kept, expires := fillExpiry(c, r)
		err := v.writeTest(ctx, caller, key, c, kept, expires, &event)
		if !errors.Is(err, errRaced) {
			if err == nil && !expires.Equal(c.ExpiresAt) {
				v.forget(key.organization, c.Service, c.Name)
			}
			return err
		}
		version := c.Version
		c, _, err = v.read(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err != nil || c.Version != version {
			return v.db.Update(ctx, key.organization, func(tx *store.Tx) error { return v.log.Append(ctx, tx, caller, event) })
		}
	}
	return ErrStale
}

// writeTest writes over the state c of the credential, or gives errRaced when it
// is not the current one any more. event is nil where it is written already.
func (v *Vault) writeTest(ctx context.Context, caller access.Caller, key rowKey, c Credential, kept storedTest, expires time.Time, event *audit.Event) error {
	stored, err := json.Marshal(kept)
	if err != nil {
		return err
	}
	revision := c.Revision
	if !expires.Equal(c.ExpiresAt) {
		revision++
		if event != nil {
			maps.Copy(event.Metadata, differences(Credential{ExpiresAt: c.ExpiresAt}, Credential{ExpiresAt: expires}))
		}
	}
	return v.db.Update(ctx, key.organization, func(tx *store.Tx) error {
		// The checker looks at it next, so that its findings follow.
		changed, err := tx.Exec(ctx, `UPDATE credentials SET last_test = $1, expires_at = $2, revision = $3, check_due_at = 0
			WHERE organization = $4 AND id = $5 AND version = $6 AND revision = $7`,
			string(stored), store.At(expires), revision, key.organization, key.id, c.Version, c.Revision)
		if err != nil {
			return err
		}
		if changed == 0 {
			return errRaced
		}
		if event == nil {
			return nil
		}
		return v.log.Append(ctx, tx, caller, *event)
	})
}
