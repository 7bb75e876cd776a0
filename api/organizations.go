package api

import (
	"context"
	"net/http"
	"net/url"
)

// Organization is a tenant.
type Organization struct {
	ID        string `json:"id"`
	Name      string `json:"name"`
	CreatedAt *Time  `json:"createdAt"`
}

// OrganizationCreate asks for a new organization.
type OrganizationCreate struct {
	ID   string `json:"id" doc:"Your own id of the tenant: 1 to 64 letters, digits, '.', '_' or '-'" example:"acme"`
	Name string `json:"name,omitempty" doc:"For people; the id when left out" example:"Acme Inc."`
}

// OrganizationList is one page of organizations.
type OrganizationList struct {
	Organizations []Organization `json:"organizations" nullable:"false"`
	NextCursor    string         `json:"nextCursor,omitempty"`
}

// ListOrganizations gives a page of organizations. query may hold limit and cursor.
func (c *Client) ListOrganizations(ctx context.Context, query url.Values) (OrganizationList, error) {
	return call[OrganizationList](ctx, c, http.MethodGet, "/api/organizations", query, nil)
}

// CreateOrganization makes an organization.
func (c *Client) CreateOrganization(ctx context.Context, in OrganizationCreate) (Organization, error) {
	return call[Organization](ctx, c, http.MethodPost, "/api/organizations", nil, in)
}

// DeleteOrganization destroys everything sealed for an organization. Its id
// stays dead.
func (c *Client) DeleteOrganization(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/organizations/"+url.PathEscape(id), url.Values{"confirm": {id}}, nil)
	return err
}
