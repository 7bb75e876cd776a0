package vault

import (
	"context"
	"maps"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/seal"
	"github.com/gatehouse-io/gatehouse/store"
)

// Probe asks a provider whether fields work. The error is for the log: the
// outcome says what is known.
type Probe func(ctx context.Context, service *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error)

// TestResult is what a provider said of a credential, as it is stored too.
type TestResult struct {
	Result    catalog.Result `json:"result"`
	Service   string         `json:"service"`
	LatencyMs int64          `json:"latencyMs"`
	Detail    string         `json:"detail,omitempty"`
	Code      string         `json:"code,omitempty"`      // the provider's own error code
	RequestID string         `json:"requestId,omitempty"` // the provider's, for its support
	Account   string         `json:"account,omitempty"`
	Scopes    []string       `json:"scopes,omitempty"`
	ExpiresAt *time.Time     `json:"expiresAt,omitempty"`
	TestedAt  time.Time      `json:"testedAt"`
}

// Test asks the provider whether fields work, and stores nothing but the
// event. It needs credential:test. Errors: Invalid with the fields that are
// wrong. What the provider says is the result, whatever it is.
func (v *Vault) Test(ctx context.Context, caller access.Caller, serviceName string, fields map[string]string) (TestResult, error) {
	if err := access.Allow(caller, access.CredentialTest, caller.Organization); err != nil {
		return TestResult{}, err
	}
	service, known := v.services.Service(serviceName)
	if !known || !service.NeedsCredential() {
		return TestResult{}, fault.InvalidFields(fault.Field{Name: "service", Message: "must be one of " + v.serviceNames()})
	}
	if problems, _ := service.Check(fields); len(problems) > 0 {
		return TestResult{}, fault.InvalidFields(asFields(problems)...)
	}
	slot, err := v.log.Reserve()
	if err != nil {
		return TestResult{}, err
	}
	result := v.probe(ctx, caller, service, fields, false)
	slot.Record(ctx, caller, testEvent(result))
	return result, nil
}

// TestStored asks the provider whether a stored credential works, and keeps
// the result with it. It needs credential:test. An expiry that the provider
// tells becomes the credential's, where a person set none or a later one.
func (v *Vault) TestStored(ctx context.Context, caller access.Caller, id string) (TestResult, error) {
	if err := access.Allow(caller, access.CredentialTest, caller.Organization); err != nil {
		return TestResult{}, err
	}
	key := rowKey{caller.Organization, id}
	c, sealed, err := v.read(ctx, key)
	if err != nil {
		return TestResult{}, public(err)
	}
	return v.testSealed(ctx, caller, key, c, sealed, nil, func(ctx context.Context, result TestResult, _ audit.Event) error {
		return v.recordTest(ctx, caller, key, c, result)
	})
}

// testSealed asks the provider about sealed, the version of a credential that c names,
// and keeps the result by keep, with its event, to which metadata is added.
func (v *Vault) testSealed(ctx context.Context, caller access.Caller, key rowKey, c Credential, sealed seal.Sealed, metadata map[string]any,
	keep func(context.Context, TestResult, audit.Event) error) (TestResult, error) {
	service, known := v.services.Service(c.Service)
	if !known {
		return TestResult{}, ErrNoService
	}
	fields, err := v.open(ctx, caller, key, c, sealed)
	if err != nil {
		return TestResult{}, public(err)
	}
	defer fields.Wipe()
	slot, err := v.log.Reserve() // for the event, should the database go away meanwhile
	if err != nil {
		return TestResult{}, err
	}
	result := v.probe(ctx, caller, service, fields.ExposeSecrets(), true)
	event := testEvent(result)
	event.Targets = []audit.Target{{Type: "credential", ID: c.ID, Name: c.Name}}
	event.Metadata["version"] = c.Version
	maps.Copy(event.Metadata, metadata)
	// The values have been out: that is told also when the caller has left.
	ctx, cancel := afterwards(ctx)
	defer cancel()
	if err := keep(ctx, result, event); err != nil {
		slot.Record(ctx, caller, event)
		return TestResult{}, public(err)
	}
	slot.Release()
	return result, nil
}

// probe asks the provider, together with whoever of the organization asks the
// same just now. What is stored is asked about afresh: nobody is to be told that
// a key lives which died a moment ago.
func (v *Vault) probe(ctx context.Context, caller access.Caller, service *catalog.Service, fields map[string]string, fresh bool) TestResult {
	key := v.tests.keyOf(caller.Organization, service.Name, fields)
	p := v.tests.ask(ctx, key, fresh, func(ctx context.Context) probed {
		outcome, took, err := v.opts.Probe(ctx, service, fields)
		return probed{outcome, took, err}
	})
	if p.err != nil {
		v.opts.Logger.InfoContext(ctx, "a credential test got no clear answer", "service", service.Name, "error", p.err)
	}
	o := p.outcome
	return TestResult{
		Result: o.Result, Service: service.Name, LatencyMs: p.took.Milliseconds(), Detail: o.Detail, Code: o.Code, RequestID: o.RequestID,
		Account: o.Account, Scopes: o.Scopes, ExpiresAt: o.ExpiresAt, TestedAt: store.At(v.opts.Now()).Time,
	}
}

func testEvent(r TestResult) audit.Event {
	e := audit.Event{
		Action: audit.CredentialTest, Outcome: audit.Success, Permission: access.CredentialTest.String(),
		Metadata: map[string]any{"service": r.Service, "result": string(r.Result), "latencyMs": r.LatencyMs},
	}
	if r.Result != catalog.Valid {
		e.Outcome, e.Reason = audit.Failure, "credential_"+string(r.Result)
	}
	return e
}
