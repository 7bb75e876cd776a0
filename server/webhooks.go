package server

import (
	"context"
	"strconv"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/webhook"
)

type webhookListOut struct{ Body api.WebhookList }

func (s *Server) listWebhooks(ctx context.Context, caller access.Caller, _ *noInput) (*webhookListOut, error) {
	all, err := s.cfg.Webhooks.List(ctx, caller)
	if err != nil {
		return nil, err
	}
	out := &webhookListOut{Body: api.WebhookList{Webhooks: make([]api.Webhook, len(all))}}
	for i, h := range all {
		out.Body.Webhooks[i] = wireWebhook(h)
	}
	return out, nil
}

type createWebhookIn struct{ Body api.WebhookInput }

type webhookSecretOut struct {
	ETag string `header:"ETag"`
	Body api.WebhookWithSecret
}

func (s *Server) createWebhook(ctx context.Context, caller access.Caller, in *createWebhookIn) (*webhookSecretOut, error) {
	h, secret, err := s.cfg.Webhooks.Create(ctx, caller, webhookContent(in.Body))
	if err != nil {
		return nil, err
	}
	return &webhookSecretOut{ETag: revisionTag(h.Revision), Body: api.WebhookWithSecret{Webhook: wireWebhook(h), Secret: secret}}, nil
}

type webhookIn struct {
	ID string `path:"id"`
}

type webhookOut struct {
	ETag string `header:"ETag"`
	Body api.Webhook
}

func (s *Server) getWebhook(ctx context.Context, caller access.Caller, in *webhookIn) (*webhookOut, error) {
	h, err := s.cfg.Webhooks.Get(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &webhookOut{ETag: revisionTag(h.Revision), Body: wireWebhook(h)}, nil
}

type updateWebhookIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that the change is meant for"`
	Body    api.WebhookInput
}

func (s *Server) updateWebhook(ctx context.Context, caller access.Caller, in *updateWebhookIn) (*webhookOut, error) {
	h, err := s.cfg.Webhooks.Update(ctx, caller, in.ID, matchOf(in.IfMatch), webhookContent(in.Body))
	if err != nil {
		return nil, err
	}
	return &webhookOut{ETag: revisionTag(h.Revision), Body: wireWebhook(h)}, nil
}

type deleteWebhookIn struct {
	ID      string `path:"id"`
	IfMatch string `header:"If-Match" doc:"The ETag of the state that is meant"`
}

func (s *Server) deleteWebhook(ctx context.Context, caller access.Caller, in *deleteWebhookIn) (*nothingOut, error) {
	return &nothingOut{}, s.cfg.Webhooks.Delete(ctx, caller, in.ID, matchOf(in.IfMatch))
}

type rotateWebhookIn struct {
	ID   string             `path:"id"`
	Body *api.WebhookRotate // optional
}

func (s *Server) rotateWebhookSecret(ctx context.Context, caller access.Caller, in *rotateWebhookIn) (*webhookSecretOut, error) {
	overlap := webhook.DefaultOverlap
	if seconds := orNothing(in.Body).OverlapSeconds; seconds != nil {
		if *seconds < 0 || *seconds > int64(webhook.MaxOverlap.Seconds()) {
			return nil, fault.InvalidFields(fault.Field{Name: "overlapSeconds", Message: "must be from 0 to " + strconv.Itoa(int(webhook.MaxOverlap.Seconds()))})
		}
		overlap = time.Duration(*seconds) * time.Second
	}
	h, secret, err := s.cfg.Webhooks.RotateSecret(ctx, caller, in.ID, overlap)
	if err != nil {
		return nil, err
	}
	return &webhookSecretOut{ETag: revisionTag(h.Revision), Body: api.WebhookWithSecret{Webhook: wireWebhook(h), Secret: secret}}, nil
}

type deliveryOut struct{ Body api.WebhookDelivery }

// testWebhook makes a request to an address of the caller's choice, so it counts
// as a test of a credential does.
func (s *Server) testWebhook(ctx context.Context, caller access.Caller, in *webhookIn) (*deliveryOut, error) {
	if err := s.cfg.Limits.TakeTest(ctx, caller); err != nil {
		return nil, err
	}
	d, err := s.cfg.Webhooks.SendTest(ctx, caller, in.ID)
	if err != nil {
		return nil, err
	}
	return &deliveryOut{Body: wireDelivery(d)}, nil
}

type deliveriesIn struct {
	ID     string `path:"id"`
	Status string `query:"status" doc:"Only this status: pending, delivered or failed"`
	Limit  int    `query:"limit" doc:"1 to 200; 50 when left out or 0"`
	Cursor string `query:"cursor" doc:"nextCursor of the page before"`
}

type deliveryListOut struct{ Body api.WebhookDeliveryList }

func (s *Server) webhookDeliveries(ctx context.Context, caller access.Caller, in *deliveriesIn) (*deliveryListOut, error) {
	page, err := s.cfg.Webhooks.Deliveries(ctx, caller, in.ID, webhook.Filter{Status: webhook.Status(in.Status), Limit: in.Limit, Cursor: in.Cursor})
	if err != nil {
		return nil, err
	}
	out := &deliveryListOut{Body: api.WebhookDeliveryList{Deliveries: make([]api.WebhookDelivery, len(page.Deliveries)), NextCursor: page.NextCursor}}
	for i, d := range page.Deliveries {
		out.Body.Deliveries[i] = wireDelivery(d)
	}
	return out, nil
}

type replayIn struct {
	ID       string `path:"id"`
	Delivery string `path:"delivery"`
}

func (s *Server) replayDelivery(ctx context.Context, caller access.Caller, in *replayIn) (*deliveryOut, error) {
	if err := s.cfg.Limits.TakeTest(ctx, caller); err != nil {
		return nil, err
	}
	d, err := s.cfg.Webhooks.Replay(ctx, caller, in.ID, in.Delivery)
	if err != nil {
		return nil, err
	}
	return &deliveryOut{Body: wireDelivery(d)}, nil
}

func webhookContent(in api.WebhookInput) webhook.Content {
	c := webhook.Content{URL: in.URL, Description: in.Description, Disabled: in.Disabled}
	for _, t := range in.Events {
		c.Types = append(c.Types, webhook.Type(t))
	}
	return c
}

func wireWebhook(h webhook.Webhook) api.Webhook {
	w := api.Webhook{
		ID: h.ID, WebhookInput: api.WebhookInput{URL: h.URL, Description: h.Description, Disabled: h.Disabled},
		DisabledReason: h.DisabledReason, CreatedAt: api.At(h.CreatedAt), CreatedBy: h.CreatedBy, UpdatedAt: api.At(h.UpdatedAt),
	}
	for _, t := range h.Types {
		w.Events = append(w.Events, string(t))
	}
	return w
}

func wireDelivery(d webhook.Delivery) api.WebhookDelivery {
	return api.WebhookDelivery{
		ID: d.ID, WebhookID: d.Webhook, MessageID: d.Message, Type: string(d.Type), Status: string(d.Status), Attempts: d.Attempts,
		NextAttemptAt: api.At(d.NextAt), LastAttemptAt: api.At(d.LastAttemptAt), LastStatus: d.LastStatus, LastError: string(d.LastError),
		CreatedAt: api.At(d.CreatedAt),
	}
}
