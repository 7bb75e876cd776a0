-- +goose Up

-- What was used, by the hour: sums over the visits that are alike in all that
-- usage is asked by. Tokens are sums over the counted requests alone.
CREATE TABLE usage_hours (
    organization       TEXT   NOT NULL,
    hour               BIGINT NOT NULL,
    service            TEXT   NOT NULL,
    model              TEXT   NOT NULL,
    credential         TEXT   NOT NULL,
    member             TEXT   NOT NULL,
    requests           BIGINT NOT NULL,
    failed             BIGINT NOT NULL,
    partial            BIGINT NOT NULL,
    counted            BIGINT NOT NULL,
    uncounted          BIGINT NOT NULL,
    input_tokens       BIGINT NOT NULL,
    cache_read_tokens  BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    output_tokens      BIGINT NOT NULL,
    reasoning_tokens   BIGINT NOT NULL,
    bytes_in           BIGINT NOT NULL,
    bytes_out          BIGINT NOT NULL,
    PRIMARY KEY (organization, hour, service, model, credential, member)
);
CREATE INDEX usage_hours_hour ON usage_hours (hour);

-- How far each spool file of an instance has gone into usage_hours, written in
-- the same transaction, so that what is replayed is not counted twice.
CREATE TABLE usage_spools (
    organization TEXT   NOT NULL CHECK (organization = '_instance'),
    spool        TEXT   NOT NULL,
    applied      BIGINT NOT NULL,
    updated_at   BIGINT NOT NULL,
    PRIMARY KEY (organization, spool)
);

-- +goose Down
DROP TABLE usage_spools;
DROP TABLE usage_hours;
