package gateway_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gateway"
)

// spooling gives a gateway that keeps 100 KB in memory and takes up to 3 MB.
func spooling(dir string) func(*gateway.Options) {
	return func(o *gateway.Options) {
		o.SpoolDir, o.MemoryBody, o.MaxBody, o.MaxSpool, o.MaxBuffered = dir, 100_000, 3_000_000, 20_000_000, 1_000_000
	}
}

// given waits until no body is held any more.
func given(t *testing.T, f *front) {
	t.Helper()
	for range 2000 {
		if memory, spooled := f.Gateway.Buffered(); memory == 0 && spooled == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	memory, spooled := f.Gateway.Buffered()
	t.Errorf("%d bytes of memory and %d of the spool are still held", memory, spooled)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// digests is an upstream that answers with the length and digest of each body.
func digests(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		_, _ = fmt.Fprintf(w, "%d %x %d %v", n, sum.Sum(nil), r.ContentLength, err)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func TestUploadsAreSpooled(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	f := serve(t, digests(t), spooling(dir))
	for _, size := range []int{99_999, 100_000, 100_001, 1 << 20, 2_999_999, 3_000_000, 3_000_001} {
		body := make([]byte, size)
		_, _ = rand.Read(body)
		for _, chunked := range []bool{false, true} {
			r, _ := http.NewRequest("POST", f.URL+"/api/proxy/stripe/v1/files", bytes.NewReader(body))
			if chunked {
				r.ContentLength = -1
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatalf("%d bytes, chunked %v: %v", size, chunked, err)
			}
			text, _ := io.ReadAll(answer.Body)
			_ = answer.Body.Close()
			if size > 3_000_000 {
				if answer.StatusCode != 413 || answer.Header.Get("Gatehouse-Error") != "body_too_large" {
					t.Errorf("%d bytes, chunked %v: %d %s", size, chunked, answer.StatusCode, text)
				}
				continue
			}
			sum := sha256.Sum256(body)
			if want := fmt.Sprintf("%d %s %d <nil>", size, hex.EncodeToString(sum[:]), size); string(text) != want {
				t.Errorf("%d bytes, chunked %v: the upstream saw %s, want %s", size, chunked, text, want)
			}
			if r := f.result(t); r.BytesIn != int64(size) {
				t.Errorf("%+v", r)
			}
		}
	}
	given(t, f)
	if left := names(t, dir); len(left) != 0 {
		t.Errorf("in the spool: %q", left)
	}
}

// A file upload as SDKs make it, to a service whose bodies may be larger, and one
// whose may not.
func TestBoundsByService(t *testing.T) {
	f := serve(t, digests(t), spooling(t.TempDir()), func(o *gateway.Options) {
		o.Services = map[string]gateway.Bounds{"up": {MaxBody: 5_000_000}, "anthropic": {MaxBody: 1000}}
	})
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	part, _ := w.CreateFormFile("file", "audio.mp3")
	_, _ = io.Copy(part, io.LimitReader(rand.Reader, 4_000_000))
	_ = w.Close()
	for path, want := range map[string]int{"/api/chat/up/v1/audio/transcriptions": 200, "/api/proxy/stripe/v1/files": 413, "/api/chat/anthropic/v1/files": 413} {
		if answer, text := f.call(t, "POST", path, form.String(), "Content-Type", w.FormDataContentType()); answer.StatusCode != want {
			t.Errorf("%s: %d %s", path, answer.StatusCode, text)
		}
	}
	given(t, f)
}

// What is on disk has no name, is nobody else's to read, and is not in the clear.
func TestTheSpoolOnDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"body-123", "notes.txt"} { // of an instance that was killed, and of somebody else
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := serve(t, digests(t), spooling(dir))
	if got := names(t, dir); len(got) != 1 || got[0] != "notes.txt" {
		t.Errorf("after the start: %q", got)
	}
	const text = "a caller's own words, again and again; "
	giveUp := f.sendHalf(strings.Repeat(text, 50_000), 2_500_000)
	if got := names(t, dir); len(got) != 1 {
		t.Errorf("a body has a name: %q", got)
	}
	found := 0
	open, _ := filepath.Glob("/proc/self/fd/*") // elsewhere than on Linux there is none
	for _, link := range open {
		if target, err := os.Readlink(link); err == nil && strings.HasPrefix(target, dir) {
			found++
			info, err := os.Stat(link)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v %v", info, err)
			}
			if content, err := os.ReadFile(link); err != nil || len(content) == 0 || bytes.Contains(content, []byte("caller's own")) {
				t.Errorf("%d bytes in the clear, %v", len(content), err)
			}
		}
	}
	if len(open) > 0 && found != 1 {
		t.Errorf("%d open files of the spool", found)
	}
	if r := giveUp(); r.Reason != "body_incomplete" {
		t.Errorf("%+v", r)
	}
	given(t, f)
}

// Where memory is short a body goes to disk; where the disk's share is full too the
// answer says to come again, and another organization is served.
func TestTheSpoolIsBounded(t *testing.T) {
	f := serve(t, digests(t), spooling(t.TempDir()))
	hold := make(chan struct{})
	var all sync.WaitGroup
	for range 3 { // a quarter of 20 MB is room for one of 3 MB
		held := make(chan struct{})
		body := io.MultiReader(strings.NewReader(strings.Repeat("x", 2_500_000)), readerFunc(func([]byte) (int, error) {
			close(held)
			<-hold
			return 0, io.ErrUnexpectedEOF
		}))
		done := make(chan gateway.Result, 1)
		all.Go(func() {
			r := httptest.NewRequest("POST", "/", body)
			r.URL.Host, r.ContentLength = "", 3_000_000
			done <- f.Gateway.Serve(httptest.NewRecorder(), r, gateway.Visit{
				Route: gateway.Chat, Service: "up", Path: "v1", Caller: access.NewCaller("greedy", access.User, "u_9", access.Owner),
			})
		})
		select {
		case <-held:
		case r := <-done:
			if r.Status != 503 || r.Reason != "too_busy" {
				t.Errorf("%+v", r)
			}
		}
	}
	if _, spooled := f.Gateway.Buffered(); spooled < 2_500_000 || spooled > 5_000_000 {
		t.Errorf("%d bytes are spooled", spooled)
	}
	if answer, text := f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("y", 2_000_000)); answer.StatusCode != 200 {
		t.Errorf("another organization: %d %s", answer.StatusCode, text)
	}
	close(hold)
	all.Wait()
	given(t, f)
}

// A full disk is not the caller's fault, and takes nothing with it.
func TestASpoolThatCannotBeWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	var logs gatehousetest.Buffer
	f := serve(t, digests(t), spooling(dir), func(o *gateway.Options) { o.Logger = slog.New(slog.NewTextHandler(&logs, nil)) })
	remove := func() {
		t.Helper()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	large := func(status int, code string) {
		t.Helper()
		if answer, _ := f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("y", 2_000_000)); answer.StatusCode != status || answer.Header.Get("Gatehouse-Error") != code {
			t.Errorf("%d %v", answer.StatusCode, answer.Header)
		}
	}
	remove() // a folder that is gone is made again
	large(200, "")
	if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|0o700 {
		t.Errorf("%v %v", info, err)
	}
	remove()
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	large(503, "spool_unavailable")
	large(503, "spool_unavailable")
	if answer, _ := f.call(t, "POST", "/api/chat/up/v1", "small"); answer.StatusCode != 200 {
		t.Errorf("a small one: %d", answer.StatusCode)
	}
	remove()
	large(200, "")
	large(200, "")
	if text := logs.String(); strings.Count(text, "level=WARN msg=\"request bodies cannot be spooled\"") != 1 || !strings.Contains(text, "not a directory") ||
		strings.Count(text, "request bodies are spooled again") != 1 {
		t.Errorf("the log says:\n%s", text)
	}
	given(t, f)
	if _, err := gateway.New(gateway.Options{Catalog: nil, SpoolDir: "/dev/null/spool"}); err == nil {
		t.Error("a spool without a folder is accepted")
	}
}

// A large body is given back when it is sent, not when a stream of an answer ends;
// an upstream that answers early still gets all of it.
func TestABodyIsGivenBackWhenItIsSent(t *testing.T) {
	for name, test := range map[string]struct {
		early bool
		size  int
	}{
		"memory": {false, 90_000}, "spool": {false, 2_000_000}, "memory, answered early": {true, 90_000}, "spool, answered early": {true, 2_000_000},
	} {
		t.Run(name, func(t *testing.T) {
			got, end := make(chan int64, 1), make(chan struct{})
			f := serve(t, "http://"+listen(t, func(conn net.Conn) {
				r, err := http.ReadRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				if test.early {
					_, _ = io.WriteString(conn, eventStream)
					chunk(conn, "data: 1\n\n")
				}
				n, _ := io.Copy(io.Discard, r.Body)
				got <- n
				if !test.early {
					_, _ = io.WriteString(conn, eventStream)
					chunk(conn, "data: 1\n\n")
				}
				<-end
				chunk(conn, "")
			}), spooling(t.TempDir()))
			done := make(chan string)
			go func() {
				_, text := f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("q", test.size))
				done <- text
			}()
			if n := <-got; n != int64(test.size) {
				t.Errorf("the upstream saw %d bytes of %d", n, test.size)
			}
			given(t, f) // while the answer goes on
			close(end)
			if text := <-done; text != "data: 1\n\n" {
				t.Errorf("%q", text)
			}
		})
	}
}

// While an upstream thinks, a body that may not be repeated is gone already; one
// that may is still there, and is repeated whole.
func TestABodyIsKeptWhileItMayBeRepeated(t *testing.T) {
	var first sync.Once
	got, think := make(chan int64, 4), make(chan struct{})
	f := serve(t, "http://"+listen(t, func(conn net.Conn) {
		for in := bufio.NewReader(conn); ; {
			r, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, r.Body)
			got <- n
			if r.Header.Get("Idempotency-Key") == "" {
				<-think
			} else {
				refused := false
				first.Do(func() { refused = true })
				if refused {
					return // without a word
				}
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	}), spooling(t.TempDir()))
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("q", 2_000_000))
	}()
	<-got
	given(t, f)
	close(think)
	<-done
	answer, _ := f.call(t, "POST", "/api/chat/up/v1", strings.Repeat("q", 2_000_000), "Idempotency-Key", "k")
	if answer.StatusCode != 200 {
		t.Errorf("repeated: %d", answer.StatusCode)
	}
	for range 2 {
		if n := <-got; n != 2_000_000 {
			t.Errorf("the upstream saw %d bytes", n)
		}
	}
	given(t, f)
}
