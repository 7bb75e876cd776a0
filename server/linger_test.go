package server_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// So does one that asked first whether to send it, as curl does, and was told to.
func TestRefusalsOfInvitedBodiesAreSeen(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"REQUEST_BODY_MIB": "1", "CHAT_HOSTS": "up=http://127.0.0.1:1"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("up", map[string]string{"apiKey": "sk-0123456789abcdefghij"})
	body := bytes.Repeat([]byte("a"), 10<<20)
	for _, test := range []struct {
		path, token string
		status      int
		invited     bool
	}{
		{credentialsPath, c.token, 413, true}, {"/api/chat/up/v1/x", c.token, 413, true},
		{credentialsPath, "none", 401, false}, {"/api/nothing", c.token, 404, false}, // before any of it is read
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		in := bufio.NewReader(conn)
		if _, err := fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n", test.path, test.token); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(in, nil)
		if err != nil || (answer.StatusCode == http.StatusContinue) != test.invited {
			t.Errorf("%s: %v, %v", test.path, answer, err)
			continue
		}
		if test.invited {
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n0\r\n\r\n", len(body), body); err != nil {
				t.Errorf("%s: the body cannot be sent: %v", test.path, err)
				continue
			}
			if answer, err = http.ReadResponse(in, nil); err != nil {
				t.Errorf("%s: %v", test.path, err)
				continue
			}
		}
		text, err := io.ReadAll(answer.Body)
		if answer.StatusCode != test.status || err != nil || !strings.Contains(string(text), `"code"`) {
			t.Errorf("%s: %d %s %v, want %d", test.path, answer.StatusCode, text, err, test.status)
		}
	}
}

// A client that reads nothing before it has sent all of a body that is too large, as Python's
// http.client does, gets to read why it is refused.
func TestRefusalsOfLargeBodiesAreSeen(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"REQUEST_BODY_MIB": "1", "CHAT_HOSTS": "up=http://127.0.0.1:1"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("up", map[string]string{"apiKey": "sk-0123456789abcdefghij"})
	body := bytes.Repeat([]byte("a"), 10<<20)
	for _, test := range []struct {
		path, token string
		status      int
	}{
		{credentialsPath, c.token, 413}, {"/api/chat/up/v1/x", c.token, 413}, {credentialsPath, "none", 401}, {"/api/nothing", c.token, 404},
	} {
		for name, chunked := range map[string]bool{"a length": false, "chunks": true} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
			head := "POST " + test.path + " HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nAuthorization: Bearer " + test.token + "\r\n"
			if chunked {
				_, err = fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", head, len(body), body)
			} else {
				_, err = fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
			}
			if err != nil {
				t.Errorf("%s by %s: the body cannot be sent: %v", test.path, name, err)
				continue
			}
			answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Errorf("%s by %s: %v", test.path, name, err)
				continue
			}
			text, err := io.ReadAll(answer.Body)
			if answer.StatusCode != test.status || err != nil || !strings.Contains(string(text), `"code"`) {
				t.Errorf("%s by %s: %d %s %v, want %d", test.path, name, answer.StatusCode, text, err, test.status)
			}
		}
	}
}

// A client that stops sending when it sees the refusal knows where that ends.
func TestRefusalsOfLargeBodiesAreWhole(t *testing.T) {
	s := instancetest.Serve(t, map[string]string{"REQUEST_BODY_MIB": "1", "CHAT_HOSTS": "up=http://127.0.0.1:1"})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("up", map[string]string{"apiKey": "sk-0123456789abcdefghij"})
	for path, token := range map[string]string{"/api/chat/up/v1/x": c.token, "/api/tokens": "none", "/api/nothing": c.token} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: 9000000\r\n\r\n{", path, token)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		text, err := io.ReadAll(answer.Body)
		if answer.StatusCode < 401 || answer.ContentLength != int64(len(text)) || len(answer.TransferEncoding) > 0 || err != nil {
			t.Errorf("%s: %d, a length of %d for %d bytes, %v, %v", path, answer.StatusCode, answer.ContentLength, len(text), answer.TransferEncoding, err)
		}
	}
}
