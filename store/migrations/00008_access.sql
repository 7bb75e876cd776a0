-- +goose Up

-- What is known of a member beside its being disabled. deleted_at: it was removed
-- and stays refused until it is put back.
ALTER TABLE members ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;
ALTER TABLE members ADD COLUMN created_at BIGINT;
ALTER TABLE members ADD COLUMN updated_at BIGINT;
ALTER TABLE members ADD COLUMN deleted_at BIGINT;

-- Personal data of a member, erasable without a trace in the rest.
CREATE TABLE member_persons (
    organization TEXT NOT NULL,
    member       TEXT NOT NULL,
    name         TEXT NOT NULL,
    email        TEXT NOT NULL,
    PRIMARY KEY (organization, member),
    FOREIGN KEY (organization, member) REFERENCES members (organization, id)
);

-- Roles that members have here, on top of those their tokens name.
CREATE TABLE member_roles (
    organization TEXT NOT NULL,
    member       TEXT NOT NULL,
    role         TEXT NOT NULL,
    PRIMARY KEY (organization, member, role),
    FOREIGN KEY (organization, member) REFERENCES members (organization, id)
);
CREATE INDEX member_roles_by_role ON member_roles (organization, role);

-- An organization's own roles. permissions is a JSON array of names.
CREATE TABLE roles (
    organization TEXT   NOT NULL REFERENCES organizations (id),
    name         TEXT   NOT NULL,
    description  TEXT   NOT NULL,
    permissions  TEXT   NOT NULL,
    revision     BIGINT NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    updated_at   BIGINT NOT NULL,
    updated_by   TEXT   NOT NULL,
    PRIMARY KEY (organization, name)
);

-- Service tokens: hash is the SHA-256 of the token, which is kept nowhere.
-- permissions, roles, credentials and maker_roles are JSON arrays; permissions is
-- the most that the token may ever do, maker_roles what the maker's own token said
-- when this one was made.
CREATE TABLE service_tokens (
    organization TEXT   NOT NULL REFERENCES organizations (id),
    id           TEXT   NOT NULL,
    hash         BYTEA  NOT NULL UNIQUE,
    name         TEXT   NOT NULL,
    permissions  TEXT   NOT NULL,
    roles        TEXT   NOT NULL,
    credentials  TEXT   NOT NULL,
    maker_type   TEXT   NOT NULL,
    maker        TEXT   NOT NULL,
    maker_roles  TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT,
    revoked_by   TEXT,
    last_used_at BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE INDEX service_tokens_of_maker ON service_tokens (organization, maker);

-- +goose Down
DROP TABLE service_tokens;
DROP TABLE roles;
DROP TABLE member_roles;
DROP TABLE member_persons;
ALTER TABLE members DROP COLUMN deleted_at;
ALTER TABLE members DROP COLUMN updated_at;
ALTER TABLE members DROP COLUMN created_at;
ALTER TABLE members DROP COLUMN revision;
