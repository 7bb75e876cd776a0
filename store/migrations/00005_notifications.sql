-- +goose Up

-- The check of stored credentials. What is due is due at most once: whoever takes a
-- test moves test_due_at on first, so that it is a lease too. 0: not looked at yet.
-- checked_revision is the state that was looked at last.
ALTER TABLE credentials ADD COLUMN check_due_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN checked_revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN test_due_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN unclear_tests BIGINT NOT NULL DEFAULT 0;
ALTER TABLE credentials ADD COLUMN opened_at BIGINT;
CREATE INDEX credentials_check_due ON credentials (check_due_at);
CREATE INDEX credentials_unchecked ON credentials (organization, id) WHERE checked_revision <> revision;
CREATE INDEX credentials_test_due ON credentials (test_due_at, service);

-- What the check found and still holds, each told once: mark changes where it has
-- to be told again.
CREATE TABLE credential_findings (
    organization  TEXT   NOT NULL,
    credential_id TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    mark          TEXT   NOT NULL,
    detail        TEXT   NOT NULL,
    found_at      BIGINT NOT NULL,
    PRIMARY KEY (organization, credential_id, kind),
    FOREIGN KEY (organization, credential_id) REFERENCES credentials (organization, id) ON DELETE CASCADE
);

CREATE TABLE webhooks (
    organization    TEXT    NOT NULL REFERENCES organizations (id),
    id              TEXT    NOT NULL,
    url             TEXT    NOT NULL,
    types           TEXT    NOT NULL,
    description     TEXT    NOT NULL,
    disabled        BOOLEAN NOT NULL,
    disabled_reason TEXT    NOT NULL,
    revision        BIGINT  NOT NULL,
    secret_version  BIGINT  NOT NULL,
    created_at      BIGINT  NOT NULL,
    created_by      TEXT    NOT NULL,
    updated_at      BIGINT  NOT NULL,
    PRIMARY KEY (organization, id)
);

-- The signing secrets: the newest, and the one before it until expires_at.
CREATE TABLE webhook_secrets (
    organization  TEXT   NOT NULL,
    webhook_id    TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    secret_sealed BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    expires_at    BIGINT,
    PRIMARY KEY (organization, webhook_id, version),
    FOREIGN KEY (organization, webhook_id) REFERENCES webhooks (organization, id) ON DELETE CASCADE
);

-- The outbox: a row is written in the transaction of what it tells. next_at is when
-- it is tried next; whoever takes it moves next_at and attempts on first.
CREATE TABLE webhook_deliveries (
    organization    TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    webhook_id      TEXT   NOT NULL,
    message_id      TEXT   NOT NULL,
    type            TEXT   NOT NULL,
    body            TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    attempts        BIGINT NOT NULL,
    next_at         BIGINT NOT NULL,
    last_attempt_at BIGINT,
    last_status     BIGINT NOT NULL,
    last_error      TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (organization, id),
    FOREIGN KEY (organization, webhook_id) REFERENCES webhooks (organization, id) ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_at, organization, webhook_id) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_newest ON webhook_deliveries (organization, webhook_id, id);
CREATE INDEX webhook_deliveries_old ON webhook_deliveries (created_at);

-- +goose Down
DROP TABLE webhook_deliveries;
DROP TABLE webhook_secrets;
DROP TABLE webhooks;
DROP TABLE credential_findings;
DROP INDEX credentials_test_due;
DROP INDEX credentials_unchecked;
DROP INDEX credentials_check_due;
ALTER TABLE credentials DROP COLUMN opened_at;
ALTER TABLE credentials DROP COLUMN unclear_tests;
ALTER TABLE credentials DROP COLUMN test_due_at;
ALTER TABLE credentials DROP COLUMN checked_revision;
ALTER TABLE credentials DROP COLUMN check_due_at;
