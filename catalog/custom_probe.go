package catalog

import (
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
)

var (
	probePath  = regexp.MustCompile(`^(/[A-Za-z0-9_~@-][A-Za-z0-9._~@:-]*)+/?$`)
	probeQuery = regexp.MustCompile(`^[A-Za-z0-9._~=&,:%+-]*$`)
	statusForm = regexp.MustCompile(`^[2-5][0-9][0-9]$`)
)

// probe reads how the service is asked whether a credential works. Without one
// its tests say indeterminate.
func (r *customReader) probe(service place, s *Service) {
	if !service.has("probe") {
		return
	}
	p, ok := at(service.path+".probe", service.members["probe"], service.mistakes, "method", "path", "query", "results")
	if !ok {
		return
	}
	s.probe.method = p.text("method", 8)
	if p.has("method") && !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodPost}, s.probe.method) {
		p.fail("method", "must be GET, HEAD or POST (which is sent without a body)")
	}
	path := p.text("path", 512)
	if !probePath.MatchString(path) {
		p.fail("path", "must be a plain path such as /v1/me; fields go into headers only")
	}
	s.probe.path = template(path)
	s.probe.query = p.text("query", 512)
	if !probeQuery.MatchString(s.probe.query) {
		p.fail("query", "must be plain, such as limit=1; fields go into headers only")
	}
	s.read = byResults(r.results(p))
}

func (r *customReader) results(p place) map[int]Result {
	results := map[int]Result{http.StatusOK: Valid}
	if !p.has("results") {
		return results
	}
	members, ok := p.members["results"].(map[string]any)
	if !ok {
		p.fail("results", `must be an object of statuses, such as {"200": "valid", "403": "restricted"}`)
		return results
	}
	in := place{path: p.path + ".results", mistakes: p.mistakes}
	clear(results)
	valid := false
	for _, name := range slices.Sorted(maps.Keys(members)) {
		text, _ := members[name].(string)
		result := Result(text)
		status, _ := strconv.Atoi(name) // the form says that it is a number
		switch {
		case !statusForm.MatchString(name):
			in.fail(name, "must be a status from 200 to 599")
		case !slices.Contains([]Result{Valid, Restricted, Misconfigured, Invalid, Indeterminate}, result):
			in.fail(name, "must be valid, restricted, misconfigured, invalid or indeterminate")
		case result != Indeterminate && (status >= 500 || status == http.StatusTooManyRequests || status/100 == 3):
			in.fail(name, "must be indeterminate: a provider that is busy, broken or elsewhere says nothing about a key")
		case result == Valid && status >= 400:
			in.fail(name, "cannot be valid: the provider refuses the request")
		default:
			results[status] = result
			valid = valid || result == Valid
		}
	}
	if !valid {
		p.fail("results", "must say which status is valid")
	}
	return results
}

// byResults reads an answer by its status alone: first as results say, then as
// RFC 9110 does.
func byResults(results map[int]Result) reader {
	return func(a answer) Outcome {
		result, known := results[a.status]
		if !known {
			o := byStatus(a)
			o.Code = errorCode(a)
			return o
		}
		o := Outcome{Result: result, Code: errorCode(a)}
		switch result {
		case Valid:
			o = works()
		case Restricted:
			o.Detail = "The credential is real but lacks the permission to be tested this way."
		case Misconfigured:
			o.Detail = "The credential may be real, but a field beside the secret is wrong."
		case Invalid:
			o.Detail = "The provider does not accept this credential."
		case Indeterminate:
			o.Detail = "The provider cannot say at the moment; test again later."
		}
		return o
	}
}
