-- +goose Up

-- The place of an event in the Merkle log of its organization and class, dense
-- from 0. NULL until it is sealed: writers never know it.
ALTER TABLE events ADD COLUMN log_index BIGINT;
CREATE UNIQUE INDEX events_in_log ON events (organization, class, log_index) WHERE log_index IS NOT NULL;
CREATE INDEX events_unsealed ON events (organization, class, id) WHERE log_index IS NULL;

-- The logs that there are, and how far each is sealed: size events in blocks
-- blocks, the last of which has the SHA-256 block_hash. The instance's own log is
-- that of the organization _instance and the class ledger; its leaves stand in
-- ledger_entries, and checkpoint is its latest signed one (elsewhere empty: there
-- it stands in the last block).
CREATE TABLE ledger_logs (
    organization TEXT   NOT NULL,
    class        TEXT   NOT NULL,
    size         BIGINT NOT NULL,
    blocks       BIGINT NOT NULL,
    block_hash   BYTEA  NOT NULL,
    checkpoint   TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (organization, class)
);

-- What one run of the sealer added to one log: the events from first on, count of
-- them. checkpoint is the signed note that says what the log is after it.
CREATE TABLE ledger_blocks (
    organization TEXT   NOT NULL,
    class        TEXT   NOT NULL,
    number       BIGINT NOT NULL,
    first        BIGINT NOT NULL,
    count        BIGINT NOT NULL,
    sealed_at    BIGINT NOT NULL,
    key_id       TEXT   NOT NULL,
    checkpoint   TEXT   NOT NULL,
    PRIMARY KEY (organization, class, number)
);
CREATE UNIQUE INDEX ledger_blocks_first ON ledger_blocks (organization, class, first);
CREATE INDEX ledger_blocks_sealed_at ON ledger_blocks (organization, class, sealed_at);

-- The trees, so that a proof reads a few rows and not every event: level 0 holds
-- hashes of leaves, each level above those of 64 beneath, 64 hashes a row, of which
-- only the last of a level may be shorter.
CREATE TABLE ledger_tiles (
    organization TEXT   NOT NULL,
    class        TEXT   NOT NULL,
    level        BIGINT NOT NULL,
    number       BIGINT NOT NULL,
    hashes       BYTEA  NOT NULL,
    PRIMARY KEY (organization, class, level, number)
);

-- The leaves of the instance's own log: every block of every log, in the order in
-- which they were sealed, so that a log cannot be cut or go missing alone.
CREATE TABLE ledger_entries (
    organization     TEXT   NOT NULL CHECK (organization = '_instance'),
    log_index        BIGINT NOT NULL,
    log_organization TEXT   NOT NULL,
    log_class        TEXT   NOT NULL,
    number           BIGINT NOT NULL,
    block_hash       BYTEA  NOT NULL,
    PRIMARY KEY (organization, log_index)
);
CREATE UNIQUE INDEX ledger_entries_of_log ON ledger_entries (organization, log_organization, log_class, number);

-- The keys that sign. Exactly one has no retired_at. key_sealed holds the private
-- key while it signs, and the public one afterwards.
CREATE TABLE ledger_keys (
    organization TEXT   NOT NULL CHECK (organization = '_instance'),
    id           TEXT   NOT NULL,
    public       BYTEA  NOT NULL,
    key_sealed   BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    retired_at   BIGINT,
    PRIMARY KEY (organization, id)
);
CREATE UNIQUE INDEX ledger_keys_active ON ledger_keys (organization) WHERE retired_at IS NULL;

-- Who seals, until lease_until, after which another may.
CREATE TABLE ledger_sealer (
    organization TEXT   PRIMARY KEY CHECK (organization = '_instance'),
    holder       TEXT   NOT NULL,
    lease_until  BIGINT NOT NULL,
    last_error   TEXT   NOT NULL,
    sealed_at    BIGINT
);
INSERT INTO ledger_sealer (organization, holder, lease_until, last_error) VALUES ('_instance', '', 0, '');

-- What retention took away: of this log only events beneath size may be missing.
-- root is that of the tree of the first size events, record the signed note that
-- says so. The tiles stay, so that no proof changes.
CREATE TABLE ledger_prefixes (
    organization TEXT   NOT NULL,
    class        TEXT   NOT NULL,
    size         BIGINT NOT NULL,
    root         BYTEA  NOT NULL,
    record       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    PRIMARY KEY (organization, class, size)
);

-- +goose Down
DROP TABLE ledger_prefixes;
DROP TABLE ledger_sealer;
DROP TABLE ledger_keys;
DROP TABLE ledger_entries;
DROP TABLE ledger_tiles;
DROP TABLE ledger_blocks;
DROP TABLE ledger_logs;
DROP INDEX events_unsealed;
DROP INDEX events_in_log;
ALTER TABLE events DROP COLUMN log_index;
