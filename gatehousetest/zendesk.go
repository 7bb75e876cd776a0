package gatehousetest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"
)

// Zendesk starts a fake of one {subdomain}.zendesk.com: GET /api/v2/users.json (offset pages, whose next_page is an absolute
// link to the host that was asked) and GET /api/v2/users/me.json, which also answers, 200, to nobody: its user then has the id
// null, and POST /api/v2/uploads.json?filename=, whose body is the file. The credential is Basic with [User] + "/token" and the API token, or an OAuth access token as Bearer. Scopes are "users:read" and "users:write".
//
// A wrong credential at users/me.json is taken for an anonymous caller. The reference does not say so; integrators
// report it (node-zendesk: users answer 401, users/me a guest), and it is the harsher of the two for a tester of credentials.
//
// Sources: the API reference (Security and authentication, Users, Pagination, Rate limits).
func Zendesk(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &zendesk{email: c.user, users: c.items}
	f.Provider = startProvider(t, dialect{
		credential: f.credential,
		header: func(h http.Header) {
			h.Set("X-Zendesk-Request-Id", newID(""))
			h.Set("X-Rate-Limit", "700")
			h.Set("X-Rate-Limit-Remaining", "699")
			h.Set("Ratelimit-Limit", "700")
			h.Set("Ratelimit-Remaining", "699")
			h.Set("Ratelimit-Reset", "41")
		},
		refuse: f.refuse,
		routes: []route{
			{pattern: "GET /api/v2/users.json", scope: "users:read", serve: f.listUsers},
			{pattern: "GET /api/v2/users", scope: "users:read", serve: f.listUsers},
			{pattern: "POST /api/v2/users.json", scope: "users:write", serve: f.createUser},
			{pattern: "POST /api/v2/users", scope: "users:write", serve: f.createUser},
			{pattern: "POST /api/v2/uploads.json", scope: "uploads:write", serve: f.upload},
			{pattern: "POST /api/v2/uploads", scope: "uploads:write", serve: f.upload},
			{pattern: "GET /api/v2/users/me.json", open: true, serve: f.me},
			{pattern: "GET /api/v2/users/me", open: true, serve: f.me},
		},
	}, c)
	return f.Provider
}

type zendesk struct {
	*Provider
	email string
	users int
}

// credential gives the token of the one user there is; another user's is no key.
func (f *zendesk) credential(r *http.Request) string {
	user, token, ok := r.BasicAuth()
	switch {
	case !ok:
		return bearer(r)
	case user == f.email+"/token":
		return token
	default:
		return "\x00" + user // something, but never a key
	}
}

func (f *zendesk) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	switch why.kind {
	case noKey, wrongKey:
		w.Header().Set("Www-Authenticate", `Basic realm="Web Password"`)
		writeJSON(w, 401, object{"error": "Couldn't authenticate you"})
	case missingScope:
		writeJSON(w, 403, object{"error": "Forbidden", "description": "You are missing the following required scopes: " + why.scope})
	case notFound:
		writeJSON(w, 404, object{"error": "InvalidEndpoint", "description": "Not found"})
	case badRequest:
		writeJSON(w, 400, object{"error": "BadRequest", "description": why.detail})
	case rateLimited, outOfQuota:
		if why.kind == rateLimited {
			w.Header().Set("Retry-After", seconds(why.after))
		}
		w.Header().Set("X-Rate-Limit-Remaining", "0")
		w.Header().Set("Ratelimit-Remaining", "0")
		writeJSON(w, 429, object{"error": "APIRateLimitExceeded",
			"description": "Number of allowed API requests per minute exceeded"})
	case overloaded:
		writeJSON(w, 503, object{"error": "ServiceUnavailable", "description": "Please try again in a moment"})
	case serverError:
		writeJSON(w, 500, object{"error": "InternalError", "description": "An error occurred"})
	}
}

func (f *zendesk) user(r *http.Request, i int) object {
	id := 9000000000 + i
	at := time.Unix(epoch, 0).UTC().Format(time.RFC3339)
	email := fmt.Sprintf("user%d@example.com", i)
	if i == 0 {
		email = f.email
	}
	return object{"id": id, "url": origin(r) + "/api/v2/users/" + strconv.Itoa(id) + ".json", "name": "User " + strconv.Itoa(i),
		"email": email, "role": "agent", "active": true, "verified": true, "created_at": at, "updated_at": at}
}

func (f *zendesk) me(w http.ResponseWriter, r *http.Request) {
	if !f.accepts(r) {
		writeJSON(w, 200, object{"user": object{"id": nil, "url": nil, "name": "Anonymous user", "email": "invalid@example.com",
			"role": "end-user", "active": nil, "verified": false, "created_at": nil, "updated_at": nil, "authenticity_token": nil}})
		return
	}
	user := f.user(r, 0)
	user["authenticity_token"] = nil
	writeJSON(w, 200, object{"user": user})
}

func (f *zendesk) createUser(w http.ResponseWriter, r *http.Request) {
	var in struct{ User struct{ Name, Email string } }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.User.Name == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "name: cannot be blank"})
		return
	}
	user := f.user(r, f.users+1)
	user["name"], user["email"], user["role"] = in.User.Name, in.User.Email, "end-user"
	w.Header().Set("Location", fmt.Sprint(user["url"]))
	writeJSON(w, 201, object{"user": user})
}

// upload takes a file as the body and keeps nothing of it.
func (f *zendesk) upload(w http.ResponseWriter, r *http.Request) {
	size, err := io.Copy(io.Discard, r.Body)
	name := r.URL.Query().Get("filename")
	if err != nil || name == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "filename: cannot be blank"})
		return
	}
	writeJSON(w, 201, object{"upload": object{"token": newID(""), "attachment": object{"id": 498483, "file_name": name, "size": size,
		"content_type": r.Header.Get("Content-Type"), "content_url": origin(r) + "/attachments/token/x/?name=" + name}}})
}

func (f *zendesk) listUsers(w http.ResponseWriter, r *http.Request) {
	size, page := number(r, "per_page", 100, 1, 100), number(r, "page", 1, 1, 1<<20)
	users := []object{}
	for i := (page - 1) * size; i < min(page*size, f.users); i++ {
		users = append(users, f.user(r, i))
	}
	link := func(page int) string {
		q := url.Values{"page": {strconv.Itoa(page)}, "per_page": {strconv.Itoa(size)}}
		return origin(r) + r.URL.Path + "?" + q.Encode()
	}
	out := object{"users": users, "count": f.users, "next_page": nil, "previous_page": nil}
	if page*size < f.users {
		out["next_page"] = link(page + 1)
	}
	if page > 1 {
		out["previous_page"] = link(page - 1)
	}
	writeJSON(w, 200, out)
}

// origin is scheme and host as the client asked for them.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}
