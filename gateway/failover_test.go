package gateway_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/gateway"
)

func TestFailover(t *testing.T) {
	list := map[string][]string{"Default": {"second", "third"}, "second": {"fourth"}}
	for name, test := range map[string]struct {
		answers map[string]int // by credential; otherwise 200
		opener  named
		want    int
		served  string
		asked   string
	}{
		"it is taken":                  {want: 200, served: "Default", asked: "Default"},
		"401":                          {answers: map[string]int{"Default": 401}, want: 200, served: "second", asked: "Default second"},
		"402":                          {answers: map[string]int{"Default": 402}, want: 200, served: "second", asked: "Default second"},
		"429":                          {answers: map[string]int{"Default": 429}, want: 200, served: "second", asked: "Default second"},
		"twice":                        {answers: map[string]int{"Default": 429, "second": 429}, want: 200, served: "third", asked: "Default second third"},
		"the other may not":            {answers: map[string]int{"Default": 429, "second": 403}, want: 200, served: "third", asked: "Default second third"},
		"the other is out of order":    {answers: map[string]int{"Default": 429, "second": 500, "third": 503}, want: 429, served: "Default", asked: "Default second third"},
		"nobody is taken":              {answers: map[string]int{"Default": 401, "second": 402, "third": 429}, want: 401, served: "Default", asked: "Default second third"},
		"a 404 is an answer":           {answers: map[string]int{"Default": 429, "second": 404}, want: 404, served: "second", asked: "Default second"},
		"403":                          {answers: map[string]int{"Default": 403}, want: 403, served: "Default", asked: "Default"},
		"500":                          {answers: map[string]int{"Default": 500}, want: 500, served: "Default", asked: "Default"},
		"one that is gone":             {opener: named{missing: "second"}, answers: map[string]int{"Default": 429}, want: 200, served: "third", asked: "Default third"},
		"one that may not be used":     {opener: named{scopes: map[string]*catalog.Scope{"second": {Paths: []string{"/other"}}}}, answers: map[string]int{"Default": 429}, want: 200, served: "third", asked: "Default third"},
		"one that names other members": {opener: named{scopes: map[string]*catalog.Scope{"second": {Paths: []string{"/**"}, Members: []string{"x"}}}}, answers: map[string]int{"Default": 429}, want: 200, served: "third", asked: "Default third"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				test.opener.failover, test.opener.opened = list, make(map[string]int)
				told := 0
				b := newBubble(t, &test.opener, func(o *gateway.Options) { o.Observe.FailedOver = func(string) { told++ } })
				b.answer = func(w http.ResponseWriter, r *http.Request) {
					code := test.answers[keyName(r)]
					if code == 0 {
						code = 200
					}
					status(code)(w, r)
				}
				w, result := b.visit(t.Context(), "acme", "", "POST")
				var asked []string
				for _, r := range b.asked {
					asked = append(asked, keyName(r))
				}
				if w.Code != test.want || result.CredentialName != test.served || strings.Join(asked, " ") != test.asked || result.Scope != "" {
					t.Errorf("answered %d by %s after %v, %+v", w.Code, result.CredentialName, asked, result)
				}
				over := test.served != "Default"
				if (result.FailedOver.ID != "") != over || over && (result.FailedOver.Name != "Default" || result.FailedOver.Status != test.answers["Default"]) || (told == 1) != over {
					t.Errorf("told %d times, %+v", told, result.FailedOver)
				}
				for _, name := range []string{"second", "third"} {
					if test.opener.opened[name] > 0 != strings.Contains(test.asked, name) {
						t.Errorf("%s was opened %d times", name, test.opener.opened[name])
					}
				}
			})
		})
	}
}

// A standby that does not work is told of when it was needed, not only once none is left.
func TestABrokenStandbyIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		opener := &named{missing: "gone", broken: "broken", failover: map[string][]string{"Default": {"gone", "broken", "cut", "refused", "last"}}}
		b := newBubble(t, opener, func(o *gateway.Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
		b.answer = func(w http.ResponseWriter, r *http.Request) {
			switch keyName(r) {
			case "Default":
				status(429)(w, r)
			case "cut":
				panic(http.ErrAbortHandler)
			case "refused":
				status(401)(w, r)
			default:
				status(200)(w, r)
			}
		}
		if w, r := b.visit(t.Context(), "acme", "", "POST"); w.Code != 200 || r.CredentialName != "last" {
			t.Fatalf("answered %d, %+v", w.Code, r)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		want := [][2]string{
			{`credential="" name=gone `, "there is none of that name"}, {"credential=cred_acme_broken ", "key_unavailable: sealed under a key that is gone"},
			{"credential=cred_acme_cut ", "EOF"}, {"credential=cred_acme_refused ", "401"},
		}
		if len(lines) != len(want) || strings.Contains(log.String(), "0123456789") {
			t.Fatalf("logged %s", log.String())
		}
		for i, line := range lines {
			if !strings.Contains(line, "level=WARN") || !strings.Contains(line, want[i][0]) || !strings.Contains(line, want[i][1]) || !strings.Contains(line, "service=up") {
				t.Errorf("logged %s", line)
			}
		}
	})
}

// keyName gives the name of the credential that a request carries.
func keyName(r *http.Request) string {
	name := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer sk-of-acme-")
	return strings.TrimSuffix(name, "-0123456789")
}

// What a scope denies is denied before the key is opened, and is no failure of
// the service's.
func TestAScopeIsLookedAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opener := &named{scopes: map[string]*catalog.Scope{"Default": {Paths: []string{"GET /v1/x"}}}, opened: make(map[string]int)}
		b := newBubble(t, opener)
		b.answer = status(200)
		for range 20 {
			w, r := b.visit(t.Context(), "acme", "", "POST")
			if w.Code != 403 || w.Header().Get("Gatehouse-Error") != "scope_denied" || r.Scope != "path" || r.CredentialID == "" || r.Outcome != "denied" {
				t.Fatalf("answered %d %v, %+v", w.Code, w.Header(), r)
			}
		}
		if len(opener.opened) != 0 || len(b.asked) != 0 {
			t.Errorf("opened %v, asked %d times", opener.opened, len(b.asked))
		}
		if w, _ := b.visit(t.Context(), "acme", "", "GET"); w.Code != 200 || b.gateway.OpenBreakers() != 0 {
			t.Errorf("answered %d", w.Code)
		}
	})
}
