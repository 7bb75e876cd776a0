package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/internal/csvsafe"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/internal/wiretime"
)

// Format is the form of an export.
type Format string

// The formats.
const (
	NDJSON Format = "ndjson" // a JSON object a line
	CSV    Format = "csv"    // RFC 4180, without what a spreadsheet would take for a formula
)

// MaxExports is how many exports of one organization may run on one instance at
// the same time.
const MaxExports = 2

// ErrExports says that [MaxExports] run already.
var ErrExports = fault.New(fault.Limited, "too_many_exports", "As many exports of this trail run as may; wait for one to end.").After(10 * time.Second)

type exports struct {
	mu      sync.Mutex
	running map[string]int
}

// Manifest says what an export holds. An export without one was cut off.
type Manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	Organization  string            `json:"organization"`
	Format        Format            `json:"format"`
	Filter        map[string]string `json:"filter"`
	Events        int64             `json:"events"`
	First         *ManifestEvent    `json:"first,omitempty"` // the newest: exports are newest first
	Last          *ManifestEvent    `json:"last,omitempty"`
	Damaged       int64             `json:"damaged"` // events among them whose rows were altered
	SHA256        string            `json:"sha256"`  // hex, of every byte before the line of the manifest
	SealedTo      string            `json:"sealedTo"`
	ExportedAt    string            `json:"exportedAt"`
}

// ManifestEvent names an event of an export.
type ManifestEvent struct {
	ID         string `json:"id"`
	OccurredAt string `json:"occurredAt"`
}

// Export is an export that has been let in. Run it once.
type Export struct {
	log      *Log
	caller   access.Caller
	slot     Slot
	search   search
	format   Format
	manifest Manifest
	// WithoutTrailer leaves the manifest out of what is written: for a caller that
	// keeps it elsewhere.
	WithoutTrailer bool
}

// StartExport lets an export in: what f picks (its Limit, Cursor and Count do not
// count), newest first, of what is recorded by now, whatever its time. It needs audit:export, and is
// itself an event: one here, and one that says how it ended. Errors: Invalid,
// [ErrExports], [ErrFull].
func (l *Log) StartExport(ctx context.Context, caller access.Caller, f Filter, format Format) (*Export, error) {
	if f.Organization == "" {
		f.Organization = caller.Organization
	}
	if err := access.Allow(caller, access.AuditExport, f.Organization); err != nil {
		return nil, err
	}
	if format != NDJSON && format != CSV {
		return nil, fault.InvalidFields(fault.Field{Name: "format", Message: "must be ndjson or csv"})
	}
	l.settle(ctx, f.Organization)
	f.Limit, f.Cursor, f.Count = MaxLimit, "", false
	s, err := f.search()
	if err != nil {
		return nil, err
	}
	now := l.opts.Now()
	if s.begun, err = l.begin(ctx, f.Organization); err != nil {
		return nil, err
	}
	e := &l.exports
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[f.Organization] >= MaxExports {
		return nil, ErrExports
	}
	slot, err := l.Reserve() // for the event that says how it ended
	if err != nil {
		return nil, err
	}
	begin, err := l.Reserve()
	if err != nil {
		slot.Release()
		return nil, err
	}
	begin.Record(ctx, caller, Event{
		Organization: f.Organization, Action: AuditExport, Outcome: Success, Reason: "export_begun", Permission: access.AuditExport.String(),
		Metadata: f.told(format),
	})
	if e.running == nil {
		e.running = make(map[string]int)
	}
	e.running[f.Organization]++
	return &Export{log: l, caller: caller, slot: slot, search: s, format: format, manifest: Manifest{
		SchemaVersion: SchemaVersion, Organization: f.Organization, Format: format, Filter: f.named(), SealedTo: s.begun.end.String(),
		ExportedAt: wiretime.Text(now),
	}}, nil
}

// named gives what is asked for, by the names of the API.
func (f Filter) named() map[string]string {
	all := make(map[string]string)
	for name, value := range map[string]string{
		"class": f.Class, "action": f.Action, "actor": f.Actor, "target": f.Target, "outcome": f.Outcome, "from": timeOrNothing(f.From), "to": timeOrNothing(f.To),
	} {
		if value != "" {
			all[name] = bounded(value, maxID)
		}
	}
	return all
}

// told gives the metadata of an export's event: what of the trail went out. The ids
// that were looked for stay out of it, since people paste what they like there.
func (f Filter) told(format Format) map[string]any {
	all := map[string]any{"format": string(format)}
	for name, value := range f.named() {
		if name == "actor" || name == "target" {
			all["filter."+name] = true
			continue
		}
		all["filter."+name] = value
	}
	return all
}

func timeOrNothing(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

// Write writes the export to w, a page of events in memory at a time, and gives
// its manifest, which is the last line too: an object with the member manifest, in
// a CSV file a row whose first cell is #manifest. An error of w, or the end of ctx,
// ends the reading.
func (x *Export) Write(ctx context.Context, w io.Writer) (Manifest, error) {
	err := x.write(ctx, w)
	x.log.exports.mu.Lock()
	if x.log.exports.running[x.search.organization]--; x.log.exports.running[x.search.organization] == 0 {
		delete(x.log.exports.running, x.search.organization)
	}
	x.log.exports.mu.Unlock()
	done := Event{
		Organization: x.search.organization, Action: AuditExport, Outcome: Success, Reason: "export_ended", Permission: access.AuditExport.String(),
		Metadata: map[string]any{"format": string(x.format), "events": x.manifest.Events},
	}
	if err != nil {
		done.Outcome = Partial
	} else {
		done.Metadata["sha256"] = x.manifest.SHA256
	}
	x.slot.Record(context.WithoutCancel(ctx), x.caller, done)
	return x.manifest, err
}

func (x *Export) write(ctx context.Context, w io.Writer) error {
	sum := sha256.New()
	out := bufio.NewWriterSize(w, 64<<10)
	line, err := x.writer(out, sum)
	if err != nil {
		return err
	}
	for {
		page, err := x.log.page(ctx, x.search)
		if err != nil {
			return err
		}
		for i := range page.Events {
			e := &page.Events[i]
			if x.search.begun.late[e.ID] {
				continue
			}
			if err := line(e); err != nil {
				return err
			}
			named := &ManifestEvent{e.ID, wiretime.Text(e.OccurredAt)}
			if x.manifest.Last = named; x.manifest.Events == 0 {
				x.manifest.First = named
			}
			x.manifest.Events++
			if e.Damaged {
				x.manifest.Damaged++
			}
		}
		clear(x.search.begun.late)
		if page.NextCursor == "" {
			break
		}
		after, err := x.search.decodeCursor(page.NextCursor)
		if err != nil {
			return err
		}
		x.search.after = &after
	}
	x.manifest.SHA256 = hex.EncodeToString(sum.Sum(nil))
	if !x.WithoutTrailer {
		if err := x.trailer(out); err != nil {
			return err
		}
	}
	return out.Flush()
}

// writer gives what writes one event, after a header where the format has one.
func (x *Export) writer(out io.Writer, sum hash.Hash) (func(*Event) error, error) {
	both := io.MultiWriter(out, sum)
	if x.format == NDJSON {
		enc := json.NewEncoder(both)
		enc.SetEscapeHTML(false)
		return func(e *Event) error { return enc.Encode(e) }, nil
	}
	w := csv.NewWriter(both)
	w.UseCRLF = true
	if err := w.Write(csvHeader); err != nil {
		return nil, err
	}
	w.Flush()
	return func(e *Event) error {
		cells, err := csvCells(e)
		if err != nil {
			return err
		}
		if err := w.Write(cells); err != nil {
			return err
		}
		w.Flush()
		return w.Error()
	}, w.Error()
}

func (x *Export) trailer(out io.Writer) error {
	if x.format == NDJSON {
		return json.NewEncoder(out).Encode(map[string]Manifest{"manifest": x.manifest})
	}
	text, err := json.Marshal(x.manifest)
	if err != nil {
		return err
	}
	cells := make([]string, len(csvHeader))
	cells[0], cells[1] = "#manifest", string(text)
	w := csv.NewWriter(out)
	w.UseCRLF = true
	if err := w.Write(cells); err != nil {
		return err
	}
	w.Flush()
	return w.Error()
}

var csvHeader = []string{
	"id", "occurredAt", "recordedAt", "organization", "class", "action", "outcome", "reason", "severity", "actorType", "actorId", "tokenId", "roles",
	"targets", "permission", "requestId", "method", "route", "status", "ip", "userAgent", "count", "metadata", "damaged",
}

func csvCells(e *Event) ([]string, error) {
	metadata := ""
	if all := e.AllMetadata(); len(all) > 0 {
		text, err := json.Marshal(all)
		if err != nil {
			return nil, fmt.Errorf("audit: metadata of %s: %w", e.ID, err)
		}
		metadata = string(text)
	}
	targets := make([]string, len(e.Targets))
	for i, t := range e.Targets {
		targets[i] = t.Type + ":" + t.ID
	}
	recorded, status, damaged := "", "", ""
	if !e.RecordedAt.IsZero() {
		recorded = wiretime.Text(e.RecordedAt)
	}
	if e.Request.Status != 0 {
		status = strconv.Itoa(e.Request.Status)
	}
	if e.Damaged {
		damaged = "true"
	}
	cells := []string{
		e.ID, wiretime.Text(e.OccurredAt), recorded, e.Organization, string(e.Class), string(e.Action), string(e.Outcome), e.Reason, string(e.Severity),
		e.Actor.Type, e.Actor.ID, e.Actor.TokenID, strings.Join(e.Actor.Roles, " "), strings.Join(targets, " "), e.Permission, e.Request.ID, e.Request.Method,
		e.Request.Route, status, e.Request.IP, e.Request.UserAgent, strconv.FormatInt(max(1, e.Count), 10), metadata, damaged,
	}
	for i := range cells {
		cells[i] = csvsafe.Cell(cells[i])
	}
	return cells, nil
}
