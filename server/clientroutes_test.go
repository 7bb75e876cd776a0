package server_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// withoutMethod are the calls of the document that the Go client leaves to others.
var withoutMethod = regexp.MustCompile(`^(authorize-request|(chat|proxy)-[a-z]+)$`)

// The Go client has a method for each call of the API document, named as it is
// there, and no other. Each asks for the call's route, by its method, with a body
// whose fields that route takes, and takes a condition where the call does. What is
// asked of it is nobody's or not valid, so that most are refused; how they are
// refused is what counts.
func TestEveryCallIsAMethodOfTheClient(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"CREDENTIAL_REVEAL": "true"})
	asked := &lastAnswer{next: newHTTP(t).Transport}
	c := reflect.ValueOf(&api.Client{
		BaseURL: s.URL, Token: s.Token(t, "acme", "u1", access.Owner, access.Operator), HTTP: &http.Client{Transport: asked},
	})
	calls := callsOf(t, s)
	for name, call := range calls {
		if !withoutMethod.MatchString(call.id) && !c.MethodByName(name).IsValid() {
			t.Errorf("%s has no method %s", call.id, name)
		}
	}
	for i := range c.NumMethod() {
		name, method := c.Type().Method(i).Name, c.Method(i)
		call, ok := calls[name]
		if !ok {
			t.Errorf("%s is no call of the document", name)
			continue
		}
		if takes := method.Type().IsVariadic(); takes != call.conditional {
			t.Errorf("%s takes a condition: %t; %s does: %t", name, takes, call.id, call.conditional)
		}
		before := asked.count.Load()
		err := callWithNobodys(t, method)
		if asked.count.Load() != before+1 {
			t.Errorf("%s made %d requests: %v", name, asked.count.Load()-before, err)
			continue
		}
		if what := asked.what.Load().(string); !call.route.MatchString(what) {
			t.Errorf("%s asked for %s, but %s is at %s", name, what, call.id, call.route)
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
}

// callWithNobodys calls a method of the client with arguments that name nothing.
func callWithNobodys(t *testing.T, method reflect.Value) error {
	args := []reflect.Value{reflect.ValueOf(t.Context())}
	for i := 1; i < method.Type().NumIn(); i++ {
		arg := reflect.New(method.Type().In(i)).Elem()
		switch arg.Kind() {
		case reflect.String:
			arg.SetString("nobody's own")
		case reflect.Int64:
			arg.SetInt(1)
		case reflect.Slice: // of conditions
			continue
		}
		args = append(args, arg)
	}
	out := method.Call(args)
	if body, ok := out[0].Interface().(io.Closer); ok && !out[0].IsNil() {
		_ = body.Close() // a stream is not read to its end
	}
	err, _ := out[len(out)-1].Interface().(error)
	return err
}

// documentedCall is what the tests of the client read of an operation.
type documentedCall struct {
	id          string
	route       *regexp.Regexp // of the method and the path
	conditional bool           // it takes If-Match
}

// callsOf gives the calls of the API document, by the name of their method.
func callsOf(t *testing.T, s *instancetest.Server) map[string]documentedCall {
	t.Helper()
	var document struct {
		Paths map[string]map[string]operation `json:"paths"`
	}
	if err := json.Unmarshal([]byte(anonymous(t, s).get("/openapi.json").Body), &document); err != nil {
		t.Fatal(err)
	}
	placeholder := regexp.MustCompile(`\\\{[^}]*\\\}`)
	calls := make(map[string]documentedCall)
	for path, item := range document.Paths {
		for method, o := range item {
			var name strings.Builder
			for word := range strings.SplitSeq(o.ID, "-") {
				name.WriteString(strings.ToUpper(word[:1]) + word[1:])
			}
			call := documentedCall{id: o.ID, route: regexp.MustCompile("^" + strings.ToUpper(method) + " " + placeholder.ReplaceAllString(regexp.QuoteMeta(path), "[^/]+") + "$")}
			for _, p := range o.Parameters {
				call.conditional = call.conditional || p.Name == "If-Match"
			}
			calls[name.String()] = call
		}
	}
	return calls
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
	l.what.Store(r.Method + " " + r.URL.EscapedPath())
	return l.next.RoundTrip(r)
}
