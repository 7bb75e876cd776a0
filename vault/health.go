package vault

import (
	"context"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Health is how an organization's credentials are, as the check found them last.
type Health struct {
	Credentials int64                 // in all
	Disabled    int64                 // of them; nothing else is said of these
	Healthy     int64                 // not disabled, without a finding, and not unchecked
	Unchecked   int64                 // neither disabled nor expired, and not opened by the check within two periods, or ever
	Findings    map[FindingKind]int64 // every kind, also those with none

	Items      []CredentialHealth // credentials with findings, newest first
	NextCursor string             // empty on the last page
}

// CredentialHealth is a credential with what was found.
type CredentialHealth struct {
	Credential
	Findings []Finding // by kind
}

// HealthFilter picks credentials with findings. Empty fields pick all.
type HealthFilter struct {
	Kind   FindingKind // only those with a finding of this kind
	Limit  int         // 1 to 200; 50 when 0
	Cursor string      // NextCursor of the page before
}

// holding is a finding f that says something of credential c as it is now: a
// finding of an older version is not one of the values that are there.
const holding = ` FROM credential_findings f JOIN credentials c
	ON c.organization = f.organization AND c.id = f.credential_id AND c.version = f.version AND NOT c.disabled
	WHERE f.organization = $1 `

// Health tells how the caller's organization's credentials are, without opening
// any. It needs credential:list. Changes show within a few seconds, tests when
// they are made.
func (k *Checker) Health(ctx context.Context, caller access.Caller, f HealthFilter) (Health, error) {
	if err := access.Allow(caller, access.CredentialList, caller.Organization); err != nil {
		return Health{}, err
	}
	before, err := f.check()
	if err != nil {
		return Health{}, err
	}
	v := k.vault
	slot, err := v.log.Reserve()
	if err != nil {
		return Health{}, err
	}
	var h Health
	err = v.db.View(ctx, caller.Organization, func(tx *store.Tx) (err error) {
		if h, err = k.count(ctx, tx, caller.Organization); err != nil {
			return err
		}
		return k.list(ctx, tx, caller.Organization, f, before, &h)
	})
	if err != nil {
		slot.Release()
		return Health{}, public(err)
	}
	slot.Record(ctx, caller, audit.Event{
		Action: audit.CredentialList, Outcome: audit.Success, Permission: access.CredentialList.String(),
		Metadata: map[string]any{"returned": len(h.Items), "health": true},
	})
	return h, nil
}

func (f *HealthFilter) check() (before string, err error) {
	var wrong []fault.Field
	if f.Limit == 0 {
		f.Limit = defaultLimit
	}
	if f.Limit < 1 || f.Limit > MaxLimit {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)})
	}
	if f.Kind != "" && !slices.Contains(FindingKinds(), f.Kind) {
		var names []string
		for _, kind := range FindingKinds() {
			names = append(names, string(kind))
		}
		wrong = append(wrong, fault.Field{Name: "finding", Message: "must be one of " + strings.Join(names, ", ")})
	}
	if f.Cursor != "" {
		last, err := base64.RawURLEncoding.DecodeString(f.Cursor)
		if before = string(last); err != nil || !store.IsID("cred", before) {
			wrong = append(wrong, fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"})
		}
	}
	if len(wrong) > 0 {
		return "", fault.InvalidFields(wrong...)
	}
	return before, nil
}

// count works out the summary.
func (k *Checker) count(ctx context.Context, tx *store.Tx, organization string) (Health, error) {
	h := Health{Findings: make(map[FindingKind]int64)}
	for _, kind := range FindingKinds() {
		h.Findings[kind] = 0
	}
	now := k.vault.opts.Now()
	openedSince := store.At(now.Add(-2 * k.opts.TestEvery))
	err := tx.Row(ctx, `SELECT count(*), COALESCE(sum(CASE WHEN c.disabled THEN 1 ELSE 0 END), 0),
		COALESCE(sum(CASE WHEN NOT c.disabled AND (c.expires_at IS NULL OR c.expires_at > $2) AND (c.opened_at IS NULL OR c.opened_at < $3) THEN 1 ELSE 0 END), 0),
		COALESCE(sum(CASE WHEN NOT c.disabled AND (c.expires_at IS NULL OR c.expires_at > $2) AND c.opened_at >= $3 AND NOT EXISTS
			(SELECT 1 FROM credential_findings f WHERE f.organization = c.organization AND f.credential_id = c.id AND f.version = c.version) THEN 1 ELSE 0 END), 0)
		FROM credentials c WHERE c.organization = $1`, organization, store.At(now), openedSince).Scan(&h.Credentials, &h.Disabled, &h.Unchecked, &h.Healthy)
	if err != nil {
		return h, err
	}
	return h, tx.Each(ctx, func(scan func(...any) error) error {
		var kind FindingKind
		var n int64
		err := scan(&kind, &n)
		h.Findings[kind] = n
		return err
	}, `SELECT f.kind, count(*)`+holding+`GROUP BY f.kind`, organization)
}

// list reads a page of credentials with findings into h.
func (k *Checker) list(ctx context.Context, tx *store.Tx, organization string, f HealthFilter, before string, h *Health) error {
	var ids []string
	err := k.vault.collect(ctx, tx, &ids, `SELECT DISTINCT f.credential_id`+holding+`AND ($2 = '' OR f.credential_id < $2) AND ($3 = '' OR f.kind = $3)
		ORDER BY f.credential_id DESC LIMIT `+strconv.Itoa(f.Limit+1), organization, before, string(f.Kind))
	if err != nil || len(ids) == 0 {
		return err
	}
	if len(ids) > f.Limit {
		ids = ids[:f.Limit]
		h.NextCursor = base64.RawURLEncoding.EncodeToString([]byte(ids[f.Limit-1]))
	}
	now := k.vault.opts.Now()
	for _, id := range ids {
		var item CredentialHealth
		err := scanCredential(tx.Row(ctx, `SELECT `+columns+fromCredentials+`WHERE c.organization = $1 AND c.id = $2`, organization, id).Scan, &item.Credential)
		if err != nil {
			return err
		}
		item.Status = item.statusAt(now)
		all, err := readFindings(ctx, tx, rowKey{organization, id})
		if err != nil {
			return err
		}
		for _, found := range all {
			if found.version == item.Version {
				item.Findings = append(item.Findings, found)
			}
		}
		slices.SortFunc(item.Findings, func(a, b Finding) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
		h.Items = append(h.Items, item)
	}
	return nil
}
