package retention

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
	"github.com/gatehouse-io/gatehouse/store"
)

// expiredTable finds the credentials that expired long enough ago: they are injected
// nowhere any more, and their sealed values only wait to be stolen.
func expiredTable() table {
	return table{
		name: "credentials", keys: "organization, id", at: "expires_at", due: "t.expires_at < $2",
		actor: "created_by", target: "id",
	}
}

// maxExpired is how many credentials one transaction removes at most: each is an
// event of its own.
const maxExpired = 50

// expired deletes credentials that expired long enough ago, with every version, as
// somebody's DELETE would: each with its event.
func (s *step) expired(ctx context.Context) error {
	q, most := expiredTable().dueRows(s.organization, s.before, s.holds), min(s.opts.Batch, maxExpired)
	due := span{}
	var events []audit.Event
	err := s.tx.Each(ctx, func(scan func(...any) error) error {
		var id, service, name, fingerprint string
		var version int64
		var at store.Time
		if err := scan(&id, &service, &name, &version, &at, &fingerprint); err != nil {
			return err
		}
		if due.n++; due.n == 1 {
			due.oldest = at.Time
		}
		due.newest = at.Time
		metadata := map[string]any{"service": service, "version": version, "expiredAt": wiretime.Text(at.Time)}
		if fingerprint != "" {
			metadata["fingerprint"] = fingerprint
		}
		events = append(events, audit.Event{
			Organization: s.organization, Action: audit.CredentialDelete, Outcome: audit.Success, Reason: "retention",
			Targets: []audit.Target{{Type: "credential", ID: id, Name: name}}, Metadata: metadata,
		})
		return nil
	}, `SELECT d.id, d.service, d.name, d.version, d.expires_at, coalesce(v.fingerprint, '') FROM (`+q.first("t.*", most)+`) AS d
		LEFT JOIN credential_versions v ON v.organization = d.organization AND v.credential_id = d.id AND v.version = d.version
		ORDER BY d.expires_at, d.id`, q.args...)
	if err != nil || due.n == 0 {
		return err
	}
	s.tx.Destroys()
	for _, e := range events {
		// Their versions, and what was found of them, go with them.
		_, err := s.tx.Exec(ctx, `DELETE FROM credentials WHERE organization = $1 AND id = $2 AND expires_at < $3`, s.organization, e.Targets[0].ID, store.At(s.before))
		if err != nil {
			return err
		}
		if err := s.trail.Append(ctx, s.tx, access.SystemCaller(s.organization), e); err != nil {
			return err
		}
	}
	s.removed, s.more = due.n, due.n == int64(most)
	return s.attest(ctx, due)
}
