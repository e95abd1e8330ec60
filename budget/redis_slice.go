package budget

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// sliceSet is the parts of hard budgets that this replica has set aside for the
// time when Redis is lost. They are ordinary reservations, so nothing admitted
// against them can exceed a limit. They must not stand in the way while Redis
// is well: a slice is given back when its budget runs low, when it is not used,
// and when another replica asks for it.
type sliceSet struct {
	asked chan *redisLease // requests whose budgets may want a slice

	mu     sync.Mutex
	byView map[*view]*slice
}

// slice is set aside in one budget. Its amount never changes; the rest is
// guarded by the set.
type slice struct {
	view    *view
	lease   *redisLease
	amount  Nanodollars
	left    Nanodollars // for further requests
	spent   Nanodollars
	open    int // requests that run against it
	used    time.Time
	renewed time.Time
}

const (
	// A slice is this part of the limit at most, if that is enough for two
	// requests, and this part of what remains at most. Nor is it more than so
	// many requests need: when a replica dies, all of its slices are charged.
	sliceOfLimit   = 50
	sliceOfRest    = 4
	sliceRequests  = 32
	sliceIdle      = 10 * time.Second
	tendEvery      = time.Second
	maxSlices      = 50_000
	slicePrefix    = "s:" // of their ids; the scripts count them apart
	slicesInFlight = 1024 // requests that wait to be looked at
)

// lowBudget says whether a budget is too low to set something aside.
func lowBudget(s Status) bool { return s.Limit.Amount-s.Spent-s.Reserved < s.Limit.Amount/sliceOfRest }

// tend has a look at the budgets of an admitted request, off its path.
func (s *sliceSet) tend(l *redisLease) {
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
func (s *sliceSet) loop(r *Redis) {
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
func (s *sliceSet) look(r *Redis, share redisShare) {
	v := share.view
	v.mu.Lock()
	status := v.status(share.limit)
	v.mu.Unlock()
	s.mu.Lock()
	have, many := s.byView[v], len(s.byView) >= maxSlices
	if have != nil {
		have.used = time.Now()
	}
	s.mu.Unlock()
	switch {
	case have != nil && lowBudget(status):
		s.giveBack(have)
	case have == nil && !lowBudget(status) && !many && r.Up():
		s.setAside(r, share, status)
	}
}

func (s *sliceSet) setAside(r *Redis, share redisShare, status Status) {
	v := share.view
	v.mu.Lock()
	rest := share.limit.Amount - status.Spent - status.Reserved - v.sliced
	size := min(max(share.limit.Amount/sliceOfLimit, 2*v.largest), sliceRequests*v.largest, rest/sliceOfRest)
	useful := size > 0 && size >= v.largest && v.ends > r.store.now() && time.Since(v.wanted) > sliceIdle
	v.mu.Unlock()
	if !useful {
		return
	}
	l := r.newLease(Hold{ID: slicePrefix + NewID(), Limits: []Limit{share.limit}})
	if !l.setAside(size) || l.shares[0].view != v {
		_ = l.settle(context.Background(), 0) // only a closed ledger refuses
		return
	}
	now := time.Now()
	have := &slice{view: v, lease: l, amount: size, left: size, used: now, renewed: now}
	s.mu.Lock()
	s.byView[v] = have
	s.mu.Unlock()
	v.mu.Lock()
	v.slice = have
	v.mu.Unlock()
}

// setAside holds a slice in Redis.
func (l *redisLease) setAside(size Nanodollars) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ask(context.Background(), size) == nil && !l.done
}

// giveBack settles a slice that no request runs against.
func (s *sliceSet) giveBack(have *slice) {
	s.mu.Lock()
	if have.open > 0 || s.byView[have.view] != have {
		s.mu.Unlock()
		return
	}
	delete(s.byView, have.view)
	spent := have.spent
	s.mu.Unlock()
	have.view.mu.Lock()
	have.view.slice = nil
	have.view.mu.Unlock()
	_ = have.lease.settle(context.Background(), spent) // only a closed ledger refuses
}

// giveBackAll is for the end.
func (s *sliceSet) giveBackAll() {
	for _, have := range s.list() {
		s.giveBack(have)
	}
}

func (s *sliceSet) list() []*slice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.byView))
}

// keep renews slices in use, and gives back those that are idle, spent in part
// during a loss, or wanted by others; those, too, whose leases ran out in a
// loss: they are charged until they are settled.
func (s *sliceSet) keep(r *Redis) {
	now := time.Now()
	r.beating.Lock()
	wanted := slices.Clone(r.wanted)
	r.beating.Unlock()
	for _, have := range s.list() {
		s.mu.Lock()
		idle := now.Sub(have.used) > sliceIdle || have.spent > 0 || have.lease.ranOut.Load()
		due := now.Sub(have.renewed) > r.config.Lease/3
		if due {
			have.renewed = now
		}
		s.mu.Unlock()
		others := slices.Contains(wanted, have.view.counts)
		if others {
			have.view.mu.Lock()
			have.view.wanted, have.view.kept = now, 0
			have.view.mu.Unlock()
		}
		switch {
		case idle || others || have.view.ends <= r.store.now():
			s.giveBack(have)
		case due:
			_ = have.lease.renew(context.Background()) // only a closed ledger refuses
		}
	}
}

// take admits a request against the slices of all its hard budgets, or not.
func (s *sliceSet) take(l *redisLease, amount Nanodollars) bool {
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
			l.slices = append(l.slices, have)
		}
	}
	return true
}

// settle ends what a request holds of slices, where it was charged spent.
func (s *sliceSet) settle(held []*slice, amount, spent Nanodollars) {
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
func (l *redisLease) withoutStore(amount Nanodollars, cause error) error {
	r := l.ledger
	hard := slices.ContainsFunc(l.shares, func(s redisShare) bool { return s.limit.Hard })
	switch {
	case !hard || r.config.OnLoss == OnLossOpen:
		r.store.count.unenforced.Add(1)
		l.Unenforced = true
		return nil
	case r.config.OnLoss == OnLossBounded && l.slices == nil && r.slices.take(l, amount):
		r.store.count.sliced.Add(1)
		l.local = amount
		return nil
	}
	r.store.count.refused.Add(1)
	return cause
}

// settleSlices charges what is beyond l's reservation in Redis to the slices it
// was admitted against, and to the soft budgets by themselves. It returns what
// is left for Redis.
func (l *redisLease) settleSlices(actual Nanodollars) Nanodollars {
	beyond := max(0, actual-l.held)
	l.ledger.slices.settle(l.slices, l.local, beyond)
	var soft []redisShare
	for _, s := range l.shares {
		if !s.limit.Hard {
			soft = append(soft, s)
		}
	}
	if len(soft) > 0 && beyond > 0 {
		rest := l.ledger.newLease(Hold{ID: l.ID + "~"})
		rest.shares, rest.bound = soft, true // the windows that admitted it
		rest.divide()
		_ = rest.settle(context.Background(), beyond) // only a closed ledger refuses
	}
	return actual - beyond
}

// reclaim brings back money of this replica that stands in the way of l.
func (r *Redis) reclaim(ctx context.Context, l *redisLease) {
	ctx, cancel := context.WithTimeout(ctx, r.store.timeout)
	defer cancel()
	for _, share := range l.shares {
		share.view.mu.Lock()
		have := share.view.slice
		share.view.mu.Unlock()
		if have != nil {
			r.slices.giveBack(have)
		}
	}
	for l.reclaimable() && r.queue.progress(ctx) == nil { // what cannot be settled is not there to be had
	}
}

// awaitSlices gives the other replicas time to see that their slices are wanted.
func (l *redisLease) awaitSlices(ctx context.Context, waits int) {
	r := l.ledger
	if waits == 1 {
		r.wantSlices(ctx, l)
	}
	if !r.queue.pause(beatEvery/4) || waits >= maxWaits {
		l.wanted()
	}
}

// slicedElsewhere says whether other replicas have set aside money that l may
// need and that they have not been asked for lately, or not for all of it.
func (l *redisLease) slicedElsewhere() bool {
	if l.ledger.config.OnLoss != OnLossBounded {
		return false
	}
	for _, s := range l.shares {
		v := s.view
		v.mu.Lock()
		others := v.slicedByOthers()
		worth := s.limit.Hard && (others > 0 || v.seen.IsZero()) && (others > v.kept || time.Since(v.wanted) > sliceIdle/2)
		v.mu.Unlock()
		if worth {
			return true
		}
	}
	return false
}

// wantSlices asks the others for what they have set aside in l's budgets. They
// look every beat.
func (r *Redis) wantSlices(ctx context.Context, l *redisLease) {
	var keys []string
	now := time.Now()
	for _, s := range l.shares {
		v := s.view
		v.mu.Lock()
		if s.limit.Hard && now.Sub(v.asked) > beatEvery {
			v.asked = now
			keys = append(keys, v.counts)
		}
		v.mu.Unlock()
	}
	if keys != nil {
		_ = r.beat(ctx, "", keys...) // when it fails they do not know, and l is denied
	}
}

// wanted notes that l's budgets are wanted back, so that nobody asks again soon
// and nothing is set aside in them for a while.
func (l *redisLease) wanted() {
	for _, s := range l.shares {
		s.view.mu.Lock()
		s.view.wanted, s.view.kept = time.Now(), s.view.slicedByOthers()
		s.view.mu.Unlock()
	}
}

// slicedByOthers is what other replicas have set aside. v is locked.
func (v *view) slicedByOthers() Nanodollars {
	if v.slice != nil {
		return v.sliced - v.slice.amount
	}
	return v.sliced
}
