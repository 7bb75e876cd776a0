package bench

import (
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/auth"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// The paths that the upstream answers, after its origin.
const (
	jsonPath   = "/v1/chat/completions"
	streamPath = "/v1/chat/completions?stream"
)

// answerJSON is an answer of 1 KB; answerEvent is one of the 200 events of a stream.
var (
	answerJSON  = `{"id":"chatcmpl-1","choices":[{"index":0,"message":{"content":"` + strings.Repeat("a", 959) + `"}}]}`
	answerEvent = `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1795423260,"model":"m",` +
		`"choices":[{"index":0,"delta":{"content":"word"},"finish_reason":null}]}` + "\n\n"
)

const answerEvents = 200

// BenchmarkWholeServer puts the whole of Gatehouse beside a bare
// httputil.ReverseProxy in front of the same upstream. For Gatehouse that is: the
// token is checked, both limits are decided in memory, the organization's
// credential is put on, and each visit is an event in SQLite with synchronous=FULL
// and a line in the log. A turn ends when its events are on disk. Client,
// upstream and the two proxies are processes of their own on one machine.
//
// Gatehouse remembers verified tokens while they are valid, and opened credentials
// for a few seconds. Users send a token more than once, so each of 32 has one;
// where every request brings a token of one of them that was never seen before,
// each signature is verified.
//
// Gatehouse collects garbage less often than Go does by itself (GOGC=400, see
// instance.Tune). So that this is not taken for the gateway's merit, the bare proxy
// runs twice: as it comes, and as "bare400" with the same setting.
//
// nginx, one worker with keep-alive connections to the upstream and no log, does
// nothing else either.
//
// x_bare is requests per second over those of the bare proxy, x_bare-cpu its
// processor time for a request over Gatehouse's: more than 1 is in favour of
// Gatehouse in both.
func BenchmarkWholeServer(b *testing.B) {
	tokens := make([]string, users)
	for i := range tokens {
		tokens[i] = ownerToken(b, i)
	}
	known := func(i int) string { return tokens[i%users] }
	made := users
	fresh := func(int) string { made++; return ownerToken(b, made) }

	const jsonTurn, streamTurn, usual = 3000, 500, 32
	b.Run("1 KB of JSON", func(b *testing.B) {
		wholeServer(b, usual, jsonPath, int64(len(answerJSON)), jsonTurn, known)
	})
	b.Run("1 KB of JSON over 1 connection", func(b *testing.B) {
		wholeServer(b, 1, jsonPath, int64(len(answerJSON)), jsonTurn/4, known)
	})
	b.Run("1 KB of JSON over 256 connections", func(b *testing.B) {
		wholeServer(b, 256, jsonPath, int64(len(answerJSON)), jsonTurn, known)
	})
	b.Run("1 KB of JSON and a new token each time", func(b *testing.B) {
		wholeServer(b, usual, jsonPath, int64(len(answerJSON)), jsonTurn, fresh)
	})
	b.Run("200 events streamed", func(b *testing.B) {
		wholeServer(b, usual, streamPath, int64(answerEvents*len(answerEvent)), streamTurn, known)
	})
}

// startGatehouse runs a Gatehouse whose service "up" is the upstream, with the key in it.
func startGatehouse(b *testing.B, upstream *process) *process {
	b.Helper()
	gatehouse := start(b, "gatehouse", map[string]string{
		"JWT_SECRET": gatehousetest.JWTSecret, "ENCRYPTION_KEY": gatehousetest.EncryptionKey, "GATEHOUSE_ENV": "bench",
		"GATEHOUSE_DATA": filepath.Join(b.TempDir(), "data"), "GATEHOUSE_ADDR": "127.0.0.1:0", "ORGANIZATIONS_FROM_TOKENS": "true",
		"CHAT_IP_LIMIT": "1000000/1m", "CHAT_ORG_LIMIT": "1000000/1m", "CHAT_HOSTS": "up=http://" + upstream.address,
	})
	_, err := (&api.Client{BaseURL: "http://" + gatehouse.address, Token: ownerToken(b, 0)}).CreateCredential(b.Context(), api.CredentialCreate{
		Service: "up", Credentials: map[string]string{"apiKey": "sk-bench-0123456789abcdefghijklmnopqrstuvwxyz"},
	})
	if err != nil {
		b.Fatal(err)
	}
	return gatehouse
}

func wholeServer(b *testing.B, connections int, path string, length int64, turn int, token func(int) string) {
	upstream := start(b, "upstream", nil)
	bare := start(b, "bare", map[string]string{upstreamVariable: "http://" + upstream.address})
	tuned := start(b, "bare", map[string]string{upstreamVariable: "http://" + upstream.address, "GOGC": "400"})
	gatehouse := startGatehouse(b, upstream)

	sides := [...]struct {
		name string
		*process
		clients *clients
		perSec  []float64
		cpu     []float64 // microseconds for a request
		cut     int64
	}{
		{name: "gatehouse", process: gatehouse, clients: newClients(connections, gatehouse.address, "/api/chat/up"+path, length, token)},
		{name: "bare", process: bare, clients: newClients(connections, bare.address, path, length, token)},
		{name: "bare400", process: tuned, clients: newClients(connections, tuned.address, path, length, token)},
		{name: "nginx", process: startNginx(b, upstream.address), clients: newClients(connections, "", path, length, token)},
	}
	sides[3].clients.at(sides[3].address)
	visits, round := 0, 0
	for i := range sides { // connections, caches and pools are made once
		defer sides[i].clients.close()
		if cut, err := sides[i].clients.run(sides[i].clients.prepare(turn / 4)); cut > 0 {
			b.Logf("warming up, %d answers were cut: %v", cut, err)
		}
		sides[i].ask("settle")
	}
	visits += turn / 4
	for b.Loop() {
		for i := range sides {
			s := &sides[(round+i)%len(sides)]
			requests := s.clients.prepare(turn)
			cpu, begin := s.ask("cpu"), time.Now()
			cut, err := s.clients.run(requests)
			s.ask("settle")
			spent := time.Since(begin)
			s.perSec = append(s.perSec, float64(turn)/spent.Seconds())
			s.cpu = append(s.cpu, float64(s.ask("cpu")-cpu)/float64(turn))
			if s.cut += cut; cut > 0 && s.process == gatehouse {
				b.Errorf("%d answers were cut: %v", cut, err)
			}
		}
		visits += turn
		round++
	}
	if events := gatehouse.ask("events"); events != int64(visits) {
		b.Errorf("%d events of %d visits are on disk", events, visits)
	}
	b.ReportMetric(0, "ns/op") // the sum of all sides says nothing
	b.ReportMetric(float64(gatehouse.ask("rss"))/1024, "gatehouse-MiB")
	b.ReportMetric(float64(gatehouse.ask("least"))/1024, "gatehouse-least-MiB")
	for i, s := range sides {
		b.ReportMetric(median(s.perSec), s.name+"-req/s")
		b.ReportMetric(median(s.cpu), s.name+"-cpu-us/req")
		if i > 0 {
			b.ReportMetric(ratio(sides[0].perSec, s.perSec), "x_"+s.name)
			b.ReportMetric(ratio(s.cpu, sides[0].cpu), "x_"+s.name+"-cpu")
			b.ReportMetric(float64(s.cut), "cut-by-"+s.name)
		}
	}
}

// users is how many users of one organization send requests.
const users = 32

// ownerToken signs the i-th token, for one of the users.
func ownerToken(b *testing.B, i int) string {
	caller := access.NewCaller("acme", access.User, "u_"+strconv.Itoa(i%users), access.Owner)
	caller.TokenID = strconv.Itoa(i)
	token, err := auth.Sign([]byte(gatehousetest.JWTSecret), caller, "", "", time.Now(), time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	return token
}

// playUpstream is a provider that reads the question and gives a fixed answer; the
// events of a stream leave one by one.
func playUpstream() error {
	mux := http.NewServeMux()
	mux.HandleFunc(jsonPath, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.RawQuery != "" {
			stream(w, r.URL.RawQuery == "paced")
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "req_0123456789")
		_, _ = io.WriteString(w, answerJSON)
	})
	return playHandler(mux)
}

// stream writes the events of an answer: as fast as they are taken, or paced.
func stream(w http.ResponseWriter, paced bool) {
	w.Header().Set("Content-Type", "text/event-stream")
	event, flusher := []byte(answerEvent), w.(http.Flusher)
	if paced {
		writePaced(w, flusher)
		return
	}
	for range answerEvents {
		if _, err := w.Write(event); err != nil {
			return
		}
		flusher.Flush()
	}
}

// playBare is the reverse proxy of the standard library as one would write it,
// with enough idle connections to the upstream for all clients.
func playBare() error {
	upstream, err := url.Parse(os.Getenv(upstreamVariable))
	if err != nil {
		return err
	}
	return playHandler(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(upstream) },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
		ErrorLog:  log.New(io.Discard, "", 0), // it cuts a stream now and then
	})
}
