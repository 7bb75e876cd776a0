package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/gatehousetest"
	"github.com/gatehouse-io/gatehouse/gatehousetest/instancetest"
)

// clientCall is one call of the Go client and what must come of it.
type clientCall struct {
	method string
	do     func() error
}

// clientCalls are the state that the calls share: what one makes another asks for.
type clientCalls struct {
	*api.Client
	ctx                   context.Context
	credential            api.Credential
	hook, delivery, event string
	policy                api.LimitPolicy
	token, hold, oldKey   string
}

// want makes one error of what a call gave and of what was expected of it.
func want(err error, ok bool, got any) error {
	if err == nil && !ok {
		err = fmt.Errorf("gave %+v", got)
	}
	return err
}

// Every method of the Go client does what it says, called in an order in which each
// has something to work on.
func TestEveryMethodOfTheClient(t *testing.T) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(receiver.Close)
	fake := gatehousetest.OpenAI(t, gatehousetest.Key(firstKey), gatehousetest.Key(secondKey))
	environ := map[string]string{
		"CREDENTIAL_REVEAL": "true", "SERVICE_HOSTS": "openai=" + fake.URL, "WEBHOOK_HOSTS": receiver.URL,
		"DATABASE_URL": "sqlite:" + t.TempDir() + "/gatehouse.db",
	}
	first := instancetest.Serve(t, environ)
	as(t, first, "acme", "u1", access.Owner).store("stripe", map[string]string{"secretKey": "sk_test_0123456789abcdefghijklmn"})
	first.Stop()
	environ["ENCRYPTION_KEY"], environ["ENCRYPTION_KEYS_OLD"] = secondMaster, gatehousetest.EncryptionKey
	s := instancetest.Serve(t, environ)
	c := &clientCalls{ctx: t.Context(), Client: &api.Client{BaseURL: s.URL, Token: s.Token(t, "acme", "u1", access.Owner, access.Operator)}}
	called := make(map[string]bool)
	for _, call := range [][]clientCall{c.credentials(), c.versions(), c.webhooks(receiver.URL), c.limits(), c.trail(), c.people(), c.retention(), c.instance()} {
		for _, row := range call {
			called[row.method] = true
			if err := row.do(); err != nil {
				t.Errorf("%s: %v", row.method, err)
			}
		}
	}
	methods := reflect.TypeFor[*api.Client]()
	for i := range methods.NumMethod() {
		if name := methods.Method(i).Name; !called[name] {
			t.Errorf("%s is not called here", name)
		}
	}
}

func (c *clientCalls) credentials() []clientCall {
	fields := map[string]string{"apiKey": firstKey}
	return []clientCall{
		{"ListServices", func() error { l, err := c.ListServices(c.ctx); return want(err, len(l.Services) > 20, l) }},
		{"GetService", func() error {
			s, err := c.GetService(c.ctx, "openai")
			return want(err, s.PathPrefix == "/api/chat/openai", s)
		}},
		{"TestCredential", func() error {
			r, err := c.TestCredential(c.ctx, api.CredentialTest{Service: "openai", Credentials: fields})
			return want(err, r.Result == "valid", r)
		}},
		{"CreateCredential", func() (err error) {
			c.credential, err = c.CreateCredential(c.ctx, api.CredentialCreate{Service: "openai", Credentials: fields})
			return want(err, c.credential.Version == 1 && c.credential.ETag != "", c.credential)
		}},
		{"GetCredential", func() error {
			got, err := c.GetCredential(c.ctx, c.credential.ID)
			return want(err, got.ID == c.credential.ID && got.ETag == c.credential.ETag, got)
		}},
		{"ListCredentials", func() error {
			l, err := c.ListCredentials(c.ctx, url.Values{"service": {"openai"}})
			return want(err, len(l.Credentials) == 1 && l.Credentials[0].ID == c.credential.ID && l.Credentials[0].ETag == "", l)
		}},
		{"UpdateCredential", func() error {
			got, err := c.UpdateCredential(c.ctx, c.credential.ID, api.CredentialUpdate{Name: api.Some("main")}, api.IfMatch(c.credential.ETag))
			return want(err, got.Name == "main" && got.ETag != c.credential.ETag, got)
		}},
		{"UpdateCredential", func() error { // of a state that is not there any more
			for _, tag := range []string{c.credential.ETag, ""} {
				_, err := c.UpdateCredential(c.ctx, c.credential.ID, api.CredentialUpdate{Name: api.Some("lost")}, api.IfMatch(tag))
				if got := new(api.CallError); !errors.As(err, &got) || got.Status != http.StatusPreconditionFailed {
					return fmt.Errorf("with the tag %q: %w", tag, err)
				}
			}
			got, err := c.GetCredential(c.ctx, c.credential.ID)
			return want(err, got.Name == "main", got)
		}},
		{"TestStoredCredential", func() error {
			r, err := c.TestStoredCredential(c.ctx, c.credential.ID)
			return want(err, r.Result == "valid", r)
		}},
		{"RevealCredential", func() error {
			r, err := c.RevealCredential(c.ctx, c.credential.ID, "a test")
			return want(err, r.Credentials["apiKey"] == firstKey, r.Version)
		}},
		{"GetCredentialHealth", func() error {
			h, err := c.GetCredentialHealth(c.ctx, nil)
			return want(err, h.Summary.Credentials == 2, h)
		}},
		{"RotateCredential", func() error {
			got, err := c.RotateCredential(c.ctx, c.credential.ID, api.CredentialRotate{Credentials: map[string]string{"apiKey": secondKey}})
			return want(err, got.Version == 2, got)
		}},
	}
}

func (c *clientCalls) versions() []clientCall {
	return []clientCall{
		{"StageCredentialVersion", func() error {
			v, err := c.StageCredentialVersion(c.ctx, c.credential.ID, api.CredentialStage{Credentials: map[string]string{"apiKey": firstKey}})
			return want(err, v.Version == 3 && v.State == "staged" && v.ETag != "", v)
		}},
		{"TestCredentialVersion", func() error {
			r, err := c.TestCredentialVersion(c.ctx, c.credential.ID, 3)
			return want(err, r.Result == "valid", r)
		}},
		{"ActivateCredentialVersion", func() error {
			got, err := c.ActivateCredentialVersion(c.ctx, c.credential.ID, 3, api.CredentialActivate{GraceSeconds: 60})
			return want(err, got.Version == 3, got)
		}},
		{"RollBackCredential", func() error {
			got, err := c.RollBackCredential(c.ctx, c.credential.ID, api.CredentialRollback{Version: 2})
			return want(err, got.Version == 2, got)
		}},
		{"DestroyCredentialVersion", func() error { return c.DestroyCredentialVersion(c.ctx, c.credential.ID, 3) }},
		{"ListCredentialVersions", func() error {
			l, err := c.ListCredentialVersions(c.ctx, c.credential.ID, nil)
			return want(err, len(l.Versions) == 3 && l.Versions[0].State == "retired", l)
		}},
		{"DeleteCredential", func() error { return c.DeleteCredential(c.ctx, c.credential.ID) }},
		{"DeleteCredential", func() error { return c.gone(c.DeleteCredential(c.ctx, c.credential.ID)) }},
	}
}

// gone is whether a call was told that there is no such thing.
func (c *clientCalls) gone(err error) error {
	if got := new(api.CallError); errors.As(err, &got) && got.Status == http.StatusNotFound {
		return nil
	}
	return fmt.Errorf("not gone: %v", err)
}

func (c *clientCalls) webhooks(receiver string) []clientCall {
	var made api.WebhookWithSecret
	return []clientCall{
		{"CreateWebhook", func() (err error) {
			made, err = c.CreateWebhook(c.ctx, api.WebhookInput{URL: receiver + "/in"})
			c.hook = made.ID
			return want(err, strings.HasPrefix(made.Secret, "whsec_") && made.ETag != "", made.Webhook)
		}},
		{"GetWebhook", func() error {
			h, err := c.GetWebhook(c.ctx, c.hook)
			return want(err, h.URL == receiver+"/in" && h.ETag == made.ETag, h)
		}},
		{"UpdateWebhook", func() error {
			h, err := c.UpdateWebhook(c.ctx, c.hook, api.WebhookInput{URL: receiver + "/in", Description: "ours"}, api.IfMatch(made.ETag))
			return want(err, h.Description == "ours", h)
		}},
		{"ListWebhooks", func() error {
			l, err := c.ListWebhooks(c.ctx)
			return want(err, len(l.Webhooks) == 1 && l.Webhooks[0].Description == "ours", l)
		}},
		{"RotateWebhookSecret", func() error {
			h, err := c.RotateWebhookSecret(c.ctx, c.hook, api.WebhookRotate{})
			return want(err, h.Secret != made.Secret && h.Secret != "", h.Webhook)
		}},
		{"TestWebhook", func() error {
			d, err := c.TestWebhook(c.ctx, c.hook)
			c.delivery = d.ID
			return want(err, d.Type == "webhook.test", d)
		}},
		{"ListWebhookDeliveries", func() error {
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
				l, err := c.ListWebhookDeliveries(c.ctx, c.hook, url.Values{"status": {"delivered"}})
				if err != nil || len(l.Deliveries) == 1 || time.Now().After(end) {
					return want(err, len(l.Deliveries) == 1 && l.Deliveries[0].ID == c.delivery, l)
				}
			}
		}},
		{"ReplayWebhookDelivery", func() error {
			d, err := c.ReplayWebhookDelivery(c.ctx, c.hook, c.delivery)
			return want(err, d.Status == "pending", d)
		}},
		{"ListAuditSinks", func() error { l, err := c.ListAuditSinks(c.ctx); return want(err, l.Sinks != nil, l) }},
		{"DeleteWebhook", func() error { return c.DeleteWebhook(c.ctx, c.hook) }},
	}
}

func (c *clientCalls) limits() []clientCall {
	check := api.LimitCheck{Subjects: []api.LimitCheckSubject{{Type: "ip", Key: "203.0.113.7"}}}
	draft := api.LimitPolicyInput{Effect: "limit", Subject: "ip", CIDR: "203.0.113.7/32", Limits: []string{"2/1h"}, Reason: "a test"}
	return []clientCall{
		{"GetRateLimit", func() error { l, err := c.GetRateLimit(c.ctx); return want(err, l.Organization.Key == "acme", l) }},
		{"CreateLimitPolicy", func() (err error) {
			c.policy, err = c.CreateLimitPolicy(c.ctx, draft)
			return want(err, c.policy.Revision == 1 && c.policy.ETag == `"1"`, c.policy)
		}},
		{"GetLimitPolicy", func() error {
			p, err := c.GetLimitPolicy(c.ctx, c.policy.ID)
			return want(err, p.Reason == "a test", p)
		}},
		{"UpdateLimitPolicy", func() error {
			draft.Limits = []string{"1/1h"}
			p, err := c.UpdateLimitPolicy(c.ctx, c.policy.ID, draft, api.IfMatch(c.policy.ETag))
			return want(err, p.Revision == 2, p)
		}},
		{"RollBackLimitPolicy", func() error {
			p, err := c.RollBackLimitPolicy(c.ctx, c.policy.ID, 1)
			return want(err, p.Revision == 3 && p.Limits[0] == "2/1h", p)
		}},
		{"ListLimitPolicyRevisions", func() error {
			l, err := c.ListLimitPolicyRevisions(c.ctx, c.policy.ID)
			return want(err, len(l.Revisions) == 3, l)
		}},
		{"ListLimitPolicies", func() error {
			l, err := c.ListLimitPolicies(c.ctx, url.Values{"owner": {"_instance"}})
			return want(err, len(l.Policies) == 1, l)
		}},
		{"CheckRateLimit", func() error {
			d, err := c.CheckRateLimit(c.ctx, check)
			return want(err, d.Admitted && d.Subjects[0].Limit == 2, d)
		}},
		{"CheckRateLimits", func() error {
			d, err := c.CheckRateLimits(c.ctx, api.LimitCheckBatch{Checks: []api.LimitCheck{check, check}})
			return want(err, len(d.Decisions) == 2 && d.Decisions[0].Admitted && !d.Decisions[1].Admitted, d)
		}},
		{"GetSubjectRateLimit", func() error {
			l, err := c.GetSubjectRateLimit(c.ctx, "ip", "203.0.113.7")
			return want(err, l.Used == 2, l)
		}},
		{"ListLimitOffenders", func() error {
			l, err := c.ListLimitOffenders(c.ctx)
			return want(err, l.Offenders != nil && l.WindowSeconds == 3600, l)
		}},
		{"ResetRateLimit", func() error {
			l, err := c.ResetRateLimit(c.ctx, "ip", "203.0.113.7")
			return want(err, l.Used == 0, l)
		}},
		{"DeleteLimitPolicy", func() error { return c.DeleteLimitPolicy(c.ctx, c.policy.ID) }},
		{"GetUsage", func() error { u, err := c.GetUsage(c.ctx, nil); return want(err, u.From != nil, u) }},
	}
}

func (c *clientCalls) trail() []clientCall {
	return []clientCall{
		{"GetEventSchema", func() error {
			s, err := c.GetEventSchema(c.ctx)
			return want(err, strings.Contains(string(s), "credential.create"), len(s))
		}},
		{"ListEvents", func() error {
			l, err := c.ListEvents(c.ctx, url.Values{"action": {"credential.create"}, "count": {"true"}})
			if err == nil && len(l.Events) > 0 {
				c.event = l.Events[0].ID
			}
			return want(err, c.event != "" && *l.Count == 2, l)
		}},
		{"ExportEvents", func() error { return holds("#manifest")(c.ExportEvents(c.ctx, url.Values{"format": {"csv"}})) }},
		{"TailEvents", func() error {
			ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
			defer cancel()
			body, err := c.TailEvents(ctx, nil, "c0-a0-s0-y0")
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.ReadFull(body, make([]byte, 64))
			return err
		}},
		{"ProveEvent", func() error { // once it is sealed
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
				p, err := c.ProveEvent(c.ctx, c.event, nil)
				if err == nil || time.Now().After(end) {
					return want(err, p.EventID == c.event && p.Checkpoint != "", p)
				}
			}
		}},
		{"VerifyAudit", func() error {
			v, err := c.VerifyAudit(c.ctx, nil)
			return want(err, v.Clean && v.Events > 0, v)
		}},
		{"ListAuditKeys", func() error { k, err := c.ListAuditKeys(c.ctx); return want(err, len(k.Keys) == 1, k) }},
		{"RotateAuditKey", func() error { k, err := c.RotateAuditKey(c.ctx); return want(err, len(k.PublicKey) == 32, k) }},
		{"GetAuditCheckpoint", func() error {
			p, err := c.GetAuditCheckpoint(c.ctx, nil)
			return want(err, len(p.Checkpoints) > 0, p)
		}},
		{"ErasePerson", func() error { _, err := c.ErasePerson(c.ctx, "u9"); return err }},
	}
}

// holds reads a stream to its end, and whether a text stands in it.
func holds(text string) func(io.ReadCloser, error) error {
	return func(body io.ReadCloser, err error) error {
		if err != nil {
			return err
		}
		defer body.Close()
		b, err := io.ReadAll(body)
		return want(err, strings.Contains(string(b), text), len(b))
	}
}
