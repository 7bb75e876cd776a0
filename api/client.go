package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

// Client calls a Gatehouse. Its methods are the API's calls; an answer that is
// a problem comes back as a [*CallError].
type Client struct {
	BaseURL string       // such as http://127.0.0.1:8080
	Token   string       // the caller's
	HTTP    *http.Client // http.DefaultClient when nil
}

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 16 << 20

// ErrAnswerTooLarge means that an answer was longer than the client reads (16
// MiB). What was asked for has been done.
var ErrAnswerTooLarge = errors.New("api: the answer is too large; ask for a smaller page")

// CallError is an answer that was a problem.
type CallError struct {
	Problem
	RetryAfter time.Duration // how long the server asks to wait; 0 where it does not
}

// Error implements error: the detail, the code and the request id.
func (e *CallError) Error() string {
	return fmt.Sprintf("%s (%d %s, request %s)", e.Detail, e.Status, e.Code, e.RequestID)
}

// Condition makes a change depend on the state that it is meant for; [IfMatch]
// gives one. A call without any is made whatever the state is.
type Condition struct{ tag string }

// IfMatch lets a change be made only while what it is about still has that ETag.
// Otherwise somebody was faster: the call ends with a [*CallError] with the status
// 412 and the code of what it is about, and nothing is changed. No state has an
// empty tag.
func IfMatch(tag string) Condition { return Condition{tag} }

// Tagged is what has an ETag.
type Tagged struct {
	// ETag names the state that was given, for [IfMatch]. It stands in a header, so
	// only an answer about one thing has it, not the items of a list.
	ETag string `json:"-"`
}

func (t *Tagged) setETag(tag string) { t.ETag = tag }

// request is one request that a client makes.
type request struct {
	method, path string
	query        url.Values
	header       http.Header // nil: no special ones
	body         any         // nil: none
}

// call asks, and reads the answer whole.
func call[Out any](ctx context.Context, c *Client, method, path string, query url.Values, body any, match ...Condition) (Out, error) {
	var out Out
	header := make(http.Header)
	for _, m := range match {
		tag := m.tag
		if tag == "" {
			tag = `""`
		}
		header.Add("If-Match", tag)
	}
	answer, err := c.send(ctx, request{method, path, query, header, body})
	if err != nil {
		return out, err
	}
	defer func() { _ = answer.Body.Close() }() // all of it has been read
	if answer.StatusCode == http.StatusNoContent {
		return out, nil
	}
	b, err := readAnswer(answer)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, err
	}
	if tagged, ok := any(&out).(interface{ setETag(string) }); ok {
		tagged.setETag(answer.Header.Get("ETag"))
	}
	return out, nil
}

// stream asks, and gives the body of the answer as it comes.
func (c *Client) stream(ctx context.Context, path string, query url.Values, header http.Header) (io.ReadCloser, error) {
	answer, err := c.send(ctx, request{http.MethodGet, path, query, header, nil})
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// send gives an answer that is no problem. Its body is the caller's to close.
func (c *Client) send(ctx context.Context, in request) (*http.Response, error) {
	var body io.Reader
	if in.body != nil {
		b, err := json.Marshal(in.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	address := strings.TrimSuffix(c.BaseURL, "/") + in.path
	if len(in.query) > 0 {
		address += "?" + in.query.Encode()
	}
	r, err := http.NewRequestWithContext(ctx, in.method, address, body)
	if err != nil {
		return nil, err
	}
	if in.header != nil {
		r.Header = in.header
	}
	r.Header.Set("Authorization", "Bearer "+c.Token)
	if in.body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	client := c.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	answer, err := client.Do(r)
	if err != nil || answer.StatusCode < http.StatusBadRequest {
		return answer, err
	}
	defer func() { _ = answer.Body.Close() }() // it was only read
	return nil, problemOf(answer)
}

func readAnswer(answer *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(b) > maxAnswer {
		err = ErrAnswerTooLarge
	}
	return b, err
}

func problemOf(answer *http.Response) *CallError {
	e := &CallError{
		Problem:    Problem{Detail: "the answer is no problem of Gatehouse's", Code: "unknown"},
		RetryAfter: wiretime.RetryAfter(answer.Header.Get("Retry-After"), time.Now()),
	}
	if b, err := readAnswer(answer); err == nil {
		_ = json.Unmarshal(b, &e.Problem) // what cannot be read stays unknown
	}
	e.Status = answer.StatusCode // a proxy between may say anything in its body
	return e
}
