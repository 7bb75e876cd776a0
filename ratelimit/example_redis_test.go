package ratelimit_test

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/redis/rueidis"

	"github.com/gatehouse-io/gatehouse/ratelimit"
)

// Limits that several processes share: Redis decides, and while it is away each
// process admits its share of what is left.
func ExampleNewSwitch() {
	url, stop := redisOfTheExample() // such as redis://127.0.0.1:6379
	defer stop()

	option, err := rueidis.ParseURL(url)
	if err != nil {
		fmt.Println(err)
		return
	}
	redis := ratelimit.OpenRedis(option, ratelimit.RedisOptions{Timeout: time.Second}) // 25 ms unless said
	defer redis.Close()
	limiter := ratelimit.NewSwitch(redis, ratelimit.NewMemory(ratelimit.MemoryOptions{}), ratelimit.SwitchOptions{
		Without:  ratelimit.Share,
		OnChange: func(c ratelimit.Change) { fmt.Println("decided by memory:", c.Degraded) },
	})
	defer limiter.Close()

	subjects := []ratelimit.Subject{
		{Type: "ip", Key: "203.0.113.7", Limits: []ratelimit.Limit{{Requests: 100, Window: time.Minute}}},
		{Type: "organization", Key: "acme", Limits: []ratelimit.Limit{{Requests: 20, Window: time.Second}, {Requests: 2, Window: time.Hour}}},
	}
	var d ratelimit.Decision
	for range 3 {
		if err := limiter.Take(context.Background(), time.Now(), subjects, &d); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(d.Store, d.Admitted, d.Statuses[0].Remaining, d.Statuses[1].Remaining)
	}
	fmt.Println(d.RetryAfter > 59*time.Minute, d.Statuses[1].Limit)
	// Output:
	// redis true 99 1
	// redis true 98 0
	// redis false 98 0
	// true 2/1h
}

// redisOfTheExample starts a Redis on a free port.
func redisOfTheExample() (url string, stop func()) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	addr := free.Addr().String()
	_ = free.Close()
	_, port, _ := net.SplitHostPort(addr)
	server := exec.Command("redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no")
	if err := server.Start(); err != nil {
		panic(err)
	}
	for range 500 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			_ = conn.Close()
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return "redis://" + addr, func() { _ = server.Process.Kill(); _ = server.Wait() }
}
