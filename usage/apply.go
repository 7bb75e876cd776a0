package usage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/store"
	"github.com/gatehouse-io/gatehouse/usage/tokens"
)

// MaxModels is how many models an organization has in an hour; further ones are
// added to tokens.OtherModel.
const MaxModels = 200

// batchSize is how many bytes of the spool one transaction takes at most.
const batchSize = 1 << 20

// maxApply bounds one transaction, so that a database that hangs is tried again.
const maxApply = 15 * time.Second

// spooled is a record and where it ends in its file.
type spooled struct {
	record Record
	end    int64
}

// drain moves what is in the spool into the database, oldest first, and reports
// whether nothing is left.
func (m *Meter) drain(ctx context.Context) bool {
	for {
		g, written, tail := m.spool.next()
		if g == nil {
			return true
		}
		batch, end, damaged, err := m.read(g, written, tail)
		if err == nil {
			err = m.applyBatch(ctx, g.id, batch, end)
		}
		if m.told(ctx, err); err != nil {
			return false
		}
		for range damaged { // told now: what waits for the database is read again
			m.lose(ctx, errDamaged)
		}
		m.spooled.Add(g.applied - end)
		if err := m.spool.advance(g, end); err != nil {
			m.opts.Logger.ErrorContext(ctx, "a file of the usage spool could not be removed", "error", err)
		}
	}
}

// told tells when the database begins to refuse what is applied, and when that is over.
func (m *Meter) told(ctx context.Context, err error) {
	switch {
	case err != nil && !m.failing && ctx.Err() == nil:
		m.failing = true
		m.opts.Logger.ErrorContext(ctx, "usage waits for the database", "bytes", m.spooled.Load(), "records", m.queued.Load(), "error", err)
	case err == nil && m.failing:
		m.failing = false
		m.opts.Logger.InfoContext(ctx, "usage goes into the database again")
	}
}

// read gives the next records of g, and where they end. What is damaged is left
// out and counted.
func (m *Meter) read(g *segment, written int64, tail []byte) (batch []spooled, end int64, damaged int, err error) {
	var text []byte
	if g.applied < written {
		text = make([]byte, min(written-g.applied, batchSize))
		if _, err := g.file.ReadAt(text, g.applied); err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, 0, err
		}
	} else {
		text, written = tail[g.applied-written:], written+int64(len(tail))
		text = text[:min(len(text), batchSize)]
	}
	end = g.applied
	for len(text) > 0 {
		n := bytes.IndexByte(text, '\n')
		if n < 0 {
			if end > g.applied && end+int64(len(text)) < written { // the rest of the line is in the next batch
				return batch, end, damaged, nil
			}
			n = len(text) - 1 // the process died in the middle of it
		}
		end += int64(n + 1)
		r, err := parseLine(text[:n])
		if err != nil {
			damaged++
		} else {
			batch = append(batch, spooled{r, end})
		}
		text = text[n+1:]
	}
	return batch, end, damaged, nil
}

// applyBatch adds the records of a file, which reach to end, to the table. One
// that the database refuses for good is left out.
func (m *Meter) applyBatch(ctx context.Context, spool string, batch []spooled, end int64) error {
	err := m.add(ctx, spool, batch, end)
	if !errors.Is(err, store.ErrRefused) {
		return err
	}
	for _, one := range batch {
		err := m.add(ctx, spool, []spooled{one}, one.end)
		if errors.Is(err, store.ErrRefused) {
			m.lose(ctx, err)
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// add writes records and how far the file is applied, in one transaction.
func (m *Meter) add(ctx context.Context, spool string, batch []spooled, end int64) error {
	ctx, cancel := context.WithTimeout(ctx, maxApply)
	defer cancel()
	var found map[organizationHour]map[string]bool
	// A batch holds several organizations' records, so it is the instance's own work.
	err := m.db.UpdateAcross(ctx, func(tx *store.Tx) error {
		var applied int64
		err := tx.Row(ctx, `SELECT applied FROM usage_spools WHERE organization = $1 AND spool = $2`,
			access.InstanceOrganization, spool).Scan(&applied)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		rows := make(map[key]*sums)
		for _, s := range batch {
			if s.end > applied { // the rest is there: the answer to its commit was lost
				collect(rows, s.record)
			}
		}
		if found, err = m.boundModels(ctx, tx, rows); err != nil {
			return err
		}
		if err := upsert(ctx, tx, rows); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO usage_spools (organization, spool, applied, updated_at) VALUES ($1, $2, $3, $4)
			ON CONFLICT (organization, spool) DO UPDATE SET applied = excluded.applied, updated_at = excluded.updated_at
			WHERE usage_spools.applied < excluded.applied`,
			access.InstanceOrganization, spool, end, store.At(m.opts.Now()))
		return err
	})
	if err != nil {
		return err
	}
	const most = 10_000 // organizations and hours that are remembered
	if len(m.models) > most {
		clear(m.models)
	}
	for at, names := range found {
		m.models[at] = names
	}
	return nil
}

// key is what usage can be asked by.
type key struct {
	organization, service, model, credential, member string
	hour                                             int64 // microseconds
}

type organizationHour struct {
	organization string
	hour         int64
}

// sums are the columns that are added up, in the order of sumColumns.
type sums [12]int64

var sumColumns = []string{"requests", "failed", "partial", "counted", "uncounted", "input_tokens", "cache_read_tokens",
	"cache_write_tokens", "output_tokens", "reasoning_tokens", "bytes_in", "bytes_out"}

func collect(rows map[key]*sums, r Record) {
	k := key{organization: r.Organization, service: r.Service, model: r.Model, credential: r.Credential, member: r.Member,
		hour: hourOf(r.At).UnixMicro()}
	s := rows[k]
	if s == nil {
		s = new(sums)
		rows[k] = s
	}
	counted := r.Tokens.Known()
	t := r.Tokens
	for i, n := range [...]int64{1, one(r.Failed), one(r.Partial), one(counted), one(!counted && r.Expected && (!r.Failed || r.Partial)),
		t.Input.N, t.CacheRead.N, t.CacheWrite.N, t.Output.N, t.Reasoning.N, r.BytesIn, r.BytesOut} {
		s[i] += n
	}
}

func one(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// boundModels moves what is past [MaxModels] to the other model, and gives the
// models that each organization and hour has after.
func (m *Meter) boundModels(ctx context.Context, tx *store.Tx, rows map[key]*sums) (map[organizationHour]map[string]bool, error) {
	found := make(map[organizationHour]map[string]bool)
	for _, k := range sorted(rows) {
		at := organizationHour{k.organization, k.hour}
		if m.models[at][k.model] || k.model == "" || k.model == tokens.OtherModel {
			continue
		}
		if found[at] == nil { // also where some are known: another instance may have added more
			names, err := modelsOf(ctx, tx, at)
			if err != nil {
				return nil, err
			}
			found[at] = names
		}
		if !found[at][k.model] && len(found[at]) >= MaxModels {
			other := k
			other.model = tokens.OtherModel
			if rows[other] == nil {
				rows[other] = new(sums)
			}
			for i, n := range rows[k] {
				rows[other][i] += n
			}
			delete(rows, k)
			continue
		}
		found[at][k.model] = true
	}
	return found, nil
}

func modelsOf(ctx context.Context, tx *store.Tx, at organizationHour) (map[string]bool, error) {
	names := make(map[string]bool)
	return names, tx.Each(ctx, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		names[name] = true
		return err
	}, `SELECT DISTINCT model FROM usage_hours WHERE organization = $1 AND hour = $2 AND model <> '' AND model <> $3`,
		at.organization, at.hour, tokens.OtherModel)
}

// sorted gives the keys in one order for all instances, so that no two wait for
// each other.
func sorted(rows map[key]*sums) []key {
	keys := make([]key, 0, len(rows))
	for k := range rows {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b key) int {
		return cmp.Or(cmp.Compare(a.organization, b.organization), cmp.Compare(a.hour, b.hour), cmp.Compare(a.service, b.service),
			cmp.Compare(a.model, b.model), cmp.Compare(a.credential, b.credential), cmp.Compare(a.member, b.member))
	})
	return keys
}

// rowsPerUpsert keeps a statement under the 32,766 parameters that SQLite takes.
const rowsPerUpsert = 64

func upsert(ctx context.Context, tx *store.Tx, rows map[key]*sums) error {
	for keys := range slices.Chunk(sorted(rows), rowsPerUpsert) {
		var args []any
		for _, k := range keys {
			args = append(args, k.organization, k.hour, k.service, k.model, k.credential, k.member)
			for _, n := range rows[k] {
				args = append(args, n)
			}
		}
		if _, err := tx.Exec(ctx, upsertSQL(len(keys)), args...); err != nil {
			return err
		}
	}
	return nil
}

func upsertSQL(rows int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO usage_hours (organization, hour, service, model, credential, member, ")
	b.WriteString(strings.Join(sumColumns, ", "))
	b.WriteString(") VALUES ")
	n := 0
	for i := range rows {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("(")
		for j := range 6 + len(sumColumns) {
			n++
			if j > 0 {
				b.WriteString(", ")
			}
			b.WriteString("$")
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(")")
	}
	b.WriteString(" ON CONFLICT (organization, hour, service, model, credential, member) DO UPDATE SET ")
	for i, c := range sumColumns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c + " = usage_hours." + c + " + excluded." + c)
	}
	return b.String()
}

func hourOf(t time.Time) time.Time { return t.UTC().Truncate(time.Hour) }

// spoolsKept is how long it is remembered how far a file was applied that is no
// longer there, in case it comes back from a backup.
const spoolsKept = 30 * 24 * time.Hour

// forgetSpools forgets the files that were applied that long ago, but those that
// are still there: what of them was applied would be counted a second time.
func (m *Meter) forgetSpools(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, maxApply)
	defer cancel()
	err := m.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		var old []string
		err := tx.Each(ctx, func(scan func(...any) error) error {
			var id string
			err := scan(&id)
			old = append(old, id)
			return err
		}, `SELECT spool FROM usage_spools WHERE organization = $1 AND updated_at < $2`, access.InstanceOrganization, store.At(m.opts.Now().Add(-spoolsKept)))
		if err != nil {
			return err
		}
		for _, id := range old {
			if m.spool.exists(id) {
				continue
			}
			if _, err := tx.Exec(ctx, `DELETE FROM usage_spools WHERE organization = $1 AND spool = $2`, access.InstanceOrganization, id); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		m.opts.Logger.WarnContext(ctx, "old marks of usage could not be removed", "error", err)
	}
}
