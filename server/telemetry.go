package server

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/telemetry"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// visitNote is what the log line and the span of a chat or proxy request tell of
// it. The zero value is that of a request that came to no service.
type visitNote struct {
	service    string // of the catalogue, app or unknown
	outcome    audit.Outcome
	reason     string
	credential string // its id
	model      string
	stream     bool
	tokens     tokens.Counts
	firstByte  time.Duration
}

// noteVisit counts a visit and keeps what is to be told of it.
func (s *Server) noteVisit(x *exchange, service string, r gateway.Result) {
	x.visit = visitNote{
		service: service, outcome: r.Outcome, reason: r.Reason, credential: r.CredentialID,
		model: r.Usage.Model, stream: r.Usage.Stream, tokens: r.Usage.Tokens, firstByte: r.FirstByte,
	}
	s.cfg.Metrics.Visit(service, string(r.Outcome), r.Reason, r.Duration, r.FirstByte)
}

// trace begins the span of a request. Probes have none: there is no end of them.
func (s *Server) trace(r *http.Request, x *exchange) (context.Context, *telemetry.ServerSpan) {
	if s.cfg.OTel == nil || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return r.Context(), nil
	}
	scheme := "http"
	if s.secure(r) {
		scheme = "https"
	}
	return s.cfg.OTel.StartServer(r.Context(), r.Header, x.request.Method, scheme, x.start)
}

// endTrace ends the span of a request.
func (s *Server) endTrace(span *telemetry.ServerSpan, x *exchange, status int, cut bool, took time.Duration) {
	if span == nil {
		return
	}
	reason := x.visit.reason
	if x.visit.service == "" || reason == "" {
		reason = x.code
	}
	broken := cut || x.visit.outcome == audit.Partial
	if broken && reason == "" {
		reason = "aborted"
	}
	span.End(telemetry.ServerAnswer{
		Route: x.route, Status: status, Reason: reason, Broken: broken, Left: callerLeft(reason),
		Organization: x.caller.Organization, RequestID: x.id, Service: x.visit.service, Outcome: string(x.visit.outcome),
		Credential: x.visit.credential, Took: took,
	})
}

// callerLeft reports whether it is for the caller that an answer was not whole.
func callerLeft(reason string) bool { return reason == "client_closed" || reason == "client_slow" }

// logRequest writes the one line of a request. What stands in it is of the
// program's own, or was checked to be an id or a name: no path, no query, no
// header, no body.
func (s *Server) logRequest(ctx context.Context, x *exchange, sw *statusWriter, took time.Duration, traceID string) {
	if !s.log.Enabled(ctx, slog.LevelInfo) {
		return
	}
	line := append(make([]slog.Attr, 0, 20), slog.String("method", x.request.Method), slog.String("route", x.route),
		slog.Int("status", sw.status), slog.Int64("bytes", sw.bytes), slog.Float64("tookMs", milli(took)),
		slog.String("organization", x.caller.Organization))
	text := func(key, value string) {
		if value != "" {
			line = append(line, slog.String(key, value))
		}
	}
	count := func(key string, c tokens.Count) {
		if c.Known {
			line = append(line, slog.Int64(key, c.N))
		}
	}
	v := &x.visit
	if x.gateway {
		outcome := string(v.outcome)
		if outcome == "" { // it came to no service
			outcome = string(audit.Denied)
			if sw.status >= http.StatusInternalServerError || sw.status == http.StatusNotFound {
				outcome = string(audit.Failure)
			}
		}
		text("service", v.service)
		text("outcome", outcome)
		text("reason", v.reason)
		text("credential", v.credential)
		text("model", v.model)
		if v.stream {
			line = append(line, slog.Bool("stream", true))
		}
		if v.firstByte > 0 {
			line = append(line, slog.Float64("firstByteMs", milli(v.firstByte)))
		}
		count("inputTokens", v.tokens.Input)
		count("cacheReadTokens", v.tokens.CacheRead)
		count("cacheWriteTokens", v.tokens.CacheWrite)
		count("outputTokens", v.tokens.Output)
		count("reasoningTokens", v.tokens.Reasoning)
	}
	text("code", x.code)
	text("traceId", traceID)
	r := slog.NewRecord(s.now(), slog.LevelInfo, "request", 0) // nobody asks where in the program it is written
	r.AddAttrs(line...)
	_ = s.log.Handler().Handle(ctx, r) // a log that cannot be written has nowhere to say so
}

func milli(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
