package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver "sqlite"
)

func connect(ctx context.Context, url string) (*DB, error) {
	if err := CheckURL(url); err != nil {
		return nil, err
	}
	if isPostgres(url) {
		return openPostgres(ctx, url)
	}
	path, _ := FilePath(url)
	return openSQLite(ctx, path)
}

// CheckURL says what is wrong with the form of url, a DATABASE_URL; nil where it
// can be tried. It opens nothing, and its error never holds any part of url.
func CheckURL(url string) error {
	switch {
	case strings.TrimSpace(url) != url:
		return &openError{errors.New("DATABASE_URL has white space, such as a line break, before or behind it"), "take it away"}
	case isPostgres(url):
		_, err := parsePostgres(url)
		return err
	case strings.Contains(url, "://") && !strings.HasPrefix(url, "sqlite://"),
		strings.HasPrefix(url, "postgres:"), strings.HasPrefix(url, "postgresql:"), strings.HasPrefix(url, "file:"),
		keywords.MatchString(url): // a mistyped address, not a file
		return errors.New("DATABASE_URL must be postgres://..., or sqlite: and the path of a file")
	case nearPostgres(url):
		return &openError{errors.New("DATABASE_URL looks like a database server's but does not begin with postgres://"),
			"write postgres://... or, where it is a file, sqlite: before its path"}
	}
	switch path, _ := FilePath(url); {
	case strings.Contains(path, ":memory:"):
		return errors.New("DATABASE_URL must name a file: a database in memory is not kept, and `gatehouse dev` needs none")
	case parameters.MatchString(path):
		return errors.New("DATABASE_URL takes no parameters (?mode=... and the like) after the path of a file")
	}
	return nil
}

// parameters finds those of SQLite's own addresses, which here would be part of the file's name.
var parameters = regexp.MustCompile(`[?&](mode|cache|immutable|nolock|psow|vfs|_\w+)=`)

// keywords finds the form of libpq that has no scheme, such as "host=db user=gatehouse".
var keywords = regexp.MustCompile(`(^|\s)(host|hostaddr|port|dbname|user|password|passfile|service|sslmode)\s*=`)

// nearPostgres reports whether url seems to be a server's address whose scheme was lost
// in part or whole: as a file it would be in a folder that is named after the password.
func nearPostgres(url string) bool {
	if strings.HasPrefix(url, "sqlite:") {
		return false
	}
	name, _, below := strings.Cut(strings.ToLower(url), "/")
	if name = strings.TrimSuffix(name, ":"); below && (name == "postgres" || name == "postgresql") {
		return true
	}
	at := strings.LastIndex(url, "@")
	path := strings.HasPrefix(url, "/") && !strings.HasPrefix(url, "//") || strings.HasPrefix(url, "./") || strings.HasPrefix(url, "../")
	return at >= 0 && (!path || strings.Contains(url[:at], ":"))
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}

// FilePath gives the file that url names, and whether it names one: PostgreSQL
// is no file.
func FilePath(url string) (path string, file bool) {
	if isPostgres(url) {
		return "", false
	}
	return strings.TrimPrefix(strings.TrimPrefix(url, "sqlite:"), "//"), true
}

// busyTimeout is how long a writer waits for one of another process.
const busyTimeout = 5 * time.Second

func pragmaBusyTimeout(d time.Duration) string {
	return "PRAGMA busy_timeout = " + strconv.FormatInt(d.Milliseconds(), 10)
}

func openSQLite(ctx context.Context, path string) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("the folder of the database could not be made: %w", err)
	}
	// SQLite gives its side files the mode of the main one, so the file is made here.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, notOpened(path, err)
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	// A file name may hold characters that mean something in a URI.
	escaped := strings.NewReplacer("%", "%25", "?", "%3f", "#", "%23").Replace(path)
	// secure_delete: a destroyed secret leaves no bytes in free pages.
	dsn := "file:" + escaped +
		"?_pragma=busy_timeout(" + strconv.FormatInt(busyTimeout.Milliseconds(), 10) + ")&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)" +
		"&_pragma=foreign_keys(ON)&_pragma=secure_delete(ON)"
	write, err := sql.Open("sqlite", dsn+"&_txlock=immediate")
	if err != nil {
		return nil, fmt.Errorf("the database could not be opened: %w", err)
	}
	write.SetMaxOpenConns(1)
	read, err := sql.Open("sqlite", dsn+"&_pragma=query_only(ON)")
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(max(4, runtime.GOMAXPROCS(0)))
	read.SetMaxIdleConns(max(4, runtime.GOMAXPROCS(0)))
	db := &DB{dialect: dialectSQLite, write: write, read: read}
	db.cutter.closed = make(chan struct{})
	if err := write.PingContext(ctx); err != nil {
		return nil, errors.Join(notOpened(path, err), db.Close())
	}
	db.tryCut() // what a process that was killed left
	db.cutter.last = time.Time{}
	return db, nil
}

func parsePostgres(url string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil { // the parser's own words can hold a piece of the password
		return nil, errors.New("DATABASE_URL is not a PostgreSQL address that can be read; a / ? # % or @ in the password must be percent-encoded")
	}
	return config, nil
}

func openPostgres(ctx context.Context, url string) (*DB, error) {
	config, err := parsePostgres(url)
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(tenantConnector{stdlib.GetConnector(*config)})
	pool.SetMaxOpenConns(16)
	pool.SetMaxIdleConns(16)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	pool.SetConnMaxLifetime(time.Hour) // another address of the same name is found at last
	db := &DB{dialect: dialectPostgres, write: pool, read: pool}
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(notConnected(err, config), db.Close())
	}
	return db, nil
}

// WithoutPassword gives err, or nothing of it where it holds the password. A password that is
// one of the open words, such as the user's name, is no secret and hides nothing.
func WithoutPassword(err error, password string, open ...string) error {
	if password != "" && !slices.Contains(open, password) && strings.Contains(err.Error(), password) {
		return errors.New("the connection failed")
	}
	return err
}
