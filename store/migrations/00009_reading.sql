-- +goose Up

-- What events are searched by beside their time: the ids of the actor (a and the
-- id) and of each target (t and the id), as bytes, so that a prefix is a range in
-- every collation.
CREATE TABLE event_terms (
    organization TEXT   NOT NULL,
    term         BYTEA  NOT NULL,
    occurred_at  BIGINT NOT NULL,
    event_id     TEXT   NOT NULL,
    PRIMARY KEY (organization, term, occurred_at, event_id)
);
CREATE INDEX events_by_action ON events (organization, class, action, occurred_at, id);

-- The events from before there were terms. An instance adds theirs in batches, and
-- takes them off this list.
CREATE TABLE event_terms_missing (
    organization TEXT NOT NULL,
    event_id     TEXT NOT NULL,
    PRIMARY KEY (organization, event_id)
);
INSERT INTO event_terms_missing (organization, event_id) SELECT organization, id FROM events;

-- How far each webhook that takes audit.events has come: which index of each
-- class's log is next. upto is where the batch ends that is under way; it stays the
-- same until it is delivered. Whoever takes a batch moves due_at on first, so that
-- it is a lease too.
CREATE TABLE webhook_sinks (
    organization    TEXT   NOT NULL,
    webhook_id      TEXT   NOT NULL,
    next_control    BIGINT NOT NULL,
    next_access     BIGINT NOT NULL,
    next_security   BIGINT NOT NULL,
    next_system     BIGINT NOT NULL,
    upto            TEXT   NOT NULL,
    attempts        BIGINT NOT NULL,
    due_at          BIGINT NOT NULL,
    last_attempt_at BIGINT,
    delivered_at    BIGINT,
    delivered       BIGINT NOT NULL,
    last_status     BIGINT NOT NULL,
    last_error      TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (organization, webhook_id)
);
CREATE INDEX webhook_sinks_due ON webhook_sinks (due_at);

-- +goose Down
DROP TABLE webhook_sinks;
DROP TABLE event_terms_missing;
DROP INDEX events_by_action;
DROP TABLE event_terms;
