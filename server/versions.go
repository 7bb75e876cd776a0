package server

import (
	"context"
	"encoding/json"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/vault"
)

type listVersionsIn struct {
	ID     string `path:"id"`
	Limit  int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type versionListOut struct{ Body api.CredentialVersionList }

func (s *Server) listVersions(ctx context.Context, caller access.Caller, in *listVersionsIn) (*versionListOut, error) {
	page, err := s.cfg.Vault.Versions(ctx, caller, in.ID, vault.VersionFilter{Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	out := &versionListOut{Body: api.CredentialVersionList{Versions: make([]api.CredentialVersion, len(page.Versions)), NextCursor: page.NextCursor}}
	for i, v := range page.Versions {
		out.Body.Versions[i] = wireVersion(v)
	}
	return out, nil
}

type stageVersionIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
	Body    api.CredentialStage
}

type versionOut struct {
	ETag    string `header:"ETag" doc:"The credential's"`
	Warning string `header:"Gatehouse-Warning" doc:"A value that does not look like the provider's usual form; it was staged all the same"`
	Body    api.CredentialVersion
}

func (s *Server) stageVersion(ctx context.Context, caller access.Caller, in *stageVersionIn) (*versionOut, error) {
	c, v, warnings, err := s.cfg.Vault.Stage(ctx, caller, in.ID, matchOf(in.IfMatch), in.Body.Credentials, in.Body.Reason)
	if err != nil {
		return nil, err
	}
	whole := wireCredentialOut(c, warnings)
	return &versionOut{ETag: whole.ETag, Warning: whole.Warning, Body: wireVersion(v)}, nil
}

type versionIn struct {
	ID      string `path:"id"`
	Version string `path:"version" doc:"The number of a version"`
}

func (s *Server) testVersion(ctx context.Context, caller access.Caller, in *versionIn) (*testOut, error) {
	if err := s.cfg.Limits.TakeTest(ctx, caller); err != nil {
		return nil, err
	}
	result, err := s.cfg.Vault.TestVersion(ctx, caller, in.ID, numberOf(in.Version))
	if err != nil {
		return nil, err
	}
	return &testOut{Body: wireTest(result)}, nil
}

type activateVersionIn struct {
	ID      string                  `path:"id"`
	Version string                  `path:"version" doc:"The number of a staged version"`
	IfMatch string                  `header:"If-Match" doc:"The ETag of the state that is meant"`
	Body    *api.CredentialActivate // optional
}

func (s *Server) activateVersion(ctx context.Context, caller access.Caller, in *activateVersionIn) (*credentialOut, error) {
	body := orNothing(in.Body)
	c, err := s.cfg.Vault.Activate(ctx, caller, in.ID, matchOf(in.IfMatch), numberOf(in.Version), vault.Activation{
		Grace: graceOf(body.GraceSeconds), Force: body.Force, Reason: body.Reason,
	})
	if err != nil {
		return nil, err
	}
	return wireCredentialOut(c, nil), nil
}

type rollBackCredentialIn struct {
	ID      string                  `path:"id"`
	IfMatch string                  `header:"If-Match" doc:"The ETag of the state that is meant"`
	Body    *api.CredentialRollback // optional
}

func (s *Server) rollBackCredential(ctx context.Context, caller access.Caller, in *rollBackCredentialIn) (*credentialOut, error) {
	var r vault.Rollback
	if in.Body != nil {
		r.Version, r.Reason = in.Body.Version, in.Body.Reason
		if in.Body.GraceSeconds != nil {
			grace := graceOf(*in.Body.GraceSeconds)
			r.Grace = &grace
		}
	}
	c, err := s.cfg.Vault.RollBack(ctx, caller, in.ID, matchOf(in.IfMatch), r)
	if err != nil {
		return nil, err
	}
	return wireCredentialOut(c, nil), nil
}

type destroyVersionIn struct {
	ID      string `path:"id"`
	Version string `path:"version" doc:"The number of a version that is staged or in grace"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
}

type destroyVersionOut struct {
	ETag string `header:"ETag" doc:"The credential's"`
}

func (s *Server) destroyVersion(ctx context.Context, caller access.Caller, in *destroyVersionIn) (*destroyVersionOut, error) {
	c, err := s.cfg.Vault.DestroyVersion(ctx, caller, in.ID, matchOf(in.IfMatch), numberOf(in.Version))
	if err != nil {
		return nil, err
	}
	return &destroyVersionOut{ETag: wireCredentialOut(c, nil).ETag}, nil
}

// numberOf reads the number of a version; what is none is answered like one that
// does not exist.
func numberOf(version string) int64 {
	n, err := strconv.ParseInt(version, 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != version {
		return 0
	}
	return n
}

// graceOf gives seconds as the vault takes them; what is out of its bounds stays so.
func graceOf(seconds int64) time.Duration {
	return time.Duration(min(max(seconds, -1), int64(vault.MaxGrace/time.Second)+1)) * time.Second
}

func wireVersion(v vault.Version) api.CredentialVersion {
	w := api.CredentialVersion{
		Version: v.Number, State: string(v.State), Fields: v.Fields, Fingerprint: v.Fingerprint, Reason: v.Reason,
		CreatedAt: api.At(v.CreatedAt), CreatedBy: v.CreatedBy, ActivatedAt: api.At(v.ActivatedAt), ActivatedBy: v.ActivatedBy,
		RetiredAt: api.At(v.RetiredAt), RetiredBy: v.RetiredBy, GraceUntil: api.At(v.DestroyAt),
		DestroyedAt: api.At(v.DestroyedAt), DestroyedBy: v.DestroyedBy,
	}
	if w.Fields == nil { // an altered row
		w.Fields = []string{}
	}
	if v.LastTest != nil {
		var t vault.TestResult
		if json.Unmarshal(v.LastTest, &t) == nil { // what cannot be read is as good as no test
			test := wireTest(t)
			w.LastTest = &test
		}
	}
	return w
}
