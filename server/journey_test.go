package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
	"github.com/gatehouse-io/gatehouse/instance"
)

// The walk of a newcomer, as the README has it, in dev mode: store a key, see
// it listed without its value, chat, meet the limit, read who did what, start
// again and find everything.
func TestNewcomersJourney(t *testing.T) {
	config, err := instance.FromEnvironment(map[string]string{
		"GATEHOUSE_DATA": t.TempDir() + "/data", "GATEHOUSE_ADDR": "127.0.0.1:0", "CHAT_IP_LIMIT": "2/10m",
	})
	if err != nil {
		t.Fatal(err)
	}
	if config, err = config.ForDev(); err != nil {
		t.Fatal(err)
	}
	token, err := config.DevToken(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s := instancetest.ServeConfig(t, config)
	c := &client{t: t, url: s.URL, token: token, http: newHTTP(t)}

	const key = "sk-try-0123456789abcdefghij"
	created := c.do("POST", credentialsPath, `{"service":"openai","credentials":{"apiKey":"`+key+`"}}`)
	credential := decode[api.Credential](t, created, 201)
	if strings.Contains(created.Body, key) || credential.Hint["apiKey"] != "••••ghij" || credential.Name != "Default" || created.Header.Get("ETag") == "" {
		t.Errorf("1. stored: %s", created.Body)
	}

	listed := c.get(credentialsPath)
	if list := decode[api.CredentialList](t, listed, 200); len(list.Credentials) != 1 || strings.Contains(listed.Body, key) {
		t.Errorf("2. listed: %s", listed.Body)
	}

	const echo = "/api/chat/echo/v1/chat/completions"
	chat := c.do("POST", echo, `{"model":"echo","stream":true,"messages":[{"role":"user","content":"Hello through the gate"}]}`)
	if chat.Status != 200 || !strings.HasSuffix(chat.Body, "data: [DONE]\n\n") || !strings.Contains(chat.Body, "gate") {
		t.Errorf("3. a chat: %d %s", chat.Status, chat.Body)
	}
	if ip, organization := checkLimitHeaders(t, chat.Header); ip.remaining != 1 || organization.remaining != 999 {
		t.Errorf("3. a chat: %+v %+v", ip, organization)
	}

	c.do("POST", echo, `{"model":"echo","messages":[{"role":"user","content":"again"}]}`)
	over := c.do("POST", echo, `{"model":"echo","messages":[{"role":"user","content":"again"}]}`)
	checkProblem(t, over, 429, "rate_limit_exceeded")
	checkSDKError(t, over)
	if over.Header.Get("Retry-After") == "" {
		t.Errorf("4. over the limit: %q", over.Header)
	}

	told := map[string]int{}
	for _, e := range c.events() {
		told[e.Action] += int(max(e.Count, 1))
	}
	for action, want := range map[string]int{"credential.create": 1, "credential.list": 1, "chat.request": 2, "limit.exceed": 1} {
		if told[action] != want {
			t.Errorf("5. the trail tells of %d %s, want %d", told[action], action, want)
		}
	}

	s.Stop()
	if config, err = config.ForDev(); err != nil {
		t.Fatal(err)
	}
	c.url = instancetest.ServeConfig(t, config).URL
	revealed := decode[api.RevealedCredential](t, c.do("POST", credentialsPath+"/"+credential.ID+"/reveal", `{"reason":"moving"}`), 200)
	if revealed.Credentials["apiKey"] != key {
		t.Error("6. after a restart the key is another")
	}
}
