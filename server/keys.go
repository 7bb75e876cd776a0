package server

import (
	"context"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/seal"
)

type keysOut struct{ Body api.KeyStatus }

func (s *Server) getKeys(ctx context.Context, caller access.Caller, _ *noInput) (*keysOut, error) {
	st, err := s.cfg.Keys.Status(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &keysOut{WireKeyStatus(st)}, nil
}

// WireKeyStatus gives the answer of GET /api/keys, for the command line too.
func WireKeyStatus(st masterkey.Status) api.KeyStatus {
	out := api.KeyStatus{Environment: st.Environment, Keys: []api.MasterKey{}, Instances: []api.RunningInstance{},
		Unknown: wireKeyColumns(st.Unknown), Unregistered: st.Unregistered}
	for _, k := range st.Keys {
		out.Keys = append(out.Keys, wireKey(k))
	}
	for _, in := range st.Instances {
		w := api.RunningInstance{ID: in.ID, Name: in.Name, Version: in.Version, Keys: []string{}, Sealing: in.Sealing.String(),
			StartedAt: api.At(in.StartedAt), SeenAt: api.At(in.SeenAt), Live: in.Live}
		for _, id := range in.Keys {
			w.Keys = append(w.Keys, id.String())
		}
		out.Instances = append(out.Instances, w)
	}
	if st.Rotation != nil {
		r := wireRotation(*st.Rotation)
		out.Rotation = &r
	}
	return out
}

type stageKeyIn struct{ Body *api.KeyStage } // optional

type keyOut struct{ Body api.MasterKey }

func (s *Server) stageKey(ctx context.Context, caller access.Caller, in *stageKeyIn) (*keyOut, error) {
	k, err := s.cfg.Keys.Stage(ctx, caller, orNothing(in.Body).Iterations)
	if err != nil {
		return nil, err
	}
	return &keyOut{wireKey(k)}, nil
}

type rotateKeysIn struct{ Body *api.KeyRotate } // optional

type rotationOut struct{ Body api.KeyRotation }

func (s *Server) rotateKeys(ctx context.Context, caller access.Caller, in *rotateKeysIn) (*rotationOut, error) {
	o := masterkey.RotateOptions{Rate: masterkey.DefaultRate}
	body := orNothing(in.Body)
	if body.Rate != nil {
		o.Rate = *body.Rate
	}
	if body.Key != "" {
		id, err := seal.ParseKeyID(body.Key)
		if err != nil {
			return nil, fault.InvalidFields(fault.Field{Name: "key", Message: "must be the id of a master key"})
		}
		o.Key = id
	}
	r, err := s.cfg.Keys.Rotate(ctx, caller, o)
	if err != nil {
		return nil, err
	}
	return &rotationOut{wireRotation(r)}, nil
}

func (s *Server) stopRotation(ctx context.Context, caller access.Caller, _ *noInput) (*rotationOut, error) {
	r, err := s.cfg.Keys.Stop(ctx, caller)
	if err != nil {
		return nil, err
	}
	return &rotationOut{wireRotation(r)}, nil
}

type verifyKeysIn struct{ Body *api.KeyVerify } // optional

type verificationOut struct{ Body api.KeyVerification }

// verifyTime leaves an operation time to answer with what was found so far.
const verifyTime = operationTimeout - 5*time.Second

func (s *Server) verifyKeys(ctx context.Context, caller access.Caller, in *verifyKeysIn) (*verificationOut, error) {
	ctx, cancel := context.WithTimeout(ctx, verifyTime)
	defer cancel()
	v, err := s.cfg.Keys.Verify(ctx, caller, masterkey.VerifyOptions{Sample: orNothing(in.Body).Sample})
	if err != nil {
		return nil, err
	}
	out := api.KeyVerification{Total: v.Total, Checked: v.Checked, Unreadable: v.Unreadable, Complete: v.Complete, Findings: []api.KeyFinding{}}
	for _, f := range v.Findings {
		out.Findings = append(out.Findings, api.KeyFinding(f))
	}
	return &verificationOut{out}, nil
}

type retireKeyIn struct {
	ID   string         `path:"id"`
	Body *api.KeyRetire // optional
}

func (s *Server) retireKey(ctx context.Context, caller access.Caller, in *retireKeyIn) (*keyOut, error) {
	id, err := seal.ParseKeyID(in.ID)
	if err != nil {
		return nil, masterkey.ErrUnknownKey
	}
	k, err := s.cfg.Keys.Retire(ctx, caller, id, orNothing(in.Body).Lost)
	if err != nil {
		return nil, err
	}
	return &keyOut{wireKey(k)}, nil
}

func wireKey(k masterkey.Key) api.MasterKey {
	w := api.MasterKey{
		ID: k.ID.String(), State: string(k.State), Iterations: k.Iterations, Source: string(k.Source), Columns: wireKeyColumns(k.Columns),
		CreatedAt: api.At(k.CreatedAt), ActivatedAt: api.At(k.ActivatedAt), RetiredAt: api.At(k.RetiredAt),
	}
	if k.Rows >= 0 {
		w.Rows = &k.Rows
	}
	return w
}

func wireKeyColumns(columns []masterkey.ColumnRows) []api.KeyColumn {
	var all []api.KeyColumn
	for _, c := range columns {
		all = append(all, api.KeyColumn(c))
	}
	return all
}

func wireRotation(r masterkey.Rotation) api.KeyRotation {
	return api.KeyRotation{
		ID: r.ID, Key: r.Key.String(), State: string(r.State), Rate: r.Rate, Total: r.Total, Rewrapped: r.Rewrapped, Unreadable: r.Unreadable,
		StartedAt: api.At(r.StartedAt), UpdatedAt: api.At(r.UpdatedAt), FinishedAt: api.At(r.FinishedAt),
	}
}
