// Package bench compares Gatehouse with what a team would otherwise use.
package bench
