package gateway

import (
	"context"
	"errors"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// ScopeDenied is [Result.Reason] of a request that the credential's scope does
// not take.
const ScopeDenied = "scope_denied"

// What a scope denies a request for, as [Result.Scope] says it.
const (
	scopeCaller  = "caller"
	scopeMethod  = "method"
	scopePath    = "path"
	scopeModel   = "model"
	scopeUnnamed = "model_unreadable"
)

// scopeMessages say what to do; none holds anything of the request.
var scopeMessages = map[string]string{
	scopeCaller: "The scope of the organization's credential for this service does not take you. Ask for another member or role in it (PUT /api/api-credentials/{id}).",
	scopeMethod: "The scope of the organization's credential for this service does not take this method. Whoever may update the credential can widen it (PUT /api/api-credentials/{id}).",
	scopePath: "The scope of the organization's credential for this service does not take this path. A credential without paths of its own takes inference and lists of models only; " +
		`whoever may update it can widen it (PUT /api/api-credentials/{id} with "scope":{"paths":[...]}).`,
	scopeModel: "The scope of the organization's credential for this service does not take this model. Whoever may update the credential can widen it (PUT /api/api-credentials/{id}).",
	scopeUnnamed: "The scope of the organization's credential for this service names models, and the model of this request cannot be told. " +
		"Send one JSON object as application/json, not compressed, that names the model once.",
}

// allowed says whether c's scope takes the request, before c is opened. Nothing
// of the request is in the error.
func (t *transfer) allowed(c Credential, body *payload) error {
	scope := c.Scope
	if scope == nil {
		scope = t.service.DefaultScope()
	}
	why := ""
	switch {
	case !scope.AllowsCaller(t.visit.Caller.ID, t.visit.Caller.RoleNames()):
		why = scopeCaller
	case !scope.AllowsMethod(t.r.Method):
		why = scopeMethod
	case !scope.AllowsPath(t.r.Method, "/"+t.visit.Path):
		why = scopePath
	case len(scope.Models) > 0 && t.crowded(body):
		return errBusy
	case len(scope.Models) > 0:
		why = t.modelDenied(scope, body)
	}
	if why == "" {
		return nil
	}
	t.result.Scope = why
	message := scopeMessages[why]
	if why == scopeUnnamed && body.spooled() {
		message = "The scope of the organization's credential for this service names models, and nobody looks for the model in a body of more than " +
			sizeOf(t.gateway.limits.memory) + ". Send less in one request."
	}
	return fault.New(fault.Denied, ScopeDenied, message)
}

// modelDenied says why a scope with models does not take the request; "" where
// it does. Every model that the request names must be one of them, wherever it
// stands: a provider may go by another place than we do.
func (t *transfer) modelDenied(scope *catalog.Scope, body *payload) string {
	if catalog.HasEncodedSlash(t.visit.Path) {
		return scopeUnnamed // the model of a path is another to who takes the slash for a separator
	}
	reads := t.r.Method == http.MethodGet || t.r.Method == http.MethodHead || t.r.Method == http.MethodOptions
	header := t.toProvider() // the caller may have taken some of its own back by Connection
	// Those of tools and of headers do not name the request's, and nor does a query beside a body.
	models, inner := pathModels(t.visit.Path, reads), headerModels(header)
	query, err := url.ParseQuery(t.r.URL.RawQuery)
	if err != nil {
		return scopeUnnamed // two servers may cut it in two ways
	}
	for name, values := range query {
		switch {
		case !strings.EqualFold(name, "model") && !strings.EqualFold(name, "deployment"):
		case body.size == 0:
			models = append(models, values...)
		default:
			inner = append(inner, values...)
		}
	}
	if body.size > 0 {
		named, more, ok := tokens.RequestedModels(body.inMemory()) // one on disk is too long to be a prompt
		if !ok || !saysJSON(header) {
			return scopeUnnamed
		}
		models, inner = append(models, named...), append(inner, more...)
		if t.service.Name == "replicate" {
			for _, version := range tokens.TopLevelTexts(body.inMemory(), "version") { // owner/name:id, or an id alone, which tells nobody of which model it is
				model, _, _ := strings.Cut(version, ":")
				inner = append(inner, model)
			}
		}
	}
	if !reads {
		if why := listedDenied(scope, t.visit.Path); why != "" {
			return why
		}
	}
	if len(models) == 0 && (!reads || body.size != 0) {
		return scopeUnnamed
	}
	for _, model := range append(models, inner...) {
		// Gemini's have models/ in front in a body, and not in a path.
		if !scope.AllowsModel(model) && !scope.AllowsModel(strings.TrimPrefix(model, "models/")) {
			return scopeModel
		}
	}
	return ""
}

// saysJSON says whether the body is declared as plain JSON. What is declared as a
// form, or as compressed, is read in another way by whoever goes by that.
func saysJSON(h http.Header) bool {
	if len(h["Content-Encoding"]) > 0 || len(h["Content-Type"]) != 1 {
		return false
	}
	media, parameters, err := mime.ParseMediaType(h["Content-Type"][0])
	if charset, given := parameters["charset"]; given && !strings.EqualFold(charset, "utf-8") {
		return false
	}
	return err == nil && (media == "application/json" || strings.HasSuffix(media, "+json"))
}

// pathModels gives the models that a path names: Azure OpenAI's deployment, and
// what stands before Gemini's :method, whatever it is called there (models, tunedModels,
// dynamic). What only reads may have an action of another kind. The path has passed validPath.
// It takes more for a model than [operationOf] does, which reads paths as their service does:
// here any server's reading counts.
func pathModels(path string, reads bool) []string {
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	path = strings.TrimRight(path, "/")
	var models []string
	for segments := strings.Split(path, "/"); len(segments) > 1; segments = segments[1:] {
		if strings.EqualFold(segments[0], "deployments") {
			models = append(models, segments[1])
		}
	}
	if !reads || strings.Contains(strings.ToLower(path), "models/") {
		if model, _, ok := strings.Cut(path[strings.LastIndexByte(path, '/')+1:], ":"); ok {
			models = append(models, model)
		}
	}
	return models
}

// listedDenied says why a scope does not take the model that a path names behind models/, as
// Hugging Face and Replicate have it (owner/name, and what is to be done with it), or behind
// what Bedrock and Databricks call it. Such a path asks for that one, whatever the body says.
func listedDenied(scope *catalog.Scope, path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		path = plain
	}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	at := slices.IndexFunc(segments, func(s string) bool { return beforeModels[strings.ToLower(s)] })
	if at < 0 || at+1 == len(segments) || operationsOfModels[strings.ToLower(segments[at+1])] {
		return ""
	}
	named := segments[at+1:]
	for n := 1; n <= min(len(named), 3); n++ {
		model := strings.Join(named[:n], "/")
		bare, _, _ := strings.Cut(model, ":")
		if scope.AllowsModel(model) || scope.AllowsModel(bare) {
			return ""
		}
	}
	return scopeModel
}

// beforeModels are segments that a model stands behind.
var beforeModels = map[string]bool{"models": true, "model": true, "serving-endpoints": true}

// operationsOfModels are segments that stand behind models/ and are no model: Azure's, whose
// bodies name it.
var operationsOfModels = map[string]bool{"chat": true, "completions": true, "embeddings": true, "images": true, "responses": true}

// headerModels gives the models that headers choose for a part of the work.
func headerModels(h http.Header) (models []string) {
	for _, name := range [...]string{"X-Ms-Oai-Image-Generation-Deployment", "X-Grok-Model-Override"} {
		models = append(models, h[name]...)
	}
	return models
}

// ready opens c where it was not, after its scope has let the request pass.
func (c *Credential) ready(ctx context.Context) error {
	if c.Injection == nil && c.Open != nil {
		var err error
		if c.Injection, err = c.Open(ctx); err != nil {
			return err
		}
	}
	if c.Injection == nil {
		return fault.New(fault.Internal, "internal_error", "internal error").Because(errors.New("gateway: the opener gave no injection"))
	}
	return nil
}
