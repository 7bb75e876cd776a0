package gateway_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// told is what was told of one attempt.
type told struct {
	gateway.Attempt
	End  gateway.AttemptEnd
	Ends int
}

// attempts keeps what is told of attempts.
type attempts struct {
	mu  sync.Mutex
	all []*told
}

func (l *attempts) begun(_ context.Context, a gateway.Attempt) func(gateway.AttemptEnd) {
	a.Header.Set("X-Added", "yes")
	a.Header = nil
	one := &told{Attempt: a}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
	return func(end gateway.AttemptEnd) {
		l.mu.Lock()
		defer l.mu.Unlock()
		one.End = end
		one.Ends++
	}
}

// take gives what was told so far, without what differs from run to run.
func (l *attempts) take() []told {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []told
	for _, one := range l.all {
		one.Host, one.Scheme, one.End.FirstChunk = "", "", min(one.End.FirstChunk, 1)
		all = append(all, *one)
	}
	l.all = nil
	return all
}

// Each request to an upstream is told of, and its end once, whatever that is.
func TestAttempts(t *testing.T) {
	upstream, got := recorder(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/empty"):
		case strings.HasSuffix(r.URL.Path, "/cut"):
			panic(http.ErrAbortHandler)
		case r.Header.Get("Authorization") == "Bearer "+injectedKey && strings.HasSuffix(r.URL.Path, "/rotated/rerank"):
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, wrongKeyBody)
		default:
			_, _ = io.WriteString(w, `{"model":"m-1"}`)
		}
	})
	var l attempts
	f := serve(t, upstream, func(o *gateway.Options) { o.Opener, o.Attempted = &rotating{}, l.begun })
	end := gateway.AttemptEnd{Status: 200, Outcome: audit.Success, Model: "m-1", FirstChunk: 1}
	for path, want := range map[string][]told{
		"/api/chat/up/v1/chat/completions": {{gateway.Attempt{Service: "up", Provider: "up", Operation: "chat", Model: "m", Method: "POST"}, end, 1}},
		"/api/chat/app/answer":             {{gateway.Attempt{Service: "app", Model: "m", Method: "POST"}, gateway.AttemptEnd{Status: 200, Outcome: audit.Success, FirstChunk: 1}, 1}},
		"/api/proxy/stripe/v1/empty":       {{gateway.Attempt{Service: "stripe", Method: "POST"}, gateway.AttemptEnd{Status: 200, Outcome: audit.Success}, 1}},
		"/api/proxy/stripe/v1/cut":         {{gateway.Attempt{Service: "stripe", Method: "POST"}, gateway.AttemptEnd{Outcome: audit.Failure, Reason: "upstream_interrupted"}, 1}},
		"/api/chat/up/rotated/rerank": {
			{gateway.Attempt{Service: "up", Model: "m", Method: "POST"}, gateway.AttemptEnd{Status: 401, Outcome: audit.Failure, Reason: "resent", FirstChunk: 1}, 1},
			{gateway.Attempt{Service: "up", Model: "m", Method: "POST", Before: 1}, end, 1},
		},
		"/api/chat/up/v1/%2e%2e/x":                     nil, // refused before
		"/api/chat/echo/v1/chat/completions":           nil, // has no upstream
		"/api/chat/none/v1/chat/completions":           nil,
		"/api/proxy/up/v1/a-chat-service-on-the-wrong": nil,
	} {
		_, _ = f.call(t, "POST", path, `{"model":"m","messages":[]}`)
		f.result(t)
		if diff := cmp.Diff(want, l.take()); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
	for len(got) > 0 {
		if r := <-got; r.Header.Get("X-Added") != "yes" {
			t.Errorf("what was added to the header did not go out: %v", r.Header)
		}
	}
}

func TestAttemptsNameTheOperation(t *testing.T) {
	upstream, _ := recorder(t, nil)
	var l attempts
	f := serve(t, upstream, func(o *gateway.Options) { o.Attempted = l.begun })
	for path, want := range map[string]string{
		"v1/chat/completions": "chat", "openai/deployments/d/chat/completions": "chat", "v1/responses": "chat", "v1/messages": "chat",
		"v2/chat": "chat", "v1/chat/completions/": "chat", "v1/completions": "text_completion", "v1/fim/completions": "text_completion",
		"v1/generate": "text_completion", "v1/embeddings": "embeddings", "v1/embeddin%67s": "embeddings", "v2/embed": "embeddings",
		"v1beta/models/g:generateContent": "generate_content", "v1beta/models/g:streamGenerateContent": "generate_content",
		"v1beta/models/g:embedContent": "embeddings", "v1beta/models/g:batchEmbedContents": "embeddings",
		"v1/models": "", "v1/files": "", "v1beta/models/g:countTokens": "",
	} {
		_, _ = f.call(t, "POST", "/api/chat/up/"+path, "{}")
		f.result(t)
		if all := l.take(); len(all) != 1 || all[0].Operation != want {
			t.Errorf("%s: %+v, want %q", path, all, want)
		}
		_, _ = f.call(t, "GET", "/api/chat/up/"+path, "")
		f.result(t)
		if all := l.take(); len(all) != 1 || all[0].Operation != "" {
			t.Errorf("GET %s: %+v", path, all)
		}
	}
}
