-- +goose Up

-- What a credential may be used for, as JSON; NULL: its service's default. And
-- the names of the credentials that step in where the provider refuses it.
ALTER TABLE credentials ADD COLUMN scope TEXT;
ALTER TABLE credentials ADD COLUMN failover TEXT;

-- +goose Down
ALTER TABLE credentials DROP COLUMN failover;
ALTER TABLE credentials DROP COLUMN scope;
