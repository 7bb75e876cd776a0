-- +goose Up

-- How long an organization keeps each class of its data: content is a JSON object
-- from a class to a length. An organization without a row has the defaults.
CREATE TABLE retention_policies (
    organization TEXT   PRIMARY KEY,
    revision     BIGINT NOT NULL,
    content      TEXT   NOT NULL,
    updated_at   BIGINT NOT NULL,
    updated_by   TEXT   NOT NULL
);

-- The operator's floors and ceilings, which hold for every organization.
CREATE TABLE retention_bounds (
    organization TEXT   PRIMARY KEY CHECK (organization = '_instance'),
    revision     BIGINT NOT NULL,
    content      TEXT   NOT NULL,
    updated_at   BIGINT NOT NULL,
    updated_by   TEXT   NOT NULL
);

-- Legal holds, those that ended too. scope is a JSON object that says what is held.
CREATE TABLE retention_holds (
    organization TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    reason       TEXT   NOT NULL,
    scope        TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    expires_at   BIGINT,
    released_at  BIGINT,
    released_by  TEXT,
    PRIMARY KEY (organization, id)
);
CREATE INDEX retention_holds_active ON retention_holds (organization, id) WHERE released_at IS NULL;

-- The runs over one organization's data that removed something. One that was broken
-- off has no finished_at, and is gone on with.
CREATE TABLE retention_sweeps (
    organization     TEXT   NOT NULL,
    id               TEXT   NOT NULL,
    policy_revision  BIGINT NOT NULL,
    bounds_revision  BIGINT NOT NULL,
    started_at       BIGINT NOT NULL,
    finished_at      BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE INDEX retention_sweeps_open ON retention_sweeps (organization, id) WHERE finished_at IS NULL;

-- What a run removed of one class: of a log of events the places from first up to,
-- not including, upto, and the root of the tree of all before upto. oldest and
-- newest are times of what was removed. record is the signed note that says all this.
CREATE TABLE retention_certificates (
    organization    TEXT   NOT NULL,
    sweep_id        TEXT   NOT NULL,
    class           TEXT   NOT NULL,
    policy_revision BIGINT NOT NULL,
    kept            TEXT   NOT NULL,
    cutoff          BIGINT NOT NULL,
    first           BIGINT NOT NULL,
    upto            BIGINT NOT NULL,
    removed         BIGINT NOT NULL,
    held            BIGINT NOT NULL,
    released        BIGINT NOT NULL,
    oldest          BIGINT,
    newest          BIGINT,
    root            TEXT   NOT NULL,
    record          TEXT   NOT NULL,
    updated_at      BIGINT NOT NULL,
    PRIMARY KEY (organization, sweep_id, class)
);

-- The deleted members whose personal data was erased from the trail, by the time of
-- the deletion: a member that comes back and is deleted again is due again.
CREATE TABLE retention_erasures (
    organization TEXT   NOT NULL,
    member       TEXT   NOT NULL,
    deleted_at   BIGINT NOT NULL,
    erased_at    BIGINT NOT NULL,
    PRIMARY KEY (organization, member)
);

-- Who sweeps, until lease_until, after which another may. clock is the latest time
-- that is believed; doubted_since is when a much later one was first met.
CREATE TABLE retention_sweeper (
    organization  TEXT   PRIMARY KEY CHECK (organization = '_instance'),
    holder        TEXT   NOT NULL,
    lease_until   BIGINT NOT NULL,
    clock         BIGINT,
    doubted_since BIGINT,
    last_error    TEXT   NOT NULL,
    swept_at      BIGINT
);
INSERT INTO retention_sweeper (organization, holder, lease_until, last_error) VALUES ('_instance', '', 0, '');

-- The events that a legal hold set aside when retention removed those around them,
-- each with the proof (64 bytes of hex a hash, joined by spaces) that it is at its
-- place in the log of size events that checkpoint is of.
CREATE TABLE ledger_held (
    organization TEXT   NOT NULL,
    class        TEXT   NOT NULL,
    log_index    BIGINT NOT NULL,
    event_id     TEXT   NOT NULL,
    occurred_at  BIGINT NOT NULL,
    canonical    BYTEA  NOT NULL,
    size         BIGINT NOT NULL,
    hashes       TEXT   NOT NULL,
    checkpoint   TEXT   NOT NULL,
    PRIMARY KEY (organization, class, log_index)
);
CREATE UNIQUE INDEX ledger_held_event ON ledger_held (organization, event_id);

-- What sweeps look for.
CREATE INDEX credential_versions_retired ON credential_version_history (organization, destroyed_at) WHERE state = 'retired';
CREATE INDEX members_deleted ON members (organization, deleted_at) WHERE deleted_at IS NOT NULL;

-- +goose Down
DROP INDEX members_deleted;
DROP INDEX credential_versions_retired;
DROP TABLE ledger_held;
DROP TABLE retention_sweeper;
DROP TABLE retention_erasures;
DROP TABLE retention_certificates;
DROP TABLE retention_sweeps;
DROP TABLE retention_holds;
DROP TABLE retention_bounds;
DROP TABLE retention_policies;
