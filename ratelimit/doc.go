// Package ratelimit decides whether a request may pass, by exact sliding
// windows.
package ratelimit
