// Package sdktest runs the providers' official Go SDKs, unchanged, against a base URL and a key: the fakes of
// gatehousetest, which shows that the fakes are what the SDKs expect, and Gatehouse in front of the same fakes, which shows that a
// program moves behind Gatehouse by changing these two values.
//
// It is a module of its own so that no SDK is a dependency of Gatehouse:
//
//	cd sdktest && go test ./...
package sdktest
