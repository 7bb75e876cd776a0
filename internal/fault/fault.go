// Package fault is the one vocabulary of errors that may be shown to a caller.
//
// A domain package returns a [*Error]: a [Kind], which decides the HTTP status
// and the exit code of the command line, a stable Code for programs, and a
// Message for people that says what is wrong and what to do. It never holds a
// rejected value or a secret. Whatever is not a *Error (or another type that the edge knows, such
// as access.DeniedError) reaches the caller as "internal error" with a request
// id, and its text goes to the log only.
package fault

import (
	"errors"
	"time"
)

// Kind classifies an error by what the caller can do about it.
type Kind uint8

// The kinds, with the HTTP status that the edge answers.
const (
	Internal         Kind = iota // 500: nothing; look at the log
	Malformed                    // 400: the request cannot be read
	Unauthenticated              // 401: no caller could be made of the request
	Denied                       // 403: the caller may not
	NotFound                     // 404: no such thing in the caller's organization
	MethodNotAllowed             // 405: the route exists, the method does not
	Conflict                     // 409: it exists already
	Stale                        // 412: If-Match names an older state
	TooLarge                     // 413: the body is over the route's cap
	Invalid                      // 422: fields are wrong; Fields names them
	NoCredential                 // 424: no usable credential for the service
	Limited                      // 429: wait for RetryAfter
	BadUpstream                  // 502: the provider could not be reached or answered nonsense
	Unavailable                  // 503: a part of Gatehouse is away; try again
	SlowUpstream                 // 504: the provider did not answer in time
)

// Field says what is wrong with one field of a request.
type Field struct {
	Name    string `json:"field"`   // a path such as credentials.apiKey
	Message string `json:"message"` // what it must be; never the value
}

// Error is an error that is safe to show.
type Error struct {
	Kind       Kind
	Code       string // stable, snake_case, for programs
	Message    string // for people: what is wrong and the mend
	Fields     []Field
	RetryAfter time.Duration // with Limited and Unavailable, where known

	cause error // for the log only
}

func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause, which is for the log only.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is find the error that e is a copy of, made by [Error.Because]
// or [Error.After].
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && e.Kind == t.Kind && e.Code == t.Code && e.Message == t.Message
}

// New gives an error of a kind with a stable code and a public message.
func New(kind Kind, code, message string) *Error {
	return &Error{Kind: kind, Code: code, Message: message}
}

// InvalidFields gives an Invalid error over the named fields.
func InvalidFields(fields ...Field) *Error {
	return &Error{Kind: Invalid, Code: "invalid_request", Message: "Some fields are not valid.", Fields: fields}
}

// DatabaseAway is what callers are told while the database does not answer.
var DatabaseAway = New(Unavailable, "database_unavailable", "The database does not answer; try again shortly.").After(time.Second)

// Because returns a copy of e that carries cause for the log.
func (e *Error) Because(cause error) *Error {
	c := *e
	c.cause = cause
	return &c
}

// After returns a copy of e that asks the caller to wait for d.
func (e *Error) After(d time.Duration) *Error {
	c := *e
	c.RetryAfter = d
	return &c
}

// As gives the *Error in err's chain, and whether there is one.
func As(err error) (*Error, bool) {
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}

// KindOf gives the kind of the *Error in err's chain, Internal when there is none.
func KindOf(err error) Kind {
	if e, ok := As(err); ok {
		return e.Kind
	}
	return Internal
}
