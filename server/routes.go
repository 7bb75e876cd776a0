package server

import (
	"context"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/retention"
)

// route is one line of the table.
type route struct {
	method     string
	path       string
	permission access.Permission // access.None: any caller
	body       int64             // the body's cap in bytes; 0 where none is taken
	status     int               // of success
	name       string            // the operation's id
	summary    string
	handle     handler
}

// The caps of bodies.
const (
	noBody    = 0
	smallBody = 8 << 10
	formBody  = 64 << 10 // credentials
)

// routes is the table of every route but the gateway's (gateway.go) and the
// instance's own (health.go, docs.go).
func (s *Server) routes() []route {
	const (
		get, post, put, del = http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
		ok, created, empty  = http.StatusOK, http.StatusCreated, http.StatusNoContent
		accepted            = http.StatusAccepted
	)
	return []route{
		{get, "/api/api-credentials", access.CredentialList, noBody, ok, "list-credentials", "List credentials", op(s.listCredentials)},
		{post, "/api/api-credentials", access.CredentialCreate, formBody, created, "create-credential", "Store a credential", op(s.createCredential)},
		{get, "/api/api-credentials/{id}", access.CredentialList, noBody, ok, "get-credential", "Get a credential's metadata", op(s.getCredential)},
		{put, "/api/api-credentials/{id}", access.CredentialUpdate, formBody, ok, "update-credential", "Change a credential", op(s.updateCredential)},
		{del, "/api/api-credentials/{id}", access.CredentialDelete, noBody, empty, "delete-credential", "Destroy a credential", op(s.deleteCredential)},
		{post, "/api/api-credentials/test", access.CredentialTest, formBody, ok, "test-credential", "Ask the provider whether values work; nothing is stored", op(s.testCredential)},
		{post, "/api/api-credentials/{id}/test", access.CredentialTest, noBody, ok, "test-stored-credential", "Ask the provider whether a stored credential works", op(s.testStoredCredential)},
		{post, "/api/api-credentials/{id}/rotate", access.CredentialRotate, formBody, ok, "rotate-credential", "Put new values in place of the old", op(s.rotateCredential)},
		{post, "/api/api-credentials/{id}/reveal", access.CredentialReveal, smallBody, ok, "reveal-credential", "Show a credential's values to a human", op(s.revealCredential)},
		{get, "/api/api-credentials/{id}/versions", access.CredentialList, noBody, ok, "list-credential-versions", "A credential's history: who made which version, when and why, never what", op(s.listVersions)},
		{post, "/api/api-credentials/{id}/versions", access.CredentialRotate, formBody, created, "stage-credential-version", "Seal new values that are not in use yet", op(s.stageVersion)},
		{post, "/api/api-credentials/{id}/versions/{version}/test", access.CredentialTest, noBody, ok, "test-credential-version", "Ask the provider whether one version works", op(s.testVersion)},
		{post, "/api/api-credentials/{id}/versions/{version}/activate", access.CredentialRotate, smallBody, ok, "activate-credential-version", "Put a staged version in use", op(s.activateVersion)},
		{del, "/api/api-credentials/{id}/versions/{version}", access.CredentialRotate, noBody, empty, "destroy-credential-version", "Destroy a version that is staged or in grace", op(s.destroyVersion)},
		{post, "/api/api-credentials/{id}/rollback", access.CredentialRotate, smallBody, ok, "roll-back-credential", "Bring a version in grace back", op(s.rollBackCredential)},
		{get, "/api/api-credentials/health", access.CredentialList, noBody, ok, "get-credential-health", "Which credentials need attention", op(s.credentialHealth)},

		{get, "/api/webhooks", access.WebhookRead, noBody, ok, "list-webhooks", "List webhooks", op(s.listWebhooks)},
		{post, "/api/webhooks", access.WebhookManage, smallBody, created, "create-webhook", "Make a webhook; the answer holds its signing secret, once", op(s.createWebhook)},
		{get, "/api/webhooks/{id}", access.WebhookRead, noBody, ok, "get-webhook", "Get a webhook", op(s.getWebhook)},
		{put, "/api/webhooks/{id}", access.WebhookManage, smallBody, ok, "update-webhook", "Replace what a webhook says", op(s.updateWebhook)},
		{del, "/api/webhooks/{id}", access.WebhookManage, noBody, empty, "delete-webhook", "Remove a webhook with its deliveries", op(s.deleteWebhook)},
		{post, "/api/webhooks/{id}/rotate", access.WebhookManage, smallBody, ok, "rotate-webhook-secret", "Make a new signing secret; the answer holds it, once", op(s.rotateWebhookSecret)},
		{post, "/api/webhooks/{id}/test", access.WebhookManage, noBody, accepted, "test-webhook", "Send a test message", op(s.testWebhook)},
		{get, "/api/webhooks/{id}/deliveries", access.WebhookRead, noBody, ok, "list-webhook-deliveries", "What was sent, newest first", op(s.webhookDeliveries)},
		{post, "/api/webhooks/{id}/deliveries/{delivery}/replay", access.WebhookManage, noBody, accepted, "replay-webhook-delivery", "Send a message again", op(s.replayDelivery)},

		{get, "/api/services", access.None, noBody, ok, "list-services", "List the catalogue of services, for forms", op(s.listServices)},
		{get, "/api/services/{name}", access.None, noBody, ok, "get-service", "Get one service of the catalogue", op(s.getService)},

		{get, "/api/rate-limit/status", access.None, noBody, ok, "get-rate-limit", "Where your address and organization stand", op(s.ownLimits)},
		{post, "/api/rate-limit/reset", access.LimitReset, smallBody, ok, "reset-rate-limit", "Forget what was counted for a subject", op(s.resetLimit)},
		{get, "/api/rate-limit/admin/status/{type}/{key}", access.LimitRead, noBody, ok, "get-subject-rate-limit", "Where any subject stands", op(s.subjectLimit)},
		{post, "/api/rate-limit/check", access.LimitRead, smallBody, ok, "check-rate-limit", "Decide on a request that does not go through Gatehouse", op(s.checkLimit)},
		{post, "/api/rate-limit/check/batch", access.LimitRead, formBody, ok, "check-rate-limits", "Decide on several such requests", op(s.checkLimits)},
		{get, "/api/rate-limit/top", access.LimitRead, noBody, ok, "list-limit-offenders", "Whom this instance refused most within the last hour (operators)", op(s.topOffenders)},
		{get, "/api/rate-limit/policies", access.LimitRead, noBody, ok, "list-limit-policies", "List rate limit policies", op(s.listPolicies)},
		{post, "/api/rate-limit/policies", access.LimitUpdate, smallBody, created, "create-limit-policy", "Make a rate limit policy", op(s.createPolicy)},
		{get, "/api/rate-limit/policies/{id}", access.LimitRead, noBody, ok, "get-limit-policy", "Get a rate limit policy", op(s.getPolicy)},
		{put, "/api/rate-limit/policies/{id}", access.LimitUpdate, smallBody, ok, "update-limit-policy", "Replace what a rate limit policy says", op(s.updatePolicy)},
		{del, "/api/rate-limit/policies/{id}", access.LimitUpdate, noBody, empty, "delete-limit-policy", "Remove a rate limit policy", op(s.deletePolicy)},
		{get, "/api/rate-limit/policies/{id}/revisions", access.LimitRead, noBody, ok, "list-limit-policy-revisions", "What a rate limit policy said before", op(s.policyRevisions)},
		{post, "/api/rate-limit/policies/{id}/rollback", access.LimitUpdate, smallBody, ok, "roll-back-limit-policy", "Bring a rate limit policy back to what it said before", op(s.rollBackPolicy)},

		{get, usageRoute, access.UsageOwn, noBody, ok, "get-usage", "Requests and tokens, by service, model, credential, member and hour", op(s.usage)},

		{get, "/api/audit/events", access.AuditRead, noBody, ok, "list-events", "Read the audit trail, newest first", op(s.listEvents)},
		{get, "/api/audit/export", access.AuditExport, noBody, ok, "export-events", "Export the audit trail as NDJSON or CSV, with a manifest", op(s.exportEvents)},
		{get, "/api/audit/tail", access.AuditRead, noBody, ok, "tail-events", "Follow the audit trail live (server-sent events)", op(s.tailEvents)},
		{get, "/api/audit/schema", access.None, noBody, ok, "get-event-schema", "The JSON Schema of an event", op(s.eventSchema)},
		{get, "/api/audit/sinks", access.AuditRead, noBody, ok, "list-audit-sinks", "How far the delivery of the trail to webhooks has come", op(s.listSinks)},
		{del, "/api/audit/persons/{person}", access.MemberManage, noBody, ok, "erase-person", "Take a person's addresses, user agents and names off all events", op(s.erasePerson)},
		{get, "/api/audit/verify", access.AuditVerify, noBody, ok, "verify-audit", "Verify the audit trail: every event, hash, block and signature", op(s.verifyAudit)},
		{get, "/api/audit/checkpoint", access.AuditVerify, noBody, ok, "get-audit-checkpoint", "The latest signed checkpoints of the audit trail, to keep elsewhere", op(s.auditCheckpoint)},
		{get, "/api/audit/events/{id}/proof", access.AuditVerify, noBody, ok, "prove-event", "Prove that an event is in the audit trail, to be checked offline", op(s.proveEvent)},
		{get, "/api/audit/keys", access.None, noBody, ok, "list-audit-keys", "The public keys that checkpoints are signed with", op(s.auditKeys)},
		{post, "/api/audit/keys/rotate", access.KeyRotate, noBody, created, "rotate-audit-key", "Sign checkpoints with a new key", op(s.rotateAuditKey)},

		{get, "/api/members", access.MemberRead, noBody, ok, "list-members", "List the members of whom something is known", op(s.listMembers)},
		{get, "/api/members/{member}", access.MemberRead, noBody, ok, "get-member", "Get what is known of a member", op(s.getMember)},
		{put, "/api/members/{member}", access.MemberManage, smallBody, ok, "update-member", "Make a member known, or change it: name, address, roles, disabled", op(s.updateMember)},
		{del, "/api/members/{member}", access.MemberManage, noBody, empty, "delete-member", "Forget a member, end its tokens, and keep it out", op(s.deleteMember)},
		{get, "/api/roles", access.RoleRead, noBody, ok, "list-roles", "List roles and what they grant", op(s.listRoles)},
		{post, "/api/roles", access.RoleManage, smallBody, created, "create-role", "Make a role", op(s.createRole)},
		{put, "/api/roles/{role}", access.RoleManage, smallBody, ok, "update-role", "Replace what a role says", op(s.updateRole)},
		{del, "/api/roles/{role}", access.RoleManage, noBody, empty, "delete-role", "Delete a role", op(s.deleteRole)},
		{get, "/api/tokens", access.TokenRead, noBody, ok, "list-tokens", "List service tokens, newest first", op(s.listTokens)},
		{post, "/api/tokens", access.TokenManage, smallBody, created, "create-token", "Make a service token; the answer holds it, once", op(s.createToken)},
		{get, "/api/tokens/{token}", access.TokenRead, noBody, ok, "get-token", "Get a service token, without the token", op(s.getToken)},
		{del, "/api/tokens/{token}", access.TokenManage, noBody, empty, "revoke-token", "Revoke a service token", op(s.revokeToken)},
		{post, "/api/access/check", access.None, smallBody, ok, "check-access", "Explain a decision: whether a permission is held, and by which role", op(s.checkAccess)},

		{get, "/api/retention/policy", access.RetentionRead, noBody, ok, "get-retention-policy", "How long the organization's data is kept", op(s.getRetention)},
		{put, "/api/retention/policy", access.RetentionManage, smallBody, ok, "set-retention-policy", "Replace how long the organization's data is kept", op(s.putRetention)},
		{get, "/api/retention/bounds", access.RetentionRead, noBody, ok, "get-retention-bounds", "The operator's floors and ceilings over every policy", op(s.getRetentionBounds)},
		{put, "/api/retention/bounds", access.RetentionManage, smallBody, ok, "set-retention-bounds", "Replace the floors and ceilings (operators)", op(s.putRetentionBounds)},
		{get, "/api/retention/presets", access.RetentionRead, noBody, ok, "list-retention-presets", "Lengths that serve known rules, each with its source", op(s.retentionPresets)},
		{post, "/api/retention/preview", access.RetentionRead, smallBody, ok, "preview-retention", "What a sweep would remove, under the present policy or another", op(s.previewRetention)},
		{get, "/api/retention/holds", access.RetentionRead, noBody, ok, "list-holds", "List legal holds", op(s.listHolds)},
		{post, "/api/retention/holds", access.HoldManage, smallBody, created, "place-hold", "Place a legal hold: what it names stays, whatever policies say", op(s.placeHold)},
		{del, "/api/retention/holds/{id}", access.HoldManage, noBody, empty, "release-hold", "End a legal hold", op(s.releaseHold)},
		{get, "/api/retention/held", access.AuditRead, noBody, ok, "list-held-events", "Events that legal holds set aside, each with its proof", op(s.heldEvents)},
		{get, "/api/retention/certificates", access.RetentionRead, noBody, ok, "list-retention-certificates", "What sweeps removed, signed", op(s.retentionCertificates)},

		{get, "/api/organizations", access.OrgManage, noBody, ok, "list-organizations", "List organizations", op(s.listOrganizations)},
		{post, "/api/organizations", access.OrgManage, smallBody, created, "create-organization", "Make an organization", op(s.createOrganization)},
		{del, "/api/organizations/{id}", access.OrgManage, noBody, empty, "delete-organization", "Destroy everything sealed for an organization; its id stays dead, its trail remains", op(s.deleteOrganization)},

		{get, "/api/keys", access.KeyRead, noBody, ok, "get-keys", "Master keys, what hangs on each, and who holds them", op(s.getKeys)},
		{post, "/api/keys/stage", access.KeyRotate, smallBody, ok, "stage-key", "Make the new ENCRYPTION_KEY of this instance known as a key", op(s.stageKey)},
		{post, "/api/keys/rotate", access.KeyRotate, smallBody, accepted, "rotate-keys", "Seal under another key and move everything to it", op(s.rotateKeys)},
		{post, "/api/keys/stop", access.KeyRotate, noBody, ok, "stop-key-rotation", "Stop the running rotation; rotate goes on with the rest", op(s.stopRotation)},
		{post, "/api/keys/verify", access.KeyRead, smallBody, ok, "verify-keys", "Open sealed values and name those that do not open", op(s.verifyKeys)},
		{post, "/api/keys/{id}/retire", access.KeyRotate, smallBody, ok, "retire-key", "End a key that nothing hangs on", op(s.retireKey)},
	}
}

// handler registers an operation for a route.
type handler func(s *Server, rt route)

// op makes a handler of a function over a caller: the edge around every
// operation, in one place.
func op[I, O any](fn func(ctx context.Context, caller access.Caller, in *I) (*O, error)) handler {
	return func(s *Server, rt route) {
		huma.Register(s.api, s.operation(rt), func(ctx context.Context, in *I) (*O, error) {
			x := exchangeOf(ctx)
			ctx, cancel := s.bounded(ctx, x)
			defer cancel()
			out, err := fn(ctx, x.caller, in)
			if err != nil {
				p := s.problemOf(ctx, x, err)
				if r, ok := ctx.Value(rawRequestKey{}).(*http.Request); ok {
					s.noteRefused(r, x, err)
				}
				return nil, p
			}
			return out, nil
		})
	}
}

// noInput is the input of an operation that takes none.
type noInput struct{}

// orNothing gives a body that may be left out, as it is or empty.
func orNothing[T any](body *T) T {
	if body == nil {
		return *new(T)
	}
	return *body
}

// operationTimeout bounds one operation, so that a database that hangs does not
// hold requests for good.
const operationTimeout = 30 * time.Second

// bounded gives an operation what is left of its time, which begins with its request: to
// find out who is calling may take seconds, too.
func (s *Server) bounded(ctx context.Context, x *exchange) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, operationTimeout-s.now().Sub(x.start))
}

type rawRequestKey struct{}

func (s *Server) operation(rt route) huma.Operation {
	tag := strings.Split(strings.TrimPrefix(rt.path, "/api/"), "/")[0]
	o := huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.name, Summary: rt.summary, Tags: []string{tag},
		DefaultStatus: rt.status, MaxBodyBytes: rt.body, BodyReadTimeout: 15 * time.Second,
		Security:    []map[string][]string{{"bearer": {}}},
		Errors:      []int{400, 401, 403, 422, 429, 500, 503},
		Middlewares: huma.Middlewares{s.door(rt)},
		Extensions:  map[string]any{"x-permission": rt.permission.String()},
	}
	if strings.Contains(rt.path, "{") {
		o.Errors = append(o.Errors, http.StatusNotFound)
	}
	if rt.body > 0 {
		o.Errors = append(o.Errors, http.StatusRequestEntityTooLarge)
	}
	if changes := rt.permission != access.None && !strings.HasSuffix(rt.permission.String(), ":read"); changes && rt.method != http.MethodGet {
		o.Errors = append(o.Errors, http.StatusConflict)
	}
	return o
}

// describeConditions says in the API document what is answered to a change that
// If-Match means for another state.
func (s *Server) describeConditions() {
	for _, item := range s.api.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Post, item.Put, item.Delete} {
			if o != nil && slices.ContainsFunc(o.Parameters, func(p *huma.Param) bool { return p.Name == "If-Match" }) {
				status := http.StatusPreconditionFailed
				o.Responses[strconv.Itoa(status)] = &huma.Response{Description: http.StatusText(status), Content: o.Responses[strconv.Itoa(http.StatusBadRequest)].Content}
			}
		}
	}
}

// door lets a request in to its route: a caller is made of it, and the route's
// permission checked, before any of its body is read.
func (s *Server) door(rt route) func(huma.Context, func(huma.Context)) {
	return func(hctx huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hctx)
		x := exchangeOf(r.Context())
		x.route, x.request.Route, x.request.Status = rt.path, rt.path, rt.status
		err := s.authenticate(r, x)
		if err == nil {
			err = s.permit(r, x, rt.permission)
		}
		if err == nil {
			err = checkQuery(r.URL.RawQuery)
		}
		if err == nil {
			err = checkParameters(r.URL.Query(), hctx.Operation())
		}
		if err != nil {
			s.refuse(w, r, x, err)
			return
		}
		x.accept = r.Header.Get("Accept")
		r.Header.Del("Accept") // the answer is JSON whatever it says; huma would name the type after it
		foldMediaType(r.Header)
		next(huma.WithValue(hctx, rawRequestKey{}, r))
	}
}

// foldMediaType writes the type of a body as huma compares it: in lower case
// (RFC 9110, 8.3.1), with nothing before the semicolon.
func foldMediaType(h http.Header) {
	media, parameters, more := strings.Cut(h.Get("Content-Type"), ";")
	media = strings.ToLower(strings.TrimSpace(media))
	if more {
		media += ";" + parameters
	}
	if media != "" {
		h.Set("Content-Type", media)
	}
}

// register builds the API and the mux.
func (s *Server) register() {
	registry := huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer)
	registry.RegisterTypeAlias(reflect.TypeFor[api.Time](), reflect.TypeFor[time.Time]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Optional[string]](), reflect.TypeFor[*string]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Optional[bool]](), reflect.TypeFor[*bool]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Optional[api.Scope]](), reflect.TypeFor[*api.Scope]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Optional[[]string]](), reflect.TypeFor[[]string]())
	registry.RegisterTypeAlias(reflect.TypeFor[api.Optional[api.Time]](), reflect.TypeFor[*time.Time]())
	config := huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI: "3.1.0",
			Info: &huma.Info{Title: "Gatehouse", Version: s.cfg.Version,
				Description: "Keeps each organization's third-party API keys, decides which chat requests may pass, puts the right key on each that does, and keeps the trail."},
			Components: &huma.Components{
				Schemas: registry,
				SecuritySchemes: map[string]*huma.SecurityScheme{
					"bearer": {Type: "http", Scheme: "bearer", BearerFormat: "JWT",
						Description: "A service token (gth_...), or a JWT with sub, organizationId, roles and exp. SDKs may send it as x-api-key, api-key, x-goog-api-key, Authorization: token ... (GitHub's) or the password of Basic."},
				},
			},
		},
		Formats:       map[string]huma.Format{"application/json": strictJSON, "json": strictJSON},
		DefaultFormat: "application/json",
		// No CreateHooks: they would add a $schema member to every answer.
	}
	s.api = humago.New(s.mux, config)
	for _, rt := range s.routes() {
		rt.handle(s, rt)
	}
	s.describeConditions()
	s.describeGateway()
	s.describeAuthRequest()
	s.describeUsage()
	s.describeStreams()
	s.fieldNames = s.knownFieldNames()
	s.registerInstance()
	s.registerDocs()
	s.mux.HandleFunc("GET "+authRoute, s.authRequest)
	s.mux.HandleFunc("/", s.notFound)
}

// knownFieldNames gives every name that the API itself uses: of fields,
// parameters, of the catalogue, and classes of retention. Only these may stand in an error.
func (s *Server) knownFieldNames() map[string]bool {
	known := make(map[string]bool)
	for _, schema := range s.api.OpenAPI().Components.Schemas.Map() {
		for name := range schema.Properties {
			known[name] = true
		}
	}
	for _, item := range s.api.OpenAPI().Paths {
		for _, o := range []*huma.Operation{item.Get, item.Post, item.Put, item.Delete} {
			if o == nil {
				continue
			}
			for _, p := range o.Parameters {
				known[p.Name] = true
			}
		}
	}
	for _, service := range s.cfg.Catalog.Services() {
		for _, f := range service.Fields {
			known[f.Name] = true
		}
	}
	for _, class := range retention.Classes() {
		known[string(class)] = true
	}
	return known
}
