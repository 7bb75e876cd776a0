-- +goose Up

-- A key is staged until activated_at, when it first seals; it is retired when
-- nothing hangs on it any more. A key that is neither staged nor retired must be
-- given to every instance.
ALTER TABLE master_keys ADD COLUMN activated_at BIGINT;
ALTER TABLE master_keys ADD COLUMN retired_at BIGINT;
UPDATE master_keys SET activated_at = created_at;

-- The instances that run, or ran lately, and which keys each holds. keys is a
-- JSON array of ids.
CREATE TABLE running_instances (
    id          TEXT   PRIMARY KEY,
    name        TEXT   NOT NULL,
    version     TEXT   NOT NULL,
    keys        TEXT   NOT NULL,
    sealing_key TEXT   NOT NULL,
    started_at  BIGINT NOT NULL,
    seen_at     BIGINT NOT NULL
);

-- Moves to another master key. At most one is running; worker is who does it
-- until lease_until, after which another may go on.
CREATE TABLE key_rotations (
    id          TEXT   PRIMARY KEY,
    key_id      TEXT   NOT NULL,
    state       TEXT   NOT NULL,
    rate        BIGINT NOT NULL,
    total       BIGINT NOT NULL,
    rewrapped   BIGINT NOT NULL,
    unreadable  BIGINT NOT NULL,
    worker      TEXT   NOT NULL,
    lease_until BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    started_by  TEXT   NOT NULL,
    updated_at  BIGINT NOT NULL,
    finished_at BIGINT
);

-- What instances look at to forget what they cached of a deleted organization.
CREATE INDEX organizations_deleted ON organizations (deleted_at);

-- +goose Down
DROP INDEX organizations_deleted;
DROP TABLE key_rotations;
DROP TABLE running_instances;
ALTER TABLE master_keys DROP COLUMN retired_at;
ALTER TABLE master_keys DROP COLUMN activated_at;
