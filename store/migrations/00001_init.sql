-- +goose Up

-- The instance: which environment the data belongs to and which master key seals.
CREATE TABLE instance (
    id          BIGINT PRIMARY KEY CHECK (id = 1),
    environment TEXT   NOT NULL,
    sealing_key TEXT   NOT NULL,
    created_at  BIGINT NOT NULL
);

-- Master keys by id, never the keys themselves: what is needed to recognise one.
CREATE TABLE master_keys (
    id          TEXT   PRIMARY KEY,
    salt        BYTEA  NOT NULL,
    iterations  BIGINT NOT NULL,
    check_value BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL
);

CREATE TABLE organizations (
    id         TEXT   PRIMARY KEY,
    name       TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    deleted_at BIGINT
);

-- Only members that something is known of: whoever brings a valid token is one.
CREATE TABLE members (
    organization TEXT   NOT NULL REFERENCES organizations (id),
    id           TEXT   NOT NULL,
    disabled_at  BIGINT,
    PRIMARY KEY (organization, id)
);

-- What an organization's seals hang on. Without this row nothing of it opens.
CREATE TABLE organization_keys (
    organization           TEXT   PRIMARY KEY REFERENCES organizations (id),
    salt                   BYTEA  NOT NULL,
    fingerprint_key_sealed BYTEA  NOT NULL,
    created_at             BIGINT NOT NULL
);

CREATE TABLE credentials (
    organization TEXT    NOT NULL REFERENCES organizations (id),
    id           TEXT    NOT NULL,
    service      TEXT    NOT NULL,
    name         TEXT    NOT NULL,
    version      BIGINT  NOT NULL,
    revision     BIGINT  NOT NULL,
    disabled     BOOLEAN NOT NULL,
    expires_at   BIGINT,
    last_used_at BIGINT,
    last_test    TEXT,
    created_at   BIGINT  NOT NULL,
    created_by   TEXT    NOT NULL,
    updated_at   BIGINT  NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, service, name)
);

CREATE TABLE credential_versions (
    organization  TEXT   NOT NULL,
    credential_id TEXT   NOT NULL,
    version       BIGINT NOT NULL,
    fields        TEXT   NOT NULL,
    hints         TEXT   NOT NULL,
    fingerprint   TEXT   NOT NULL,
    fields_sealed BYTEA  NOT NULL,
    created_at    BIGINT NOT NULL,
    created_by    TEXT   NOT NULL,
    PRIMARY KEY (organization, credential_id, version),
    FOREIGN KEY (organization, credential_id) REFERENCES credentials (organization, id) ON DELETE CASCADE
);

-- The trail. canonical is what is hashed; the other columns are for finding.
CREATE TABLE events (
    organization TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    occurred_at  BIGINT NOT NULL,
    recorded_at  BIGINT NOT NULL,
    class        TEXT   NOT NULL,
    action       TEXT   NOT NULL,
    outcome      TEXT   NOT NULL,
    actor_id     TEXT   NOT NULL,
    canonical    BYTEA  NOT NULL,
    PRIMARY KEY (organization, id)
);
CREATE INDEX events_newest ON events (organization, occurred_at, id);

-- Personal data of an event, bound to it by a salted hash, erasable.
CREATE TABLE event_persons (
    organization TEXT  NOT NULL,
    event_id     TEXT  NOT NULL,
    salt         BYTEA NOT NULL,
    data         TEXT  NOT NULL,
    PRIMARY KEY (organization, event_id)
);

-- +goose Down
DROP TABLE event_persons;
DROP TABLE events;
DROP TABLE credential_versions;
DROP TABLE credentials;
DROP TABLE organization_keys;
DROP TABLE members;
DROP TABLE organizations;
DROP TABLE master_keys;
DROP TABLE instance;
