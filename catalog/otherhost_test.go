package catalog_test

import (
	"net/url"
	"slices"
	"testing"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// What a provider's SDK sends to another host of the provider goes there, by method and path
// alone; everything else, and everything once the operator moved the service, goes to the one
// origin.
func TestOtherHosts(t *testing.T) {
	in := prepare(t, "stripe", sound("stripe"))
	for request, want := range map[[2]string]string{
		{"GET", "/v1/customers"}:             "https://api.stripe.com",
		{"GET", "/v1/files"}:                 "https://api.stripe.com",
		{"GET", "/v1/files/file_1"}:          "https://api.stripe.com",
		{"POST", "/v1/files"}:                "https://files.stripe.com",
		{"POST", "/v1/fil%65s"}:              "https://files.stripe.com",
		{"POST", "/v1/files%2f"}:             "https://api.stripe.com",
		{"POST", "/v1/files/x"}:              "https://api.stripe.com",
		{"GET", "/v1/files/file_1/contents"}: "https://files.stripe.com",
		{"GET", "/v1/quotes/qt_1/pdf"}:       "https://files.stripe.com",
		{"GET", "/v1/quotes/a/b/pdf"}:        "https://api.stripe.com",
		{"POST", "/oauth/token"}:             "https://connect.stripe.com",
		{"GET", "/oauth/token"}:              "https://api.stripe.com",
		{"GET", "/%"}:                        "https://api.stripe.com",
	} {
		if got := in.OriginFor(request[0], request[1]).String(); got != want {
			t.Errorf("%s %s goes to %s, want %s", request[0], request[1], got, want)
		}
	}
	if home := in.Home(); home != nil {
		t.Errorf("a service that was not moved is at home at %s", home)
	}
	moved := newCatalog(t, catalog.Options{ServiceHosts: map[string]string{"stripe": "http://127.0.0.1:12111/base"}})
	s, _ := moved.Service("stripe")
	there, err := s.Prepare(sound("stripe"))
	if err != nil {
		t.Fatal(err)
	}
	if got := there.OriginFor("POST", "/v1/files").String(); got != "http://127.0.0.1:12111/base" {
		t.Errorf("an upload of a moved service goes to %s", got)
	}
	if home := there.Home(); home == nil || home.String() != "https://api.stripe.com" {
		t.Errorf("the moved service is at home at %s", home)
	}
	if hosts := service(t, "stripe").Hosts(); !slices.Equal(hosts, []string{"api.stripe.com", "files.stripe.com", "connect.stripe.com"}) {
		t.Errorf("hosts %v", hosts)
	}
	if hosts := s.Hosts(); hosts != nil {
		t.Errorf("hosts of a moved service: %v", hosts)
	}
}

// A link to another host of the provider's leads back where a request for its path would go
// there, and also where the operator moved the service: then the one origin takes it. A host that a
// credential names has no others: what they take would go to github.com with an enterprise's token.
func TestLinksToOtherHosts(t *testing.T) {
	moved := newCatalog(t, catalog.Options{ServiceHosts: map[string]string{"slack": "http://127.0.0.1:12111"}})
	s, _ := moved.Service("slack")
	there, err := s.Prepare(sound("slack"))
	if err != nil {
		t.Fatal(err)
	}
	enterprise := newCatalog(t, catalog.Options{GitHubHosts: []string{"https://github.example.com"}})
	g, _ := enterprise.Service("github")
	fields := sound("github")
	fields["baseUrl"] = "https://github.example.com"
	own, err := g.Prepare(fields)
	if err != nil {
		t.Fatal(err)
	}
	const asset = "/repos/o/r/releases/1/assets"
	for _, test := range []struct {
		name string
		in   *catalog.Injection
		link string
		want bool
	}{
		{"Slack's upload", prepare(t, "slack", sound("slack")), "https://files.slack.com/upload/v1/ABC123", true},
		{"in capitals", prepare(t, "slack", sound("slack")), "HTTPS://Files.Slack.COM/upload/v1/ABC123?a=b", true},
		{"of a moved service", there, "https://files.slack.com/upload/v1/ABC123", true},
		{"another scheme", there, "http://files.slack.com/upload/v1/ABC123", false},
		{"another port", there, "https://files.slack.com:8443/upload/v1/ABC123", false},
		{"another path", there, "https://files.slack.com/files-pri/T1-F1/a.txt", false},
		{"another host", there, "https://files.slack.com.evil.example/upload/v1/ABC123", false},
		{"GitHub's upload", prepare(t, "github", sound("github")), "https://uploads.github.com" + asset, true},
		{"of an enterprise", own, "https://uploads.github.com" + asset, false},
		{"Stripe's contents", prepare(t, "stripe", sound("stripe")), "https://files.stripe.com/v1/files/file_1/contents", true},
		{"a provider's of one host", prepare(t, "openai", sound("openai")), "https://files.openai.com/x", false},
	} {
		u, err := url.Parse(test.link)
		if err != nil {
			t.Fatal(err)
		}
		if got := test.in.LeadsBack(u); got != test.want {
			t.Errorf("%s, %s, leads back: %t", test.name, test.link, got)
		}
	}
	if got := own.OriginFor("POST", asset).String(); got != own.Origin().String() {
		t.Errorf("an enterprise's upload goes to %s", got)
	}
	if got := prepare(t, "github", sound("github")).OriginFor("POST", asset).String(); got != "https://uploads.github.com" {
		t.Errorf("an upload goes to %s", got)
	}
	if got := there.OriginFor("POST", "/upload/v1/ABC123").String(); got != "http://127.0.0.1:12111" {
		t.Errorf("an upload of a moved service goes to %s", got)
	}
}
