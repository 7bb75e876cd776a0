// Package probe asks a provider whether a credential works. It does the I/O for
// what package catalog describes: it sends a service's harmless request, or
// speaks SMTP as far as AUTH, and hands the answer to catalog to be read.
//
// A probe never fails: what keeps an answer from coming is an
// [catalog.Indeterminate] or [catalog.Misconfigured] outcome, with the cause as
// an error beside it for the log. Neither holds anything that the other side
// said, since it was sent a secret and could say it back. Where a probe may go
// is decided by the client or dialer it is given; see package netguard.
package probe

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/netguard"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

// Timeout bounds one test: all its questions and answers.
const Timeout = 10 * time.Second

// HTTP sends the probe of service with the credential in, and the second
// question where the service has one for the answer; each once, without
// retries, within [Timeout] in all. client is to be made by
// [netguard.NewClient], which bounds where it goes. It gives the outcome, the
// time until the last answer was read, and, when there was none, a cause for
// the log.
func HTTP(ctx context.Context, client *http.Client, service *catalog.Service, in *catalog.Injection) (catalog.Outcome, time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	request, err := service.Probe(ctx, in)
	if err != nil {
		return catalog.Outcome{Result: catalog.Indeterminate, Detail: "The service has no HTTP probe."}, 0, err
	}
	status, header, body, err := send(client, request)
	if err != nil {
		outcome, cause := unanswered(service, in, err)
		return outcome, time.Since(start), cause
	}
	outcome := service.Read(in, status, header, body)
	outcome.Busy, outcome.RetryAfter = busy(status, header)
	request, err = service.Follow(ctx, in, status)
	if request == nil || err != nil {
		return outcome, time.Since(start), err
	}
	if status, header, body, err = send(client, request); err != nil {
		outcome, cause := unanswered(service, in, err)
		return outcome, time.Since(start), cause
	}
	outcome = service.ReadFollow(in, outcome, status, header, body)
	outcome.Busy, outcome.RetryAfter = busy(status, header)
	return outcome, time.Since(start), nil
}

// busy reads 429, and 5xx with Retry-After (RFC 9110, 10.2.3) in seconds. A
// date is as good as none: the provider's clock is not ours.
func busy(status int, h http.Header) (bool, time.Duration) {
	after := wiretime.RetryAfterSeconds(h.Get("Retry-After"))
	return status == http.StatusTooManyRequests || status >= 500 && after > 0, after
}

// send gives an answer with at most catalog.MaxProbeBody bytes of its body.
func send(client *http.Client, request *http.Request) (status int, header http.Header, body []byte, err error) {
	response, err := client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = response.Body.Close() }() // the answer is read or given up
	body, err = io.ReadAll(io.LimitReader(response.Body, catalog.MaxProbeBody))
	var tooLarge *http.MaxBytesError
	if err != nil && !errors.As(err, &tooLarge) {
		return 0, nil, nil, err // a status without its whole body could be a proxy's that gave up
	}
	return response.StatusCode, response.Header, body, nil
}

// Causes for the log. They stand for the errors of the network, whose texts can
// quote what the other side sent.
var (
	errUnresolved  = errors.New("probe: the host name does not resolve")
	errNotAllowed  = errors.New("probe: the host may not be called")
	errTimeout     = errors.New("probe: no answer in time")
	errCanceled    = errors.New("probe: canceled")
	errCertificate = errors.New("probe: the certificate is not valid for the host")
	errRefused     = errors.New("probe: no connection")
	errProtocol    = errors.New("probe: the answer breaks the protocol")
)

// unanswered says what an error of the network means for a credential of
// service. Where no field that it has decides where it is sent, none can be wrong:
// a resolver that knows no names, or a proxy in between, says nothing of the key.
func unanswered(service *catalog.Service, in *catalog.Injection, err error) (catalog.Outcome, error) {
	outcome, cause := noAnswer(err)
	if outcome.Result == catalog.Misconfigured && !service.NamesHost(in) {
		outcome = indeterminate("The provider could not be reached safely from here; test again later.")
	}
	return outcome, cause
}

// noAnswer says what an error of the network means for a credential.
func noAnswer(err error) (catalog.Outcome, error) {
	var (
		dns       *net.DNSError
		verify    *tls.CertificateVerificationError
		hostname  x509.HostnameError
		authority x509.UnknownAuthorityError
		operation *net.OpError
		timeout   net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return indeterminate("The test was canceled."), errCanceled
	case errors.Is(err, netguard.ErrForbiddenAddress), errors.Is(err, netguard.ErrForbiddenOrigin), errors.Is(err, netguard.ErrForbiddenPort):
		return notPublic(), errNotAllowed
	case errors.As(err, &dns) && dns.IsNotFound:
		// The same words as for a private address: which internal names exist
		// is not for the caller to learn.
		return notPublic(), errUnresolved
	case errors.As(err, &verify), errors.As(err, &hostname), errors.As(err, &authority):
		return catalog.Outcome{Result: catalog.Misconfigured, Detail: "The certificate of the host is not valid for it; nothing was sent."}, errCertificate
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return indeterminate("The host did not answer in time; test again later."), errTimeout
	case errors.As(err, &dns), errors.As(err, &operation):
		return indeterminate("The host could not be reached; test again later."), errRefused
	}
	return indeterminate("The host broke off or did not answer as its protocol asks."), errProtocol
}

func notPublic() catalog.Outcome {
	return catalog.Outcome{Result: catalog.Misconfigured, Detail: "The host name does not lead to a host on the public internet."}
}

func indeterminate(detail string) catalog.Outcome {
	return catalog.Outcome{Result: catalog.Indeterminate, Detail: detail}
}
