package redisledger

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// allotments is the parts of hard budgets that this replica has set aside for the
// time when Redis is lost. They are ordinary reservations, so nothing admitted
// against them can exceed a limit. They must not stand in the way while Redis
// is well: a slice is given back when its budget runs low, when it is not used,
// and when another replica asks for it.
type allotments struct {
	asked chan *lease // requests whose budgets may want a slice

	mu     sync.Mutex
	byView map[*view]*allotment
}

// slice is set aside in one budget. Its amount never changes; the rest is
// guarded by the set.
type allotment struct {
	view    *view
	lease   *lease
	amount  budget.Nanodollars
	left    budget.Nanodollars // for further requests
	spent   budget.Nanodollars
	open    int // requests that run against it
	used    time.Time
	renewed time.Time
}

const (
	// A slice is this part of the limit at most, if that is enough for two
	// requests, and this part of what remains at most. Nor is it more than so
	// many requests need: when a replica dies, all of its slices are charged.
	allotmentOfLimit  = 50
	allotmentOfRest   = 4
	allotmentRequests = 32
	allotmentIdle     = 10 * time.Second
	tendEvery         = time.Second
	maxAllotments     = 50_000
	allotmentPrefix   = "s:" // of their ids; the scripts count them apart
	looksInFlight     = 1024 // requests that wait to be looked at
)

// lowBudget says whether a budget is too low to set something aside.
func lowBudget(s budget.Status) bool {
	return s.Limit.Amount-s.Spent-s.Reserved < s.Limit.Amount/allotmentOfRest
}

// nearItsEnd says whether a budget may soon be low. One that is not is in no
// danger: nothing is set aside in it before Redis has shown a sign of trouble,
// and so nothing of it is charged when a replica dies.
func nearItsEnd(s budget.Status) bool { return s.Room() < s.Limit.Amount/2 }

// tend has a look at the budgets of an admitted request, off its path.
func (s *allotments) tend(l *lease) {
	if l.ledger.config.OnLoss != OnLossBounded {
		return
	}
	now := time.Now()
	due := false
	for _, share := range l.shares {
		v := share.view
		v.mu.Lock()
		if share.limit.Hard && now.Sub(v.tended) > tendEvery {
			v.tended, due = now, true
		}
		v.mu.Unlock()
	}
	if !due {
		return
	}
	select {
	case s.asked <- l:
	default: // a later request will do
	}
}

// loop gives budgets in use their slices.
func (s *allotments) loop(r *Ledger) {
	for {
		select {
		case <-r.stop:
			return
		case l := <-s.asked:
			for _, share := range l.shares {
				if share.limit.Hard {
					s.look(r, share)
				}
			}
		}
	}
}

// look sets something aside, or gives it back.
func (s *allotments) look(r *Ledger, share share) {
	v := share.view
	v.mu.Lock()
	status := v.status(share.limit)
	v.mu.Unlock()
	s.mu.Lock()
	have, many := s.byView[v], len(s.byView) >= maxAllotments
	if have != nil {
		have.used = time.Now()
	}
	s.mu.Unlock()
	switch {
	case have != nil && lowBudget(status):
		s.giveBack(have)
	case have == nil && !lowBudget(status) && !many && r.Up() && (r.store.troubled() || nearItsEnd(status)):
		s.setAside(r, share, status)
	}
}

func (s *allotments) setAside(r *Ledger, share share, status budget.Status) {
	v := share.view
	v.mu.Lock()
	rest := share.limit.Amount - status.Spent - status.Reserved - v.allotted
	size := min(max(share.limit.Amount/allotmentOfLimit, 2*v.largest), allotmentRequests*v.largest, rest/allotmentOfRest)
	useful := size > 0 && size >= v.largest && v.ends > r.store.now() && time.Since(v.recalled) > allotmentIdle
	v.mu.Unlock()
	if !useful {
		return
	}
	l := r.newLease(budget.Hold{ID: allotmentPrefix + budget.NewID(), Limits: []budget.Limit{share.limit}})
	if !l.setAside(size) || l.shares[0].view != v {
		_ = l.Settle(context.Background(), 0) // only a closed ledger refuses
		return
	}
	now := time.Now()
	have := &allotment{view: v, lease: l, amount: size, left: size, used: now, renewed: now}
	v.mu.Lock()
	v.allotment = have // before it is listed, or it might be given back in between and stay here
	v.mu.Unlock()
	s.mu.Lock()
	s.byView[v] = have
	s.mu.Unlock()
}

// setAside holds a slice in Redis.
func (l *lease) setAside(size budget.Nanodollars) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ask(context.Background(), size) == nil && !l.done
}

// giveBack settles a slice that no request runs against.
func (s *allotments) giveBack(have *allotment) {
	s.mu.Lock()
	if have.open > 0 || s.byView[have.view] != have {
		s.mu.Unlock()
		return
	}
	delete(s.byView, have.view)
	spent := have.spent
	s.mu.Unlock()
	have.view.mu.Lock()
	have.view.allotment = nil
	have.view.mu.Unlock()
	_ = have.lease.Settle(context.Background(), spent) // only a closed ledger refuses
}

// giveBackAll is for the end.
func (s *allotments) giveBackAll() {
	for _, have := range s.list() {
		s.giveBack(have)
	}
}

func (s *allotments) list() []*allotment {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.byView))
}

// keep renews slices in use, and gives back those that are idle, spent in part
// during a loss, or wanted by others; those, too, whose leases ran out in a
// loss: they are charged until they are settled.
func (s *allotments) keep(r *Ledger) {
	now := time.Now()
	r.heartbeats.Lock()
	recalled := slices.Clone(r.recalled)
	r.heartbeats.Unlock()
	for _, have := range s.list() {
		s.mu.Lock()
		idle := now.Sub(have.used) > allotmentIdle || have.spent > 0 || have.lease.ranOut.Load()
		due := now.Sub(have.renewed) > r.config.Lease/3
		if due {
			have.renewed = now
		}
		s.mu.Unlock()
		others := slices.Contains(recalled, have.view.counts)
		if others {
			have.view.mu.Lock()
			have.view.recalled, have.view.kept = now, 0
			have.view.mu.Unlock()
		}
		switch {
		case idle || others || have.view.ends <= r.store.now():
			s.giveBack(have)
		case due:
			_ = have.lease.Renew(context.Background()) // only a closed ledger refuses
		}
	}
}

// take admits a request against the slices of all its hard budgets, or not.
func (s *allotments) take(l *lease, amount budget.Nanodollars) bool {
	shares := distinct(l.shares)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, share := range shares {
		if have := s.byView[share.view]; share.limit.Hard && (have == nil || have.left < amount) {
			return false
		}
	}
	for _, share := range shares {
		if have := s.byView[share.view]; share.limit.Hard {
			have.left -= amount
			have.open++
			l.allotments = append(l.allotments, have)
		}
	}
	return true
}

// cover says whether the allotments of l's hard budgets could admit amount.
func (s *allotments) cover(l *lease, amount budget.Nanodollars) bool {
	if l.ledger.config.OnLoss != OnLossBounded || l.allotments != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	hard := 0
	for _, share := range l.shares {
		if !share.limit.Hard {
			continue
		}
		hard++
		if have := s.byView[share.view]; have == nil || have.left < amount {
			return false
		}
	}
	return hard > 0 && len(s.byView) > 0
}

// settle ends what a request holds of slices, where it was charged spent.
func (s *allotments) settle(held []*allotment, amount, spent budget.Nanodollars) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, have := range held {
		have.left += amount - spent
		have.spent += spent
		have.open--
	}
}

// withoutStore decides by the policy when Redis did not answer. l is locked, or
// nobody else's yet.
func (l *lease) withoutStore(amount budget.Nanodollars, cause error) error {
	r := l.ledger
	hard := slices.ContainsFunc(l.shares, func(s share) bool { return s.limit.Hard })
	switch {
	case !hard || r.config.OnLoss == OnLossOpen:
		r.store.count.unenforced.Add(1)
		l.Unenforced = true
		return nil
	case r.config.OnLoss == OnLossBounded && l.allotments == nil && r.allotments.take(l, amount):
		r.store.count.allotted.Add(1)
		l.local = amount
		return nil
	}
	r.store.count.refused.Add(1)
	return cause
}

// settleAllotments charges what is beyond l's reservation in Redis to the slices it
// was admitted against, and to the soft budgets by themselves. It returns what
// is left for Redis.
func (l *lease) settleAllotments(actual budget.Nanodollars) budget.Nanodollars {
	beyond := max(0, actual-l.held)
	l.ledger.allotments.settle(l.allotments, l.local, beyond)
	var soft []share
	for _, s := range l.shares {
		if !s.limit.Hard {
			soft = append(soft, s)
		}
	}
	if len(soft) > 0 && beyond > 0 {
		rest := l.ledger.newLease(budget.Hold{ID: l.ID + "~"})
		rest.shares, rest.bound = soft, true // the windows that admitted it
		rest.divide()
		_ = rest.Settle(context.Background(), beyond) // only a closed ledger refuses
	}
	return actual - beyond
}

// reclaim brings back money of this replica that stands in the way of l.
func (r *Ledger) reclaim(ctx context.Context, l *lease) {
	ctx, cancel := context.WithTimeout(ctx, r.store.timeout)
	defer cancel()
	for _, share := range l.shares {
		share.view.mu.Lock()
		have := share.view.allotment
		share.view.mu.Unlock()
		if have != nil {
			r.allotments.giveBack(have)
		}
	}
	for l.reclaimable() && r.queue.progress(ctx) == nil { // what cannot be settled is not there to be had
	}
}

// awaitAllotments gives the other replicas time to see that their slices are wanted.
func (l *lease) awaitAllotments(ctx context.Context, waits int) {
	r := l.ledger
	if waits == 1 {
		r.recallAllotments(ctx, l)
	}
	if !r.queue.pause(heartbeatEvery/4) || waits >= maxWaits {
		l.recalled()
	}
}

// allottedElsewhere says whether other replicas have set aside money that l may
// need and that they have not been asked for lately, or not for all of it.
func (l *lease) allottedElsewhere() bool {
	if l.ledger.config.OnLoss != OnLossBounded {
		return false
	}
	for _, s := range l.shares {
		v := s.view
		v.mu.Lock()
		others := v.allottedByOthers()
		worth := s.limit.Hard && (others > 0 || v.seen.IsZero()) && (others > v.kept || time.Since(v.recalled) > allotmentIdle/2)
		v.mu.Unlock()
		if worth {
			return true
		}
	}
	return false
}

// recallAllotments asks the others for what they have set aside in l's budgets. They
// look every beat.
func (r *Ledger) recallAllotments(ctx context.Context, l *lease) {
	var keys []string
	now := time.Now()
	for _, s := range l.shares {
		v := s.view
		v.mu.Lock()
		if s.limit.Hard && now.Sub(v.asked) > heartbeatEvery {
			v.asked = now
			keys = append(keys, v.counts)
		}
		v.mu.Unlock()
	}
	if keys != nil {
		_ = r.heartbeat(ctx, "", keys...) // when it fails they do not know, and l is denied
	}
}

// wanted notes that l's budgets are wanted back, so that nobody asks again soon
// and nothing is set aside in them for a while.
func (l *lease) recalled() {
	for _, s := range l.shares {
		s.view.mu.Lock()
		s.view.recalled, s.view.kept = time.Now(), s.view.allottedByOthers()
		s.view.mu.Unlock()
	}
}

// allottedByOthers is what other replicas have set aside. v is locked.
func (v *view) allottedByOthers() budget.Nanodollars {
	if v.allotment != nil {
		return v.allotted - v.allotment.amount
	}
	return v.allotted
}
