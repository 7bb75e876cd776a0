package gatehousetest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"
)

// Intercom starts a fake of api.intercom.io: GET /me, whose app.region is what [Region] says, GET /contacts, paged
// by per_page and starting_after. It repeats Intercom-Version, and each answer to a valid token carries X-RateLimit-Limit,
// -Remaining and -Reset (Unix seconds), the very names that a gateway may use for its own. The last of them is also all that a 429
// says about when to come back: no Retry-After is documented. Scopes are "contacts:read" and
// "contacts:write".
//
// Sources: the API reference (Identify an admin, List all contacts, Error codes, Rate limiting, Pagination).
func Intercom(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &intercom{region: c.region, contacts: c.items}
	return startProvider(t, dialect{
		prefix:     "dG9r",
		credential: bearer,
		header: func(h http.Header) {
			h.Set("X-Request-Id", newID(""))
			h.Set("X-Ratelimit-Limit", "167") // in ten seconds
			h.Set("X-Ratelimit-Remaining", "166")
			h.Set("X-Ratelimit-Reset", strconv.Itoa(epoch))
		},
		refuse: f.refuse,
		routes: []route{
			{pattern: "GET /me", serve: f.me},
			{pattern: "POST /contacts", scope: "contacts:write", serve: f.createContact},
			{pattern: "GET /contacts", scope: "contacts:read", serve: f.listContacts},
		},
	}, c)
}

type intercom struct {
	region   string
	contacts int
}

func (f *intercom) refuse(w http.ResponseWriter, _ *http.Request, why refusal) {
	fail := func(status int, code, message string) {
		writeJSON(w, status, object{"type": "error.list", "request_id": w.Header().Get("X-Request-Id"),
			"errors": []object{{"code": code, "message": message}}})
	}
	switch why.kind {
	case noKey, wrongKey:
		for _, name := range []string{"X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"} {
			w.Header().Del(name)
		}
		fail(401, "unauthorized", "Access Token Invalid")
	case missingScope:
		fail(403, "action_forbidden", "The access token lacks the permission "+why.scope)
	case notFound:
		fail(404, "not_found", "The requested resource does not exist")
	case badRequest:
		fail(400, "parameter_invalid", why.detail)
	case rateLimited, outOfQuota:
		w.Header().Set("X-Ratelimit-Remaining", "0")
		w.Header().Set("X-Ratelimit-Reset", strconv.FormatInt(time.Now().Add(why.after).Unix()+1, 10))
		fail(429, "rate_limit_exceeded", "Exceeded rate limit of 167 in 10_seconds")
	case overloaded:
		fail(503, "service_unavailable", "Sorry, the API service is temporarily unavailable")
	case serverError:
		fail(500, "server_error", "An internal server error occurred")
	}
}

// version repeats the version of the API that the request asks for.
func (f *intercom) version(w http.ResponseWriter, r *http.Request) {
	v := r.Header.Get("Intercom-Version")
	if v == "" {
		v = "2.14"
	}
	w.Header().Set("Intercom-Version", v)
}

func (f *intercom) me(w http.ResponseWriter, r *http.Request) {
	f.version(w, r)
	writeJSON(w, 200, object{"type": "admin", "id": "1295", "email": "admin@example.com", "name": "Admin", "email_verified": true,
		"app": object{"type": "app", "id_code": "fake1234", "name": "Fake workspace", "created_at": epoch, "secure": false,
			"identity_verification": false, "timezone": "Etc/UTC", "region": f.region},
		"avatar": object{"type": "avatar", "image_url": nil}, "has_inbox_seat": true})
}

func (f *intercom) createContact(w http.ResponseWriter, r *http.Request) {
	f.version(w, r)
	var in struct{ Email string }
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Email == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "email or external_id is required"})
		return
	}
	writeJSON(w, 200, object{"type": "contact", "id": newID(""), "role": "user", "email": in.Email, "created_at": epoch,
		"updated_at": epoch, "workspace_id": "fake1234"})
}

func (f *intercom) listContacts(w http.ResponseWriter, r *http.Request) {
	f.version(w, r)
	size := number(r, "per_page", 50, 1, 150)
	from := number(r, "starting_after", 0, 0, f.contacts)
	to := min(from+size, f.contacts)
	data := []object{}
	for i := from; i < to; i++ {
		data = append(data, object{"type": "contact", "id": fmt.Sprintf("contact-%04d", i), "role": "user",
			"email": fmt.Sprintf("contact%d@example.com", i), "created_at": epoch, "updated_at": epoch, "workspace_id": "fake1234"})
	}
	pages := object{"type": "pages", "page": from/size + 1, "per_page": size, "total_pages": (f.contacts + size - 1) / size}
	if to < f.contacts {
		pages["next"] = object{"page": from/size + 2, "starting_after": strconv.Itoa(to)}
	}
	writeJSON(w, 200, object{"type": "list", "data": data, "total_count": f.contacts, "pages": pages})
}
