package usage

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Dimension is what usage can be grouped by.
type Dimension string

// The dimensions; the values are the table's columns.
const (
	Hour         Dimension = "hour"
	Organization Dimension = "organization"
	Service      Dimension = "service"
	Model        Dimension = "model"
	Credential   Dimension = "credential"
	Member       Dimension = "member"
)

// dimensions lists all of them, in the order that answers are sorted by.
func dimensions() []Dimension {
	return []Dimension{Hour, Organization, Service, Model, Credential, Member}
}

// AllOrganizations is what an operator gives as Query.Organization for all.
const AllOrganizations = "*"

// Query asks for usage. Empty fields pick all.
type Query struct {
	Organization string    // the caller's own when empty; [AllOrganizations]
	From         time.Time // the hour that this is in, and later ones; 24 hours before To when zero
	To           time.Time // hours that begin before this; now when zero
	GroupBy      []Dimension

	Service, Model, Credential, Member string

	Limit  int    // 1 to MaxLimit; DefaultLimit when 0
	Cursor string // NextCursor of the page before
}

// The bounds of [Query.Limit], and of the time that one query spans.
const (
	DefaultLimit = 100
	MaxLimit     = 10_000
	MaxSpan      = 400 * 24 * time.Hour
)

// Row is the usage of one group. What was not grouped by is empty.
type Row struct {
	Hour                                             time.Time
	Organization, Service, Model, Credential, Member string

	Requests  int64 // that passed the limits
	Failed    int64 // of them, answered with an error of ours or the provider's
	Partial   int64 // of them, ended before their answer did
	Counted   int64 // of them, with tokens that are known
	Uncounted int64 // of them, with tokens that should be known and are not

	// Sums over the counted requests; without a meaning where Counted is 0.
	InputTokens, CacheReadTokens, CacheWriteTokens, OutputTokens, ReasoningTokens int64

	BytesIn, BytesOut int64
}

// Page is one page of usage, sorted by the dimensions it is grouped by.
// NextCursor is empty on the last.
type Page struct {
	From, To   time.Time   // whole hours
	GroupBy    []Dimension // in the order of their constants
	Rows       []Row
	NextCursor string
}

// Query gives usage. It needs usage:read, or usage:own for what the caller used
// itself, which is then all that it picks. It first waits up to a second for
// records that are on their way.
func (m *Meter) Query(ctx context.Context, caller access.Caller, q Query) (Page, error) {
	if q.Organization == "" {
		q.Organization = caller.Organization
	}
	if err := q.allow(caller); err != nil {
		return Page{}, err
	}
	if err := q.complete(m.opts.Now()); err != nil {
		return Page{}, err
	}
	query, args, err := q.build()
	if err != nil {
		return Page{}, err
	}
	wait, cancel := context.WithTimeout(ctx, time.Second)
	_ = m.Flush(wait) // what is late is in the next answer
	cancel()

	view := func(fn func(*store.Tx) error) error { return m.db.View(ctx, q.Organization, fn) }
	if q.Organization == AllOrganizations {
		view = func(fn func(*store.Tx) error) error { return m.db.ViewAcross(ctx, fn) }
	}
	page := Page{From: q.From, To: q.To, GroupBy: q.GroupBy}
	err = view(func(tx *store.Tx) error {
		page.Rows = nil
		return tx.Each(ctx, func(scan func(...any) error) error {
			var row Row
			var hour store.Time
			if err := scan(row.columns(q.GroupBy, &hour)...); err != nil {
				return err
			}
			row.Hour = hour.Time
			page.Rows = append(page.Rows, row)
			return nil
		}, query, args...)
	})
	if err != nil {
		return Page{}, fmt.Errorf("reading usage: %w", err)
	}
	if len(page.Rows) > q.Limit {
		page.Rows = page.Rows[:q.Limit]
		page.NextCursor = encodeCursor(q.GroupBy, page.Rows[q.Limit-1])
	}
	return page, nil
}

func (q *Query) allow(caller access.Caller) error {
	organization := q.Organization
	if organization == AllOrganizations {
		organization = access.InstanceOrganization
	}
	err := access.Allow(caller, access.UsageRead, organization)
	if err == nil {
		return nil
	}
	own := store.Text(caller.ID, maxMember)
	if access.Allow(caller, access.UsageOwn, organization) != nil || organization != caller.Organization || q.Member != "" && q.Member != own {
		return err
	}
	q.Member = own
	return nil
}

// complete fills in what was left out, and says what is wrong with the rest.
func (q *Query) complete(now time.Time) error {
	wrong := q.completeSpan(now)
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		wrong = append(wrong, fault.Field{Name: "limit", Message: "must be from 1 to " + strconv.Itoa(MaxLimit)})
	}
	var groups []Dimension
	for _, d := range dimensions() {
		if slices.Contains(q.GroupBy, d) {
			groups = append(groups, d)
		}
	}
	for _, d := range q.GroupBy {
		if !slices.Contains(groups, d) {
			wrong = append(wrong, fault.Field{Name: "groupBy", Message: "must be of hour, organization, service, model, credential and member"})
			break
		}
	}
	q.GroupBy = groups
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}

// completeSpan does so for From and To, and makes whole hours of them.
func (q *Query) completeSpan(now time.Time) []fault.Field {
	epoch := time.Unix(0, 0).UTC()
	if q.To.IsZero() {
		q.To = now
	}
	if q.From.IsZero() {
		if q.From = q.To.Add(-24 * time.Hour); q.From.Before(epoch) {
			q.From = epoch
		}
	}
	name, message := "from", ""
	const years = "must be within the years 1970 to 9999 of UTC"
	switch {
	case q.To.Before(epoch) || q.To.UTC().Year() > 9999:
		name, message = "to", years
	case q.From.Before(epoch):
		message = years
	case !q.From.Before(q.To):
		message = "must be before to"
	case q.To.Sub(q.From) > MaxSpan:
		message = fmt.Sprintf("must be at most %d days before to", MaxSpan/(24*time.Hour))
	}
	q.From = hourOf(q.From)
	if end := hourOf(q.To); end.Before(q.To) {
		q.To = end.Add(time.Hour)
	}
	if message == "" {
		return nil
	}
	return []fault.Field{{Name: name, Message: message}}
}

// build gives the query for one row more than the page.
func (q Query) build() (string, []any, error) {
	var where []string
	var args []any
	place := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	if q.Organization != AllOrganizations {
		where = append(where, "organization = "+place(q.Organization))
	}
	where = append(where, "hour >= "+place(store.At(q.From)), "hour < "+place(store.At(q.To)))
	for _, f := range []struct {
		column Dimension
		value  string
	}{{Service, q.Service}, {Model, q.Model}, {Credential, q.Credential}, {Member, q.Member}} {
		if f.value != "" {
			where = append(where, string(f.column)+" = "+place(store.Text(f.value, maxMember)))
		}
	}
	names := make([]string, len(q.GroupBy))
	for i, d := range q.GroupBy {
		names[i] = string(d)
	}
	list := strings.Join(names, ", ")
	if q.Cursor != "" {
		after, err := decodeCursor(q.GroupBy, q.Cursor)
		if err != nil {
			return "", nil, err
		}
		places := make([]string, len(after))
		for i, v := range after {
			places[i] = place(v)
		}
		where = append(where, "("+list+") > ("+strings.Join(places, ", ")+")")
	}
	query := "SELECT "
	if list != "" {
		query += list + ", "
	}
	for i, c := range sumColumns {
		if i > 0 {
			query += ", "
		}
		query += "CAST(COALESCE(SUM(" + c + "), 0) AS BIGINT)"
	}
	query += " FROM usage_hours WHERE " + strings.Join(where, " AND ")
	if list != "" {
		query += " GROUP BY " + list + " ORDER BY " + list
	}
	return query + " LIMIT " + place(q.Limit+1), args, nil
}

// columns gives where a row of the query goes.
func (r *Row) columns(groups []Dimension, hour *store.Time) []any {
	var to []any
	for _, d := range groups {
		if d == Hour {
			to = append(to, hour)
		} else {
			to = append(to, r.text(d))
		}
	}
	return append(to, &r.Requests, &r.Failed, &r.Partial, &r.Counted, &r.Uncounted, &r.InputTokens, &r.CacheReadTokens,
		&r.CacheWriteTokens, &r.OutputTokens, &r.ReasoningTokens, &r.BytesIn, &r.BytesOut)
}

func (r *Row) text(d Dimension) *string {
	switch d {
	case Organization:
		return &r.Organization
	case Service:
		return &r.Service
	case Model:
		return &r.Model
	case Credential:
		return &r.Credential
	default:
		return &r.Member
	}
}

// A cursor is the JSON of an array: the dimensions, then the last row's values.
func encodeCursor(groups []Dimension, last Row) string {
	values := []string{groupNames(groups)}
	for _, d := range groups {
		if d == Hour {
			values = append(values, strconv.FormatInt(last.Hour.UnixMicro(), 10))
		} else {
			values = append(values, *last.text(d))
		}
	}
	b, _ := json.Marshal(values) // strings always marshal
	return base64.RawURLEncoding.EncodeToString(b)
}

func groupNames(groups []Dimension) string {
	var b strings.Builder
	for _, d := range groups {
		b.WriteString(string(d) + " ")
	}
	return b.String()
}

func decodeCursor(groups []Dimension, cursor string) ([]any, error) {
	wrong := fault.InvalidFields(fault.Field{Name: "cursor", Message: "must be the nextCursor of an earlier page of the same groups"})
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	var values []string
	if err != nil || len(b) > 4096 || json.Unmarshal(b, &values) != nil || len(groups) == 0 ||
		len(values) != len(groups)+1 || values[0] != groupNames(groups) {
		return nil, wrong
	}
	after := make([]any, len(groups))
	for i, d := range groups {
		after[i] = store.Text(values[i+1], maxMember)
		if d == Hour {
			if after[i], err = strconv.ParseInt(values[i+1], 10, 64); err != nil {
				return nil, wrong
			}
		}
	}
	return after, nil
}
