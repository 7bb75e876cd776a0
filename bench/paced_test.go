package bench

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A paced stream is pacedEvents events, one every pacedEvery, each with the instant
// at which it was written.
const (
	pacedEvents  = 200
	pacedEvery   = 10 * time.Millisecond
	pacedStreams = 32
)

func writePaced(w http.ResponseWriter, flusher http.Flusher) {
	ticker := time.NewTicker(pacedEvery)
	defer ticker.Stop()
	for range pacedEvents {
		<-ticker.C
		if _, err := fmt.Fprintf(w, "data: {\"at\":%d,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"word\"}}]}\n\n", time.Now().UnixNano()); err != nil {
			return
		}
		flusher.Flush()
	}
}

// BenchmarkPacedStreams has 32 streams at once of 100 events a second each, as a
// model writes them, through Gatehouse and through a bare httputil.ReverseProxy. It
// reports how long an event takes from the upstream's write to the client's read,
// and the processor time of a stream. x_ ratios are Gatehouse's over the bare
// proxy's: less is better.
func BenchmarkPacedStreams(b *testing.B) {
	upstream := start(b, "upstream", nil)
	bare := start(b, "bare", map[string]string{upstreamVariable: "http://" + upstream.address})
	gatehouse := startGatehouse(b, upstream)
	token := func(i int) string { return ownerToken(b, i) }
	const path = jsonPath + "?paced"
	sides := [...]struct {
		name string
		*process
		path    string
		delays  []float64 // p50 of a round, microseconds
		cpu     []float64 // of a stream
		slowest []float64 // p99 of a round
	}{
		{name: "gatehouse", process: gatehouse, path: "/api/chat/up" + path}, {name: "bare", process: bare, path: path},
	}
	round := 0
	for b.Loop() {
		for i := range sides {
			s := &sides[(round+i)%len(sides)]
			request := (&clients{path: s.path}).request(token(0))
			cpu := s.ask("cpu")
			delays := pacedRound(b, s.address, request)
			s.ask("settle")
			s.cpu = append(s.cpu, float64(s.ask("cpu")-cpu)/pacedStreams)
			slices.Sort(delays)
			s.delays = append(s.delays, delays[len(delays)/2])
			s.slowest = append(s.slowest, delays[len(delays)*99/100])
		}
		round++
	}
	b.ReportMetric(0, "ns/op")
	for _, s := range sides {
		b.ReportMetric(median(s.delays), s.name+"-p50-us")
		b.ReportMetric(median(s.slowest), s.name+"-p99-us")
		b.ReportMetric(median(s.cpu), s.name+"-cpu-us/stream")
	}
	b.ReportMetric(ratio(sides[0].delays, sides[1].delays), "x_delay")
	b.ReportMetric(ratio(sides[0].cpu, sides[1].cpu), "x_cpu")
}

// pacedRound runs the streams at once and gives the delay of each event in microseconds.
func pacedRound(b *testing.B, address string, request []byte) []float64 {
	var mu sync.Mutex
	var all []float64
	var streams sync.WaitGroup
	for i := range pacedStreams {
		streams.Go(func() {
			time.Sleep(pacedEvery * time.Duration(i) / pacedStreams) // not all at the same instant
			delays, err := pacedStream(address, request)
			if err != nil || len(delays) != pacedEvents {
				b.Errorf("%d events of %d: %v", len(delays), pacedEvents, err)
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, delays...)
		})
	}
	streams.Wait()
	return all
}

func pacedStream(address string, request []byte) ([]float64, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(request); err != nil {
		return nil, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return nil, err
	}
	var delays []float64
	lines := bufio.NewScanner(answer.Body)
	for lines.Scan() {
		now := time.Now().UnixNano()
		text, ok := strings.CutPrefix(lines.Text(), `data: {"at":`)
		if !ok {
			continue
		}
		text, _, _ = strings.Cut(text, ",")
		at, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return delays, err
		}
		delays = append(delays, float64(now-at)/1000)
	}
	return delays, lines.Err()
}
