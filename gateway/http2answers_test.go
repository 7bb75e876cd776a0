package gateway_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// What HTTP/2 can say and HTTP/1 cannot is answered, and recorded, as any other nonsense is.
func TestAnswersThatOnlyHTTP2CanGive(t *testing.T) {
	for name, test := range map[string]struct {
		header []string
		status int
		text   string
		reason string
	}{
		"a status of four digits":   {[]string{":status", "1000"}, 502, "", "upstream_invalid"},
		"a status of two digits":    {[]string{":status", "99"}, 502, "", "upstream_invalid"},
		"two lengths":               {[]string{":status", "200", "content-length", "2", "content-length", "5"}, 200, "hello", ""},
		"a length with a sign":      {[]string{":status", "200", "content-length", "+2"}, 200, "hello", ""},
		"a length that is no digit": {[]string{":status", "200", "content-length", "five"}, 200, "hello", ""},
		"more than its length":      {[]string{":status", "200", "content-length", "2"}, 502, "", "upstream_interrupted"},
		"less than its length":      {[]string{":status", "200", "content-length", "20"}, 502, "", "upstream_interrupted"},
		"two lengths of an error":   {[]string{":status", "400", "content-length", "2", "content-length", "5"}, 400, "hello", "upstream_status"},
	} {
		upstream, secured := answering(t, func(frames *http2.Framer, stream uint32) {
			headers(frames, stream, false, test.header...)
			_ = frames.WriteData(stream, true, []byte("hello"))
		})
		f := serve(t, upstream, func(o *gateway.Options) { o.TLS = secured })
		answer, text := f.call(t, "POST", "/api/chat/up/v1", "{}")
		if answer.StatusCode != test.status || answer.Header.Get("Content-Length") != "" && test.status != 502 || test.text != "" && text != test.text {
			t.Errorf("%s: %d %v %s", name, answer.StatusCode, answer.Header, text)
		}
		if r := f.result(t); r.Status != test.status || r.Reason != test.reason || r.Outcome == audit.Partial {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// A 304 has no body that anybody could look into, whatever it says of the one that it spares.
func TestNotModifiedStaysAsItIs(t *testing.T) {
	upstream, secured := answering(t, func(frames *http2.Framer, stream uint32) {
		headers(frames, stream, true, ":status", "304", "etag", `"a"`, "content-encoding", "gzip", "content-length", "500")
	})
	f := serve(t, upstream, func(o *gateway.Options) { o.TLS = secured })
	answer, _ := f.call(t, "GET", "/api/chat/up/v1", "", "If-None-Match", `"a"`)
	if h := answer.Header; answer.StatusCode != 304 || h.Get("Etag") != `"a"` || h.Get("Content-Type") != "" {
		t.Errorf("%d %v", answer.StatusCode, h)
	}
}

// A body that was sent whole and is not kept cannot be sent again when it is refused over HTTP/2: that
// is a service that ended the exchange, and no answer that cannot be read.
func TestABodyThatIsRefusedOnceItIsSent(t *testing.T) {
	upstream, secured := answering(t, func(frames *http2.Framer, stream uint32) {
		_ = frames.WriteRSTStream(stream, http2.ErrCodeRefusedStream)
	})
	f := serve(t, upstream, func(o *gateway.Options) { o.TLS = secured })
	answer, text := f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("x", 200<<10))
	if answer.StatusCode != 502 || answer.Header.Get("Gatehouse-Error") != "upstream_interrupted" {
		t.Errorf("%d %s", answer.StatusCode, text)
	}
	given(t, f)
}

// answering is an upstream that speaks HTTP/2 and answers each request, once it has come whole.
func answering(t *testing.T, answer func(frames *http2.Framer, stream uint32)) (origin string, client *tls.Config) {
	t.Helper()
	const window = 1 << 20 // more than any test sends, so that none waits to be let on
	return framed(t, func(frames *http2.Framer, frame http2.Frame) {
		switch kind := frame.Header().Type; {
		case kind == http2.FrameSettings && !frame.Header().Flags.Has(http2.FlagSettingsAck): // the client's first
			_ = frames.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			_ = frames.WriteWindowUpdate(0, window)
		case (kind == http2.FrameHeaders || kind == http2.FrameData) && frame.Header().Flags.Has(http2.FlagDataEndStream):
			answer(frames, frame.Header().StreamID)
		}
	})
}

// framed is an upstream that speaks HTTP/2 and does with each frame what each says.
func framed(t *testing.T, each func(frames *http2.Framer, frame http2.Frame)) (origin string, client *tls.Config) {
	t.Helper()
	certified := httptest.NewUnstartedServer(nil)
	certified.StartTLS()
	t.Cleanup(certified.Close)
	secured := &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2"}}
	address := listenTLS(t, secured, func(conn *tls.Conn) {
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		frames := http2.NewFramer(conn, conn)
		_ = frames.WriteSettings()
		for {
			frame, err := frames.ReadFrame()
			if err != nil {
				return
			}
			each(frames, frame)
		}
	})
	roots := certified.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	return "https://" + address, &tls.Config{RootCAs: roots}
}

// headers writes a header, of names and values, or trailers.
func headers(frames *http2.Framer, stream uint32, end bool, fields ...string) {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i := 0; i < len(fields); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	_ = frames.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: end})
}
