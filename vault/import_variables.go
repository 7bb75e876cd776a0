package vault

import (
	"slices"
	"strings"

	"github.com/gatehouse-io/gatehouse/catalog"
)

// gather picks the service's fields out of variables: for each field the first
// of its names that is set to something. The result is set where there is
// nothing to import.
func gather(service *catalog.Service, variables map[string]string) (ServiceImport, map[string]string) {
	r := ServiceImport{Service: service.Name}
	fields := make(map[string]string)
	for i := range service.Fields {
		f := &service.Fields[i]
		for _, name := range f.Env {
			value, set := variables[name]
			switch taken, have := fields[f.Name]; {
			case !set || strings.TrimSpace(value) == "":
			case isReference(f, value):
				r.Placeholders, r.References = append(r.Placeholders, name), append(r.References, name)
			case isPlaceholder(f, value):
				r.Placeholders = append(r.Placeholders, name)
			case !have:
				fields[f.Name] = value
				r.Fields = append(r.Fields, f.Name)
				r.Variables = append(r.Variables, name)
				if strings.Contains(value, "${") || strings.Contains(value, "$(") {
					r.Unexpanded = append(r.Unexpanded, name)
				}
			case taken == value:
				r.Variables = append(r.Variables, name)
			default:
				r.Unread = append(r.Unread, name)
			}
		}
	}
	switch {
	case len(fields) > 0:
	case len(r.Placeholders) > 0:
		r.Result = ImportSkipped
	default:
		r.Result = ImportAbsent
		for i := range service.Fields { // what would have to be set, for who asked for this service alone
			if f := &service.Fields[i]; f.Required && len(f.Env) > 0 {
				r.Missing = append(r.Missing, strings.Join(f.Env, " or "))
			}
		}
	}
	return r, fields
}

// missRequired reports whether fields that a whole credential needs are missing,
// and names their variables: those with a placeholder, or else the first name
// there is.
func (r *ServiceImport) missRequired(service *catalog.Service, fields map[string]string) bool {
	has := func(name string) bool { _, ok := fields[name]; return ok }
	for _, name := range service.Missing(has) {
		f, _ := service.Field(name)
		held := slices.IndexFunc(f.Env, func(name string) bool { return slices.Contains(r.Placeholders, name) })
		switch {
		case held >= 0:
			r.Missing = append(r.Missing, f.Env[held])
		case len(f.Env) > 0:
			r.Missing = append(r.Missing, f.Env[0])
		default: // no variable can give it
			r.Missing = append(r.Missing, f.Name)
		}
	}
	switch {
	case len(r.Missing) == 0:
		return false
	case slices.ContainsFunc(service.Fields, func(f catalog.Field) bool { return has(f.Name) && service.Needs(f.Name) }):
		r.Result = ImportIncomplete
	default: // OPENAI_MODEL alone
		r.Result = ImportSkipped
	}
	return true
}

// byVariable names the variable that each finding's value was read from.
func (r *ServiceImport) byVariable(service *catalog.Service, problems []catalog.Problem) []ImportProblem {
	named := make([]ImportProblem, 0, len(problems))
	for _, p := range problems {
		n := ImportProblem{Field: p.Field, Variable: p.Field, Message: p.Message}
		f, _ := service.Field(p.Field)
		for _, name := range f.Env {
			if slices.Contains(r.Variables, name) {
				n.Variable = name
				break
			}
		}
		named = append(named, n)
	}
	return named
}
