package vault

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/webhook"
)

// CheckOptions says what a [Checker] looks for.
type CheckOptions struct {
	TestEvery   time.Duration   // how often each credential is opened and tested; 0: never
	Warnings    []time.Duration // how long before its expiry a credential is warned of
	UnusedAfter time.Duration   // 0: never
	RotateAfter time.Duration   // how old values get before they are to be rotated; 0: any age

	Tested func(result string)    // told of each test: a catalog.Result, unreadable, or failed
	Found  func(kind FindingKind) // told of each finding that is new
}

// Checker looks after stored credentials by itself: it tests them on a
// schedule, and tells once of each thing that needs attention, as an event and
// to the organization's webhooks. Make one with [Vault.Checker].
//
// What it works by is in the database, so that any number of instances share the
// work, and one that is killed loses none of it: when each credential is due
// (the columns check_due_at and test_due_at), and what was found
// (credential_findings). A test is taken by moving test_due_at past the longest
// that a test can last.
type Checker struct {
	vault *Vault
	opts  CheckOptions
}

// Checker gives the checker of the vault's credentials. [Checker.Run] must be
// running for anything to be found.
func (v *Vault) Checker(opts CheckOptions) *Checker {
	if opts.Tested == nil {
		opts.Tested = func(string) {}
	}
	if opts.Found == nil {
		opts.Found = func(FindingKind) {}
	}
	return &Checker{vault: v, opts: opts}
}

const (
	checkPoll   = 2 * time.Second
	checkAtMost = 24 * time.Hour // each credential is looked at this often, whatever its times say
	checkBatch  = 200            // credentials read at a time
	settleBatch = 50             // of one organization, in one transaction
)

// Run looks for what is due until ctx ends, lets running tests end, and
// returns. While the database is away it waits.
func (k *Checker) Run(ctx context.Context) {
	var both sync.WaitGroup
	both.Go(func() { k.repeat(ctx, "stored credentials are not checked", nil, k.checkDue) })
	if k.opts.TestEvery > 0 {
		both.Go(func() {
			k.repeat(ctx, "stored credentials are not tested", k.vault.lanes.freed, k.startTests)
			k.vault.lanes.all.Wait()
		})
	}
	both.Wait()
}

// repeat calls work every now and then, and when woken.
func (k *Checker) repeat(ctx context.Context, complaint string, woken <-chan struct{}, work func(context.Context) error) {
	tick := time.NewTicker(checkPoll)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-woken:
			if failing { // not faster than the tick while the database is away
				continue
			}
		}
		err := work(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			k.vault.opts.Logger.WarnContext(ctx, complaint, "error", err)
		}
		failing = err != nil
	}
}

// checkDue looks at all credentials that are due. What it finds goes out, so it finds
// nothing by a clock that is not the database server's: that is a [store.SkewError].
func (k *Checker) checkDue(ctx context.Context) error {
	now := k.vault.opts.Now()
	for _, which := range []struct {
		where string
		args  []any
	}{
		{`c.check_due_at <= $1 ORDER BY c.check_due_at`, []any{store.At(now)}}, // whose time has come
		{`c.checked_revision <> c.revision`, nil},                              // that changed; an index holds no others
	} {
		for more := true; more; {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			var keys []rowKey
			err := k.vault.db.ViewAcross(ctx, func(tx *store.Tx) error {
				keys = nil
				return tx.Each(ctx, func(scan func(...any) error) error {
					var key rowKey
					err := scan(&key.organization, &key.id)
					keys = append(keys, key)
					return err
				}, `SELECT c.organization, c.id FROM credentials c JOIN organizations o ON o.id = c.organization AND o.deleted_at IS NULL
					WHERE `+which.where+` LIMIT `+strconv.Itoa(checkBatch), which.args...)
			})
			if err == nil && len(keys) > 0 {
				err = k.vault.mayActBy(ctx, now)
			}
			if err != nil {
				return err
			}
			if err := k.settleAll(ctx, keys, now); err != nil {
				return err
			}
			more = len(keys) == checkBatch
		}
	}
	return nil
}

// settleAll looks at credentials of several organizations, those of one
// together. Another instance may be at the same ones: each begins elsewhere.
func (k *Checker) settleAll(ctx context.Context, keys []rowKey, now time.Time) error {
	slices.SortFunc(keys, func(a, b rowKey) int {
		return cmp.Or(cmp.Compare(a.organization, b.organization), cmp.Compare(a.id, b.id))
	})
	var batches [][]rowKey
	for rest := keys; len(rest) > 0; {
		n := 1
		for n < len(rest) && n < settleBatch && rest[n].organization == rest[0].organization {
			n++
		}
		batches, rest = append(batches, rest[:n]), rest[n:]
	}
	rand.Shuffle(len(batches), func(i, j int) { batches[i], batches[j] = batches[j], batches[i] })
	for _, batch := range batches {
		var told []FindingKind
		err := k.vault.db.Update(ctx, batch[0].organization, func(tx *store.Tx) error {
			told = nil
			for _, key := range batch {
				fresh, err := k.settle(ctx, tx, key, nil, now)
				if err != nil {
					return err
				}
				told = append(told, fresh...)
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, kind := range told {
			k.opts.Found(kind)
		}
	}
	return nil
}

// settle brings the findings of one credential up to date inside tx, and tells
// of those that are new. ended is the test that was just made, nil for none.
// Without one it does nothing where another instance was first. now is of a clock that
// was compared with the database server's.
func (k *Checker) settle(ctx context.Context, tx *store.Tx, key rowKey, ended *endedTest, now time.Time) (told []FindingKind, err error) {
	s := state{}
	var versionAt, activeAt store.Time
	var checked, checkDueAt, testDueAt int64
	err = scanCredential(tx.Row(ctx, `SELECT `+columns+`, v.created_at, COALESCE(h.activated_at, v.created_at), c.unclear_tests, c.checked_revision, c.check_due_at, c.test_due_at`+
		fromCredentials+`LEFT JOIN credential_version_history h ON h.organization = c.organization AND h.credential_id = c.id AND h.version = c.version
		WHERE c.organization = $1 AND c.id = $2`, key.organization, key.id).Scan,
		&s.credential, &versionAt, &activeAt, &s.unclear, &checked, &checkDueAt, &testDueAt)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil // deleted meanwhile
	}
	if err != nil {
		return nil, err
	}
	c := &s.credential
	if ended == nil && checked == c.Revision && checkDueAt > now.UnixMicro() {
		return nil, nil
	}
	s.versionAt, s.activeAt = versionAt.Time, activeAt.Time
	if service, known := k.vault.services.Service(c.Service); known {
		s.usable = service.Injectable()
	}
	openedAt := store.Time{}
	if ended != nil {
		s.unclear = ended.unclear(s.unclear)
		if s.opening = ended.opening; ended.version != c.Version {
			s.opening = notTried // of a version that is not the active one any more
		}
		if s.opening == opens {
			openedAt = store.At(now)
		}
		testDueAt = store.At(ended.next).UnixMicro()
	} else if testDueAt == 0 && k.opts.TestEvery > 0 {
		// Seen for the first time: tests begin spread over one period.
		testDueAt = store.At(now.Add(1 + rand.N(k.opts.TestEvery))).UnixMicro()
	}
	if s.before, err = readFindings(ctx, tx, key); err != nil {
		return nil, err
	}
	found, next := k.opts.findings(s, now)
	if latest := now.Add(checkAtMost); next.IsZero() || next.After(latest) {
		next = latest
	}
	if told, err = k.write(ctx, tx, key, s, found, now); err != nil {
		return nil, err
	}
	_, err = tx.Exec(ctx, `UPDATE credentials SET check_due_at = $1, checked_revision = $2, test_due_at = $3, unclear_tests = $4,
		opened_at = COALESCE($5, opened_at) WHERE organization = $6 AND id = $7`,
		store.At(next), c.Revision, testDueAt, s.unclear, openedAt, key.organization, key.id)
	return told, err
}

func readFindings(ctx context.Context, tx *store.Tx, key rowKey) ([]Finding, error) {
	var all []Finding
	err := tx.Each(ctx, func(scan func(...any) error) error {
		var f Finding
		var detail string
		var since store.Time
		err := scan(&f.Kind, &f.version, &f.mark, &detail, &since)
		f.Since = since.Time
		f.read(detail)
		all = append(all, f)
		return err
	}, `SELECT kind, version, mark, detail, found_at FROM credential_findings WHERE organization = $1 AND credential_id = $2`, key.organization, key.id)
	return all, err
}

// write puts found in place of what was found before, and tells of what is new.
func (k *Checker) write(ctx context.Context, tx *store.Tx, key rowKey, s state, found []Finding, now time.Time) (told []FindingKind, err error) {
	for _, old := range s.before {
		if slices.ContainsFunc(found, func(f Finding) bool { return f.Kind == old.Kind }) {
			continue
		}
		_, err := tx.Exec(ctx, `DELETE FROM credential_findings WHERE organization = $1 AND credential_id = $2 AND kind = $3`,
			key.organization, key.id, string(old.Kind))
		if err != nil {
			return nil, err
		}
	}
	for _, f := range found {
		i := slices.IndexFunc(s.before, func(old Finding) bool { return old.Kind == f.Kind })
		detail, err := f.column()
		if err != nil {
			return nil, err
		}
		if i >= 0 && s.before[i].mark == f.mark {
			old, err := s.before[i].column()
			if err != nil {
				return nil, err
			}
			if old == detail {
				continue
			}
			_, err = tx.Exec(ctx, `UPDATE credential_findings SET detail = $1 WHERE organization = $2 AND credential_id = $3 AND kind = $4`,
				detail, key.organization, key.id, string(f.Kind))
			if err != nil {
				return nil, err
			}
			continue
		}
		_, err = tx.Exec(ctx, `INSERT INTO credential_findings (organization, credential_id, kind, version, mark, detail, found_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (organization, credential_id, kind) DO UPDATE
			SET version = excluded.version, mark = excluded.mark, detail = excluded.detail, found_at = excluded.found_at`,
			key.organization, key.id, string(f.Kind), f.version, f.mark, detail, store.At(now))
		if err != nil {
			return nil, err
		}
		if err := k.tell(ctx, tx, key, s.credential, f, now); err != nil {
			return nil, err
		}
		told = append(told, f.Kind)
	}
	return told, nil
}

// messageOf gives the type of message that tells of a finding.
var messageOf = map[FindingKind]webhook.Type{
	Expires: webhook.CredentialExpiring, HasExpired: webhook.CredentialExpired, Unused: webhook.CredentialUnused,
	TestFailed: webhook.CredentialTestFailed, RotationDue: webhook.CredentialRotationDue, Unreadable: webhook.CredentialUnreadable,
	FellBack: webhook.CredentialFallback,
}

// tell writes the event of a new finding and hands it to the webhooks, inside tx.
func (k *Checker) tell(ctx context.Context, tx *store.Tx, key rowKey, c Credential, f Finding, now time.Time) error {
	if f.quiet() {
		return nil
	}
	e := audit.Event{
		ID: store.NewID("evt"), OccurredAt: now, Action: audit.CredentialWarn, Outcome: audit.Success, Reason: "credential_" + string(f.Kind),
		Targets:  []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}},
		Metadata: map[string]any{"service": c.Service, "version": c.Version},
	}
	if f.Kind == HasExpired {
		e.Action = audit.CredentialExpire
	}
	data := map[string]any{
		"organizationId": key.organization, "eventId": e.ID,
		"credential": map[string]any{"id": c.ID, "service": c.Service, "name": c.Name, "version": c.Version},
	}
	put := func(name, value string) {
		if value != "" {
			e.Metadata[name], data[name] = value, value
		}
	}
	put("within", f.Within)
	put("result", f.Result)
	if !c.ExpiresAt.IsZero() {
		put("expiresAt", wiretime.Text(c.ExpiresAt))
	}
	if !c.LastUsedAt.IsZero() && f.Kind == Unused {
		put("lastUsedAt", wiretime.Text(c.LastUsedAt))
	}
	if f.Detail != "" {
		data["detail"] = f.Detail
	}
	if err := k.vault.log.Append(ctx, tx, access.SystemCaller(key.organization), e); err != nil {
		return err
	}
	return webhook.Enqueue(ctx, tx, key.organization, now, webhook.Message{Type: messageOf[f.Kind], OccurredAt: now, Data: data})
}
