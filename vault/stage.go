package vault

import (
	"cmp"
	"context"
	"encoding/json"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// replace ends the active version of cur with the transition: it stays for grace,
// and with an expiry that has passed everything that it held for is destroyed.
func (t *transition) replace(cur current, grace time.Duration, now time.Time) error {
	if cur.Status == Expired {
		if grace > 0 {
			return fault.InvalidFields(fault.Field{Name: "graceSeconds", Message: "must be 0: the values that are replaced have expired, and are not used again"})
		}
		if t.next.ExpiresAt = ownExpiry(cur.Credential); !t.next.ExpiresAt.After(now) {
			t.next.ExpiresAt = time.Time{}
		}
		t.destroy = cur.in(StateRetiring)
	}
	if grace == 0 {
		return nil
	}
	if len(cur.in(StateRetiring)) >= maxRetiring {
		return ErrTooManyVersions
	}
	t.until = now.Add(grace)
	return nil
}

// Stage seals new values as a version that is not in use yet, to be tested and
// then activated. It needs credential:rotate. A field that is absent is the
// active version's, as it is now. Errors: Invalid, [ErrNotFound], [ErrStale],
// [ErrVersionStaged].
func (v *Vault) Stage(ctx context.Context, caller access.Caller, id string, match store.Match, fields map[string]string, reason string) (Credential, Version, []catalog.Problem, error) {
	if err := access.Allow(caller, access.CredentialRotate, caller.Organization); err != nil {
		return Credential{}, Version{}, nil, err
	}
	if wrong := (Rotation{Fields: fields, Reason: reason}).check(); len(wrong) > 0 {
		return Credential{}, Version{}, nil, fault.InvalidFields(wrong...)
	}
	var number int64
	d := deed{audit.CredentialStage, access.CredentialRotate}
	cur, warnings, err := v.change(ctx, caller, id, match, d, func(cur current) (*transition, []catalog.Problem, error) {
		if len(cur.in(StateStaged)) >= maxStaged {
			return nil, nil, ErrVersionStaged
		}
		made, warnings, wrong, err := v.sealNext(ctx, caller, cur, pointers(fields))
		if err == nil && len(wrong) > 0 {
			err = fault.InvalidFields(wrong...)
		}
		number = cur.latest + 1
		return &transition{next: cur.Credential, made: made, reason: reason, metadata: map[string]any{"version": number}}, warnings, err
	})
	if err != nil {
		return Credential{}, Version{}, nil, err
	}
	// From the history: it is staged no more where somebody was quick.
	_, page, err := v.history(ctx, rowKey{caller.Organization, id}, number+1, 1)
	if err != nil || len(page.Versions) == 0 {
		return Credential{}, Version{}, nil, public(cmp.Or(err, error(ErrNotFound)))
	}
	return cur.Credential, page.Versions[0], warnings, nil
}

// Activation says how a staged version takes over.
type Activation struct {
	Grace  time.Duration // as in [Rotation]
	Force  bool          // also where its last test failed
	Reason string        // optional; in the trail
}

// Activate makes a staged version the active one. It needs credential:rotate.
// Where its last test says invalid or misconfigured it is refused with
// [ErrVersionFailed] unless forced. Errors: Invalid, [ErrNotFound], [ErrStale],
// [ErrNoVersion], [ErrVersionGone], [ErrVersionActive], [ErrNotStaged],
// [ErrTooManyVersions].
func (v *Vault) Activate(ctx context.Context, caller access.Caller, id string, match store.Match, number int64, a Activation) (Credential, error) {
	if err := access.Allow(caller, access.CredentialRotate, caller.Organization); err != nil {
		return Credential{}, err
	}
	if wrong := append(checkGrace(a.Grace), checkReason(a.Reason)...); len(wrong) > 0 {
		return Credential{}, fault.InvalidFields(wrong...)
	}
	d := deed{audit.CredentialActivate, access.CredentialRotate}
	cur, _, err := v.change(ctx, caller, id, match, d, func(cur current) (*transition, []catalog.Problem, error) {
		staged, err := cur.version(number)
		switch {
		case err != nil:
			return nil, nil, err
		case staged.State != StateStaged:
			return nil, nil, ErrNotStaged
		case staged.failed() && !a.Force:
			return nil, nil, ErrVersionFailed
		}
		t := &transition{next: cur.Credential, reason: a.Reason, metadata: map[string]any{"fingerprint": staged.Fingerprint}}
		if staged.failed() {
			t.metadata["forced"] = true
		}
		t.next.Version = number
		return t, nil, t.replace(cur, a.Grace, v.opts.Now())
	})
	return cur.Credential, err
}

// failed reports whether the provider did not accept the version at its last test.
func (ver Version) failed() bool {
	var test TestResult
	return json.Unmarshal(ver.LastTest, &test) == nil && (test.Result == catalog.Invalid || test.Result == catalog.Misconfigured)
}

// Rollback says what to roll back to.
type Rollback struct {
	Version int64          // one that is in grace; 0: the one that was replaced last
	Grace   *time.Duration // of the version that is left; nil: what was left of the other's, so that the two change places
	Reason  string         // optional; in the trail
}

// RollBack makes a version that is still in grace the active one again. It needs
// credential:rotate. Errors: Invalid, [ErrNotFound], [ErrStale], [ErrNoVersion],
// [ErrVersionGone], [ErrVersionActive], [ErrNotInGrace].
func (v *Vault) RollBack(ctx context.Context, caller access.Caller, id string, match store.Match, r Rollback) (Credential, error) {
	if err := access.Allow(caller, access.CredentialRotate, caller.Organization); err != nil {
		return Credential{}, err
	}
	wrong := checkReason(r.Reason)
	if r.Grace != nil {
		wrong = append(checkGrace(*r.Grace), wrong...)
	}
	if len(wrong) > 0 {
		return Credential{}, fault.InvalidFields(wrong...)
	}
	d := deed{audit.CredentialRollback, access.CredentialRotate}
	cur, _, err := v.change(ctx, caller, id, match, d, func(cur current) (*transition, []catalog.Problem, error) {
		now := v.opts.Now()
		target, err := cur.rollbackTo(r.Version, now)
		if err != nil {
			return nil, nil, err
		}
		t := &transition{next: cur.Credential, until: target.DestroyAt, reason: r.Reason, metadata: map[string]any{"fingerprint": target.Fingerprint}}
		t.next.Version = target.Number
		if r.Grace != nil {
			if t.until = now.Add(*r.Grace); *r.Grace == 0 {
				t.until = time.Time{}
			}
		}
		return t, nil, nil
	})
	return cur.Credential, err
}

// rollbackTo gives the version to roll back to: that of the number, or the one
// that was replaced last.
func (cur *current) rollbackTo(number int64, now time.Time) (Version, error) {
	if number == 0 {
		for _, o := range cur.others { // the last to be replaced first
			if o.State == StateRetiring && now.Before(o.DestroyAt) {
				return o, nil
			}
		}
		return Version{}, ErrNotInGrace
	}
	target, err := cur.version(number)
	if err == nil && (target.State != StateRetiring || !now.Before(target.DestroyAt)) {
		err = ErrNotInGrace
	}
	return target, err
}

// DestroyVersion destroys a staged version, or one in grace, now. It needs
// credential:rotate. Errors: [ErrNotFound], [ErrStale], [ErrNoVersion],
// [ErrVersionGone], [ErrVersionActive].
func (v *Vault) DestroyVersion(ctx context.Context, caller access.Caller, id string, match store.Match, number int64) (Credential, error) {
	if err := access.Allow(caller, access.CredentialRotate, caller.Organization); err != nil {
		return Credential{}, err
	}
	d := deed{audit.CredentialDestroy, access.CredentialRotate}
	cur, _, err := v.change(ctx, caller, id, match, d, func(cur current) (*transition, []catalog.Problem, error) {
		target, err := cur.version(number)
		if err != nil {
			return nil, nil, err
		}
		return &transition{next: cur.Credential, destroy: []int64{number},
			metadata: map[string]any{"version": number, "fingerprint": target.Fingerprint, "state": string(target.State)}}, nil, nil
	})
	return cur.Credential, err
}
