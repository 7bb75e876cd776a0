package server

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// progress writes an answer that lasts: each write gets slowWrite, so that a client
// that does not read holds nothing for longer.
type progress struct {
	w  io.Writer
	rc *http.ResponseController
}

const slowWrite = 15 * time.Second

func progressOf(hctx huma.Context) progress {
	_, w := humago.Unwrap(hctx)
	return progress{hctx.BodyWriter(), http.NewResponseController(w)}
}

func (p progress) Write(b []byte) (int, error) {
	_ = p.rc.SetWriteDeadline(time.Now().Add(slowWrite)) // not every writer has deadlines
	return p.w.Write(b)
}

// standing makes a caller of a request again while its answer lasts: its token may
// have ended or been revoked, its member disabled, its roles changed.
type standing struct {
	server       *Server
	request      *http.Request
	organization string // "": the caller's own
	permission   access.Permission
	checked      time.Time
}

// recheckEvery is how long an answer that lasts goes on without another look;
// a change is effective within five seconds.
const recheckEvery = 4 * time.Second

func (s *Server) standingOf(hctx huma.Context, organization string, permission access.Permission) *standing {
	r, _ := humago.Unwrap(hctx)
	return &standing{s, r, organization, permission, time.Now()}
}

// check gives why the caller may not go on, and records it as any other denial.
// Mostly it is too early to look.
func (s *standing) check(ctx context.Context) error {
	if time.Since(s.checked) < recheckEvery {
		return nil
	}
	s.checked = time.Now()
	err := s.look(ctx)
	if err == nil {
		return nil
	}
	x := exchangeOf(ctx)
	c := x.caller
	x.caller = access.Caller{Type: c.Type, ID: c.ID, TokenID: c.TokenID, Organization: c.Organization} // it holds nothing any more
	if f, ok := fault.As(err); ok && (f.Kind == fault.Unauthenticated || f.Kind == fault.Denied) {
		s.server.denied(s.request, x, f, access.None)
		s.server.logRefused(ctx, f)
	}
	s.server.noteDenied(s.request, x, err)
	return err
}

func (s *standing) look(ctx context.Context) error {
	token, err := auth.TokenOf(s.request.Header)
	if err != nil {
		return err
	}
	caller, err := s.server.cfg.Auth.Caller(ctx, token)
	if err != nil {
		return err
	}
	organization := s.organization
	if organization == "" {
		organization = caller.Organization
	}
	return access.Allow(caller, s.permission, organization)
}

// allowed writes while its caller stands.
type allowed struct {
	progress
	*standing
}

func (a allowed) Write(b []byte) (int, error) {
	if err := a.check(a.request.Context()); err != nil {
		return 0, err
	}
	return a.progress.Write(b)
}

type exportIn struct {
	EventPick
	Format string `query:"format" doc:"ndjson or csv" default:"ndjson"`
}

func (s *Server) exportEvents(ctx context.Context, caller access.Caller, in *exportIn) (*huma.StreamResponse, error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	format := audit.Format(in.Format)
	x, err := s.cfg.Audit.StartExport(ctx, caller, f, format)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		hctx.SetHeader("Content-Type", map[audit.Format]string{audit.NDJSON: "application/x-ndjson", audit.CSV: "text/csv; charset=utf-8"}[format])
		hctx.SetHeader("Content-Disposition", `attachment; filename="events.`+string(format)+`"`)
		out := allowed{progressOf(hctx), s.standingOf(hctx, in.Organization, access.AuditExport)}
		if _, err := x.Write(hctx.Context(), out); err != nil {
			if hctx.Context().Err() == nil {
				s.log.WarnContext(hctx.Context(), "an export was cut off", "error", err)
			}
			panic(http.ErrAbortHandler) // half an answer must not look whole
		}
	}}, nil
}

type tailIn struct {
	EventPick
	LastEventID string `header:"Last-Event-ID" doc:"The id of the last event that was seen; the stream goes on after it"`
	After       string `query:"after" doc:"The same, where a header cannot be set"`
	Seconds     int    `query:"seconds" doc:"End the stream after so long, 1 to 86400; it lasts while the client stays when left out"`
}

// tailHeartbeat is how often a live tail without events says that it lives.
const tailHeartbeat = 15 * time.Second

func (s *Server) tailEvents(ctx context.Context, caller access.Caller, in *tailIn) (*huma.StreamResponse, error) {
	f, err := in.filter()
	if err != nil {
		return nil, err
	}
	picks, err := f.Matcher()
	if err != nil {
		return nil, err
	}
	if in.Seconds < 0 || in.Seconds > 86400 {
		return nil, fault.InvalidFields(fault.Field{Name: "seconds", Message: "must be from 1 to 86400"})
	}
	var from *audit.Positions
	last, name := in.LastEventID, "Last-Event-ID"
	if last == "" {
		last, name = in.After, "after"
	}
	if last != "" {
		p, err := audit.ParsePositions(last)
		if err != nil {
			return nil, fault.InvalidFields(fault.Field{Name: name, Message: "must be the id of an event of this stream"})
		}
		from = &p
	}
	follower, err := s.cfg.Audit.Follow(ctx, caller, in.Organization, from)
	if err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hctx huma.Context) {
		defer follower.Close()
		t := tail{standing: s.standingOf(hctx, in.Organization, access.AuditRead), follower: follower, picks: picks, out: progressOf(hctx)}
		ctx := hctx.Context()
		if in.Seconds > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(in.Seconds)*time.Second)
			defer cancel()
		}
		hctx.SetHeader("Content-Type", "text/event-stream")
		hctx.SetHeader("X-Accel-Buffering", "no") // nginx would wait for more
		t.run(ctx)
	}}, nil
}

// tail is one live stream.
type tail struct {
	*standing
	follower *audit.Follower
	picks    func(*audit.Event) bool
	out      progress
}

// run sends events until the client leaves, its permission ends, it is too slow, or
// the server stops. What ends it other than the client is told in an event "end".
func (t *tail) run(ctx context.Context) {
	if t.send(": the trail of Gatehouse\nretry: 2000\n\n") != nil {
		return
	}
	beat := time.Now()
	for {
		waiting, cancel := context.WithTimeout(ctx, time.Second)
		some, err := t.follower.Next(waiting)
		cancel()
		now := time.Now()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, context.DeadlineExceeded):
		case err != nil:
			t.end(err)
			return
		}
		if t.server.stopping.Load() {
			t.end(errStopping)
			return
		}
		if err := t.check(ctx); err != nil {
			t.end(err)
			return
		}
		var text []byte
		for i := range some {
			if text, err = t.append(text, &some[i]); err != nil {
				t.end(err)
				return
			}
		}
		if len(text) == 0 && now.Sub(beat) >= tailHeartbeat {
			text = []byte(": still there\n\n")
		}
		if len(text) == 0 {
			continue
		}
		if beat = now; t.send(string(text)) != nil {
			return
		}
	}
}

// append adds an event in the form of the stream, if the filter picks it.
func (t *tail) append(text []byte, e *audit.Sealed) ([]byte, error) {
	if !t.picks(&e.Event) {
		return text, nil
	}
	data, err := json.Marshal(e.Event)
	if err != nil {
		return text, err
	}
	text = append(append(text, "id: "...), e.After.String()...)
	text = append(append(text, "\nevent: audit\ndata: "...), data...)
	return append(text, "\n\n"...), nil
}

func (t *tail) send(text string) error {
	if _, err := io.WriteString(t.out, text); err != nil {
		return err
	}
	return t.out.rc.Flush()
}

// end says why the stream ends.
func (t *tail) end(err error) {
	ctx := t.request.Context()
	p := t.server.problemOf(ctx, exchangeOf(ctx), err)
	data, err := json.Marshal(p.Problem)
	if err != nil { // strings and numbers always marshal
		return
	}
	_ = t.send("event: end\ndata: " + string(data) + "\n\n") // a client that is gone needs no reason
}

// describeStreams says in the API document what the streams of the trail are.
func (s *Server) describeStreams() {
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString}}
	for path, kinds := range map[string][]string{"/api/audit/export": {"application/x-ndjson", "text/csv"}, "/api/audit/tail": {"text/event-stream"}} {
		content := make(map[string]*huma.MediaType)
		for _, kind := range kinds {
			content[kind] = text
		}
		o := s.api.OpenAPI().Paths[path].Get
		o.Responses["200"] = &huma.Response{Description: "OK", Content: content}
	}
}
