package budget

import (
	"context"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// memoryLease is a reservation and the ledger's side of it, in one allocation.
type memoryLease struct {
	Reservation
	shard     *leaseShard
	leaseTime time.Duration
	full      error // why some budgets are missing, which it may not spend without

	// What follows is guarded by shard.mu.
	shares     []share // by their buckets' numbers; a bucket only once
	few        [3]share
	held       Nanodollars
	settled    bool
	expired    bool // charged in full because the lease ran out
	ends       time.Time
	prev, next *memoryLease // in shard.open, by end
}

// share is the part of a reservation in one bucket.
type share struct {
	limit  Limit
	bucket *bucket
	page   *page
	resets int // of the page, when the expired lease was charged
}

// sort brings the shares into the order in which their buckets are locked,
// and drops repeated ones: a bucket named twice has the lower limit.
func (l *memoryLease) sort() {
	if len(l.shares) < 2 {
		return
	}
	slices.SortStableFunc(l.shares, func(a, b share) int {
		return int(int64(a.bucket.number) - int64(b.bucket.number))
	})
	kept := l.shares[:1]
	for _, s := range l.shares[1:] {
		last := &kept[len(kept)-1]
		if last.bucket != s.bucket {
			kept = append(kept, s)
			continue
		}
		if s.limit.Hard && (!last.limit.Hard || s.limit.Amount < last.limit.Amount) {
			last.limit = s.limit
		}
	}
	l.shares = kept
}

func (l *memoryLease) lock() {
	for i := range l.shares {
		l.shares[i].bucket.mu.Lock()
	}
}

func (l *memoryLease) unlock() {
	for i := range l.shares {
		l.shares[i].bucket.mu.Unlock()
	}
}

func (l *memoryLease) anyGone() bool {
	for i := range l.shares {
		if l.shares[i].bucket.gone {
			return true
		}
	}
	return false
}

// statuses are the limits as they stand, in their own order. The buckets are
// locked.
func (l *memoryLease) statuses(limits []Limit) []Status {
	all := make([]Status, len(limits))
	for i, limit := range limits {
		all[i] = Status{Limit: limit} // of a new user there is no room for, nothing is spent
		for j := range l.shares {
			s := &l.shares[j]
			if s.limit.Scope == limit.Scope && s.limit.Subject == limit.Subject &&
				s.limit.Window == limit.Window {
				all[i] = s.page.status(limit)
				break
			}
		}
	}
	return all
}

// denied says which hard budget has the least room, if extra does not fit into
// all of them. The buckets are locked.
func (l *memoryLease) denied(extra Nanodollars) error {
	var worst *Status
	for i := range l.shares {
		s := &l.shares[i]
		if !s.limit.Hard || extra <= s.limit.Amount-s.page.spent-s.page.reserved {
			continue
		}
		if status := s.page.status(s.limit); worst == nil || status.Room() < worst.Room() {
			worst = &status
		}
	}
	if worst == nil {
		return nil
	}
	return &ExceededError{Budget: *worst, Needed: extra}
}

// hold reserves extra in every bucket and begins the lease. The shard and the
// buckets are locked.
func (l *memoryLease) hold(extra Nanodollars, now time.Time) {
	for i := range l.shares {
		l.shares[i].page.reserved += extra
	}
	if l.held == 0 {
		l.shard.byID[l.ID] = &answer{reservation: &l.Reservation}
	} else {
		l.shard.open.remove(l)
	}
	l.held += extra
	l.ends = now.Add(l.leaseTime)
	l.shard.begin(l)
}

// Extend implements Lease.
func (l *memoryLease) Extend(_ context.Context, extra Nanodollars) error {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.settled || extra == 0 {
		return nil
	}
	if l.full != nil {
		return l.full
	}
	l.lock()
	defer l.unlock()
	if err := l.denied(extra); err != nil {
		return err
	}
	l.revive()
	l.hold(extra, time.Now())
	return nil
}

// Renew implements Lease. A lease that has run out begins again.
func (l *memoryLease) Renew(context.Context) error {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.settled || l.held == 0 {
		return nil
	}
	if l.expired {
		l.lock()
		l.revive()
		l.unlock()
	}
	l.shard.open.remove(l)
	l.ends = time.Now().Add(l.leaseTime)
	l.shard.begin(l)
	return nil
}

// Settle implements Lease.
func (l *memoryLease) Settle(_ context.Context, actual Nanodollars) error {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	if l.settled {
		return nil
	}
	l.settled = true
	l.lock()
	l.revive()
	for i := range l.shares {
		p := l.shares[i].page
		p.reserved -= l.held
		p.spent += actual
	}
	l.unlock()
	if l.held > 0 {
		l.shard.open.remove(l)
		l.shard.keep(l.ID, nil)
	}
	l.held = 0
	return nil
}

// revive takes back the charge of a lease that ran out, unless a reset has
// done that. The buckets are locked.
func (l *memoryLease) revive() {
	if !l.expired {
		return
	}
	l.expired = false
	for i := range l.shares {
		s := &l.shares[i]
		if s.page.resets == s.resets {
			s.page.spent -= l.held
		}
		s.page.reserved += l.held
	}
	l.shard.begin(l)
}

// expire charges a lease that ran out. The shard is locked.
func (l *memoryLease) expire() {
	l.lock()
	defer l.unlock()
	l.expired = true
	for i := range l.shares {
		s := &l.shares[i]
		s.resets = s.page.resets
		s.page.reserved -= l.held
		s.page.spent += l.held
	}
}

// Amount implements Lease.
func (l *memoryLease) Amount() Nanodollars {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	return l.held
}

// Remaining implements Lease.
func (l *memoryLease) Remaining(actual Nanodollars) Nanodollars {
	l.shard.mu.Lock()
	defer l.shard.mu.Unlock()
	own := l.held - actual
	if l.settled {
		own = 0
	}
	l.lock()
	defer l.unlock()
	least := MaxLimit
	for i := range l.shares {
		s := &l.shares[i]
		least = min(least, s.limit.Amount-s.page.spent-s.page.reserved+own)
	}
	return least
}

// leaseShard holds the answers given for some ids.
type leaseShard struct {
	// earliest is the time, in ns since 1970, before which no open lease ends.
	earliest atomic.Int64

	mu   sync.Mutex
	byID map[string]*answer
	open leaseList
	// ended is a ring of the ids that were denied or settled last; when an id
	// leaves it, its answer is forgotten.
	ended [keptAnswers]string
	next  int
}

// answer is what Reserve said of an id.
type answer struct {
	reservation *Reservation
	err         error
}

// keep remembers the answer for an id that has ended, until enough others have.
// nil means that it is stored already.
func (s *leaseShard) keep(id string, a *answer) {
	if a != nil {
		s.byID[id] = a
	}
	if old := s.ended[s.next]; old != "" {
		delete(s.byID, old)
	}
	s.ended[s.next] = id
	s.next = (s.next + 1) % keptAnswers
}

// begin puts a lease behind all others, which end before it.
func (s *leaseShard) begin(l *memoryLease) {
	if s.open.first() == nil {
		s.earliest.Store(l.ends.UnixNano())
	}
	s.open.push(l)
}

// reap charges leases that ran out, at most limit of them, all if negative.
func (s *leaseShard) reap(now time.Time, limit int) {
	for limit != 0 {
		l := s.open.first()
		if l == nil {
			s.earliest.Store(math.MaxInt64)
			return
		}
		if now.Before(l.ends) {
			s.earliest.Store(l.ends.UnixNano())
			return
		}
		s.open.remove(l)
		l.expire()
		limit--
	}
}

// leaseList is a ring of leases around a root, the one that ends first behind
// it: all last equally long, so a lease that begins is put last.
type leaseList struct{ root memoryLease }

func (q *leaseList) init() { q.root.prev, q.root.next = &q.root, &q.root }

func (q *leaseList) first() *memoryLease {
	if q.root.next == &q.root {
		return nil
	}
	return q.root.next
}

func (q *leaseList) push(l *memoryLease) {
	l.prev, l.next = q.root.prev, &q.root
	l.prev.next, l.next.prev = l, l
}

// remove does nothing to a lease that is not listed.
func (q *leaseList) remove(l *memoryLease) {
	if l.next == nil {
		return
	}
	l.prev.next, l.next.prev = l.next, l.prev
	l.prev, l.next = nil, nil
}
