package server

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/vault"
)

type listCredentialsIn struct {
	Service string `query:"service" doc:"Only this service"`
	Status  string `query:"status" doc:"Only this status: active, expiring, expired or disabled"`
	Limit   int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor  string `query:"cursor" doc:"nextCursor of the page before"`
}

type credentialListOut struct {
	ETag string `header:"ETag"`
	Body api.CredentialList
}

func (s *Server) listCredentials(ctx context.Context, caller access.Caller, in *listCredentialsIn) (*credentialListOut, error) {
	page, err := s.cfg.Vault.List(ctx, caller, vault.Filter{
		Service: in.Service, Status: vault.Status(in.Status), Limit: in.Limit, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}
	out := &credentialListOut{Body: api.CredentialList{Credentials: make([]api.Credential, len(page.Credentials)), NextCursor: page.NextCursor}}
	for i, c := range page.Credentials {
		out.Body.Credentials[i] = wireCredential(c)
	}
	if out.ETag, err = contentTag(out.Body); err != nil {
		return nil, err
	}
	return out, nil
}

type createCredentialIn struct{ Body api.CredentialCreate }

type credentialOut struct {
	ETag    string `header:"ETag"`
	Warning string `header:"Gatehouse-Warning" doc:"A value that does not look like the provider's usual form; it was stored all the same"`
	Body    api.Credential
}

func (s *Server) createCredential(ctx context.Context, caller access.Caller, in *createCredentialIn) (*credentialOut, error) {
	n := vault.NewCredential{
		Service: in.Body.Service, Name: in.Body.Name, Fields: in.Body.Credentials,
		Bounds: vault.Bounds{Scope: scopeOf(in.Body.Scope), Failover: in.Body.Failover},
	}
	if in.Body.ExpiresAt != nil {
		if n.ExpiresAt = time.Time(*in.Body.ExpiresAt); n.ExpiresAt.IsZero() {
			return nil, fault.InvalidFields(errYearOne)
		}
	}
	c, warnings, err := s.cfg.Vault.Create(ctx, caller, n)
	if err != nil {
		return nil, err
	}
	return wireCredentialOut(c, warnings), nil
}

// errYearOne refuses the one time that means "never" inside.
var errYearOne = fault.Field{Name: "expiresAt", Message: "must be in the future"}

type credentialIn struct {
	ID string `path:"id"`
}

func (s *Server) getCredential(ctx context.Context, caller access.Caller, in *credentialIn) (*credentialOut, error) {
	c, err := s.cfg.Vault.Get(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return wireCredentialOut(c, nil), nil
}

type updateCredentialIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that the change is meant for"`
	Body    api.CredentialUpdate
}

func (s *Server) updateCredential(ctx context.Context, caller access.Caller, in *updateCredentialIn) (*credentialOut, error) {
	var wrong []fault.Field
	ch := vault.Change{Fields: in.Body.Credentials}
	boundsOf(in.Body, &ch)
	if in.Body.CredentialsNull {
		wrong = append(wrong, fault.Field{Name: "credentials", Message: "cannot be null; leave it out to keep them"})
	}
	if in.Body.Name.Set {
		ch.Name = &in.Body.Name.Value
		if in.Body.Name.Null {
			wrong = append(wrong, fault.Field{Name: "name", Message: "cannot be null; leave it out to keep it"})
		}
	}
	if in.Body.Disabled.Set {
		ch.Disabled = &in.Body.Disabled.Value
		if in.Body.Disabled.Null {
			wrong = append(wrong, fault.Field{Name: "disabled", Message: "cannot be null; leave it out to keep it"})
		}
	}
	if in.Body.ExpiresAt.Set {
		at := time.Time(in.Body.ExpiresAt.Value) // the zero time for null
		if at.IsZero() && !in.Body.ExpiresAt.Null {
			wrong = append(wrong, errYearOne)
		}
		ch.ExpiresAt = &at
	}
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	c, warnings, err := s.cfg.Vault.Update(ctx, caller, in.ID, matchOf(in.IfMatch), ch)
	if err != nil {
		return nil, err
	}
	return wireCredentialOut(c, warnings), nil
}

type deleteCredentialIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
}

type nothingOut struct{}

func (s *Server) deleteCredential(ctx context.Context, caller access.Caller, in *deleteCredentialIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Vault.Delete(ctx, caller, in.ID, matchOf(in.IfMatch))
}

type rotateCredentialIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
	Body    api.CredentialRotate
}

func (s *Server) rotateCredential(ctx context.Context, caller access.Caller, in *rotateCredentialIn) (*credentialOut, error) {
	c, warnings, err := s.cfg.Vault.Rotate(ctx, caller, in.ID, matchOf(in.IfMatch), vault.Rotation{
		Fields: in.Body.Credentials, Grace: graceOf(in.Body.GraceSeconds), Reason: in.Body.Reason,
	})
	if err != nil {
		return nil, err
	}
	return wireCredentialOut(c, warnings), nil
}

type revealCredentialIn struct {
	ID   string `path:"id"`
	Body api.CredentialReveal
}

type revealCredentialOut struct {
	ETag string `header:"ETag"`
	Body api.RevealedCredential
}

func (s *Server) revealCredential(ctx context.Context, caller access.Caller, in *revealCredentialIn) (*revealCredentialOut, error) {
	c, fields, err := s.cfg.Vault.Reveal(ctx, caller, in.ID, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	defer fields.Wipe()
	out := &revealCredentialOut{ETag: revisionTag(c.Revision), Body: api.RevealedCredential{ID: c.ID, Version: c.Version, Credentials: make(map[string]string, len(fields))}}
	for name, value := range fields {
		out.Body.Credentials[name] = value.ExposeSecret()
	}
	return out, nil
}

type testCredentialIn struct{ Body api.CredentialTest }

type testOut struct{ Body api.TestResult }

func (s *Server) testCredential(ctx context.Context, caller access.Caller, in *testCredentialIn) (*testOut, error) {
	if err := s.cfg.Limits.TakeTest(ctx, caller); err != nil {
		return nil, err
	}
	result, err := s.cfg.Vault.Test(ctx, caller, in.Body.Service, in.Body.Credentials)
	if err != nil {
		return nil, err
	}
	return &testOut{Body: wireTest(result)}, nil
}

func (s *Server) testStoredCredential(ctx context.Context, caller access.Caller, in *credentialIn) (*testOut, error) {
	if err := s.cfg.Limits.TakeTest(ctx, caller); err != nil {
		return nil, err
	}
	result, err := s.cfg.Vault.TestStored(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &testOut{Body: wireTest(result)}, nil
}

func wireTest(r vault.TestResult) api.TestResult {
	w := api.TestResult{
		Result: string(r.Result), Service: r.Service, LatencyMs: r.LatencyMs, Detail: r.Detail, Code: r.Code, RequestID: r.RequestID,
		Account: r.Account, Scopes: r.Scopes, TestedAt: api.At(r.TestedAt),
	}
	if r.ExpiresAt != nil {
		w.ExpiresAt = api.At(*r.ExpiresAt)
	}
	return w
}

func wireCredentialOut(c vault.Credential, warnings []catalog.Problem) *credentialOut {
	out := &credentialOut{ETag: revisionTag(c.Revision), Body: wireCredential(c)}
	var texts []string
	for _, w := range warnings {
		texts = append(texts, "credentials."+w.Field+" "+w.Message)
	}
	out.Warning = strings.Join(texts, "; ")
	return out
}

func wireCredential(c vault.Credential) api.Credential {
	w := api.Credential{
		ID: c.ID, Service: c.Service, Name: c.Name, Status: string(c.Status), Version: c.Version,
		Fields: c.Fields, Hint: c.Hints, Fingerprint: c.Fingerprint, Scope: wireScope(c.Scope), Failover: c.Failover,
		ExpiresAt: api.At(c.ExpiresAt), LastUsedAt: api.At(c.LastUsedAt), FallbackAt: api.At(c.FallbackAt),
		CreatedAt: api.At(c.CreatedAt), CreatedBy: c.CreatedBy, UpdatedAt: api.At(c.UpdatedAt),
	}
	if w.Fields == nil { // an altered row: it is listed, and does not open
		w.Fields = []string{}
	}
	if c.LastTest != nil {
		var t vault.TestResult
		if json.Unmarshal(c.LastTest, &t) == nil { // what cannot be read is as good as no test
			test := wireTest(t)
			w.LastTest = &test
		}
	}
	return w
}
