package catalog_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/gatehouse-io/gatehouse/catalog"
)

func prepare(t testing.TB, name string, fields map[string]string) *catalog.Injection {
	t.Helper()
	in, err := service(t, name).Prepare(fields)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestApply(t *testing.T) {
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("agent@example.com/token:"+zendeskToken))
	for _, test := range []struct {
		service, origin string
		fields          map[string]string
		want            http.Header
	}{
		{"openai", "https://api.openai.com", map[string]string{"apiKey": openAIKey}, http.Header{"Authorization": {"Bearer " + openAIKey}}},
		{"openai", "https://api.openai.com", sound("openai"), http.Header{
			"Authorization": {"Bearer " + openAIKey}, "Openai-Organization": {"org-abc123"}, "Openai-Project": {"proj_abc123"},
		}},
		{"anthropic", "https://api.anthropic.com", sound("anthropic"), http.Header{"X-Api-Key": {anthropicKey}, "Anthropic-Version": {"2023-06-01"}}},
		{"stripe", "https://api.stripe.com", sound("stripe"), http.Header{"Authorization": {"Bearer " + stripeKey}}},
		{"zendesk", "https://acme.zendesk.com", sound("zendesk"), http.Header{"Authorization": {basic}}},
		{"intercom", "https://api.intercom.io", map[string]string{"accessToken": intercomKey}, http.Header{"Authorization": {"Bearer " + intercomKey}}},
		{"intercom", "https://api.intercom.io", map[string]string{"accessToken": intercomKey, "region": "us"}, http.Header{"Authorization": {"Bearer " + intercomKey}}},
		{"intercom", "https://api.eu.intercom.io", map[string]string{"accessToken": intercomKey, "region": "eu"}, http.Header{"Authorization": {"Bearer " + intercomKey}}},
		{"intercom", "https://api.au.intercom.io", map[string]string{"accessToken": intercomKey, "region": "au"}, http.Header{"Authorization": {"Bearer " + intercomKey}}},
		{"local", "http://127.0.0.1:8000", map[string]string{"apiKey": "k"}, http.Header{"Authorization": {"Bearer k"}}},
	} {
		in := prepare(t, test.service, test.fields)
		if got := in.Origin().String(); got != test.origin {
			t.Errorf("%s goes to %s, want %s", test.service, got, test.origin)
		}
		got := http.Header{}
		in.Apply(got)
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.service, diff)
		}
	}
}

func TestApplyReplacesAndDefaultsYield(t *testing.T) {
	h := http.Header{"Authorization": {"Bearer caller", "Bearer second"}, "X-Other": {"stays"}}
	prepare(t, "stripe", sound("stripe")).Apply(h)
	if diff := cmp.Diff(http.Header{"Authorization": {"Bearer " + stripeKey}, "X-Other": {"stays"}}, h); diff != "" {
		t.Error(diff)
	}
	h = http.Header{"Anthropic-Version": {"2099-01-01"}}
	prepare(t, "anthropic", sound("anthropic")).Apply(h)
	if h.Get("Anthropic-Version") != "2099-01-01" {
		t.Error("the caller's version is replaced")
	}
}

// One request must not be able to change what the next one carries.
func TestInjectionIsNotSharedWithRequests(t *testing.T) {
	in := prepare(t, "openai", sound("openai"))
	first := http.Header{}
	in.Apply(first)
	first["Authorization"][0] = "Bearer changed"
	first["Authorization"] = append(first["Authorization"], "more")
	u := in.Origin()
	u.Host, u.Path = "evil.example", "/x"

	second := http.Header{}
	in.Apply(second)
	if got := second["Authorization"]; len(got) != 1 || got[0] != "Bearer "+openAIKey {
		t.Errorf("Authorization is %q", got)
	}
	if second.Get("Openai-Organization") != "org-abc123" {
		t.Error("an append to one header reached its neighbour")
	}
	if in.Origin().Host != "api.openai.com" {
		t.Error("the pinned origin changed")
	}
}

func TestApplyIsCheap(t *testing.T) {
	in := prepare(t, "openai", sound("openai"))
	h := make(http.Header, 8)
	if n := testing.AllocsPerRun(100, func() { in.Apply(h) }); n > 1 {
		t.Errorf("Apply allocates %v times", n)
	}
}

func TestPrepareRefuses(t *testing.T) {
	for _, name := range []string{"smtp", "echo"} {
		s := service(t, name)
		if _, err := s.Prepare(sound(name)); !errors.Is(err, catalog.ErrNotInjectable) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Probe(context.Background(), nil); !errors.Is(err, catalog.ErrNotInjectable) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Read(nil, 200, nil, nil).Result != catalog.Indeterminate {
			t.Errorf("%s has a reader", name)
		}
	}
	for name, fields := range map[string]map[string]string{
		"zendesk":  {"subdomain": "evil.example/hunter2", "email": "agent@example.com", "apiToken": zendeskToken},
		"intercom": {"accessToken": intercomKey, "region": "hunter2"},
		"openai":   {"apiKey": "hunter2\r\nX-Evil: 1"},
		"stripe":   {},
	} {
		_, err := service(t, name).Prepare(fields)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInjectionCannotBePrinted(t *testing.T) {
	in := prepare(t, "zendesk", sound("zendesk"))
	held := struct {
		Public  *catalog.Injection
		private *catalog.Injection
		value   catalog.Injection
		list    []catalog.Injection
	}{in, in, *in, []catalog.Injection{*in}}
	var log bytes.Buffer
	logger := slog.New(slog.NewJSONHandler(&log, nil))
	logger.Info("x", "in", in, "value", *in, "held", held)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "in", in, "value", *in, "held", held)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&log, verb, in)
		fmt.Fprintf(&log, verb, *in)
		fmt.Fprintf(&log, verb, held)
		fmt.Fprintf(&log, verb, &held)
	}
	fmt.Fprint(&log, in.String(), in.GoString())
	encoded := base64.StdEncoding.EncodeToString([]byte("agent@example.com/token:" + zendeskToken))
	for _, secret := range []string{zendeskToken, encoded, "agent@example.com", fmt.Sprintf("%x", zendeskToken)} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q was printed", secret)
		}
	}
	if !strings.Contains(fmt.Sprint(in), "[secret]") {
		t.Error("nothing says that a secret stood here")
	}
	for _, v := range []any{in, *in, held} {
		if b, err := json.Marshal(v); err == nil {
			t.Errorf("marshalled as %s", b)
		}
	}
	if _, err := in.MarshalText(); err == nil {
		t.Error("marshalled as text")
	}
}

func TestExposeSecretValues(t *testing.T) {
	encoded := base64.StdEncoding.EncodeToString([]byte("agent@example.com/token:" + zendeskToken))
	for name, want := range map[string][]string{
		"openai":  {openAIKey},
		"zendesk": {encoded, zendeskToken},
		"stripe":  {stripeKey, "whsec_aaaabbbbcccc"},
	} {
		got := slices.Sorted(slices.Values(prepare(t, name, sound(name)).ExposeSecretValues()))
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if got := prepare(t, "local", map[string]string{"apiKey": "1"}).ExposeSecretValues(); len(got) != 0 {
		t.Errorf("a value that is in every text would be scrubbed: %q", got)
	}
}

func TestProbeRequest(t *testing.T) {
	for name, want := range map[string]string{
		"openai":    "https://api.openai.com/v1/models",
		"anthropic": "https://api.anthropic.com/v1/models?limit=1",
		"stripe":    "https://api.stripe.com/v1/charges?limit=1",
		"zendesk":   "https://acme.zendesk.com/api/v2/users.json?per_page=1",
		"intercom":  "https://api.eu.intercom.io/me",
		"local":     "http://127.0.0.1:8000/v1/models",
	} {
		fields := sound(name)
		in := prepare(t, name, fields)
		r, err := service(t, name).Probe(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if r.Method != http.MethodGet || r.URL.String() != want || r.ContentLength != 0 {
			t.Errorf("%s: %s %s", name, r.Method, r.URL)
		}
		want := http.Header{}
		in.Apply(want)
		for k := range want {
			if r.Header.Get(k) != want.Get(k) {
				t.Errorf("%s: no %s", name, k)
			}
		}
		for _, secret := range in.ExposeSecretValues() {
			if strings.Contains(r.URL.String(), secret) {
				t.Errorf("%s: a secret is in the URL", name)
			}
		}
	}
}

// An origin may be written with or without the /v1 that SDKs put into theirs.
func TestProbeOfChatHostWithVersion(t *testing.T) {
	c := newCatalog(t, catalog.Options{ChatHosts: map[string]string{"a": "http://h/v1/", "b": "http://h/openai"}})
	for name, want := range map[string]string{"a": "http://h/v1/models", "b": "http://h/openai/v1/models"} {
		s, _ := c.Service(name)
		in, err := s.Prepare(map[string]string{"apiKey": "k"})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Probe(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		if r.URL.String() != want {
			t.Errorf("%s: %s, want %s", name, r.URL, want)
		}
	}
}

func TestCallerCredentialHeaders(t *testing.T) {
	for _, name := range []string{"Content-Type", "Accept", "Openai-Organization", ""} {
		if catalog.CarriesCallerCredential(name) {
			t.Errorf("%q is removed", name)
		}
	}
	for _, name := range []string{
		"Authorization", "Proxy-Authorization", "X-Api-Key", "Api-Key", "X-Goog-Api-Key",
		"X-Auth-Token", "X-Auth-Key", "X-Access-Token", "X-Amz-Security-Token", "Cookie", "Cookie2",
	} {
		if !catalog.CarriesCallerCredential(name) {
			t.Errorf("%q is not removed", name)
		}
	}
	// Whatever carries a credential to a provider must not come from a caller.
	for _, name := range []string{"openai", "anthropic", "stripe", "zendesk", "intercom", "local"} {
		h := http.Header{}
		in := prepare(t, name, sound(name))
		in.Apply(h)
		for key, values := range h {
			for _, secret := range in.ExposeSecretValues() {
				if strings.Contains(values[0], secret) && !catalog.CarriesCallerCredential(key) {
					t.Errorf("%s of %s is not removed", key, name)
				}
			}
		}
	}
}

func BenchmarkApply(b *testing.B) {
	in := prepare(b, "openai", sound("openai"))
	h := make(http.Header, 8)
	b.ReportAllocs()
	for b.Loop() {
		in.Apply(h)
	}
}
