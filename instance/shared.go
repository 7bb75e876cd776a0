package instance

import (
	"context"
	"log/slog"
	"strings"

	"github.com/gatehouse-io/gatehouse/masterkey"
	"github.com/gatehouse-io/gatehouse/store"
)

// countsAlone reports whether each server counts limits for itself on a database that is a
// file, which one server is meant to have. Of PostgreSQL without Redis [Config.warn] tells.
func (c *Config) countsAlone() bool {
	_, file := store.FilePath(c.Database())
	return file && c.RedisURL == ""
}

// warnOfOthers says at start when other servers run on the same SQLite file.
func (c *Config) warnOfOthers(ctx context.Context, keys *masterkey.Keys, log *slog.Logger) {
	if !c.countsAlone() {
		return
	}
	if names, err := keys.Others(ctx); err == nil && len(names) > 0 { // the list was read just before
		log.Warn("other servers run on this database file, and each counts limits for itself, so that they admit several times the limits: "+
			"run one, or set REDIS_URL; one that was killed counts for 30 seconds", "others", strings.Join(names, ", "))
	}
}

// servers tells of several servers on one SQLite file.
func (d *diagnosis) servers(ctx context.Context, keys *masterkey.Keys) {
	if !d.config.countsAlone() {
		return
	}
	if names, err := keys.Others(ctx); err == nil && len(names) > 1 {
		d.add("database", Doubtful, "run one server on the file, or set REDIS_URL; one that was killed counts for 30 seconds",
			"%d servers run on this file, and each counts limits for itself, so that they admit several times the limits: %s", len(names), strings.Join(names, ", "))
	}
}
