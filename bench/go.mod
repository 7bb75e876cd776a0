module github.com/gatehouse-io/gatehouse/bench

go 1.26.0

require github.com/gatehouse-io/gatehouse v0.0.0

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
	github.com/go-redis/redis_rate/v10 v10.0.1 // indirect
	github.com/redis/go-redis/v9 v9.0.5 // indirect
	github.com/sethvargo/go-limiter v0.7.1 // indirect
	github.com/throttled/throttled/v2 v2.15.0 // indirect
	golang.org/x/time v0.16.0 // indirect
)

replace github.com/gatehouse-io/gatehouse => ../
