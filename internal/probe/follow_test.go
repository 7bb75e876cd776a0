package probe_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/internal/probe"
)

const accountSID = "AC00112233445566778899aabbccddeeff"

// TestSecondQuestion: most of Twilio's API keys may not read their account and
// are told so as wrong ones are; the second question tells them apart.
func TestSecondQuestion(t *testing.T) {
	for _, test := range []struct {
		name   string
		queues http.HandlerFunc
		want   catalog.Result
	}{
		{"a real key", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"queues":[]}`) }, catalog.Valid},
		{"a wrong key", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(401) }, catalog.Invalid},
		{"a restricted key", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(403) }, catalog.Restricted},
		{"busy", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(429) }, catalog.Indeterminate},
		{"broken off", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, catalog.Indeterminate},
		{"a redirect", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		}, catalog.Indeterminate},
	} {
		t.Run(test.name, func(t *testing.T) {
			var mu sync.Mutex
			var asked []string
			mux := http.NewServeMux()
			mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				asked = append(asked, r.URL.RequestURI())
				mu.Unlock()
				w.WriteHeader(401)
			})
			mux.HandleFunc("/2010-04-01/Accounts/"+accountSID+"/Queues.json", func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				if len(asked) < 2 { // net/http repeats what was broken off once
					asked = append(asked, r.URL.RequestURI())
				}
				mu.Unlock()
				test.queues(w, r)
			})
			server := httptest.NewServer(mux)
			defer server.Close()
			c, err := catalog.New(catalog.Options{ServiceHosts: map[string]string{"twilio": server.URL}})
			if err != nil {
				t.Fatal(err)
			}
			client, err := netguard.NewClient(netguard.Options{AllowedOrigins: c.OperatorOrigins()})
			if err != nil {
				t.Fatal(err)
			}
			defer client.CloseIdleConnections()
			// Both questions have one deadline.
			var deadlines []time.Time
			guarded := client.Transport
			client.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
				d, _ := r.Context().Deadline()
				deadlines = append(deadlines, d)
				return guarded.RoundTrip(r)
			})
			s, _ := c.Service("twilio")
			in, err := s.Prepare(map[string]string{"accountSid": accountSID, "apiKeySid": "SK1", "apiKeySecret": "s3cr3t-0123456789"})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			outcome, _, _ := probe.HTTP(t.Context(), client, s, in)
			if outcome.Result != test.want || outcome.Detail == "" {
				t.Errorf("%+v, want %s", outcome, test.want)
			}
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff([]string{"/2010-04-01/Accounts/" + accountSID + ".json", "/2010-04-01/Accounts/" + accountSID + "/Queues.json?PageSize=1"}, asked); diff != "" {
				t.Error(diff)
			}
			for _, d := range deadlines {
				if d.IsZero() || d.After(start.Add(probe.Timeout+time.Second)) {
					t.Errorf("a question may last until %v after the start", d.Sub(start))
				}
			}
			if len(deadlines) != 2 {
				t.Errorf("%d questions", len(deadlines))
			}
		})
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
