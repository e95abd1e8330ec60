package redisledger

import (
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// views are the budgets this replica has seen: their keys, and what they stood
// at. The memory of what was spent restores a store that lost its data, so it
// is bounded but generous.
type views struct {
	cluster bool
	prefix  string
	size    atomic.Int64
	spent   atomic.Bool // something was, in some view
	shards  [viewShards]viewShard
	recent  budget.Recent[*view]
	spans   sync.Map // Window -> *span
}

// viewShard holds the views of some subjects.
type viewShard struct {
	mu    sync.Mutex
	byKey map[viewKey]*view
}

// viewKey names a budget: limits that differ only in Amount and Hard share it.
type viewKey struct {
	scope   budget.Scope
	subject string
	window  budget.Window
}

const viewShards = 64

// maxViews bounds the memory of budgets, at about 600 bytes each.
const maxViews = 100_000

// view is one window of a budget as this replica saw it last.
type view struct {
	span
	tag, counts, leases string // keys
	budget.Recency

	mu    sync.Mutex
	limit budget.Limit // as last asked for
	// What Redis said last. gross and corrected only grow within a generation.
	gross, corrected, reserved budget.Nanodollars
	gen                        int64
	asOf                       int64 // its stamp
	// made is when Redis began the counts, as they were when this replica first
	// saw them; "" before there were any.
	made *string
	seen time.Time
	// What is settled here and not yet known to be counted there.
	pendingSpent, pendingHeld budget.Nanodollars
	// Of slices: this replica's, the sum of all, the largest reservation seen,
	// when the others were asked for theirs, when that was over, with success or
	// without, and what they kept.
	allotment *allotment
	allotted  budget.Nanodollars
	largest   budget.Nanodollars
	asked     time.Time
	recalled  time.Time
	kept      budget.Nanodollars
	tended    time.Time // when it was last seen to
}

// span is one window in time.
type span struct {
	id          string
	start, ends int64 // ms since 1970
}

func newViews(cluster bool, prefix string) *views {
	v := &views{cluster: cluster, prefix: prefix}
	for i := range v.shards {
		v.shards[i].byKey = map[viewKey]*view{}
	}
	return v
}

// get finds or makes the view of a limit's current window.
func (vs *views) get(limit budget.Limit, now int64) *view {
	key := viewKey{limit.Scope, limit.Subject, limit.Window}
	shard := &vs.shards[shardOf(limit.Subject)]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	v := shard.byKey[key]
	if v != nil && v.start <= now && now < v.ends {
		return v
	}
	tag := ""
	if v != nil {
		tag = v.tag
	} else {
		tag = vs.prefix + ":" + bucketTag(limit.Scope, limit.Subject)
		if vs.size.Add(1) > maxViews {
			vs.size.Add(-int64(shard.sweep(now)))
		}
	}
	v = &view{span: vs.spanAt(limit.Window, now), tag: tag, limit: limit, made: &nothing}
	v.counts = tag + ":" + v.id + ":a"
	v.leases = tag + ":" + v.id + ":z"
	shard.byKey[key] = v
	return v
}

// sweep drops ended windows, and if that is not enough, any.
func (s *viewShard) sweep(now int64) (dropped int) {
	for key, v := range s.byKey {
		if v.ends <= now {
			delete(s.byKey, key)
			dropped++
		}
	}
	for key, v := range s.byKey {
		if dropped > len(s.byKey)/16 {
			break
		}
		if v.limit.Scope == budget.ScopeUser {
			delete(s.byKey, key)
			dropped++
		}
	}
	return dropped
}

// spanAt is the window at a time. Window.At tells only its end; the start is
// the last moment at which it gives another.
func (vs *views) spanAt(w budget.Window, now int64) span {
	if cached, ok := vs.spans.Load(w); ok {
		if s := cached.(*span); s.start <= now && now < s.ends {
			return *s
		}
	}
	id, end := w.At(time.UnixMilli(now))
	before, step := now, int64(time.Hour/time.Millisecond)
	for {
		if other, _ := w.At(time.UnixMilli(before - step)); other != id {
			before -= step
			break
		}
		before -= step
		step *= 2
	}
	in := before + step // within the window; before is not
	for in-before > 1 {
		middle := before + (in-before)/2
		if other, _ := w.At(time.UnixMilli(middle)); other == id {
			in = middle
		} else {
			before = middle
		}
	}
	s := span{id: id, start: in, ends: end.UnixMilli()}
	vs.spans.Store(w, &s)
	return s
}

// all is every view of a current window.
func (vs *views) all(now int64) []*view {
	var all []*view
	for i := range vs.shards {
		shard := &vs.shards[i]
		shard.mu.Lock()
		for _, v := range shard.byKey {
			if now < v.ends {
				all = append(all, v)
			}
		}
		shard.mu.Unlock()
	}
	return all
}

// touch notes that a limit asks for the view.
func (vs *views) touch(v *view, limit budget.Limit) {
	v.mu.Lock()
	v.limit = limit
	v.mu.Unlock()
	if !v.Listed() {
		vs.recent.Add(v, limit.Scope)
	}
}

func (vs *views) known(now int64) []budget.Status {
	var all []budget.Status
	for _, v := range vs.recent.List(func(v *view) bool { return v.ends <= now }) {
		if now < v.ends {
			v.mu.Lock()
			all = append(all, v.status(v.limit))
			v.mu.Unlock()
		}
	}
	return all
}

// status is called with v locked. What is allotted is not reserved: it is there
// for requests, though not for every replica's at once.
func (v *view) status(limit budget.Limit) budget.Status {
	s := budget.Status{
		Limit:    limit,
		Spent:    v.gross - v.corrected + v.pendingSpent,
		Reserved: v.reserved - v.allotted - v.pendingHeld,
		Allotted: v.allotted,
		ResetsAt: time.UnixMilli(v.ends).UTC(),
	}
	s.Spent, s.Reserved = max(0, s.Spent), max(0, s.Reserved)
	return s
}

func (v *view) seenAt() time.Time {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.seen
}

// floors are what the counts cannot have been less than, in a generation.
func (v *view) floors(gen int64) (gross, corrected int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gen != gen {
		return 0, 0
	}
	return int64(v.gross), int64(v.corrected)
}

// hear takes in what Redis said. Replies may come out of order.
func (vs *views) apply(v *view, stamp, gen int64, c counts) {
	if c.gross > 0 && !vs.spent.Load() {
		vs.spent.Store(true)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if gen < v.gen {
		return
	}
	if gen > v.gen {
		v.gen, v.gross, v.corrected = gen, 0, 0
	}
	v.gross, v.corrected = max(v.gross, c.gross), max(v.corrected, c.corrected)
	// No reply is overtaken for so long: Redis' clock was set back.
	setBack := v.asOf-stamp > 2*staleAfter.Microseconds()
	if stamp >= v.asOf || setBack {
		v.reserved, v.allotted, v.asOf = c.reserved, c.allotted, stamp
	}
	if *v.made == "" && c.made != "" {
		made := c.made // not &c.made: c would be made on the heap each time
		v.made = &made
	}
	v.seen = time.Now()
}

// counts are one budget's in a reply.
type counts struct {
	gross, corrected, reserved, allotted budget.Nanodollars
	made                                 string
}

// answered is the reply of hold.lua and settle.lua.
type answered struct {
	verdict byte
	epoch   string // of verdict 'E'
	stamp   int64  // Redis' time, µs
	gen     int64
	rest    string // the counts of each budget
}

func parseAnswer(reply string) (a answered, ok bool) {
	if reply == "" {
		return a, false
	}
	a.verdict = reply[0]
	rest := reply[min(2, len(reply)):]
	if a.verdict == 'E' {
		a.epoch = rest
		return a, true
	}
	a.stamp, rest, ok = nextInt(rest)
	if !ok || a.verdict == 'W' || a.verdict == 'R' || a.verdict == 'M' {
		return a, ok
	}
	a.gen, a.rest, ok = nextInt(rest)
	return a, ok
}

// next reads the counts of the next budget.
func (a *answered) next() (c counts, ok bool) {
	var gross, corrected, reserved int64
	if gross, a.rest, ok = nextInt(a.rest); !ok {
		return c, false
	}
	if corrected, a.rest, ok = nextInt(a.rest); !ok {
		return c, false
	}
	if reserved, a.rest, ok = nextInt(a.rest); !ok {
		return c, false
	}
	c = counts{gross: budget.Nanodollars(gross), corrected: budget.Nanodollars(corrected), reserved: budget.Nanodollars(reserved)}
	c.made, a.rest = nextWord(a.rest)
	if c.made == "-" {
		c.made = ""
	}
	allotted, rest, ok := nextInt(a.rest)
	c.allotted, a.rest = budget.Nanodollars(allotted), rest
	return c, ok
}

func nextWord(s string) (word, rest string) {
	for i := range len(s) {
		if s[i] == ' ' {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func nextInt(s string) (n int64, rest string, ok bool) {
	word, rest := nextWord(s)
	n, err := strconv.ParseInt(word, 10, 64)
	return n, rest, err == nil
}

// madeAs is when the counts began, as this replica knows them.
func (v *view) madeAs() *string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.made
}

// relearn has the view take the counts as Redis has them now.
func (v *view) relearn() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.made, v.asOf = &nothing, 0
}

// turn begins a generation: what is spent counts from 0.
func (vs *views) turn(gen int64) {
	for i := range vs.shards {
		shard := &vs.shards[i]
		shard.mu.Lock()
		for _, v := range shard.byKey {
			v.mu.Lock()
			if v.gen < gen {
				v.gen, v.gross, v.corrected = gen, 0, 0
			}
			v.mu.Unlock()
		}
		shard.mu.Unlock()
	}
}

// shardOf spreads subjects over shards (FNV-1a).
func shardOf(subject string) int {
	h := uint32(2166136261)
	for i := range len(subject) {
		h = (h ^ uint32(subject[i])) * 16777619
	}
	return int(h % viewShards)
}
