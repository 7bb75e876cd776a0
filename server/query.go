package server

import (
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/gatehouse-io/gatehouse/internal/fault"
)

// checkQuery refuses a query that cannot be read whole: the rest of it would
// be a filter that is silently not applied.
func checkQuery(raw string) error {
	if _, err := url.ParseQuery(raw); err != nil {
		return fault.New(fault.Malformed, "malformed_query", "The query cannot be read; percent-encode its values.")
	}
	return nil
}

// checkParameters refuses a parameter that the operation does not know, and one that
// stands twice where it takes one: a filter that is silently not applied tells
// something that is not so.
func checkParameters(query url.Values, o *huma.Operation) error {
	if len(query) == 0 {
		return nil
	}
	var names []string
	repeated := make(map[string]bool)
	for _, p := range o.Parameters {
		if p.In == "query" {
			names = append(names, p.Name)
			repeated[p.Name] = p.Explode != nil && *p.Explode
		}
	}
	for name, values := range query {
		switch {
		case !slices.Contains(names, name):
			if len(name) > 32 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") != "" {
				name = "query" // what a client writes by mistake may be a secret
			}
			message := "takes no parameters"
			if len(names) > 0 {
				message = "is not a parameter of this call; there are " + strings.Join(names, ", ")
			}
			return fault.InvalidFields(fault.Field{Name: name, Message: message})
		case len(values) > 1 && !repeated[name]:
			return fault.InvalidFields(fault.Field{Name: name, Message: "may be given once"})
		case len(values) > 1 && slices.Contains(values, ""): // huma takes an empty one for none
			return fault.InvalidFields(fault.Field{Name: name, Message: "must not be empty where it is given several times"})
		}
	}
	return nil
}
