package server

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// registerInstance adds the routes about the instance itself. They need no
// token and tell nothing of any organization.
func (s *Server) registerInstance() {
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(r.Context()).route = "/healthz"
		writeJSON(w, http.StatusOK, map[string]string{"status": "ok", "version": s.cfg.Version})
	})
	s.mux.HandleFunc("GET /readyz", s.ready)
}

// ready answers 200 when requests can be served, and 503 while the instance
// stops, its database is away, or the trail or usage takes no further visits. It says so
// where changes are refused because the database cannot be written.
func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	exchangeOf(r.Context()).route = "/readyz"
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	checks := map[string]string{"database": "ok"}
	status := http.StatusOK
	if err := s.cfg.DB.Ping(ctx); err != nil {
		s.log.ErrorContext(ctx, "not ready", "error", err)
		checks["database"], status = "unreachable", http.StatusServiceUnavailable
	} else if why, err := s.cfg.DB.Writing(); err != nil { // what only reads is served, and visits until the spool is full
		s.log.ErrorContext(ctx, "changes are refused", "error", err)
		checks["database"] = "read only: " + why
	}
	checks["trail"] = "ok"
	if s.cfg.Audit.Full() {
		checks["trail"], status = "full: the events that wait for the database are as many as may be, and visits are refused", http.StatusServiceUnavailable
	}
	checks["usage"] = "ok"
	if s.cfg.Usage.Ready() != nil {
		checks["usage"], status = "full: as much as may be waits for the database, and visits are refused", http.StatusServiceUnavailable
		if s.cfg.Usage.Backlog().Refused {
			checks["usage"] = "refused: the disk under the data folder does not take it, and visits are refused"
		}
	}
	if degraded := s.cfg.LimitsDegraded; degraded != nil {
		checks["limits"] = "ok"
		if degraded() { // requests are served all the same
			checks["limits"] = "degraded: Redis is away, this instance counts for itself"
		}
	}
	answer := map[string]any{"status": "ready", "checks": checks}
	switch {
	case s.stopping.Load():
		status, checks["server"] = http.StatusServiceUnavailable, "stopping"
	case s.draining.Load():
		status, checks["server"] = http.StatusServiceUnavailable, "draining"
	}
	if status != http.StatusOK {
		answer["status"] = "not ready"
	}
	writeJSON(w, status, answer)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}

var errNoRoute = fault.New(fault.NotFound, "route_not_found", "There is no such route; /docs lists them.")

// notFound answers what no route takes, and says so where only the method is
// wrong.
func (s *Server) notFound(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	if len(allowed) > 0 {
		w.Header()["Allow"] = allowed
		s.writeProblem(w, r, fault.New(fault.MethodNotAllowed, "method_not_allowed", "This route does not take that method."))
		return
	}
	s.writeProblem(w, r, errNoRoute)
}
