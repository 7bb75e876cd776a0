package ratelimit_test

import (
	"bytes"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// diesBeforeItIsSaid has Redis die as soon as the instance says that it knows all: it was told
// what was admitted without it.
func diesBeforeItIsSaid(server *redisServer, p *redisProxy, saved bool) (died chan struct{}) {
	died = make(chan struct{})
	var once sync.Once
	p.see(func(sent []byte) bool {
		if !bytes.Contains(sent, []byte("\r\nsay\r\n")) {
			return true
		}
		once.Do(func() {
			p.gone.Store(true)
			if saved {
				server.do("SAVE")
			}
			server.kill()
			close(died)
		})
		return false
	})
	return died
}

// used is what Redis alone knows of a subject.
func used(t *testing.T, server *redisServer, s ratelimit.Subject) int {
	t.Helper()
	d := peek(t, server.open(ratelimit.RedisOptions{Timeout: patient}), time.Now(), s)
	return d.Statuses[0].Used
}

// A Redis that was told, died before it was said, and came back as it was before the outage is
// told again, also where the look that finds out that it was restarted has no answer in time.
func TestToldAgain(t *testing.T) {
	for name, slow := range map[string]bool{"in time": false, "too late": true} {
		t.Run(name, func(t *testing.T) {
			server := startRedis(t)
			p := startProxy(t, server.addr)
			s, told := newSwitch(t, openRedis(t, p.addr, ratelimit.RedisOptions{Timeout: 200 * time.Millisecond}))
			x := subject("ip", "x", "10/1h")
			take(t, s, time.Now(), subject("ip", "y", "10/1h"))
			time.Sleep(700 * time.Millisecond) // it is said that Redis knows all
			p.leave()
			told.next(t, true)
			time.Sleep(300 * time.Millisecond)
			server.do("SAVE")
			server.kill()
			for range 5 {
				if !take(t, s, time.Now(), x).Admitted {
					t.Fatal("denied")
				}
			}
			died := diesBeforeItIsSaid(server, p, false)
			server.start()
			p.comeBack()
			<-died
			p.leave()
			if s.Status().Owed != 0 {
				t.Fatal("not told yet")
			}
			var late atomic.Bool
			p.see(func(sent []byte) bool {
				if slow && bytes.Contains(sent, []byte("\r\nEVAL\r\n")) && bytes.Contains(sent, []byte("\r\nlook\r\n")) && late.CompareAndSwap(false, true) {
					p.holdFor(400 * time.Millisecond)
				}
				return true
			})
			server.start()
			p.comeBack()
			told.next(t, false)
			if n := used(t, server, x); n != 5 || late.Load() != slow {
				t.Errorf("5 admitted, Redis knows of %d; late: %v", n, late.Load())
			}
		})
	}
}

// A Redis that comes back empty, dies while it is told and comes back, empty again or with what it
// was told, counts nothing twice.
func TestEmptyTwice(t *testing.T) {
	for name, saved := range map[string]bool{"empty": false, "with what it was told": true} {
		t.Run(name, func(t *testing.T) { testEmptyTwice(t, saved) })
	}
}

func testEmptyTwice(t *testing.T, saved bool) {
	server := startRedis(t)
	p := startProxy(t, server.addr)
	s, told := newSwitch(t, openRedis(t, p.addr, ratelimit.RedisOptions{Timeout: 200 * time.Millisecond}))
	x := subject("ip", "x", "100/1h")
	take(t, s, time.Now(), x)
	time.Sleep(700 * time.Millisecond) // it is said that Redis knows all
	server.kill()
	p.leave()
	told.next(t, true)
	died := diesBeforeItIsSaid(server, p, saved)
	server.start()
	p.comeBack()
	<-died
	p.leave()
	for range 20 {
		if !take(t, s, time.Now(), x).Admitted {
			t.Fatal("denied")
		}
	}
	p.see(func([]byte) bool { return true })
	server.start()
	p.comeBack()
	told.next(t, false)
	if n := used(t, server, x); n != 21 {
		t.Errorf("21 admitted, Redis counts %d", n)
	}
}

// What was admitted without Redis under an older instant than Redis's snapshot is counted there too.
func TestOwedOfBefore(t *testing.T) {
	server := startRedis(t)
	s, told := newSwitch(t, server.open(ratelimit.RedisOptions{Timeout: 100 * time.Millisecond}))
	x, y := subject("ip", "x", "100/1h"), subject("ip", "y", "100/1h")
	take(t, s, time.Now(), y)
	start := time.Now()
	time.Sleep(600 * time.Millisecond)
	server.do("SAVE")
	time.Sleep(300 * time.Millisecond)
	server.kill()
	told.next(t, true)
	for range 10 {
		take(t, s, start, x)
	}
	server.start()
	told.next(t, false)
	if n := used(t, server, x); n != 10 {
		t.Errorf("10 admitted, Redis knows of %d", n)
	}
}

// After an outage the counts of those who were admitted meanwhile are heard of, whether or not
// some answer comes late.
func TestHeardOf(t *testing.T) {
	server := startRedis(t)
	p := startProxy(t, server.addr)
	s, told := newSwitch(t, openRedis(t, p.addr, ratelimit.RedisOptions{Timeout: 50 * time.Millisecond}))
	for server.do("EXISTS", ratelimit.DefaultPrefix+"instances") != ":1" {
		time.Sleep(time.Millisecond)
	}
	p.leave()
	told.next(t, true)
	for i := range 2000 {
		take(t, s, time.Now(), subject("ip", fmt.Sprint(i), "10/1h"))
	}
	var asked atomic.Int32
	p.see(func(sent []byte) bool {
		if bytes.Contains(sent, []byte("{ip:")) && !s.Degraded() && asked.Add(1) == 3 {
			p.holdFor(70 * time.Millisecond)
		}
		return true
	})
	p.comeBack()
	told.next(t, false)
	for range 500 {
		if s.Status().Mirrored > 1900 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("of 2000, %d are heard of", s.Status().Mirrored)
}
