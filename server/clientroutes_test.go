package server_test

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// Every method of the Go client asks for a route that there is, by its method,
// with a body whose fields that route takes. What is asked of it is nobody's or
// not valid, so that most are refused; how they are refused is what counts.
func TestEveryMethodOfTheClientHasItsRoute(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	asked := &lastAnswer{next: newHTTP(t).Transport}
	c := reflect.ValueOf(&api.Client{
		BaseURL: s.URL, Token: s.Token(t, "acme", "u1", access.Owner, access.Operator), HTTP: &http.Client{Transport: asked},
	})
	for i := range c.NumMethod() {
		name, method := c.Type().Method(i).Name, c.Method(i)
		args := []reflect.Value{reflect.ValueOf(t.Context())}
		for j := 1; j < method.Type().NumIn(); j++ {
			arg := reflect.New(method.Type().In(j)).Elem()
			switch arg.Kind() {
			case reflect.String:
				arg.SetString("nobody's own")
			case reflect.Int64:
				arg.SetInt(1)
			}
			args = append(args, arg)
		}
		before := asked.count.Load()
		out := method.Call(args)
		if body, ok := out[0].Interface().(io.Closer); ok && !out[0].IsNil() {
			_ = body.Close() // a stream is not read to its end
		}
		err, _ := out[len(out)-1].Interface().(error)
		if asked.count.Load() != before+1 {
			t.Errorf("%s made %d requests: %v", name, asked.count.Load()-before, err)
			continue
		}
		var problem *api.CallError
		refused := errors.As(err, &problem)
		switch {
		case !refused && err != nil:
			t.Errorf("%s: %v", name, err)
		case refused && (problem.Code == "route_not_found" || problem.Status == http.StatusMethodNotAllowed || problem.Status == http.StatusBadRequest || problem.Status >= 500):
			t.Errorf("%s asked for %s: %v", name, asked.what.Load(), err)
		case refused:
			for _, f := range problem.Errors {
				if strings.Contains(f.Message, "not a field of this call") || strings.Contains(f.Message, "does not take") {
					t.Errorf("%s sent to %s a body with %s, which %s", name, asked.what.Load(), f.Field, f.Message)
				}
			}
		}
	}
	if asked.count.Load() < 60 {
		t.Errorf("the client has %d methods only", asked.count.Load())
	}
}

// lastAnswer counts requests and keeps what the last one asked for.
type lastAnswer struct {
	next  http.RoundTripper
	count atomic.Int64
	what  atomic.Value
}

// RoundTrip implements [http.RoundTripper].
func (l *lastAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	l.count.Add(1)
	l.what.Store(r.Method + " " + r.URL.Path)
	return l.next.RoundTrip(r)
}
