package catalog_test

import (
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
