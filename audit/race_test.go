//go:build race

package audit_test

// raced says that the race detector makes everything some ten times slower and larger.
const raced = true
