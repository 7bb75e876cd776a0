-- +goose Up

-- Rate limits, exemptions and blocks over those of the environment: the current
-- state of each. organization is whose they are: a tenant's own, or _instance's,
-- which are the operator's. scope is what a policy holds for, one policy each.
CREATE TABLE limit_policies (
    organization TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    scope        TEXT   NOT NULL,
    revision     BIGINT NOT NULL,
    content      TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    created_by   TEXT   NOT NULL,
    updated_at   BIGINT NOT NULL,
    updated_by   TEXT   NOT NULL,
    PRIMARY KEY (organization, id),
    UNIQUE (organization, scope)
);
CREATE INDEX limit_policies_newest ON limit_policies (id);

-- Every state that a policy had, so that a change can be taken back. A revision
-- without content is a deletion.
CREATE TABLE limit_policy_revisions (
    organization TEXT   NOT NULL,
    id           TEXT   NOT NULL,
    revision     BIGINT NOT NULL,
    content      TEXT,
    changed_at   BIGINT NOT NULL,
    changed_by   TEXT   NOT NULL,
    PRIMARY KEY (organization, id, revision)
);
CREATE INDEX limit_policy_revisions_by_id ON limit_policy_revisions (id);

-- Grows with each change of any policy: what instances look at to know that
-- theirs are out of date.
CREATE TABLE limit_policy_state (
    organization TEXT   PRIMARY KEY CHECK (organization = '_instance'),
    revision     BIGINT NOT NULL
);
INSERT INTO limit_policy_state (organization, revision) VALUES ('_instance', 0);

-- +goose Down
DROP TABLE limit_policy_state;
DROP TABLE limit_policy_revisions;
DROP TABLE limit_policies;
