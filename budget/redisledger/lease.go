package redisledger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// lease is a reservation and the ledger's side of it, in one allocation.
type lease struct {
	budget.Reservation
	ledger *Ledger

	mu         sync.Mutex // guards what follows; extensions hold it over a round trip
	shares     []share
	few        [3]share
	parts      []part
	one        [1]part
	bound      bool               // the windows are chosen for good
	held       budget.Nanodollars // in Redis, as far as we know
	doubt      bool               // Redis may hold more: a reply was lost
	local      budget.Nanodollars // held against slices
	allotments []*allotment       // that local is held against
	done       bool

	ranOut atomic.Bool // seen when it was to be renewed
}

// share is a limit and the view of its budget.
type share struct {
	limit budget.Limit
	view  *view
}

// part is what of a reservation is in one slot of a cluster; without a cluster
// all of it is one part.
type part struct {
	tombstone string // key
	shares    []share
}

// call begins a call of a script that has the keys of the part.
func (p *part) call(r *Ledger, s *script, args int) *call {
	keys := 1 + 2*len(p.shares)
	if !r.store.cluster {
		keys++
	}
	c := newCall(s, keys, args)
	c.text(&p.tombstone)
	for i := range p.shares {
		v := p.shares[i].view
		c.text(&v.counts)
		c.text(&v.leases)
	}
	if !r.store.cluster {
		c.text(&r.epochKey)
	}
	return c
}

func (r *Ledger) newLease(h budget.Hold) *lease {
	l := &lease{ledger: r}
	l.Reservation = budget.NewReservation(h.ID, l)
	l.shares = l.few[:0]
	for _, limit := range h.Limits {
		l.shares = append(l.shares, share{limit: limit})
	}
	return l
}

// bind chooses the windows at a time, and with them the keys.
func (l *lease) bind(now int64) {
	same := l.parts != nil
	for i := range l.shares {
		s := &l.shares[i]
		v := l.ledger.views.get(s.limit, now)
		if same && v == s.view {
			continue
		}
		same = false
		s.view = v
		l.ledger.views.touch(v, s.limit)
	}
	if same {
		return
	}
	l.divide()
}

// divide puts the shares into parts.
func (l *lease) divide() {
	l.parts = l.one[:0]
	if !l.ledger.store.cluster {
		l.parts = append(l.parts, l.part(distinct(l.shares)))
		return
	}
	byTag := map[string][]share{}
	var tags []string
	for _, s := range distinct(l.shares) {
		if byTag[s.view.tag] == nil {
			tags = append(tags, s.view.tag)
		}
		byTag[s.view.tag] = append(byTag[s.view.tag], s)
	}
	// The global budget comes last.
	slices.SortStableFunc(tags, func(a, b string) int {
		return strings.Compare(string(byTag[b][0].limit.Scope), string(byTag[a][0].limit.Scope))
	})
	for _, tag := range tags {
		l.parts = append(l.parts, l.part(byTag[tag]))
	}
}

func (l *lease) part(shares []share) part {
	return part{tombstone: shares[0].view.tag + ":i:" + l.ID, shares: shares}
}

// distinct drops limits of a budget that is named already; it has the lower
// one then.
func distinct(shares []share) []share {
	repeated := false
	for i := range shares {
		for _, s := range shares[:i] {
			repeated = repeated || s.view == shares[i].view
		}
	}
	if !repeated {
		return shares
	}
	var kept []share
	for _, s := range shares {
		i := slices.IndexFunc(kept, func(k share) bool { return k.view == s.view })
		switch {
		case i < 0:
			kept = append(kept, s)
		case s.limit.Hard && (!kept[i].limit.Hard || s.limit.Amount < kept[i].limit.Amount):
			kept[i].limit = s.limit
		}
	}
	return kept
}

func (l *lease) statuses() []budget.Status {
	all := make([]budget.Status, len(l.shares))
	for i, s := range l.shares {
		s.view.mu.Lock()
		all[i] = s.view.status(s.limit)
		s.view.mu.Unlock()
	}
	return all
}

// hold makes the first reservation, in Redis or by the policy for its loss.
func (l *lease) hold(ctx context.Context, amount budget.Nanodollars) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bind(l.ledger.store.now())
	err := l.ask(ctx, amount)
	if isLost(err) {
		err = l.withoutStore(amount, err)
	}
	if l.doubt && (err != nil || l.allotments != nil) {
		l.cancel()
	}
	if err == nil {
		l.Budgets = l.statuses()
	}
	return err
}

// cancel has Redis give back what it may hold when nobody waits for that any
// more, and refuse the reservation should it come late.
func (l *lease) cancel() {
	l.bound = true
	// An error means that the ledger is closed: the lease will run out.
	_ = l.ledger.queue.add(&settlement{lease: l, parts: l.parts, tombstone: "D"})
}

// isLost says whether the policy for a lost Redis decides. Counts that cannot
// be read are another matter: there the request is refused.
func isLost(err error) bool {
	return errors.Is(err, budget.ErrUnavailable) && !errors.Is(err, errCorrupt)
}

// The ways in which ask can fail to get an answer.
var (
	errLost    = errors.New("redis is lost")
	errNotSent = errors.New("redis is lost: not sent")
	errCorrupt = errors.New("the budget's counts cannot be read")
)

// ask holds target in Redis, with l locked. It asks again when a reply was
// lost, the window or the data set has changed, or when a denial may be owed to
// money of this replica that is on its way back.
func (l *lease) ask(ctx context.Context, target budget.Nanodollars) error {
	r := l.ledger
	if !r.store.breaker.allows() { // nobody waits for a Redis that is known to be silent
		return unavailable(errLost)
	}
	r.store.breaker.begin()
	defer r.store.breaker.end()
	began, wait := time.Now(), l.patience(target)
	var s asking
	for turns := 0; turns < maxTurns; {
		if !r.usable(ctx) {
			if time.Since(began) > wait || !l.pause(ctx) {
				return unavailable(errLost)
			}
			continue
		}
		if !l.bound {
			l.bind(r.store.now())
		}
		final := s.final(s.reclaimed || !l.reclaimable(), !l.allottedElsewhere())
		calls, err := l.send(l.holds(target, l.mode(final, s.last)), began, wait)
		if err != nil {
			l.doubt = l.doubt || target > 0 && !errors.Is(err, errNotSent)
			wait = max(wait, l.patience(target)) // others may have used up the allotment
			if l.tooLong(began, wait) || !l.pause(ctx) {
				return unavailable(err)
			}
			continue
		}
		turns++
		verdict, err := l.apply(calls)
		var a action
		switch s, a = s.next(verdict, final); a {
		case actionAdmit:
			l.admitted(target)
			return nil
		case actionEnd:
			l.done = true
			return nil
		case actionDeny:
			return l.denied(calls, target)
		case actionReclaim, actionAwait:
			if a == actionAwait {
				l.awaitAllotments(ctx, s.waits)
			}
			r.reclaim(ctx, l)
			began = time.Now() // redis answers: the waiting was ours
		default:
			err = l.mend(ctx, a, err)
			l.doubt = l.doubt || target > 0 && len(calls) > 1 // the parts before may be held
			if err == nil && l.tooLong(began, wait) {
				err = errLost
			}
		}
		if err != nil {
			return unavailable(err)
		}
	}
	return unavailable(errLost)
}

// mend brings ledger and Redis back into step; err is what is known to be wrong
// so far.
func (l *lease) mend(ctx context.Context, a action, err error) error {
	switch a {
	case actionRefresh:
		l.ledger.refreshEpoch(ctx)
	case actionRestore:
		return l.ledger.restore(ctx, l)
	}
	return err
}

// patience is how long a reservation waits for Redis: not long where allotments
// can admit it.
func (l *lease) patience(target budget.Nanodollars) time.Duration {
	if r := l.ledger; target > 0 && r.allotments.cover(l, target-l.held) {
		return min(allotmentWait, r.store.patience())
	}
	return l.ledger.store.patience()
}

// maxWaiting bounds, in patiences, how long a Redis that answers others keeps a
// reservation waiting.
const maxWaiting = 10

// tooLong says whether to give up: Redis was silent for as long as the
// reservation waits. One that answers others is only busy.
func (l *lease) tooLong(began time.Time, wait time.Duration) bool {
	s := l.ledger.store
	if wait < s.patience() {
		return time.Since(began) >= wait
	}
	return s.silentSince(began) >= wait || time.Since(began) >= maxWaiting*wait
}

// pause waits a moment before the next try. It says whether there is to be one.
func (l *lease) pause(ctx context.Context) bool {
	return l.ledger.queue.pause(jittered(retryPause)) && ctx.Err() == nil
}

func unavailable(cause error) error { return fmt.Errorf("%w: %w", budget.ErrUnavailable, cause) }

// send makes the calls for the parts one after the other, up to the first that
// is not admitted: one round trip, but for a cluster. The parts are in such an
// order that what is held for a moment by a request that is denied after all
// stands in nobody's way who would not be denied as well.
func (l *lease) send(calls []*call, began time.Time, wait time.Duration) (sent []*call, err error) {
	r := l.ledger
	if wait == r.store.patience() {
		began = time.Now() // each try has its time: tooLong ends them
	}
	until := began.Add(wait)
	for i := range calls {
		if err := r.queue.do(calls[i:i+1:i+1], until); err != nil {
			return nil, err
		}
		if !strings.HasPrefix(calls[i].reply, "A") {
			return calls[:i+1], nil
		}
	}
	return calls, nil
}

// mode says what a denial means: final if nothing is on its way that may change
// it, last if slices do not come back either.
func (l *lease) mode(final, last bool) *string {
	switch {
	case l.bound:
		return &modeExtend
	case !final:
		return &modeAgain
	case last:
		return &modeLast
	}
	return &modeReserve
}

// holds are what asks for target: one call for each part.
func (l *lease) holds(target budget.Nanodollars, mode *string) []*call {
	calls := make([]*call, len(l.parts))
	e := l.ledger.current()
	for i := range l.parts {
		calls[i] = l.ledger.holdCall(&l.parts[i], e, &l.ID, target, mode)
	}
	return calls
}

// The modes of hold.lua.
var (
	modeReserve = "1"
	modeAgain   = "2" // a reservation whose denial is not the last word
	modeLast    = "3" // one that is denied even if it is for slices only
	modeExtend  = "0"
	modeTrim    = "t"
	modeBack    = "b"
)

// holdCall is a call of hold.lua.
func (r *Ledger) holdCall(p *part, e *epoch, id *string, target budget.Nanodollars, mode *string) *call {
	c := p.call(r, holdScript, 8+6*len(p.shares))
	r.sayEpoch(c, e)
	r.store.clock(c)
	c.int(r.store.now() + staleAfter.Milliseconds())
	c.text(id)
	c.int(int64(target))
	c.int(r.config.Lease.Milliseconds())
	c.int(e.gen)
	c.text(mode)
	for i := range p.shares {
		s := &p.shares[i]
		if s.limit.Hard {
			c.int(int64(s.limit.Amount))
		} else {
			c.text(&nothing)
		}
		c.int(s.view.start)
		c.int(s.view.ends)
		gross, corrected := s.view.floors(e.gen)
		c.int(gross)
		c.int(corrected)
		c.text(s.view.madeAs())
	}
	return c
}

// hear takes in the replies and joins their verdicts: the worst counts.
func (l *lease) apply(calls []*call) (verdict byte, err error) {
	verdict = 'A'
	for i, c := range calls {
		got, err := l.ledger.heard(c, l.parts[i].shares)
		if err != nil {
			return 0, err
		}
		if worse := "ACQDWME"; indexByte(worse, got) > indexByte(worse, verdict) {
			verdict = got
		}
	}
	return verdict, nil
}

func indexByte(s string, b byte) int {
	for i := range len(s) {
		if s[i] == b {
			return i
		}
	}
	return len(s)
}

// heard takes in one reply: the time, the generation, what budgets stand at.
func (r *Ledger) heard(c *call, shares []share) (verdict byte, err error) {
	if c.err != nil {
		r.store.count.corrupt.Add(1)
		if last, now := r.alarmed.Load(), r.store.local(); now-last > alarmEvery.Milliseconds() && r.alarmed.CompareAndSwap(last, now) {
			r.log.Error("budget counts in redis cannot be read", "error", c.err)
		}
		return 0, fmt.Errorf("%w: %w", errCorrupt, c.err)
	}
	a, ok := parseAnswer(c.reply)
	if !ok {
		return 0, fmt.Errorf("%w: reply %q", errCorrupt, c.reply)
	}
	if a.verdict == 'E' || a.verdict == 'M' {
		r.unknownServer(c, a.verdict == 'M')
	}
	if a.verdict == 'E' {
		return 'E', nil
	}
	r.store.heard(a.stamp / 1000)
	if a.verdict == 'W' || a.verdict == 'R' || a.verdict == 'M' {
		return a.verdict, nil
	}
	r.raiseGeneration(a.gen)
	for _, s := range shares {
		counts, ok := a.next()
		if !ok {
			return 0, fmt.Errorf("%w: reply %q", errCorrupt, c.reply)
		}
		r.views.apply(s.view, a.stamp, a.gen, counts)
	}
	return a.verdict, nil
}

// admitted notes that Redis holds target.
func (l *lease) admitted(target budget.Nanodollars) {
	if target == 0 {
		return
	}
	l.held, l.bound = target, true
	if !strings.HasPrefix(l.ID, allotmentPrefix) {
		for _, s := range l.shares {
			s.view.mu.Lock()
			s.view.largest = max(s.view.largest, target)
			s.view.mu.Unlock()
		}
	}
	l.ledger.open.add(openLease{id: l.ID, parts: l.parts, held: target})
}

// denied undoes the parts that were admitted and names the tightest budget.
func (l *lease) denied(calls []*call, target budget.Nanodollars) error {
	if before := len(calls) - 1; before > 0 {
		l.undo(before)
	}
	var worst *budget.Status
	for _, status := range l.statuses() {
		if worst == nil || status.Limit.Hard && (!worst.Limit.Hard || status.Room() < worst.Room()) {
			worst = &status
		}
	}
	return &budget.ExceededError{Budget: *worst, Needed: target - l.held}
}

// undo gives back what the first parts have just admitted. It waits for that:
// the caller may well ask for less next.
func (l *lease) undo(parts int) {
	q := &l.ledger.queue
	until := time.Now().Add(2 * l.ledger.store.timeout)
	if l.held > 0 {
		for _, c := range l.holds(l.held, &modeTrim)[:parts] {
			_ = q.do([]*call{c}, until) // when it fails, too much is held until the request is settled
		}
		return
	}
	s := &settlement{lease: l, parts: l.parts[:parts:parts], tombstone: "D"}
	if err := q.do(s.prepare(l.ledger), until); err != nil || !l.ledger.settled(s) {
		_ = q.add(s) // an error means that the ledger is closed: the lease will run out
	}
}

// reclaimable says whether money of this replica may stand in the way of a
// reservation: what it settled and Redis has not confirmed, and its slices.
func (l *lease) reclaimable() bool {
	for _, s := range l.shares {
		s.view.mu.Lock()
		waiting := s.view.pendingHeld > 0 || s.view.allotment != nil
		s.view.mu.Unlock()
		if waiting && s.limit.Hard {
			return true
		}
	}
	return false
}

// Extend implements budget.Lease.
func (l *lease) Extend(ctx context.Context, extra budget.Nanodollars) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done || extra == 0 || len(l.shares) == 0 {
		return nil
	}
	l.bound = true // it charges the window that it was made in
	err := l.ask(ctx, l.held+extra)
	if isLost(err) {
		return l.withoutStore(extra, err)
	}
	return err
}

// Renew implements budget.Lease. It does not wait for Redis.
func (l *lease) Renew(context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done || l.held == 0 {
		return nil
	}
	return l.ledger.queue.add(&settlement{lease: l, parts: l.parts, renew: true})
}

// Settle implements budget.Lease. It does not wait for Redis.
func (l *lease) Settle(_ context.Context, actual budget.Nanodollars) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return nil
	}
	l.done = true
	if l.allotments != nil {
		actual = l.settleAllotments(actual)
	} else if l.Unenforced {
		l.ledger.store.count.unenforcedSpent.Add(int64(actual))
	}
	if l.parts == nil || l.held == 0 && actual == 0 && !l.doubt {
		return nil
	}
	s := &settlement{lease: l, parts: l.parts, actual: actual, held: l.held, tombstone: "S"}
	if l.held = 0; strings.HasPrefix(l.ID, allotmentPrefix) {
		s.held = 0 // not counted as reserved in the first place
	}
	s.pend(1)
	s.urgent = l.scarce(s.held)
	err := l.ledger.queue.add(s)
	if err != nil { // the lease runs out, and is charged
		s.pend(-1)
		l.ledger.open.forget(l.ID)
	}
	return err
}

// scarce says whether held, as long as Redis has it, may be what a request
// through another replica is refused for: whoever got this one's answer may
// send the next one there.
func (l *lease) scarce(held budget.Nanodollars) bool {
	for _, s := range l.shares {
		if !s.limit.Hard {
			continue
		}
		s.view.mu.Lock()
		status, largest := s.view.status(s.limit), s.view.largest
		s.view.mu.Unlock()
		if held > 0 && status.Remaining()-held < largest {
			return true
		}
	}
	return false
}

// Amount implements budget.Lease.
func (l *lease) Amount() budget.Nanodollars {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done {
		return 0
	}
	return l.held + l.local
}

// Remaining implements budget.Lease.
func (l *lease) Remaining(actual budget.Nanodollars) budget.Nanodollars {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.held - actual
	if l.done {
		own = 0
	}
	least := budget.MaxLimit
	for _, s := range l.shares {
		s.view.mu.Lock()
		status := s.view.status(s.limit)
		s.view.mu.Unlock()
		least = min(least, s.limit.Amount-status.Spent-status.Reserved+own)
	}
	return least
}

// openLeases are the reservations that Redis holds for this replica, so that
// they can be put back when it lost its data; and those settled lately, so that
// a Redis that lost only that does not hold them any more.
type openLeases struct {
	mu      sync.Mutex
	byID    map[string]openLease
	settled []openLease // a ring
	next    int
}

// openLease is what Redis holds for a reservation.
type openLease struct {
	id    string
	parts []part
	held  budget.Nanodollars
}

// settledLately is how many settled reservations are remembered: enough for
// what a replica of Redis can lag behind.
const settledLately = 2048

func (o *openLeases) add(l openLease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.byID[l.id] = l
}

func (o *openLeases) remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	l, ok := o.byID[id]
	if !ok {
		return
	}
	delete(o.byID, id)
	if len(o.settled) < settledLately {
		o.settled = append(o.settled, l)
		return
	}
	o.settled[o.next] = l
	o.next = (o.next + 1) % settledLately
}

// forget drops a reservation that nobody will settle.
func (o *openLeases) forget(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.byID, id)
}

func (o *openLeases) any() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.byID) > 0
}

func (o *openLeases) all() (open, settled []openLease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Values(o.byID)), slices.Clone(o.settled)
}
