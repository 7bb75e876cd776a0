package sdktest

import (
	"testing"

	"github.com/gatehouse-io/gatehouse/gatehousetest"
)

// A target is where an SDK is pointed.
type target struct {
	baseURL string // as the SDK wants it
	key     string // what the program passes as its key
	fake    *gatehousetest.Provider
}

// direct points at the fake itself. path is what the SDK's own default base URL holds after the host.
func direct(fake *gatehousetest.Provider, path string) target {
	return target{baseURL: fake.URL + path, key: fake.Key(), fake: fake}
}

// since gives the requests that the fake sees during run, once it is done with them; n is how many to wait for.
func (at target) since(t *testing.T, n int, run func()) []gatehousetest.Request {
	t.Helper()
	before := len(at.fake.Requests())
	run()
	return at.fake.Await(before + n)[before:]
}
