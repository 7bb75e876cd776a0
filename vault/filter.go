package vault

import (
	"encoding/base64"
	"errors"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Filter picks credentials of the caller's organization. Empty fields pick all.
type Filter struct {
	Service string
	Status  Status
	Limit   int    // 1 to 200; 50 when 0
	Cursor  string // NextCursor of the page before
}

// The bounds of [Filter.Limit].
const (
	defaultLimit = 50
	MaxLimit     = 200
)

// Page is one page of credentials. NextCursor is empty on the last. The newest
// are first; of the status expiring those that expire first, of expired those
// that expired last.
type Page struct {
	Credentials []Credential
	NextCursor  string
}

// What is wrong with a filter, in the words that all lists have.
var (
	errLimit  = fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)}
	errCursor = fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page"}
)

// byExpiry reports whether pages are in the order of expiry. These statuses are
// ranges of it, so that an index gives the page as it stands.
func (f Filter) byExpiry() bool { return f.Status == Expiring || f.Status == Expired }

// query gives the statement for a page and one credential more. The conditions on
// disabled and expires_at are word for word those of the partial indices.
func (f Filter) query(organization string, now store.Time) (string, []any, error) {
	var wrong []fault.Field
	where, args := []string{"c.organization = $1"}, []any{organization}
	arg := func(value any) string {
		args = append(args, value)
		return "$" + strconv.Itoa(len(args))
	}
	if f.Service != "" {
		if len(f.Service) > 64 || !utf8.ValidString(f.Service) || strings.ContainsRune(f.Service, 0) {
			wrong = append(wrong, fault.Field{Name: "service", Message: "must be the name of a service"})
		}
		where = append(where, "c.service = "+arg(f.Service))
	}
	order := "c.id DESC"
	soon := store.At(now.Add(ExpiringWithin))
	switch f.Status {
	case "":
	case Disabled:
		where = append(where, "c.disabled")
	case Expired:
		where = append(where, "NOT c.disabled", "c.expires_at IS NOT NULL", "c.expires_at <= "+arg(now))
		order = "c.expires_at DESC, c.id DESC"
	case Expiring:
		where = append(where, "NOT c.disabled", "c.expires_at IS NOT NULL", "c.expires_at > "+arg(now), "c.expires_at <= "+arg(soon))
		order = "c.expires_at, c.id"
	case Active:
		where = append(where, "NOT c.disabled", "(c.expires_at IS NULL OR c.expires_at > "+arg(soon)+")")
	default:
		wrong = append(wrong, fault.Field{Name: "status", Message: "must be active, expiring, expired or disabled"})
	}
	if f.Limit < 1 || f.Limit > MaxLimit {
		wrong = append(wrong, errLimit)
	}
	if f.Cursor != "" {
		at, id, err := f.readCursor()
		if err != nil {
			wrong = append(wrong, errCursor)
		}
		switch f.Status {
		case Expiring:
			where = append(where, "(c.expires_at, c.id) > ("+arg(at)+", "+arg(id)+")")
		case Expired:
			where = append(where, "(c.expires_at, c.id) < ("+arg(at)+", "+arg(id)+")")
		default:
			where = append(where, "c.id < "+arg(id))
		}
	}
	if len(wrong) > 0 {
		return "", nil, fault.InvalidFields(wrong...)
	}
	// The page is cut before the join: PostgreSQL would otherwise join its way down to a deep one.
	page := `(SELECT * FROM credentials c WHERE ` + strings.Join(where, " AND ") + ` ORDER BY ` + order + ` LIMIT ` + strconv.Itoa(f.Limit+1) + `)`
	return `SELECT ` + columns + ` FROM ` + page + ` c ` + joinVersion + ` ORDER BY ` + order, args, nil
}

// cursorAt gives the cursor of the page after one that ends with c: its id, and
// its expiry where pages are in that order.
func (f Filter) cursorAt(c Credential) string {
	text := c.ID
	if f.byExpiry() {
		text = strconv.FormatInt(c.ExpiresAt.UnixMicro(), 10) + "/" + c.ID
	}
	return base64.RawURLEncoding.EncodeToString([]byte(text))
}

var errNoCursor = errors.New("no cursor of this list")

func (f Filter) readCursor() (at store.Time, id string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(f.Cursor)
	if err != nil {
		return at, "", err
	}
	id = string(text)
	if f.byExpiry() {
		micros, rest, _ := strings.Cut(id, "/")
		n, err := strconv.ParseInt(micros, 10, 64)
		if err != nil {
			return at, "", err
		}
		at, id = store.At(time.UnixMicro(n)), rest
	}
	if !store.IsID("cred", id) {
		return at, "", errNoCursor
	}
	return at, id, nil
}
