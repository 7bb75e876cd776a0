package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// A client that waits as long as an answer says is admitted, and one that comes
// earlier is told the rest of the same wait: all headers mean one instant.
func TestHeadersAreObeyed(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{"SERVICE_HOSTS": "openai=" + openai.URL})
	c := as(t, s, "acme", "u", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	as(t, s, "ops", "o", access.Operator).makePolicy(`{"effect":"limit","subject":"org","organization":"acme","limits":["2/300ms","5/1500ms"],"reason":"x"}`)

	waits := 0
	for admitted := 0; admitted < 12; {
		a := c.do("POST", chatPath, chatBody)
		if a.Status == http.StatusOK {
			admitted++
			continue
		}
		waits++
		checkProblem(t, a, 429, "rate_limit_exceeded")
		at, wait := promise(t, a)
		early := c.do("POST", chatPath, chatBody)
		if early.Status == http.StatusTooManyRequests {
			if again, _ := promise(t, early); !again.Equal(at) {
				t.Errorf("first the instant is %v, then %v", at, again)
			}
		} else if time.Now().Before(at) {
			t.Errorf("admitted before %v", at)
		} else {
			admitted++
			continue
		}
		time.Sleep(wait)
		if a := c.do("POST", chatPath, chatBody); a.Status != http.StatusOK {
			t.Errorf("after the wait of %v: %d %s", wait, a.Status, a.Body)
		} else {
			admitted++
		}
	}
	if waits == 0 {
		t.Error("nothing was denied")
	}
}

// promise gives the instant at which a denied answer says to come back, and the
// wait until then.
func promise(t *testing.T, a answer) (at time.Time, wait time.Duration) {
	t.Helper()
	at, err := time.Parse(api.TimeFormat, a.Header.Get("X-RateLimit-Org-Reset"))
	if err != nil {
		t.Fatal(err)
	}
	ms, err := strconv.ParseInt(a.Header.Get("Retry-After-Ms"), 10, 64)
	if err != nil || ms <= 0 {
		t.Fatalf("retry-after-ms is %q", a.Header.Get("Retry-After-Ms"))
	}
	if seconds := a.Header.Get("Retry-After"); seconds != strconv.FormatInt((ms+999)/1000, 10) {
		t.Errorf("Retry-After is %s beside %d ms", seconds, ms)
	}
	return at, time.Duration(ms) * time.Millisecond
}

// Where nothing is admitted while Redis is away, every header says so, and none blames
// the caller.
func TestDenyingWithoutRedis(t *testing.T) {
	openai := gatehousetest.OpenAI(t)
	s := instancetest.Serve(t, map[string]string{
		"SERVICE_HOSTS": "openai=" + openai.URL, "REDIS_URL": "redis://127.0.0.1:1", "LIMITS_WITHOUT_REDIS": "deny",
	})
	c := as(t, s, "acme", "u", access.Owner)
	c.store("openai", map[string]string{"apiKey": openai.Key()})
	a := c.do("POST", chatPath, chatBody)
	if p := checkProblem(t, a, 429, "rate_limit_exceeded"); !strings.Contains(p.Detail, "at the moment") {
		t.Errorf("the caller is told %q", p.Detail)
	}
	at, wait := promise(t, a)
	if wait > time.Second || a.Header.Get("X-RateLimit-Remaining") != "0" || a.Header.Get("X-RateLimit-Org-Remaining") != "0" ||
		a.Header.Get("X-RateLimit-Reset") != at.Format(api.TimeFormat) || a.Header.Get("RateLimit") != `"ip";r=0;t=1, "org";r=0;t=1` {
		t.Errorf("denied for %v with %v", wait, a.Header)
	}
	if status := decode[api.LimitOverview](t, c.get(statusPath), 200); !status.Degraded || status.IP.Remaining != 0 || status.Organization.Used != 0 {
		t.Errorf("the status is %+v", status)
	}
}
