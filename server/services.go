package server

import (
	"context"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/api"
	"github.com/gatehouse-io/gatehouse/catalog"
	"github.com/gatehouse-io/gatehouse/internal/fault"
)

var errNoService = fault.New(fault.NotFound, "service_not_found", "There is no such service; GET /api/services lists them.")

type serviceListOut struct{ Body api.ServiceList }

func (s *Server) listServices(_ context.Context, _ access.Caller, _ *noInput) (*serviceListOut, error) {
	services := s.cfg.Catalog.Services()
	out := &serviceListOut{Body: api.ServiceList{Services: make([]api.Service, len(services))}}
	for i, service := range services {
		out.Body.Services[i] = wireService(service)
	}
	return out, nil
}

type serviceIn struct {
	Name string `path:"name" doc:"Such as openai"`
}

type serviceOut struct{ Body api.Service }

func (s *Server) getService(_ context.Context, _ access.Caller, in *serviceIn) (*serviceOut, error) {
	service, known := s.cfg.Catalog.Service(in.Name)
	if !known {
		return nil, errNoService
	}
	return &serviceOut{Body: wireService(service)}, nil
}

// wireService leaves out where requests go: an origin may be the operator's.
func wireService(s *catalog.Service) api.Service {
	w := api.Service{
		Name: s.Name, Title: s.Title, Docs: s.Docs, Chat: s.Chat, Custom: s.Custom(), PathPrefix: s.PathPrefix(),
		Fields: make([]api.ServiceField, len(s.Fields)), Alternatives: s.Alternatives, Schema: s.Schema(),
	}
	if s.Injectable() {
		w.DefaultScope = wireScope(s.DefaultScope())
	}
	for i, f := range s.Fields {
		w.Fields[i] = api.ServiceField{
			Name: f.Name, Title: f.Title, Description: f.Description, Secret: f.Secret, Required: f.Required,
			Format: f.Format.String(), MaxLength: f.MaxLength, Pattern: f.Pattern, Example: f.Example,
			Choices: f.Choices, Suffixes: f.Suffixes, Env: f.Env,
		}
	}
	return w
}
