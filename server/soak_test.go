package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// soakStreams is how many streams TestNoStreamIsTruncated makes by itself.
const soakStreams = 1000

// A soaked is one exchange of the soak, all of it made of a seed, so that caller
// and upstream know what the other one sends.
type soaked struct {
	seed     uint64
	question []byte
	answer   []byte
	events   bool   // the answer is an event stream
	length   bool   // or one of a stated length; otherwise chunks
	cuts     []int  // where the upstream's writes end
	pause    []bool // after which of them it waits a moment
	dies     int    // after so many bytes of the answer the upstream is gone; -1: never
	leaves   int    // after so many the caller is; -1: never
	slow     bool   // the caller reads little at a time
}

func newSoaked(seed uint64) soaked {
	r := rand.New(rand.NewPCG(seed, 7))
	s := soaked{seed: seed, dies: -1, leaves: -1, events: r.IntN(3) > 0, length: r.IntN(4) == 0, slow: r.IntN(20) == 0}
	upTo := func(bits int) int { return r.IntN(1 << (1 + r.IntN(bits))) } // of each magnitude alike
	asked := upTo(17)
	if r.IntN(500) == 0 {
		asked = 10<<20 + upTo(20) // over the spool
	}
	s.question = append([]byte(`{"model":"m","stream":true,"messages":[{"role":"user","content":"`), random(r, asked)...)
	s.question = append(s.question, `"}]}`...)
	size := upTo(18)
	for len(s.answer) < size {
		if s.events {
			s.answer = append(s.answer, "data: "...)
		}
		s.answer = append(s.answer, random(r, 1+upTo(10))...)
		s.answer = append(s.answer, "\n\n"...)
	}
	for at := 0; at < len(s.answer); {
		at = min(at+1+upTo(14), len(s.answer))
		s.cuts = append(s.cuts, at)
		s.pause = append(s.pause, r.IntN(50) == 0)
	}
	if len(s.answer) > 0 {
		switch r.IntN(16) {
		case 0:
			s.dies = r.IntN(len(s.answer))
		case 1, 2:
			s.leaves = r.IntN(len(s.answer))
		}
	}
	return s
}

// random gives n bytes that need no escaping in JSON.
func random(r *rand.Rand, n int) []byte {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"
	b := make([]byte, n)
	for i := 0; i < n; {
		for v, k := r.Uint64(), 0; k < 10 && i < n; v, k, i = v>>6, k+1, i+1 {
			b[i] = letters[v&63]
		}
	}
	return b
}

// soakUpstream answers each request as its seed says.
func soakUpstream(t *testing.T) string {
	upstream := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seed, err := strconv.ParseUint(r.URL.Query().Get("seed"), 10, 64)
		s := newSoaked(seed)
		question, readErr := io.ReadAll(r.Body)
		if err != nil || readErr != nil || !bytes.Equal(question, s.question) {
			t.Errorf("stream %d: the upstream saw %d bytes of %d: %v", s.seed, len(question), len(s.question), readErr)
		}
		w.Header().Set("Content-Type", "application/json")
		if s.events {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		if s.length {
			w.Header().Set("Content-Length", strconv.Itoa(len(s.answer)))
		}
		from := 0
		for i, until := range s.cuts {
			if s.dies >= 0 && until > s.dies {
				_, _ = w.Write(s.answer[from:s.dies])
				_ = http.NewResponseController(w).Flush()
				panic(http.ErrAbortHandler)
			}
			if _, err := w.Write(s.answer[from:until]); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			if from = until; s.pause[i] {
				time.Sleep(time.Millisecond)
			}
		}
	}))
	upstream.Config.ErrorLog = quietLog()
	upstream.Start()
	t.Cleanup(upstream.Close)
	return upstream.URL
}

// soakCount is what came of the streams.
type soakCount struct {
	whole, died, left, truncated, failed atomic.Int64
}

// Streams of every size and pace through a whole server, some of whose upstreams
// die and some of whose callers leave: each that ends like a whole one is whole, to
// the byte. With GATEHOUSE_SOAK_STREAMS there are as many as it says; with
// GATEHOUSE_SOAK_SEED they are those of an earlier run.
func TestNoStreamIsTruncated(t *testing.T) {
	streams := soakStreams
	if n, err := strconv.Atoi(os.Getenv("GATEHOUSE_SOAK_STREAMS")); err == nil {
		streams = n
	} else if testing.Short() {
		streams = 200
	}
	first := rand.Uint64N(1 << 40)
	if n, err := strconv.ParseUint(os.Getenv("GATEHOUSE_SOAK_SEED"), 10, 64); err == nil {
		first = n
	}
	s := instancetest.Serve(t, map[string]string{
		"CHAT_HOSTS": "up=" + soakUpstream(t), "CHAT_IP_LIMIT": "1000000/1s", "CHAT_ORG_LIMIT": "1000000/1s", "GATEHOUSE_LOG_LEVEL": "error",
	})
	c := as(t, s, "acme", "u1", access.Owner)
	c.store("up", map[string]string{"apiKey": "sk-0123456789abcdefghijklmnop"})
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}}
	defer client.CloseIdleConnections()

	var count soakCount
	var next atomic.Int64
	var callers sync.WaitGroup
	begin := time.Now()
	for range 48 {
		callers.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(streams) {
					return
				}
				soak(t, c, client, newSoaked(first+uint64(i)), &count)
			}
		})
	}
	callers.Wait()
	t.Logf("%d streams from seed %d in %s: %d whole, %d whose upstream died, %d whose caller left, %d truncated, %d failed",
		streams, first, time.Since(begin).Round(time.Millisecond), count.whole.Load(), count.died.Load(), count.left.Load(), count.truncated.Load(), count.failed.Load())
	if total := count.whole.Load() + count.died.Load() + count.left.Load(); total != int64(streams) || count.truncated.Load() != 0 {
		t.Errorf("%d of %d streams ended as they should", total, streams)
	}
}

// soak makes one exchange and judges its end.
func soak(t *testing.T, c *client, client *http.Client, s soaked, count *soakCount) {
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	r, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("%s/api/chat/up/v1/chat/completions?seed=%d", c.url, s.seed), bytes.NewReader(s.question))
	if err != nil {
		t.Error(err)
		return
	}
	if s.seed%3 == 0 {
		r.ContentLength = -1
	}
	r.Header.Set("Authorization", "Bearer "+c.token)
	r.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(r)
	if err != nil && s.dies >= 0 { // before a byte of the body: the connection is cut with the header still unsent
		count.died.Add(1)
		return
	}
	if err != nil {
		count.failed.Add(1)
		t.Errorf("stream %d: %v", s.seed, err)
		return
	}
	defer func() { _ = answer.Body.Close() }()
	var got []byte
	buffer := make([]byte, 32<<10)
	if s.slow {
		buffer = buffer[:1<<10]
	}
	for err == nil {
		if s.leaves >= 0 && len(got) >= s.leaves {
			count.left.Add(1)
			return
		}
		var n int
		n, err = answer.Body.Read(buffer)
		got = append(got, buffer[:n]...)
		if s.slow && len(got)%8 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	ended := errors.Is(err, io.EOF)
	switch {
	case s.dies >= 0 && answer.StatusCode == http.StatusBadGateway && answer.Header.Get("Gatehouse-Error") != "":
		count.died.Add(1)
	case s.dies >= 0 && !ended:
		count.died.Add(1)
	case s.dies >= 0 && s.events && strings.Contains(string(got[max(0, len(got)-300):]), `"code":"upstream_interrupted"`):
		count.died.Add(1)
	case s.dies >= 0:
		count.truncated.Add(1)
		t.Errorf("stream %d: the upstream died after %d of %d bytes, and the answer looks whole with %d", s.seed, s.dies, len(s.answer), len(got))
	case answer.StatusCode != http.StatusOK:
		count.failed.Add(1)
		t.Errorf("stream %d: %d %.300s", s.seed, answer.StatusCode, got)
	case !ended || !bytes.Equal(got, s.answer):
		count.truncated.Add(1)
		t.Errorf("stream %d: %d bytes of %d: %v", s.seed, len(got), len(s.answer), err)
	default:
		count.whole.Add(1)
	}
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
