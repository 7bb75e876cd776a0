package server

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gateway"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// problem is an error answer on its way out. It is what huma writes for our
// errors and, through humaProblem, for its own.
type problem struct {
	api.Problem
	retryAfter time.Duration
}

func (p *problem) Error() string  { return p.Detail }
func (p *problem) GetStatus() int { return p.Status }

// ContentType implements [huma.ContentTypeFilter].
func (p *problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders implements [huma.HeadersError].
func (p *problem) GetHeaders() http.Header {
	h := make(http.Header)
	p.setHeaders(h)
	return h
}

func (p *problem) setHeaders(h http.Header) {
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Bearer realm="gatehouse"`)
	}
	if p.retryAfter > 0 && h.Get("Retry-After") == "" {
		h.Set("Retry-After", strconv.FormatInt(int64(math.Ceil(p.retryAfter.Seconds())), 10))
		h.Set("Retry-After-Ms", milliseconds(p.retryAfter))
	}
}

// MarshalJSON keeps huma from seeing more than the wire type.
func (p *problem) MarshalJSON() ([]byte, error) { return json.Marshal(p.Problem) }

// statusOf maps the kinds of fault to HTTP.
func statusOf(k fault.Kind) int {
	switch k {
	case fault.Malformed:
		return http.StatusBadRequest
	case fault.Unauthenticated:
		return http.StatusUnauthorized
	case fault.Denied:
		return http.StatusForbidden
	case fault.NotFound:
		return http.StatusNotFound
	case fault.MethodNotAllowed:
		return http.StatusMethodNotAllowed
	case fault.Conflict:
		return http.StatusConflict
	case fault.Stale:
		return http.StatusPreconditionFailed
	case fault.TooLarge:
		return http.StatusRequestEntityTooLarge
	case fault.Invalid:
		return http.StatusUnprocessableEntity
	case fault.NoCredential:
		return http.StatusFailedDependency
	case fault.Limited:
		return http.StatusTooManyRequests
	case fault.BadUpstream:
		return http.StatusBadGateway
	case fault.Unavailable:
		return http.StatusServiceUnavailable
	case fault.SlowUpstream:
		return http.StatusGatewayTimeout
	default:
		return http.StatusInternalServerError
	}
}

// problemOf gives the answer for err. What is not made to be shown becomes
// "internal error" with the request id, and its text goes to the log.
func (s *Server) problemOf(ctx context.Context, x *exchange, err error) *problem {
	p := &problem{Problem: api.Problem{Type: "about:blank", RequestID: x.id}}
	var denied *access.DeniedError
	f, known := fault.As(err)
	switch {
	case known:
		p.Status, p.Code, p.Detail, p.retryAfter = statusOf(f.Kind), f.Code, f.Message, f.RetryAfter
		for _, field := range f.Fields {
			p.Errors = append(p.Errors, api.ProblemField{Field: field.Name, Message: field.Message})
		}
		if cause := f.Unwrap(); cause != nil && p.Status >= http.StatusInternalServerError {
			s.log.ErrorContext(ctx, "request failed", "code", f.Code, "error", cause)
		}
	case errors.As(err, &denied):
		p.Status, p.Code = http.StatusForbidden, "permission_denied"
		p.Detail = "Your roles do not allow this: " + denied.Error() + "."
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		away := fault.DatabaseAway
		p.Status, p.Code, p.Detail, p.retryAfter = statusOf(away.Kind), away.Code, away.Message, away.RetryAfter
		s.log.ErrorContext(ctx, "request failed", "code", p.Code, "error", err)
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		p.Status, p.Code, p.Detail = gateway.StatusClientClosed, "client_closed", "The client left before the answer was ready."
	default:
		p.Status, p.Code = http.StatusInternalServerError, "internal_error"
		p.Detail = "Something went wrong on our side. The log has the details under this request id."
		s.log.ErrorContext(ctx, "request failed", "code", p.Code, "error", err)
	}
	x.code = p.Code
	p.Title = http.StatusText(p.Status)
	if p.Title == "" {
		p.Title = "Client Closed Request"
	}
	return p
}

// writeProblem answers with err and gives the status written. On chat and
// proxy routes the answer also holds the error object that SDKs read.
func (s *Server) writeProblem(w http.ResponseWriter, r *http.Request, err error) int {
	x := exchangeOf(r.Context())
	p := s.problemOf(r.Context(), x, err)
	h := w.Header()
	p.setHeaders(h)
	if x.gateway {
		h.Set("Gatehouse-Error", p.Code)
		p.Problem.Error = &api.SDKError{Message: p.Detail, Type: sdkType(p.Status), Code: p.Code}
	}
	h.Set("Content-Type", "application/problem+json")
	body, err := json.Marshal(p.Problem)
	if err != nil { // strings and numbers always marshal
		s.log.ErrorContext(r.Context(), "a problem could not be written", "error", err)
	}
	body = append(body, '\n')
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // a client that is gone needs no answer
	return p.Status
}

// sdkType gives the error type that the OpenAI SDKs know for a status.
func sdkType(status int) string {
	switch status {
	case http.StatusUnauthorized:
		return "authentication_error"
	case http.StatusForbidden:
		return "permission_error"
	case http.StatusNotFound:
		return "not_found_error"
	case http.StatusTooManyRequests:
		return "rate_limit_error"
	}
	if status >= http.StatusInternalServerError {
		return "api_error"
	}
	return "invalid_request_error"
}

var replaceHumaErrors sync.Once

// useProblems makes huma write our problems for its own errors: parsing and
// validation. Huma's would echo rejected values, unknown names and errors of
// handlers. The variable is huma's and global, so it is set once, to a function
// that finds everything it needs in the request. So is the variable that makes
// names of members count with their case, as the decoder of a map does.
func useProblems() {
	replaceHumaErrors.Do(func() {
		huma.ValidateStrictCasing = true
		huma.NewErrorWithContext = func(hctx huma.Context, status int, message string, errs ...error) huma.StatusError {
			if hctx == nil {
				return &problem{Problem: api.Problem{Status: status, Code: "internal_error"}}
			}
			x := exchangeOf(hctx.Context())
			return x.server.problemOf(hctx.Context(), x, humaFault(status, message, errs, x.server.fieldNames))
		}
		huma.NewError = func(status int, _ string, errs ...error) huma.StatusError {
			return &problem{Problem: api.Problem{Status: status, Title: http.StatusText(status), Code: "error"}}
		}
	})
}

// humaFault reads huma's errors without letting a value through.
func humaFault(status int, message string, errs []error, known map[string]bool) error {
	switch {
	case message == "cannot read request body": // huma's 500; it is the client that broke off or sent no HTTP
		return fault.New(fault.Malformed, "body_incomplete", "The request body ended before it was complete.")
	case message == "request body is required":
		return fault.New(fault.Malformed, "body_missing", "This call needs a JSON body.")
	case status == http.StatusRequestEntityTooLarge:
		return fault.New(fault.TooLarge, "body_too_large", "The request body is larger than this call takes.")
	case status == http.StatusRequestTimeout:
		return fault.New(fault.Malformed, "body_incomplete", "The request body did not arrive in time.")
	case status == http.StatusUnsupportedMediaType:
		return fault.New(fault.Malformed, "unsupported_media_type", "Send the body as application/json.")
	case status >= http.StatusInternalServerError:
		return errors.Join(errs...)
	}
	var fields []fault.Field
	for _, err := range errs {
		var detailer huma.ErrorDetailer
		if !errors.As(err, &detailer) {
			continue
		}
		if f := fieldOf(detailer.ErrorDetail(), known); !slices.Contains(fields, f) {
			fields = append(fields, f)
		}
	}
	if status == http.StatusBadRequest || len(fields) == 0 {
		return fault.New(fault.Malformed, "malformed_request", "The request cannot be read; is its body one JSON object, with each member once?")
	}
	return fault.InvalidFields(fields...)
}

// fieldOf names the field of one of huma's findings, cutting the path where a
// name is not one of the API's own, and says in our words what is wrong.
func fieldOf(d *huma.ErrorDetail, known map[string]bool) fault.Field {
	parts := strings.Split(d.Location, ".")
	if len(parts) > 1 { // body., query., path.
		parts = parts[1:]
	}
	var path []string
	for _, part := range parts {
		if !known[withoutIndex(part)] {
			break
		}
		path = append(path, part)
	}
	name := strings.Join(path, ".")
	message := "is not valid"
	switch m := d.Message; {
	case strings.HasPrefix(m, "json: cannot unmarshal number "): // the schema takes 60.0 and 6e1 for integers
		message = "must be a whole number, without a point or an exponent"
		if _, field, ok := strings.Cut(m, "Go struct field "); ok {
			field, _, _ = strings.Cut(field, " of type ")
			_, field, _ = strings.Cut(field, ".")
			if !slices.ContainsFunc(strings.Split(field, "."), func(part string) bool { return !known[part] }) {
				name = field
			}
		}
	case m == "unexpected property" && len(path) == len(parts):
		message = "is not a field of this call"
	case m == "unexpected property":
		message = "has a field that this call does not take"
	case strings.HasPrefix(m, "expected required property "):
		required, _, _ := strings.Cut(strings.TrimPrefix(m, "expected required property "), " ")
		if !known[required] {
			break
		}
		return fault.Field{Name: strings.TrimPrefix(name+"."+required, "."), Message: "is required"}
	case strings.HasPrefix(m, "required "):
		message = "is required"
	case strings.HasPrefix(m, "expected string to be RFC 3339"):
		message = "must be a time such as 2026-11-23T08:41:00.000Z"
	case m == "expected string", m == "expected boolean", m == "expected integer", m == "expected number",
		m == "expected object", m == "expected array":
		message = "must be a JSON " + strings.TrimPrefix(m, "expected ")
		if name != "" && len(path) < len(parts) {
			message = "holds something that " + message
		}
	case m == "invalid boolean":
		message = "must be true or false"
	case m == "invalid integer", m == "invalid floating value":
		message = "must be a number"
	case strings.HasPrefix(m, "expected number "):
		message = "must be " + strings.TrimPrefix(m, "expected ")
	}
	if name == "" {
		name = "body"
	}
	return fault.Field{Name: name, Message: message}
}

// withoutIndex gives the name of an element's array: limits of limits[0].
func withoutIndex(part string) string {
	name, index, ok := strings.Cut(part, "[")
	if index, closed := strings.CutSuffix(index, "]"); ok && closed && strings.Trim(index, "0123456789") == "" {
		return name
	}
	return part
}
