package gatehousetest

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Stripe starts a fake of api.stripe.com: GET /v1/charges (empty), GET and POST /v1/customers, and GET /v1/customers/{id}; and of
// files.stripe.com: POST /v1/files and GET /v1/quotes/{id}/pdf (binary, in chunks).
// Requests are form-encoded and lists are newest first, paged by limit, starting_after and ending_before. An Idempotency-Key
// makes a repeated POST give the first answer again. The key comes as Bearer or as the user of Basic. Scopes are "rak_charge_read",
// "rak_customer_read" and "rak_customer_write"; a key that lacks one gets 403.
//
// Sources: the API reference (Authentication, Errors, Pagination, Idempotent requests, Request IDs, Customers) and the source of stripe-go.
func Stripe(t testing.TB, opts ...Option) *Provider {
	t.Helper()
	c := newConfig(opts)
	f := &stripe{replies: map[string]stripeReply{}}
	for i := range c.items {
		f.customers = append(f.customers, stripeCustomer(fmt.Sprintf("cus_fake%04d", i),
			url.Values{"email": {fmt.Sprintf("customer%d@example.com", i)}}))
	}
	return startProvider(t, dialect{
		prefix:     "sk_test_",
		credential: f.credential,
		header: func(h http.Header) {
			h.Set("Request-Id", newID("req_"))
			h.Set("Stripe-Version", "2025-09-30.clover")
		},
		refuse: f.refuse,
		routes: []route{
			{pattern: "GET /v1/charges", scope: "rak_charge_read", serve: func(w http.ResponseWriter, r *http.Request) { f.list(w, r, nil) }},
			{pattern: "GET /v1/customers", scope: "rak_customer_read", serve: f.listCustomers},
			{pattern: "GET /v1/customers/{id}", scope: "rak_customer_read", serve: f.getCustomer},
			{pattern: "POST /v1/customers", scope: "rak_customer_write", serve: f.createCustomer},
			{pattern: "POST /v1/files", scope: "rak_file_write", serve: f.upload},
			{pattern: "GET /v1/quotes/{id}/pdf", scope: "rak_quote_read", serve: f.quotePDF},
		},
	}, c)
}

type stripe struct {
	state     sync.Mutex
	customers []object               // oldest first
	replies   map[string]stripeReply // by key and Idempotency-Key
}

// A stripeReply is what a POST with an Idempotency-Key got.
type stripeReply struct {
	form, requestID string
	body            object
}

func (f *stripe) credential(r *http.Request) string {
	if user, _, ok := r.BasicAuth(); ok {
		return user
	}
	return bearer(r)
}

func (f *stripe) refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	fail := func(status int, fields object) { writeJSON(w, status, object{"error": fields}) }
	const invalid = "invalid_request_error"
	switch why.kind {
	case noKey:
		w.Header().Set("Www-Authenticate", `Basic realm="Stripe"`)
		fail(401, object{"type": invalid, "message": "You did not provide an API key. You need to provide your API key in the " +
			"Authorization header, using Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY')."})
	case wrongKey:
		w.Header().Set("Www-Authenticate", `Basic realm="Stripe"`)
		fail(401, object{"type": invalid, "message": "Invalid API Key provided: " + masked(why.key)})
	case missingScope:
		fail(403, object{"type": invalid, "message": fmt.Sprintf("The provided key '%s' does not have the required permissions for this "+
			"endpoint on account 'acct_fake'. Having the '%s' permission would allow this request to continue.", masked(why.key), why.scope)})
	case notFound:
		fail(404, object{"type": invalid, "message": "Unrecognized request URL (" + r.Method + ": " + r.URL.Path + ")."})
	case badRequest:
		fail(400, object{"type": invalid, "message": why.detail})
	case rateLimited, outOfQuota:
		if why.kind == rateLimited {
			w.Header().Set("Retry-After", seconds(why.after))
		}
		w.Header().Set("Stripe-Rate-Limited-Reason", "global-rate")
		fail(429, object{"type": invalid, "code": "rate_limit", "message": "Request rate limit exceeded."})
	case overloaded:
		fail(503, object{"type": "api_error", "message": "The service is temporarily unavailable."})
	case serverError:
		fail(500, object{"type": "api_error", "message": "An unknown error occurred"})
	}
}

func stripeCustomer(id string, form url.Values) object {
	text := func(name string) any {
		if v := form.Get(name); v != "" {
			return v
		}
		return nil
	}
	metadata := map[string]string{}
	for name := range form {
		if key, ok := strings.CutPrefix(name, "metadata["); ok {
			metadata[strings.TrimSuffix(key, "]")] = form.Get(name)
		}
	}
	return object{"id": id, "object": "customer", "created": epoch, "livemode": false, "balance": 0, "delinquent": false,
		"email": text("email"), "name": text("name"), "description": text("description"), "metadata": metadata}
}

func (f *stripe) createCustomer(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		f.refuse(w, r, refusal{kind: badRequest, detail: "Invalid request: send the parameters form-encoded."})
		return
	}
	f.state.Lock()
	defer f.state.Unlock()
	form, once := r.PostForm.Encode(), r.Header.Get("Idempotency-Key") // Encode sorts by name
	if once != "" {
		w.Header().Set("Idempotency-Key", once)
		if first, ok := f.replies[f.credential(r)+" "+once]; ok {
			w.Header().Set("Original-Request", first.requestID)
			if first.form != form {
				writeJSON(w, 400, object{"error": object{"type": "idempotency_error", "message": "Keys for idempotent requests can only be used " +
					"with the same parameters they were first used with. Try using a key other than '" + once + "' if you meant to execute a different request."}})
				return
			}
			w.Header().Set("Idempotent-Replayed", "true")
			writeJSON(w, 200, first.body)
			return
		}
	}
	customer := stripeCustomer(newID("cus_"), r.PostForm)
	f.customers = append(f.customers, customer)
	if once != "" {
		f.replies[f.credential(r)+" "+once] = stripeReply{form: form, requestID: w.Header().Get("Request-Id"), body: customer}
	}
	writeJSON(w, 200, customer)
}

func (f *stripe) listCustomers(w http.ResponseWriter, r *http.Request) {
	f.state.Lock()
	newestFirst := slices.Clone(f.customers)
	f.state.Unlock()
	slices.Reverse(newestFirst)
	f.list(w, r, newestFirst)
}

func (f *stripe) getCustomer(w http.ResponseWriter, r *http.Request) {
	f.state.Lock()
	defer f.state.Unlock()
	i := byID(f.customers, r.PathValue("id"))
	if i < 0 {
		f.missing(w, r.PathValue("id"), "id")
		return
	}
	writeJSON(w, 200, f.customers[i])
}

// upload takes a file as multipart/form-data and keeps nothing of it.
func (f *stripe) upload(w http.ResponseWriter, r *http.Request) {
	file, header, err := r.FormFile("file")
	if err != nil || r.FormValue("purpose") == "" {
		f.refuse(w, r, refusal{kind: badRequest, detail: "Missing required param: file."})
		return
	}
	size, err := io.Copy(io.Discard, file)
	if err != nil {
		f.refuse(w, r, refusal{kind: badRequest, detail: "The file could not be read."})
		return
	}
	writeJSON(w, 200, object{"id": newID("file_"), "object": "file", "created": epoch, "filename": header.Filename, "purpose": r.FormValue("purpose"),
		"size": size, "type": "pdf", "title": nil, "url": nil})
}

// quotePDF is binary, of 100,000 bytes, and of no length that is said.
func (f *stripe) quotePDF(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/pdf")
	for range 100 {
		_, _ = w.Write(bytes.Repeat([]byte{0, 0xff, '\r', '\n', '%'}, 200))
		_ = http.NewResponseController(w).Flush()
	}
}

func (f *stripe) list(w http.ResponseWriter, r *http.Request, all []object) {
	q, limit := r.URL.Query(), number(r, "limit", 10, 1, 100)
	from, to := 0, len(all)
	for _, name := range []string{"starting_after", "ending_before"} {
		id := q.Get(name)
		if id == "" {
			continue
		}
		i := byID(all, id)
		if i < 0 {
			f.missing(w, id, name)
			return
		}
		if name == "starting_after" {
			from = i + 1
		} else {
			from, to = max(0, i-limit), i
		}
	}
	more := to-from > limit
	if q.Get("ending_before") != "" {
		more = from > 0
	}
	data := append([]object{}, all[from:min(from+limit, to)]...)
	writeJSON(w, 200, object{"object": "list", "url": r.URL.Path, "has_more": more, "data": data})
}

func (f *stripe) missing(w http.ResponseWriter, id, param string) {
	writeJSON(w, 404, object{"error": object{"type": "invalid_request_error", "code": "resource_missing", "param": param,
		"message": "No such customer: '" + id + "'"}})
}

func byID(all []object, id string) int {
	return slices.IndexFunc(all, func(o object) bool { return o["id"] == id })
}
