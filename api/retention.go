package api

import (
	"context"
	"net/http"
	"net/url"
)

// RetentionInput is how long data is kept. A PUT replaces the whole of it.
type RetentionInput struct {
	Preset string            `json:"preset,omitempty" doc:"The name of a preset; GET /api/retention/presets lists them" example:"pci-dss"`
	Keep   map[string]string `json:"keep,omitempty" doc:"By class, over the preset: a number of days such as 365d, or forever. A class that is not named has its default" example:"{\"access\":\"30d\"}"`
}

// RetentionLength is what holds for one class of data.
type RetentionLength struct {
	Class   string `json:"class"`
	Keep    string `json:"keep" doc:"What the sweep goes by"`
	Because string `json:"because" enum:"policy,default,floor,ceiling" doc:"Where it comes from"`
}

// RetentionPolicy is how long an organization keeps its data.
type RetentionPolicy struct {
	Tagged
	Organization string `json:"organization"`
	RetentionInput
	Revision  int64             `json:"revision" doc:"Grows with each change; the ETag. 0: nobody made one"`
	Classes   []RetentionLength `json:"classes" nullable:"false" doc:"What comes of it, for every class"`
	UpdatedAt *Time             `json:"updatedAt,omitempty"`
	UpdatedBy string            `json:"updatedBy,omitempty"`
}

// RetentionBoundsInput are the operator's floors and ceilings. A PUT replaces them all.
type RetentionBoundsInput struct {
	Floors   map[string]string `json:"floors" doc:"By class: no organization keeps it for less" example:"{\"control\":\"90d\"}"`
	Ceilings map[string]string `json:"ceilings" doc:"By class: no organization keeps it longer" example:"{\"access\":\"365d\"}"`
}

// RetentionBounds are the floors and ceilings that hold over every policy.
type RetentionBounds struct {
	Tagged
	RetentionBoundsInput
	Revision  int64  `json:"revision" doc:"Grows with each change; the ETag. 0: the built-in ones"`
	UpdatedAt *Time  `json:"updatedAt,omitempty"`
	UpdatedBy string `json:"updatedBy,omitempty"`
}

// RetentionPreset is a set of lengths that serves somebody's rule.
type RetentionPreset struct {
	Name   string            `json:"name"`
	Title  string            `json:"title"`
	Source string            `json:"source" doc:"Where the rule stands"`
	Says   string            `json:"says" doc:"What it says, and what it does not"`
	Keep   map[string]string `json:"keep" doc:"By class; others have their default"`
}

// RetentionPresets lists the presets.
type RetentionPresets struct {
	Presets []RetentionPreset `json:"presets" nullable:"false"`
}

// RetentionClassPreview says what a sweep would do to one class.
type RetentionClassPreview struct {
	RetentionLength
	Before  *Time `json:"before,omitempty" doc:"What is older is due; absent where nothing ever is"`
	Due     int64 `json:"due" doc:"Rows that would be removed"`
	Held    int64 `json:"held" doc:"Rows that would be removed but for a legal hold"`
	Capped  bool  `json:"capped,omitempty" doc:"There may be more than was counted"`
	Stopped bool  `json:"stopped,omitempty" doc:"A hold on the whole class stops it"`
	Oldest  *Time `json:"oldest,omitempty" doc:"Of what is due, held or not"`
	Newest  *Time `json:"newest,omitempty"`
}

// RetentionPreview says what a sweep would do.
type RetentionPreview struct {
	Classes []RetentionClassPreview `json:"classes" nullable:"false"`
}

// RetentionScope says what a hold keeps: what all of its members say that are there.
type RetentionScope struct {
	Class      string `json:"class,omitempty" doc:"One class; alone, the whole of it"`
	Actor      string `json:"actor,omitempty" doc:"Who did it: an actor's id, a member"`
	Target     string `json:"target,omitempty" doc:"The id of what it was done to, such as a credential"`
	Action     string `json:"action,omitempty" doc:"An action, or a noun and .*" example:"credential.*"`
	From       *Time  `json:"from,omitempty" doc:"At or after"`
	To         *Time  `json:"to,omitempty" doc:"Before"`
	Everything bool   `json:"everything,omitempty" doc:"All data; must stand alone"`
}

// RetentionHoldInput is a legal hold that is to be placed.
type RetentionHoldInput struct {
	Reason    string         `json:"reason" doc:"Why, at most 1,000 bytes" example:"Case 2026-114"`
	Scope     RetentionScope `json:"scope"`
	ExpiresAt *Time          `json:"expiresAt,omitempty" doc:"When it ends by itself; left out: when it is released"`
}

// RetentionHold is a legal hold.
type RetentionHold struct {
	ID string `json:"id"`
	RetentionHoldInput
	Active     bool   `json:"active"`
	CreatedAt  *Time  `json:"createdAt"`
	CreatedBy  string `json:"createdBy"`
	ReleasedAt *Time  `json:"releasedAt,omitempty"`
	ReleasedBy string `json:"releasedBy,omitempty"`
}

// RetentionHolds lists legal holds, the newest first.
type RetentionHolds struct {
	Holds []RetentionHold `json:"holds" nullable:"false"`
}

// HeldEvent is an event that a legal hold set aside, with its proof.
type HeldEvent struct {
	Event   Event      `json:"event"`
	Damaged bool       `json:"damaged,omitempty" doc:"It does not prove to be what was sealed"`
	Proof   AuditProof `json:"proof" doc:"As GET /api/audit/events/{id}/proof gives it for others"`
}

// HeldEvents is one page of events that were set aside.
type HeldEvents struct {
	Events     []HeldEvent `json:"events" nullable:"false"`
	NextCursor string      `json:"nextCursor,omitempty"`
}

// RetentionCertificate says what one sweep removed of one class.
type RetentionCertificate struct {
	Sweep          string `json:"sweep"`
	Class          string `json:"class"`
	PolicyRevision int64  `json:"policyRevision"`
	Kept           string `json:"kept"`
	Before         *Time  `json:"before,omitempty" doc:"What was older was due"`
	First          int64  `json:"first" doc:"Of events: the first place of the log that was removed"`
	To             int64  `json:"to" doc:"Of events: the place behind the last one"`
	Root           string `json:"root,omitempty" doc:"Of events: the root of the tree of all before to, base64"`
	Removed        int64  `json:"removed"`
	Held           int64  `json:"held" doc:"Events between first and to that legal holds set aside"`
	Released       int64  `json:"released" doc:"Events that had been set aside before, and were removed now"`
	Oldest         *Time  `json:"oldest,omitempty"`
	Newest         *Time  `json:"newest,omitempty"`
	Record         string `json:"record" doc:"The signed note that says all this"`
	Damaged        bool   `json:"damaged,omitempty" doc:"The row says something else than the record, which is what was signed"`
	Finished       bool   `json:"finished" doc:"false: the sweep was broken off, and is gone on with"`
	UpdatedAt      *Time  `json:"updatedAt"`
}

// RetentionCertificates is one page of certificates, the newest first.
type RetentionCertificates struct {
	Certificates []RetentionCertificate `json:"certificates" nullable:"false"`
	NextCursor   string                 `json:"nextCursor,omitempty"`
}

// GetRetentionPolicy gives how long the caller's organization keeps its data.
func (c *Client) GetRetentionPolicy(ctx context.Context) (RetentionPolicy, error) {
	return call[RetentionPolicy](ctx, c, http.MethodGet, "/api/retention/policy", nil, nil)
}

// SetRetentionPolicy replaces how long the caller's organization keeps its data.
func (c *Client) SetRetentionPolicy(ctx context.Context, in RetentionInput, match ...Condition) (RetentionPolicy, error) {
	return call[RetentionPolicy](ctx, c, http.MethodPut, "/api/retention/policy", nil, in, match...)
}

// GetRetentionBounds gives the operator's floors and ceilings.
func (c *Client) GetRetentionBounds(ctx context.Context) (RetentionBounds, error) {
	return call[RetentionBounds](ctx, c, http.MethodGet, "/api/retention/bounds", nil, nil)
}

// SetRetentionBounds replaces the operator's floors and ceilings.
func (c *Client) SetRetentionBounds(ctx context.Context, in RetentionBoundsInput, match ...Condition) (RetentionBounds, error) {
	return call[RetentionBounds](ctx, c, http.MethodPut, "/api/retention/bounds", nil, in, match...)
}

// ListRetentionPresets gives lengths that serve known rules.
func (c *Client) ListRetentionPresets(ctx context.Context) (RetentionPresets, error) {
	return call[RetentionPresets](ctx, c, http.MethodGet, "/api/retention/presets", nil, nil)
}

// PreviewRetention says what a sweep would do; with in, under that policy.
func (c *Client) PreviewRetention(ctx context.Context, in RetentionInput) (RetentionPreview, error) {
	return call[RetentionPreview](ctx, c, http.MethodPost, "/api/retention/preview", nil, in)
}

// ListHolds gives the legal holds. query may hold ended=true.
func (c *Client) ListHolds(ctx context.Context, query url.Values) (RetentionHolds, error) {
	return call[RetentionHolds](ctx, c, http.MethodGet, "/api/retention/holds", query, nil)
}

// PlaceHold places a legal hold.
func (c *Client) PlaceHold(ctx context.Context, in RetentionHoldInput) (RetentionHold, error) {
	return call[RetentionHold](ctx, c, http.MethodPost, "/api/retention/holds", nil, in)
}

// ReleaseHold ends a legal hold.
func (c *Client) ReleaseHold(ctx context.Context, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/api/retention/holds/"+url.PathEscape(id), nil, nil)
	return err
}

// ListHeldEvents gives a page of the events that legal holds set aside. query may
// hold limit and cursor.
func (c *Client) ListHeldEvents(ctx context.Context, query url.Values) (HeldEvents, error) {
	return call[HeldEvents](ctx, c, http.MethodGet, "/api/retention/held", query, nil)
}

// ListRetentionCertificates gives what sweeps removed. query may hold limit and cursor.
func (c *Client) ListRetentionCertificates(ctx context.Context, query url.Values) (RetentionCertificates, error) {
	return call[RetentionCertificates](ctx, c, http.MethodGet, "/api/retention/certificates", query, nil)
}
