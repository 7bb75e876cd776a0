package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/ledger"
)

type verifyAuditIn struct {
	Since        string `query:"since" doc:"Only events that were sealed at or after this time (RFC 3339)"`
	Organization string `query:"organization" doc:"For operators: _instance, the instance's own events and its list of everybody's blocks"`
}

type auditVerificationOut struct{ Body api.AuditVerification }

func (s *Server) verifyAudit(ctx context.Context, caller access.Caller, in *verifyAuditIn) (*auditVerificationOut, error) {
	since, wrong := queryTime("since", in.Since)
	if len(wrong) > 0 {
		return nil, fault.InvalidFields(wrong...)
	}
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	r, err := s.cfg.Ledger.Verify(ctx, caller, ledger.VerifyOptions{Organization: in.Organization, Since: since})
	if err != nil {
		return nil, err
	}
	return &auditVerificationOut{WireVerification(r)}, nil
}

// WireVerification gives a report as the API and the command line print it.
func WireVerification(r ledger.Report) api.AuditVerification {
	w := api.AuditVerification{
		Clean: r.Clean(), Complete: r.Complete, Events: r.Events, Unsealed: r.Unsealed, MoreFindings: r.More, TookMs: r.Took.Milliseconds(),
		Logs: make([]api.AuditLog, 0, len(r.Logs)), Findings: make([]api.AuditFinding, 0, len(r.Findings)),
	}
	for _, l := range r.Logs {
		w.Logs = append(w.Logs, api.AuditLog{Organization: l.Organization, Class: l.Class, Size: l.Size, Blocks: l.Blocks,
			Verified: l.Verified, Removed: l.Removed, Erased: l.Erased})
	}
	for _, f := range r.Findings {
		a := api.AuditFinding{Kind: string(f.Kind), Organization: f.Organization, Class: f.Class, Event: f.Event, Detail: f.Detail}
		if f.Index >= 0 {
			a.Index = &f.Index
		}
		if f.Block >= 0 {
			a.Block = &f.Block
		}
		w.Findings = append(w.Findings, a)
	}
	return w
}

type auditOrganizationIn struct {
	Organization string `query:"organization" doc:"For operators: _instance"`
}

type auditCheckpointsOut struct{ Body api.AuditCheckpoints }

func (s *Server) auditCheckpoint(ctx context.Context, caller access.Caller, in *auditOrganizationIn) (*auditCheckpointsOut, error) {
	notes, err := s.cfg.Ledger.Checkpoint(ctx, caller, in.Organization)
	if err != nil {
		return nil, err
	}
	return &auditCheckpointsOut{api.AuditCheckpoints{Checkpoints: notes}}, nil
}

type proveEventIn struct {
	ID           string `path:"id"`
	Organization string `query:"organization" doc:"For operators: _instance"`
}

type auditProofOut struct{ Body api.AuditProof }

func (s *Server) proveEvent(ctx context.Context, caller access.Caller, in *proveEventIn) (*auditProofOut, error) {
	p, err := s.cfg.Ledger.Prove(ctx, caller, in.Organization, in.ID)
	if err != nil {
		return nil, err
	}
	return &auditProofOut{wireProof(p)}, nil
}

func wireProof(p ledger.Proof) api.AuditProof {
	w := api.AuditProof{Organization: p.Organization, Class: p.Class, EventID: p.EventID, Event: p.Canonical, Index: p.Index, Size: p.Size,
		Hashes: make([]string, len(p.Hashes)), Checkpoint: p.Checkpoint, Key: p.Key}
	for i, h := range p.Hashes {
		w.Hashes[i] = h.String()
	}
	return w
}

type auditKeysOut struct{ Body api.AuditKeys }

func (s *Server) auditKeys(ctx context.Context, _ access.Caller, _ *noInput) (*auditKeysOut, error) {
	keys, err := s.cfg.Ledger.Keys(ctx)
	if err != nil {
		return nil, err
	}
	out := &auditKeysOut{api.AuditKeys{Keys: make([]api.AuditKey, len(keys))}}
	for i, k := range keys {
		out.Body.Keys[i] = wireAuditKey(k)
	}
	return out, nil
}

type auditKeyOut struct{ Body api.AuditKey }

func (s *Server) rotateAuditKey(ctx context.Context, caller access.Caller, _ *noInput) (*auditKeyOut, error) {
	k, err := s.cfg.Ledger.RotateKey(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &auditKeyOut{wireAuditKey(k)}, nil
}

func wireAuditKey(k ledger.Key) api.AuditKey {
	return api.AuditKey{ID: k.ID, PublicKey: k.Public, CreatedAt: api.At(k.CreatedAt), RetiredAt: api.At(k.RetiredAt)}
}
