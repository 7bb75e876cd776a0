-- +goose Up

-- One line for each version that a credential ever had, kept for as long as the
-- credential: what became of it, never what it held. The sealed bytes of a version
-- stand in credential_versions, and are there exactly while its state here is not
-- retired. destroy_at is set while it is retiring: when the timer destroys it.
CREATE TABLE credential_version_history (
    organization  TEXT   NOT NULL,
    credential_id TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    state         TEXT   NOT NULL CHECK (state IN ('staged', 'active', 'retiring', 'retired')),
    fields        TEXT   NOT NULL,
    fingerprint   TEXT   NOT NULL,
    reason        TEXT,
    created_at    BIGINT NOT NULL,
    created_by    TEXT   NOT NULL,
    activated_at  BIGINT,
    activated_by  TEXT,
    retired_at    BIGINT,
    retired_by    TEXT,
    destroy_at    BIGINT,
    destroyed_at  BIGINT,
    destroyed_by  TEXT, -- NULL: the timer
    last_test     TEXT,
    PRIMARY KEY (organization, credential_id, version),
    FOREIGN KEY (organization, credential_id) REFERENCES credentials (organization, id) ON DELETE CASCADE
);
INSERT INTO credential_version_history
    (organization, credential_id, version, state, fields, fingerprint, created_at, created_by, activated_at, activated_by)
SELECT organization, credential_id, version, 'active', fields, fingerprint, created_at, created_by, created_at, created_by
FROM credential_versions;

-- What the timer looks for, over all organizations.
CREATE INDEX credential_versions_due ON credential_version_history (destroy_at, organization, credential_id, version)
    WHERE destroy_at IS NOT NULL;

-- When the provider last refused the active version and the one in grace served.
ALTER TABLE credentials ADD COLUMN fallback_at BIGINT;

-- Listing by filter costs a page, not the organization's credentials.
CREATE INDEX credentials_of_service ON credentials (organization, service, id);
CREATE INDEX credentials_disabled ON credentials (organization, id) WHERE disabled;
CREATE INDEX credentials_disabled_of_service ON credentials (organization, service, id) WHERE disabled;
CREATE INDEX credentials_by_expiry ON credentials (organization, expires_at, id) WHERE NOT disabled AND expires_at IS NOT NULL;
CREATE INDEX credentials_of_service_by_expiry ON credentials (organization, service, expires_at, id) WHERE NOT disabled AND expires_at IS NOT NULL;

-- +goose Down
DROP INDEX credentials_of_service_by_expiry;
DROP INDEX credentials_by_expiry;
DROP INDEX credentials_disabled_of_service;
DROP INDEX credentials_disabled;
DROP INDEX credentials_of_service;
ALTER TABLE credentials DROP COLUMN fallback_at;
DROP TABLE credential_version_history;
