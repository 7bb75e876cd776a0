package netguard_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gatehouse-io/gatehouse/internal/netguard"
)

func TestCallsThePublicAddressItChecked(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(hello)) // its certificate is for example.com
	defer server.Close()
	d := &dialled{to: server.Listener.Addr().String()}
	r := resolving("example.com", []string{"::ffff:93.184.215.14"})
	c := newClient(t, netguard.WithDial(netguard.Options{Resolver: r, RootCAs: pool(server)}, d.dial))

	status, body, err := get(t, c, "https://example.com/x")
	if err != nil || status != 200 || body != "hello" {
		t.Fatal(status, body, err)
	}
	if !slices.Equal(d.addresses, []string{"93.184.215.14:443"}) || r.asked != 1 {
		t.Errorf("dialled %v after %d look-ups", d.addresses, r.asked)
	}
	r.answers["other.test"] = [][]string{{"93.184.215.14"}}
	if _, _, err := get(t, c, "https://other.test/"); err == nil {
		t.Error("a certificate for another host is accepted")
	}
}

func TestEveryAddressIsChecked(t *testing.T) {
	for _, answer := range [][]string{
		{"127.0.0.1"},
		{"93.184.215.14", "10.0.0.1"},
		{"2606:4700:4700::1111", "::1"},
		{"93.184.215.14", "::ffff:169.254.169.254"},
		{"1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "192.168.0.1"}, // past those that would be dialled
	} {
		d := &dialled{}
		c := newClient(t, netguard.WithDial(netguard.Options{Resolver: resolving("evil.test", answer)}, d.dial))
		_, _, err := get(t, c, "https://evil.test/")
		if !errors.Is(err, netguard.ErrForbiddenAddress) || len(d.addresses) > 0 {
			t.Errorf("%v: %v, dialled %v", answer, err, d.addresses)
		}
		for _, a := range answer {
			if strings.Contains(err.Error(), a) {
				t.Errorf("the error tells an address: %v", err)
			}
		}
	}
}

// The name is public when looked at and private when asked again.
func TestRebinding(t *testing.T) {
	d := &dialled{}
	r := resolving("evil.test", []string{"93.184.215.14"}, []string{"127.0.0.1"})
	c := newClient(t, netguard.WithDial(netguard.Options{Resolver: r}, d.dial))
	if _, _, err := get(t, c, "https://evil.test/"); errors.Is(err, netguard.ErrForbiddenAddress) {
		t.Error(err)
	}
	if _, _, err := get(t, c, "https://evil.test/"); !errors.Is(err, netguard.ErrForbiddenAddress) {
		t.Error(err)
	}
	if !slices.Equal(d.addresses, []string{"93.184.215.14:443"}) {
		t.Errorf("dialled %v", d.addresses)
	}
}

func TestRefusedOrigins(t *testing.T) {
	d := &dialled{}
	r := resolving("example.com", []string{"93.184.215.14"})
	r.answers["2130706433"] = [][]string{{"127.0.0.1"}}
	r.answers["localhost."] = [][]string{{"127.0.0.1"}}
	c := newClient(t, netguard.WithDial(netguard.Options{
		Resolver: r, AllowedOrigins: []string{"http://allowed.test:8080", "https://allowed.test"},
	}, d.dial))
	for url, want := range map[string]error{
		"http://example.com/":              netguard.ErrForbiddenOrigin,
		"http://example.com:443/":          netguard.ErrForbiddenOrigin,
		"https://example.com:8443/":        netguard.ErrForbiddenOrigin,
		"https://user:pass@example.com/":   netguard.ErrForbiddenOrigin,
		"http://allowed.test/":             netguard.ErrForbiddenOrigin,
		"https://allowed.test:8080/":       netguard.ErrForbiddenOrigin,
		"http://allowed.test.evil:8080/":   netguard.ErrForbiddenOrigin,
		"ftp://example.com/":               netguard.ErrForbiddenOrigin,
		"https://127.0.0.1/":               netguard.ErrForbiddenAddress,
		"https://[::1]/":                   netguard.ErrForbiddenAddress,
		"https://[::ffff:10.0.0.1]/":       netguard.ErrForbiddenAddress,
		"https://2130706433/":              netguard.ErrForbiddenAddress,
		"https://localhost./":              netguard.ErrForbiddenAddress,
		"https://169.254.169.254/latest":   netguard.ErrForbiddenAddress,
		"https://[fe80::1%25eth0]/":        netguard.ErrForbiddenAddress,
		"https://[64:ff9b::a9fe:a9fe]/":    netguard.ErrForbiddenAddress,
		"https://[2002:a9fe:a9fe::1]:443/": netguard.ErrForbiddenAddress,
	} {
		if _, _, err := get(t, c, url); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", url, err, want)
		}
	}
	if len(d.addresses) > 0 {
		t.Errorf("dialled %v", d.addresses)
	}
	var dns *net.DNSError
	if _, _, err := get(t, c, "https://nowhere.test/"); !errors.As(err, &dns) || !dns.IsNotFound {
		t.Errorf("unknown name: %v", err)
	}
}

func TestAllowedOriginsOverRealListeners(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(hello))
	defer plain.Close()
	encrypted := httptest.NewTLSServer(http.HandlerFunc(hello))
	defer encrypted.Close()
	other := httptest.NewServer(http.HandlerFunc(hello))
	defer other.Close()
	c := newClient(t, netguard.Options{AllowedOrigins: []string{plain.URL, encrypted.URL}, RootCAs: pool(encrypted)})
	for _, url := range []string{plain.URL, encrypted.URL} {
		if status, body, err := get(t, c, url+"/x"); err != nil || status != 200 || body != "hello" {
			t.Errorf("%s: %d %q %v", url, status, body, err)
		}
	}
	if _, _, err := get(t, c, other.URL); !errors.Is(err, netguard.ErrForbiddenOrigin) {
		t.Errorf("another port of the same host: %v", err)
	}
	strict := newClient(t, netguard.Options{AllowedOrigins: []string{encrypted.URL}})
	if _, _, err := get(t, strict, encrypted.URL); err == nil {
		t.Error("an unknown authority is accepted")
	}
}

func TestRedirectsAndProxiesAreNotFollowed(t *testing.T) {
	called := false
	bystander := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called = true }))
	defer bystander.Close()
	t.Setenv("HTTP_PROXY", bystander.URL)
	t.Setenv("HTTPS_PROXY", bystander.URL)
	server := httptest.NewServer(http.RedirectHandler(bystander.URL+"/", http.StatusFound))
	defer server.Close()
	c := newClient(t, netguard.Options{AllowedOrigins: []string{server.URL, bystander.URL}})
	status, _, err := get(t, c, server.URL)
	if err != nil || status != http.StatusFound || called {
		t.Errorf("status %d, error %v, the other host called: %v", status, err, called)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	big := strings.Repeat("x", netguard.DefaultMaxBody)
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write([]byte(big))
	_ = z.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/exact":
			_, _ = io.WriteString(w, big)
		case "/more":
			_, _ = io.WriteString(w, big+"x")
		case "/gzip":
			if r.Header.Get("Accept-Encoding") != "" {
				t.Error("compression was asked for")
			}
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(zipped.Bytes())
		case "/header":
			w.Header().Set("X-Big", big)
		case "/silent":
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	c := newClient(t, netguard.Options{AllowedOrigins: []string{server.URL}})
	if _, body, err := get(t, c, server.URL+"/exact"); err != nil || body != big {
		t.Errorf("%d bytes: %v", len(body), err)
	}
	var tooLarge *http.MaxBytesError
	if _, body, err := get(t, c, server.URL+"/more"); !errors.As(err, &tooLarge) || len(body) != len(big) {
		t.Errorf("%d bytes: %v", len(body), err)
	}
	if _, body, err := get(t, c, server.URL+"/gzip"); err != nil || body != zipped.String() {
		t.Errorf("the body was decompressed: %d bytes, %v", len(body), err)
	}
	if _, _, err := get(t, c, server.URL+"/header"); err == nil {
		t.Error("a header of any size is read")
	}
	hasty := newClient(t, netguard.Options{AllowedOrigins: []string{server.URL}, Timeout: 20 * time.Millisecond})
	var timeout net.Error
	if _, _, err := get(t, hasty, server.URL+"/silent"); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("a silent host: %v", err)
	}
}

func TestMalformedAllowedOrigins(t *testing.T) {
	for _, origin := range []string{"", "example.com", "http://", "http://h/path", "http://u:hunter2@h", "http://h?x", "smtp://h", "http://h:x"} {
		_, err := netguard.NewClient(netguard.Options{AllowedOrigins: []string{origin}})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", origin, err)
		}
		if _, err := netguard.NewDialer(netguard.Options{AllowedOrigins: []string{origin}}); err == nil {
			t.Errorf("%q: no error of the dialer", origin)
		}
	}
}

func TestDialerPortsAndExceptions(t *testing.T) {
	d := &dialled{}
	dialer, err := netguard.NewDialer(netguard.WithDial(netguard.Options{
		Ports:          []uint16{587, 465},
		AllowedOrigins: []string{"smtp://10.0.0.5:25"},
		Resolver:       resolving("mail.test", []string{"93.184.215.14"}),
	}, d.dial))
	if err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]error{
		"mail.test:22":    netguard.ErrForbiddenPort,
		"mail.test:443":   netguard.ErrForbiddenPort,
		"mail.test:smtp":  netguard.ErrForbiddenPort,
		"10.0.0.5:587":    netguard.ErrForbiddenAddress,
		"10.0.0.6:25":     netguard.ErrForbiddenPort,
		"127.0.0.1:587":   netguard.ErrForbiddenAddress,
		"127.0.0.1:99999": netguard.ErrForbiddenPort,
	} {
		if _, err := dialer.DialContext(t.Context(), "tcp", address); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", address, err, want)
		}
	}
	if len(d.addresses) > 0 {
		t.Errorf("dialled %v", d.addresses)
	}
	_, _ = dialer.DialContext(t.Context(), "tcp", "mail.test:587")
	_, _ = dialer.DialContext(t.Context(), "tcp", "10.0.0.5:25")
	if !slices.Equal(d.addresses, []string{"93.184.215.14:587", "10.0.0.5:25"}) {
		t.Errorf("dialled %v", d.addresses)
	}
	if _, err := dialer.DialContext(t.Context(), "tcp", "no port"); err == nil {
		t.Error("an address without a port is dialled")
	}
}

// An address that swallows packets must leave time for the next.
func TestSilentAddressLeavesTimeForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer func() { _ = theirs.Close() }()
		dial := func(ctx context.Context, _, address string) (net.Conn, error) {
			if address == "[2606:4700:4700::1111]:443" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return ours, nil
		}
		dialer, err := netguard.NewDialer(netguard.WithDial(netguard.Options{
			Resolver: resolving("dual.test", []string{"2606:4700:4700::1111", "1.1.1.1"}),
		}, dial))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		conn, err := dialer.DialContext(t.Context(), "tcp", "dual.test:443")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		if waited := time.Since(start); waited != netguard.DefaultTimeout/2 {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestAllAddressesSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			attempts++
			<-ctx.Done()
			return nil, ctx.Err()
		}
		dialer, err := netguard.NewDialer(netguard.WithDial(netguard.Options{
			Resolver: resolving("many.test", []string{"1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "9.9.9.10"}),
		}, dial))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err = dialer.DialContext(t.Context(), "tcp", "many.test:443")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != netguard.DefaultTimeout || attempts != 4 {
			t.Errorf("%v after %v and %d attempts", err, time.Since(start), attempts)
		}
	})
}

// Loopback lets through what says that it is on this machine, and nothing else.
func TestLoopback(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(hello))
	defer server.Close()
	if _, body, err := get(t, newClient(t, netguard.Options{Loopback: true}), server.URL); err != nil || body != "hello" {
		t.Error(body, err)
	}
	if _, _, err := get(t, newClient(t, netguard.Options{}), server.URL); !errors.Is(err, netguard.ErrForbiddenOrigin) {
		t.Error(err)
	}
	d := &dialled{}
	r := resolving("rebound.test", []string{"127.0.0.1"})
	c := newClient(t, netguard.WithDial(netguard.Options{Loopback: true, Resolver: r}, d.dial))
	for url, want := range map[string]error{
		"https://rebound.test/": netguard.ErrForbiddenAddress, "http://10.0.0.1/": netguard.ErrForbiddenOrigin,
		"https://169.254.169.254/": netguard.ErrForbiddenAddress, "http://localhost.evil.test/": netguard.ErrForbiddenOrigin,
		"http://u:p@127.0.0.1/": netguard.ErrForbiddenOrigin,
	} {
		if _, _, err := get(t, c, url); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", url, err, want)
		}
	}
	if len(d.addresses) > 0 {
		t.Errorf("dialled %v", d.addresses)
	}
}
