package api

import (
	"context"
	"net/http"
	"net/url"
)

// KeyColumn is how many rows of a column hang on a key.
type KeyColumn struct {
	Column string `json:"column" doc:"table.column" example:"credential_versions.fields_sealed"`
	Rows   int64  `json:"rows"`
}

// MasterKey is a master key, never its secret.
type MasterKey struct {
	ID          string      `json:"id" example:"key_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8"`
	State       string      `json:"state" enum:"staged,sealing,opening,retired"`
	Iterations  int         `json:"iterations" doc:"PBKDF2"`
	Source      string      `json:"source,omitempty" doc:"The variable that this instance has its secret from; nothing where it has not"`
	Rows        *int64      `json:"rows,omitempty" doc:"Sealed values that hang on it, where they were counted"`
	Columns     []KeyColumn `json:"columns,omitempty"`
	CreatedAt   *Time       `json:"createdAt"`
	ActivatedAt *Time       `json:"activatedAt,omitempty" doc:"When it first sealed"`
	RetiredAt   *Time       `json:"retiredAt,omitempty"`
}

// RunningInstance is an instance and the keys that it holds.
type RunningInstance struct {
	ID        string   `json:"id"`
	Name      string   `json:"name" doc:"Machine and process"`
	Version   string   `json:"version"`
	Keys      []string `json:"keys" nullable:"false"`
	Sealing   string   `json:"sealing"`
	StartedAt *Time    `json:"startedAt"`
	SeenAt    *Time    `json:"seenAt"`
	Live      bool     `json:"live" doc:"Seen within the last 30 seconds; only those are waited for"`
}

// KeyRotation is a move of everything sealed to one key.
type KeyRotation struct {
	ID         string `json:"id,omitempty" doc:"Nothing where there was nothing to move"`
	Key        string `json:"key"`
	State      string `json:"state" enum:"running,stopped,done"`
	Rate       int    `json:"rate" doc:"Rows a second at most; 0: as fast as it goes"`
	Total      int64  `json:"total" doc:"Rows to move, as counted at the start"`
	Rewrapped  int64  `json:"rewrapped" doc:"Rows moved"`
	Unreadable int64  `json:"unreadable" doc:"Rows that do not open and stay under their key"`
	StartedAt  *Time  `json:"startedAt,omitempty"`
	UpdatedAt  *Time  `json:"updatedAt,omitempty"`
	FinishedAt *Time  `json:"finishedAt,omitempty"`
}

// KeyStatus is what is known of the master keys.
type KeyStatus struct {
	Environment  string            `json:"environment"`
	Keys         []MasterKey       `json:"keys" nullable:"false"`
	Instances    []RunningInstance `json:"instances" nullable:"false"`
	Rotation     *KeyRotation      `json:"rotation,omitempty" doc:"The newest"`
	Unknown      []KeyColumn       `json:"unknown,omitempty" doc:"Rows under no key of the database: they do not open"`
	Unregistered []string          `json:"unregistered,omitempty" doc:"Sealed columns that this version does not know: no key retires"`
}

// KeyStage asks for the instance's ENCRYPTION_KEY to become a key.
type KeyStage struct {
	Iterations int `json:"iterations,omitempty" doc:"PBKDF2 of the new key; as many as the key that seals when left out" example:"600000"`
}

// KeyRotate asks for a rotation.
type KeyRotate struct {
	Key  string `json:"key,omitempty" doc:"To which key; the newest that is staged when left out, or else the one that seals"`
	Rate *int   `json:"rate,omitempty" doc:"Rows a second at most; 1000 when left out, 0: as fast as it goes"`
}

// KeyVerify asks for values to be opened.
type KeyVerify struct {
	Sample int `json:"sample,omitempty" doc:"How many, spread over all; every one when left out, as far as 25 seconds go"`
}

// KeyRetire asks for a key to be ended.
type KeyRetire struct {
	Lost bool `json:"lost,omitempty" doc:"Give up what hangs on a key whose secret nobody has any more"`
}

// KeyFinding names a value that does not open.
type KeyFinding struct {
	Column string `json:"column"`
	Row    string `json:"row" doc:"Its primary key" example:"acme/cred_0192e0a5-7f9c-7c3e-9d6b-3a1f00c4d2e8/1"`
	Key    string `json:"key,omitempty"`
	Reason string `json:"reason" enum:"not_opened,malformed,key_missing,no_salt"`
}

// KeyVerification is what a verification found.
type KeyVerification struct {
	Total      int64        `json:"total" doc:"Sealed values there are"`
	Checked    int64        `json:"checked"`
	Unreadable int64        `json:"unreadable"`
	Findings   []KeyFinding `json:"findings" nullable:"false" doc:"The first 1,000"`
	Complete   bool         `json:"complete" doc:"false: the time ran out before all that was asked for was checked"`
}

// GetKeys tells of the master keys, what hangs on each and who holds them.
func (c *Client) GetKeys(ctx context.Context) (KeyStatus, error) {
	return call[KeyStatus](ctx, c, http.MethodGet, "/api/keys", nil, nil)
}

// StageKey makes the instance's new ENCRYPTION_KEY known as a key.
func (c *Client) StageKey(ctx context.Context, in KeyStage) (MasterKey, error) {
	return call[MasterKey](ctx, c, http.MethodPost, "/api/keys/stage", nil, in)
}

// RotateKeys starts moving everything to another master key.
func (c *Client) RotateKeys(ctx context.Context, in KeyRotate) (KeyRotation, error) {
	return call[KeyRotation](ctx, c, http.MethodPost, "/api/keys/rotate", nil, in)
}

// StopKeyRotation stops the running rotation.
func (c *Client) StopKeyRotation(ctx context.Context) (KeyRotation, error) {
	return call[KeyRotation](ctx, c, http.MethodPost, "/api/keys/stop", nil, nil)
}

// VerifyKeys opens sealed values and names those that do not open.
func (c *Client) VerifyKeys(ctx context.Context, in KeyVerify) (KeyVerification, error) {
	return call[KeyVerification](ctx, c, http.MethodPost, "/api/keys/verify", nil, in)
}

// RetireKey ends a master key that nothing hangs on.
func (c *Client) RetireKey(ctx context.Context, id string, in KeyRetire) (MasterKey, error) {
	return call[MasterKey](ctx, c, http.MethodPost, "/api/keys/"+url.PathEscape(id)+"/retire", nil, in)
}
