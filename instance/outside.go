package instance

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/internal/probe"
)

// outside is how an instance reaches third parties. Only origins that the
// operator named may be on a private network or plain http.
type outside struct {
	client *http.Client     // testers of credentials
	dialer *netguard.Dialer // the gateway
	mail   *netguard.Dialer // the tester of smtp
}

func newOutside(services *catalog.Catalog, app *url.URL) (*outside, error) {
	origins := services.OperatorOrigins()
	client, err := netguard.NewClient(netguard.Options{AllowedOrigins: origins})
	if err != nil {
		return nil, err
	}
	mail, err := netguard.NewDialer(netguard.Options{AllowedOrigins: origins, Ports: probe.MailPorts()})
	if err != nil {
		return nil, err
	}
	if app != nil {
		origins = append(origins, app.Scheme+"://"+app.Host)
	}
	dialer, err := netguard.NewDialer(netguard.Options{AllowedOrigins: origins, Timeout: 5 * time.Second})
	if err != nil {
		return nil, err
	}
	return &outside{client, dialer, mail}, nil
}

// probe asks a provider whether a credential works; it is the vault's prober.
func (o *outside) probe(ctx context.Context, service *catalog.Service, fields map[string]string) (catalog.Outcome, time.Duration, error) {
	in, err := service.Prepare(fields)
	if errors.Is(err, catalog.ErrNotInjectable) {
		return probe.SMTP(ctx, o.mail, nil, fields)
	}
	if err != nil {
		return catalog.Outcome{Result: catalog.Misconfigured, Detail: "The stored fields do not make a request."}, 0, err
	}
	return probe.HTTP(ctx, o.client, service, in)
}
