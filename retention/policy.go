package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/gatehouse-io/gatehouse/access"
	"github.com/gatehouse-io/gatehouse/audit"
	"github.com/gatehouse-io/gatehouse/internal/fault"
	"github.com/gatehouse-io/gatehouse/store"
)

// Draft is what somebody wants a policy to say: the lengths of a preset, where one
// is named, and those of Keep over them.
type Draft struct {
	Preset string
	Keep   map[string]string // by class: a length as [ParseKeep] reads it
}

// Policy is how long an organization keeps its data.
type Policy struct {
	Organization string
	Revision     int64   // 0: nobody made one
	Preset       string  // that it was made from; empty where it was none
	Keep         Lengths // what it says
	UpdatedAt    time.Time
	UpdatedBy    string

	Bounds  Bounds   // that hold over it
	Classes []Length // what comes of it, for every class
}

// Length is what holds for one class.
type Length struct {
	Class   Class
	Keep    Keep   // what the sweep goes by
	Because Source // where it comes from
}

// Source says where a length comes from.
type Source string

// The sources of a length.
const (
	FromPolicy  Source = "policy"
	FromDefault Source = "default"
	FromFloor   Source = "floor"   // the policy says less than the operator's floor
	FromCeiling Source = "ceiling" // the policy says more than the operator's ceiling
)

// Bounds are the operator's: no organization keeps a class for less than its floor,
// or longer than its ceiling. A class that is not named has none.
type Bounds struct {
	Revision  int64 // 0: nobody set them, and the built-in floors hold
	Floors    Lengths
	Ceilings  Lengths
	UpdatedAt time.Time
	UpdatedBy string
}

// clamp gives what holds of a length.
func (b *Bounds) clamp(c Class, k Keep, from Source) Length {
	if floor, ok := b.Floors[c]; ok && k < floor {
		return Length{c, floor, FromFloor}
	}
	ceiling, ok := b.Ceilings[c]
	if built, has := most(c); has && (!ok || ceiling > built) {
		ceiling, ok = built, true
	}
	if ok && k > ceiling {
		return Length{c, ceiling, FromCeiling}
	}
	return Length{c, k, from}
}

// of gives what holds for a class.
func (p *Policy) of(c Class) Length {
	if k, ok := p.Keep[c]; ok {
		return p.Bounds.clamp(c, k, FromPolicy)
	}
	return p.Bounds.clamp(c, byDefault(c), FromDefault)
}

// content is a policy as it is stored.
type content struct {
	Preset string  `json:"preset,omitempty"`
	Keep   Lengths `json:"keep"`
}

// boundsContent is bounds as they are stored.
type boundsContent struct {
	Floors   Lengths `json:"floors"`
	Ceilings Lengths `json:"ceilings"`
}

func readBounds(ctx context.Context, tx *store.Tx) (b Bounds, err error) {
	var text string
	var at store.Time
	set := true
	err = tx.Across(ctx, func() error {
		err := tx.Row(ctx, `SELECT revision, content, updated_at, updated_by FROM retention_bounds WHERE organization = $1`, access.InstanceOrganization).
			Scan(&b.Revision, &text, &at, &b.UpdatedBy)
		if errors.Is(err, store.ErrNotFound) {
			set, err = false, nil
		}
		return err
	})
	if err == nil && !set {
		return Bounds{Floors: builtinFloors(), Ceilings: Lengths{}}, nil
	}
	if err != nil {
		return b, err
	}
	var c boundsContent
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return b, fmt.Errorf("retention: the stored bounds cannot be read: %w", err)
	}
	b.Floors, b.Ceilings, b.UpdatedAt = c.Floors, c.Ceilings, at.Time
	return b, nil
}

func readPolicy(ctx context.Context, tx *store.Tx, organization string) (p Policy, err error) {
	p = Policy{Organization: organization, Keep: Lengths{}}
	if p.Bounds, err = readBounds(ctx, tx); err != nil {
		return p, err
	}
	var text string
	var at store.Time
	err = tx.Row(ctx, `SELECT revision, content, updated_at, updated_by FROM retention_policies WHERE organization = $1`, organization).
		Scan(&p.Revision, &text, &at, &p.UpdatedBy)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return p, err
	}
	if err == nil {
		var c content
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return p, fmt.Errorf("retention: the stored policy of %s cannot be read: %w", organization, err)
		}
		p.Preset, p.Keep, p.UpdatedAt = c.Preset, c.Keep, at.Time
	}
	for _, c := range Classes() {
		p.Classes = append(p.Classes, p.of(c))
	}
	return p, nil
}

// Policy gives how long an organization keeps its data, the caller's own where it
// is empty. It needs retention:read.
func (r *Retention) Policy(ctx context.Context, caller access.Caller, organization string) (p Policy, err error) {
	organization = ownOr(caller, organization)
	if err := access.Allow(caller, access.RetentionRead, organization); err != nil {
		return Policy{}, err
	}
	err = r.db.View(ctx, organization, func(tx *store.Tx) error {
		p, err = readPolicy(ctx, tx, organization)
		return err
	})
	return p, err
}

// lengths reads lengths by class that somebody sent, and names what is wrong. An
// unknown class is not echoed.
func lengths(field string, sent map[string]string) (Lengths, []fault.Field) {
	all := make(Lengths, len(sent))
	var wrong []fault.Field
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		c := Class(name)
		if !c.Known() {
			wrong = append(wrong, fault.Field{Name: field, Message: "holds a class that there is not; the classes are " + classNames()})
			continue
		}
		k, err := ParseKeep(sent[name])
		if err != nil {
			wrong = append(wrong, fault.Field{Name: field + "." + name, Message: err.Error()})
			continue
		}
		if most, ok := most(c); ok && k > most {
			wrong = append(wrong, fault.Field{Name: field + "." + name, Message: "must be at most " + most.String() + ": longer it is never kept"})
			continue
		}
		all[c] = k
	}
	return all, wrong
}

func classNames() string {
	names := make([]string, 0, len(Classes()))
	for _, c := range Classes() {
		names = append(names, string(c))
	}
	return strings.Join(names, ", ")
}

// Put makes an organization's policy say what d says; what d does not name is kept
// for its default. It needs retention:manage. match says which revisions it
// may replace. Errors: Invalid, also where a length is outside of the
// operator's bounds, and [ErrStale].
func (r *Retention) Put(ctx context.Context, caller access.Caller, organization string, match store.Match, d Draft) (p Policy, err error) {
	organization = ownOr(caller, organization)
	if err := access.Allow(caller, access.RetentionManage, organization); err != nil {
		return Policy{}, err
	}
	keep, err := d.lengths()
	if err != nil {
		return Policy{}, err
	}
	now := store.At(r.opts.Now())
	err = r.db.Update(ctx, organization, func(tx *store.Tx) error {
		before, err := readPolicy(ctx, tx, organization)
		if err != nil {
			return err
		}
		if !match.Allows(before.Revision) {
			return ErrStale
		}
		if err := before.Bounds.allow(d.Keep, keep); err != nil {
			return err
		}
		text, err := json.Marshal(content{d.Preset, keep})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO retention_policies (organization, revision, content, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (organization) DO UPDATE SET revision = excluded.revision, content = excluded.content,
			updated_at = excluded.updated_at, updated_by = excluded.updated_by`, organization, before.Revision+1, string(text), now, caller.ID)
		if err != nil {
			return err
		}
		if p, err = readPolicy(ctx, tx, organization); err != nil {
			return err
		}
		metadata := map[string]any{"revision": p.Revision}
		if p.Preset != "" {
			metadata["preset"] = p.Preset
		}
		for i, c := range Classes() {
			if was, is := before.Classes[i].Keep, p.Classes[i].Keep; was != is {
				metadata["before."+string(c)], metadata["after."+string(c)] = was.String(), is.String()
			}
		}
		return r.trail.Append(ctx, tx, caller, audit.Event{
			Organization: organization, Action: audit.RetentionUpdate, Outcome: audit.Success, Permission: access.RetentionManage.String(),
			Targets: []audit.Target{{Type: "retention-policy", ID: organization}}, Metadata: metadata,
		})
	})
	return p, err
}

// allow says which lengths are outside of the bounds. Those of a preset are
// corrected instead, since nobody wrote them out.
func (b *Bounds) allow(own map[string]string, keep Lengths) error {
	var wrong []fault.Field
	for _, c := range Classes() {
		k, ok := keep[c]
		if !ok {
			continue
		}
		l := b.clamp(c, k, FromPolicy)
		if l.Because == FromPolicy {
			continue
		}
		if _, written := own[string(c)]; !written {
			keep[c] = l.Keep
			continue
		}
		word := "at least "
		if l.Because == FromCeiling {
			word = "at most "
		}
		wrong = append(wrong, fault.Field{Name: "keep." + string(c), Message: "must be " + word + l.Keep.String() + ": the operator's " + string(l.Because)})
	}
	if len(wrong) > 0 {
		return fault.InvalidFields(wrong...)
	}
	return nil
}

// Bounds gives the operator's floors and ceilings. It needs retention:read in the
// caller's own organization, or on the instance.
func (r *Retention) Bounds(ctx context.Context, caller access.Caller) (b Bounds, err error) {
	organization := caller.Organization
	if err := access.Allow(caller, access.RetentionRead, organization); err != nil {
		organization = access.InstanceOrganization
		if err := access.Allow(caller, access.RetentionRead, organization); err != nil {
			return Bounds{}, err
		}
	}
	err = r.db.View(ctx, organization, func(tx *store.Tx) error {
		b, err = readBounds(ctx, tx)
		return err
	})
	return b, err
}

// PutBounds sets the operator's floors and ceilings; a class that is not named has
// none. It needs retention:manage on the instance. They hold from the next sweep on,
// over every policy there is. match is as in [Retention.Put].
func (r *Retention) PutBounds(ctx context.Context, caller access.Caller, match store.Match, floors, ceilings map[string]string) (b Bounds, err error) {
	if err := access.Allow(caller, access.RetentionManage, access.InstanceOrganization); err != nil {
		return Bounds{}, err
	}
	low, wrong := lengths("floors", floors)
	high, wrongHigh := lengths("ceilings", ceilings)
	wrong = append(wrong, wrongHigh...)
	for _, c := range Classes() {
		if ceiling, ok := high[c]; ok && low[c] > ceiling {
			wrong = append(wrong, fault.Field{Name: "ceilings." + string(c), Message: "must not be under the floor"})
		}
	}
	if len(wrong) > 0 {
		return Bounds{}, fault.InvalidFields(wrong...)
	}
	now := store.At(r.opts.Now())
	err = r.db.Update(ctx, access.InstanceOrganization, func(tx *store.Tx) error {
		before, err := readBounds(ctx, tx)
		if err != nil {
			return err
		}
		if !match.Allows(before.Revision) {
			return ErrStale
		}
		text, err := json.Marshal(boundsContent{low, high})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `INSERT INTO retention_bounds (organization, revision, content, updated_at, updated_by) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (organization) DO UPDATE SET revision = excluded.revision, content = excluded.content,
			updated_at = excluded.updated_at, updated_by = excluded.updated_by`, access.InstanceOrganization, before.Revision+1, string(text), now, caller.ID)
		if err != nil {
			return err
		}
		b, err = readBounds(ctx, tx)
		if err != nil {
			return err
		}
		metadata := map[string]any{"revision": b.Revision}
		changed(metadata, "floor", before.Floors, low)
		changed(metadata, "ceiling", before.Ceilings, high)
		return r.trail.Append(ctx, tx, caller, audit.Event{
			Organization: access.InstanceOrganization, Action: audit.RetentionBound, Outcome: audit.Success, Permission: access.RetentionManage.String(),
			Targets: []audit.Target{{Type: "retention-bounds", ID: access.InstanceOrganization}}, Metadata: metadata,
		})
	})
	return b, err
}

// changed notes the lengths that differ.
func changed(metadata map[string]any, what string, before, after Lengths) {
	text := func(l Lengths, c Class) string {
		if k, ok := l[c]; ok {
			return k.String()
		}
		return "none"
	}
	for _, c := range Classes() {
		if was, is := text(before, c), text(after, c); was != is {
			metadata["before."+what+"."+string(c)], metadata["after."+what+"."+string(c)] = was, is
		}
	}
}
