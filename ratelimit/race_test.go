//go:build race

package ratelimit_test

// raced says that the race detector makes everything some twenty times slower.
const raced = true
