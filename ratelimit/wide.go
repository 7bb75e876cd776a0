package ratelimit

import "slices"

// subBuckets is how many sub-buckets a window of more than the exact bound is
// cut into. One more may be held, which the window's edge cuts.
const subBuckets = 256

// run is a sub-bucket: n requests admitted within a window's width, the last of
// them at last. All of them count until the last one is out of the window: a
// request counts for its whole window and less than a 256th longer.
type run struct {
	last int64
	n    int32
}

// wide counts one window in sub-buckets.
type wide struct {
	window int64
	asked  int64 // when a limit last needed it
	total  int
	runs   []run // oldest first; never empty once it counted
}

// wides are the windows of one key that are counted in sub-buckets.
type wides struct {
	name   string // of the key, as its entry has it
	all    []wide
	stamps int64 // the longest window that the stamps beside these cover; 0 if they do not count
}

// width is that of the sub-buckets of a window, both in milliseconds: the least
// with which 256 of them cover it.
func width(window int64) int64 { return (window + subBuckets - 1) / subBuckets }

// add counts n requests at t, which is not before any that was counted.
func (w *wide) add(t int64, n int32) {
	w.total += int(n)
	b := width(w.window)
	if last := len(w.runs) - 1; last >= 0 && (w.runs[last].last == t || w.runs[last].last/b == t/b) {
		w.runs[last].n += n
		w.runs[last].last = t
		return
	}
	gone, _ := w.expired(t, w.window)
	for _, r := range w.runs[:gone] {
		w.total -= int(r.n)
	}
	if gone > 0 {
		w.runs = slices.Delete(w.runs, 0, gone)
	}
	w.runs = append(w.runs, run{t, n})
}

// expired is how many runs are out of a window at t, and what they counted.
func (w *wide) expired(t, window int64) (gone, counted int) {
	for gone < len(w.runs) && w.runs[gone].last <= t-window {
		counted += int(w.runs[gone].n)
		gone++
	}
	return gone, counted
}

// stand says how a limit stands at t. The window may be another than the one
// that is counted.
func (w *wide) stand(now, t int64, requests int, window int64) reading {
	gone, counted := w.expired(t, window)
	used := w.total - counted
	if used == 0 {
		return reading{0, now}
	}
	left, i := used, gone
	for left-int(w.runs[i].n) >= requests {
		left -= int(w.runs[i].n)
		i++
	}
	return reading{used, w.runs[i].last + window}
}

// giveBack takes back one request counted at now, or the next later one.
func (ws *wides) giveBack(now int64) {
	for i := range ws.all {
		w := &ws.all[i]
		for j := range w.runs {
			if r := &w.runs[j]; r.last >= now {
				w.total--
				if r.n--; r.n == 0 {
					w.runs = slices.Delete(w.runs, j, j+1)
				}
				break
			}
		}
	}
}

// counts says whether any request does.
func (ws *wides) counts() bool {
	return slices.ContainsFunc(ws.all, func(w wide) bool { return w.total > 0 })
}

// of returns the window of that length, or nil.
func (ws *wides) of(window int64) *wide {
	for i := range ws.all {
		if ws.all[i].window == window {
			return &ws.all[i]
		}
	}
	return nil
}

// longest returns the window that remembers longest.
func (ws *wides) longest() *wide {
	best := &ws.all[0]
	for i := range ws.all {
		if ws.all[i].window > best.window {
			best = &ws.all[i]
		}
	}
	return best
}

// source says what a limit is answered from: nil means the stamps. After the
// limits of a key changed, what remembers longest stands in.
func (ws *wides) source(requests int, window int64, exact int) *wide {
	longest := ws.longest()
	if requests <= exact {
		if ws.stamps >= min(window, longest.window) {
			return nil
		}
		return longest
	}
	if w := ws.of(window); w != nil {
		return w
	}
	if longest.window >= ws.stamps {
		return longest
	}
	return nil
}

// admitLarge counts a request at t in every window that is or recently was
// counted in sub-buckets, makes those that the limits newly need, and prepares
// the stamps for the limits that need them: requests is the most that one of
// those admits, 0 if there is none, and window the longest. ws is what is counted
// so before, nil if nothing is. It returns what is from now on, and the longest
// window of all.
func (e *entry) admitLarge(t int64, limits []Limit, exact int, requests uint32, window int64, s *shard, ws *wides) (_ *wides, longest int64) {
	if ws == nil {
		ws = &wides{stamps: int64(e.keep) * 1000}
	}
	var made []wide
	for _, l := range limits {
		longest = max(longest, l.windowMS())
		if l.Requests > exact && ws.of(l.windowMS()) == nil {
			made = append(made, e.newWide(l, exact, ws))
		}
	}
	if requests > 0 && len(ws.all) > 0 && ws.source(1, window, exact) != nil {
		e.stampsFrom(ws.longest(), t, requests)
	}
	if e.lone = requests == 0; e.lone && e.count > 1 { // what is made has taken the stamps over
		e.drop(e.count - 1)
		e.resize(1)
	}
	ws.stamps = window
	ws.all = append(ws.all, made...)
	for _, l := range limits {
		if l.Requests > exact {
			ws.of(l.windowMS()).asked = t
		}
	}
	ws.all = slices.DeleteFunc(ws.all, func(w wide) bool { return t-w.asked >= w.window && w.asked != t })
	for i := range ws.all {
		ws.all[i].add(t, 1)
		longest = max(longest, ws.all[i].window)
	}
	return s.keepWides(e, ws), longest
}

// newWide makes a window out of what the key remembers.
func (e *entry) newWide(l Limit, exact int, ws *wides) wide {
	made := wide{window: l.windowMS()}
	if len(ws.all) > 0 {
		if from := ws.source(l.Requests, made.window, exact); from != nil {
			made.total, made.runs = from.total, slices.Clone(from.runs)
			return made
		}
	}
	for i := range e.count {
		made.add(e.at(i), 1)
	}
	return made
}

// stampsFrom fills the stamps with the newest requests of a window: each at the
// last instant of its sub-bucket.
func (e *entry) stampsFrom(w *wide, t int64, requests uint32) {
	n := uint32(min(int(requests), w.total))
	e.head, e.count = 0, 0
	e.resize(max(n, 1))
	skip := w.total - int(n)
	for _, r := range w.runs {
		for range r.n {
			if skip > 0 {
				skip--
				continue
			}
			e.count++
			e.set(e.count-1, min(r.last, t))
		}
	}
}

// wides returns the windows of an entry that are counted in sub-buckets, nil if
// there are none. Mostly it is the same key that is asked for again and again.
func (s *shard) wides(e *entry) *wides {
	if e == nil || !e.large {
		return nil
	}
	if name := e.fullName(); s.last == nil || s.last.name != string(name) {
		s.last = s.large[string(name)]
	}
	return s.last
}

// keepWides puts the windows of an entry in their place, if they are not there, and
// returns what is there then: nil if none is left.
func (s *shard) keepWides(e *entry, ws *wides) *wides {
	held := e.large
	e.large = len(ws.all) > 0
	if !e.large {
		s.dropWides(e)
		return nil
	}
	if held { // admitLarge changes what is held
		return ws
	}
	if s.large == nil {
		s.large = map[string]*wides{}
	}
	ws.name = string(e.fullName())
	s.large[ws.name] = ws
	return ws
}

func (s *shard) dropWides(e *entry) {
	delete(s.large, string(e.fullName()))
	s.last = nil
}
