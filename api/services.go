package api

import (
	"context"
	"net/http"
	"net/url"
)

// Service is a service of the catalogue: what a credential of it consists of
// and where it is used. It names no host of the operator's.
type Service struct {
	Name         string         `json:"name" example:"openai"`
	Title        string         `json:"title" example:"OpenAI"`
	Docs         string         `json:"docs,omitempty" doc:"Where a person makes or finds the credential"`
	Chat         bool           `json:"chat" doc:"Whether it is on the chat routes; otherwise it is on the proxy routes"`
	Custom       bool           `json:"custom" doc:"Whether the operator of this instance added it"`
	PathPrefix   string         `json:"pathPrefix,omitempty" doc:"What to put in front of the provider's own path; none where the service is not reached over HTTP" example:"/api/chat/openai"`
	Fields       []ServiceField `json:"fields" nullable:"false" doc:"In the order of a form; none when no credential is needed"`
	Alternatives [][]string     `json:"alternatives,omitempty" doc:"Beside the required fields, all fields of one of these must be given"`
	DefaultScope *Scope         `json:"defaultScope,omitempty" doc:"The scope of a credential that has none of its own; its paths also that of one without paths"`
	Schema       map[string]any `json:"schema" doc:"JSON Schema (2020-12) of the object credentials. The provider's usual form of a value is the annotation usualPattern: a value that differs is stored with a warning"`
}

// ServiceField is one field of a service.
type ServiceField struct {
	Name        string   `json:"name" example:"apiKey"`
	Title       string   `json:"title" example:"API key"`
	Description string   `json:"description,omitempty"`
	Secret      bool     `json:"secret"`
	Required    bool     `json:"required"`
	Format      string   `json:"format" enum:"token,label,choice,email,host,mail-port,text,segment,endpoint,base-url" doc:"What a value must be; another is refused"`
	MaxLength   int      `json:"maxLength" doc:"In bytes"`
	Pattern     string   `json:"pattern,omitempty" doc:"The provider's usual form (RE2); a value that differs is stored with a warning"`
	Example     string   `json:"example,omitempty" doc:"How a value looks; cut short"`
	Choices     []string `json:"choices,omitempty" doc:"The values of the format choice"`
	Suffixes    []string `json:"suffixes,omitempty" doc:"What a value of the format endpoint ends in"`
	Env         []string `json:"env,omitempty" doc:"The environment variables that import reads"`
}

// ServiceList is the whole catalogue, by name.
type ServiceList struct {
	Services []Service `json:"services" nullable:"false"`
}

// ListServices gives the catalogue of services.
func (c *Client) ListServices(ctx context.Context) (ServiceList, error) {
	return call[ServiceList](ctx, c, http.MethodGet, "/api/services", nil, nil)
}

// GetService gives one service of the catalogue.
func (c *Client) GetService(ctx context.Context, name string) (Service, error) {
	return call[Service](ctx, c, http.MethodGet, "/api/services/"+url.PathEscape(name), nil, nil)
}
