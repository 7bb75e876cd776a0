package api

import (
	"context"
	"net/http"
	"net/url"
)

// Member is what is kept of somebody who acts in an organization.
type Member struct {
	ID        string   `json:"id" doc:"The subject of its tokens"`
	Name      string   `json:"name,omitempty"`
	Email     string   `json:"email,omitempty"`
	Roles     []string `json:"roles" nullable:"false" doc:"That it has here, on top of those its tokens name"`
	Disabled  bool     `json:"disabled" doc:"It is refused whatever its tokens say"`
	CreatedAt *Time    `json:"createdAt,omitempty"`
	UpdatedAt *Time    `json:"updatedAt,omitempty"`
}

// MemberList is one page of members, by id.
type MemberList struct {
	Members    []Member `json:"members" nullable:"false"`
	NextCursor string   `json:"nextCursor,omitempty"`
}

// MemberUpdate says what is to change of a member. What is absent stays; null
// takes a name or an address away.
type MemberUpdate struct {
	Name     Optional[string] `json:"name,omitzero" doc:"For people; personal data, erased with the member"`
	Email    Optional[string] `json:"email,omitzero" doc:"For people; personal data, erased with the member"`
	Roles    []string         `json:"roles,omitempty" nullable:"true" doc:"All roles that it is to have here; none of them may grant what you do not hold"`
	Disabled *bool            `json:"disabled,omitempty" doc:"Refuse it whatever its tokens say"`
}

// Role is a named set of permissions.
type Role struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Permissions []string `json:"permissions" nullable:"false" doc:"Inside the organization"`
	BuiltIn     bool     `json:"builtIn"`
	CreatedAt   *Time    `json:"createdAt,omitempty"`
	CreatedBy   string   `json:"createdBy,omitempty"`
	UpdatedAt   *Time    `json:"updatedAt,omitempty"`
	UpdatedBy   string   `json:"updatedBy,omitempty"`
}

// RoleList is every role of an organization, the built-in ones first.
type RoleList struct {
	Roles []Role `json:"roles" nullable:"false"`
}

// RoleInput is what a role says. A PUT replaces the whole of it.
type RoleInput struct {
	Description string   `json:"description,omitempty" doc:"For people"`
	Permissions []string `json:"permissions" nullable:"false" doc:"At least one, none that you do not hold" example:"[\"credential:use\"]"`
}

// RoleCreate asks for a new role.
type RoleCreate struct {
	Name string `json:"name" doc:"1 to 64 letters, digits, '.', '_' or '-', starting with a letter; not a built-in one" example:"support"`
	RoleInput
}

// ServiceToken is a service token without the token itself.
type ServiceToken struct {
	ID          string   `json:"id"`
	Name        string   `json:"name"`
	Status      string   `json:"status" doc:"active, expired or revoked"`
	Permissions []string `json:"permissions" nullable:"false" doc:"The most it may do; never more than its maker holds now"`
	Roles       []string `json:"roles,omitempty" doc:"It does no more than these grant now either"`
	Credentials []string `json:"credentials,omitempty" doc:"The only credentials it may use; all when absent"`
	CreatedAt   *Time    `json:"createdAt"`
	CreatedBy   string   `json:"createdBy" doc:"Its maker"`
	ExpiresAt   *Time    `json:"expiresAt"`
	RevokedAt   *Time    `json:"revokedAt,omitempty"`
	RevokedBy   string   `json:"revokedBy,omitempty"`
	LastUsedAt  *Time    `json:"lastUsedAt,omitempty" doc:"To within a minute"`
}

// ServiceTokenCreate asks for a service token.
type ServiceTokenCreate struct {
	Name        string   `json:"name" doc:"For people: what it is for" example:"nightly export"`
	Permissions []string `json:"permissions,omitempty" doc:"What it may do; none that you do not hold" example:"[\"credential:use\"]"`
	Roles       []string `json:"roles,omitempty" doc:"Instead: roles of the organization. With both it may do what is in both"`
	Credentials []string `json:"credentials,omitzero" doc:"Ids of the only credentials it may use; all when absent"`
	ExpiresAt   *Time    `json:"expiresAt" doc:"At most 366 days away"`
}

// ServiceTokenCreated is a new service token with the token, which is shown
// this once.
type ServiceTokenCreated struct {
	ServiceToken
	Token string `json:"token" doc:"Shown this once; it is kept nowhere" example:"gth_..."`
}

// ServiceTokenList is one page of service tokens, newest first.
type ServiceTokenList struct {
	Tokens     []ServiceToken `json:"tokens" nullable:"false"`
	NextCursor string         `json:"nextCursor,omitempty"`
}

// AccessCheck asks for a decision without anything being done.
type AccessCheck struct {
	Permission   string   `json:"permission" example:"credential:reveal"`
	Member       string   `json:"member,omitempty" doc:"About this member instead of yourself"`
	Roles        []string `json:"roles,omitempty" doc:"With a token that names these roles"`
	Organization string   `json:"organization,omitempty" doc:"On this organization; your own when left out"`
}

// AccessDecision is a decision and why it falls so.
type AccessDecision struct {
	Permission   string       `json:"permission"`
	Organization string       `json:"organization"`
	Member       string       `json:"member,omitempty"`
	Allowed      bool         `json:"allowed"`
	Reason       string       `json:"reason" doc:"granted, permission_missing, member_disabled, other_organization, token_scope or switched_off"`
	Roles        []AccessRole `json:"roles" nullable:"false" doc:"Those that were looked at"`
}

// AccessRole is what one role does for a decision.
type AccessRole struct {
	Name   string `json:"name"`
	Known  bool   `json:"known" doc:"A built-in role or one of the organization's"`
	Source string `json:"source" doc:"token, or member: it has it here"`
	Grants bool   `json:"grants" doc:"It grants the permission"`
}

// ListMembers gives a page of members. query may hold limit and cursor.
func (c *Client) ListMembers(ctx context.Context, query url.Values) (MemberList, error) {
	return call[MemberList](ctx, c, http.MethodGet, "/api/members", query, nil)
}

// GetMember gives what is known of a member.
func (c *Client) GetMember(ctx context.Context, id string) (Member, error) {
	return call[Member](ctx, c, http.MethodGet, "/api/members/"+url.PathEscape(id), nil, nil)
}

// UpdateMember makes a member known, or changes what is known of it.
func (c *Client) UpdateMember(ctx context.Context, id string, in MemberUpdate) (Member, error) {
	return call[Member](ctx, c, http.MethodPut, "/api/members/"+url.PathEscape(id), nil, in)
}

// DeleteMember forgets a member, ends its tokens, and keeps it out.
func (c *Client) DeleteMember(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/members/"+url.PathEscape(id), nil, nil)
	return err
}

// ListRoles gives every role of the organization.
func (c *Client) ListRoles(ctx context.Context) (RoleList, error) {
	return call[RoleList](ctx, c, http.MethodGet, "/api/roles", nil, nil)
}

// CreateRole makes a role.
func (c *Client) CreateRole(ctx context.Context, in RoleCreate) (Role, error) {
	return call[Role](ctx, c, http.MethodPost, "/api/roles", nil, in)
}

// UpdateRole replaces what a role says.
func (c *Client) UpdateRole(ctx context.Context, name string, in RoleInput) (Role, error) {
	return call[Role](ctx, c, http.MethodPut, "/api/roles/"+url.PathEscape(name), nil, in)
}

// DeleteRole deletes a role.
func (c *Client) DeleteRole(ctx context.Context, name string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/roles/"+url.PathEscape(name), nil, nil)
	return err
}

// ListTokens gives a page of service tokens. query may hold status, limit and
// cursor.
func (c *Client) ListTokens(ctx context.Context, query url.Values) (ServiceTokenList, error) {
	return call[ServiceTokenList](ctx, c, http.MethodGet, "/api/tokens", query, nil)
}

// CreateToken makes a service token; the answer holds it, once.
func (c *Client) CreateToken(ctx context.Context, in ServiceTokenCreate) (ServiceTokenCreated, error) {
	return call[ServiceTokenCreated](ctx, c, http.MethodPost, "/api/tokens", nil, in)
}

// GetToken gives a service token without the token itself.
func (c *Client) GetToken(ctx context.Context, id string) (ServiceToken, error) {
	return call[ServiceToken](ctx, c, http.MethodGet, "/api/tokens/"+url.PathEscape(id), nil, nil)
}

// RevokeToken ends a service token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/tokens/"+url.PathEscape(id), nil, nil)
	return err
}

// CheckAccess asks for a decision and why it falls so.
func (c *Client) CheckAccess(ctx context.Context, in AccessCheck) (AccessDecision, error) {
	return call[AccessDecision](ctx, c, http.MethodPost, "/api/access/check", nil, in)
}
