package budget

import (
	"context"
	"hash/maphash"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// MemoryConfig configures a Memory. The zero value is fine.
type MemoryConfig struct {
	// Lease is how long a reservation lives without Renew; then it is charged
	// in full. 0 means DefaultLease.
	Lease time.Duration
	// MaxUsers is how many users' budgets are counted at once, at about 250 bytes
	// each beside the name; one with an hourly and a daily budget has two. Users leave when
	// their window has ended, and what they spent is not forgotten before.
	// 0 means DefaultMaxUsers.
	MaxUsers int
}

// DefaultMaxUsers is how many users' budgets a Memory counts at once.
const DefaultMaxUsers = 1_000_000

// Memory is the ledger of a single process. It forgets everything when the
// process ends. Safe for concurrent use.
//
// Locks are taken in one order: the lease shard of an id, then the buckets by
// their number. No lock is held over anything that waits.
type Memory struct {
	leaseTime time.Duration
	maxUsers  int64
	users     atomic.Int64 // buckets of users
	swept     atomic.Int64 // when makeRoom did, ns since 1970
	seed      maphash.Seed
	numbers   atomic.Uint64 // of buckets, their lock order
	buckets   [memoryShards]bucketShard
	leases    [memoryShards]leaseShard
	recent    Recent[*bucket]
}

const (
	memoryShards = 64
	// Answers that are kept after their end, per shard: the proxy never asks
	// twice for an id it has settled, so this is for callers who do.
	keptAnswers = 64
	// Leases that have run out and are charged by one Reserve at most.
	reapedAtOnce = 16
	// A shard is swept of ended windows when it has grown by this many.
	sweptEvery = 512
	// Where new users find no room, all is swept no more often.
	sweptAgain = 10 * time.Second
)

// NewMemory makes an empty ledger.
func NewMemory(c MemoryConfig) *Memory {
	m := &Memory{leaseTime: c.Lease, maxUsers: int64(c.MaxUsers), seed: maphash.MakeSeed()}
	if m.leaseTime <= 0 {
		m.leaseTime = DefaultLease
	}
	if m.maxUsers <= 0 {
		m.maxUsers = DefaultMaxUsers
	}
	for i := range m.buckets {
		m.buckets[i].byKey = map[bucketKey]*bucket{}
		m.leases[i].byID = map[string]*answer{}
		m.leases[i].open.init()
		m.leases[i].earliest.Store(math.MaxInt64)
	}
	return m
}

// Reserve holds h.Amount against all of h.Limits, or none: it returns an
// *ExceededError when a hard one has no room, and a *FullError for a new user
// past MaxUsers. The same id gets the same answer. An Amount of 0 reads and is never denied; it may be extended.
func (m *Memory) Reserve(_ context.Context, h Hold) (*Reservation, error) {
	if h.ID == "" {
		h.ID = NewID()
	}
	h.Amount = Clamp(h.Amount)
	now := time.Now()
	shard := &m.leases[maphash.String(m.seed, h.ID)%memoryShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	shard.reap(now, reapedAtOnce)
	if a := shard.byID[h.ID]; a != nil {
		return a.reservation, a.err
	}
	l := &memoryLease{shard: shard, leaseTime: m.leaseTime}
	l.Reservation = Reservation{ID: h.ID, lease: l}
	m.open(l, h.Limits, now)
	defer l.unlock()
	if h.Amount == 0 {
		l.Budgets = l.statuses(h.Limits)
		return &l.Reservation, nil
	}
	if l.full != nil {
		return nil, l.full
	}
	if err := l.denied(h.Amount); err != nil {
		shard.keep(h.ID, &answer{err: err})
		return nil, err
	}
	l.hold(h.Amount, now)
	l.Budgets = l.statuses(h.Limits)
	return &l.Reservation, nil
}

// Status reads budgets without changing them, in the order of limits.
func (m *Memory) Status(ctx context.Context, limits []Limit) ([]Status, error) {
	m.reapAll(time.Now())
	r, err := m.Reserve(ctx, Hold{Limits: limits})
	if err != nil {
		return nil, err
	}
	return r.Budgets, nil
}

// Seen is what Status is: this process knows all there is to know.
func (m *Memory) Seen(limits []Limit) []Status {
	// Without an amount it only reads, and is never refused.
	r, err := m.Reserve(context.Background(), Hold{Limits: limits})
	if err != nil {
		return make([]Status, len(limits))
	}
	return r.Budgets
}

// Known is the budgets in use lately, at most about a thousand.
func (m *Memory) Known() []Status {
	now := time.Now()
	m.reapAll(now)
	var all []Status
	for _, b := range m.recent.List(func(*bucket) bool { return false }) {
		b.mu.Lock()
		if !b.gone && b.page.end.After(now) {
			all = append(all, b.page.status(b.limit))
		}
		b.mu.Unlock()
	}
	return all
}

// Reset sets what is spent to 0 everywhere. Open reservations stay and settle
// into the new count.
func (m *Memory) Reset(context.Context) error {
	m.reapAll(time.Now()) // what has run out is spent, not held
	for i := range m.buckets {
		shard := &m.buckets[i]
		shard.mu.Lock()
		for _, b := range shard.byKey {
			b.mu.Lock()
			b.page.spent = 0
			b.page.resets++
			b.mu.Unlock()
		}
		shard.mu.Unlock()
	}
	return nil
}

// Close does nothing: there is nothing to send or to end.
func (m *Memory) Close(context.Context) error { return nil }

func (m *Memory) reapAll(now time.Time) {
	for i := range m.leases {
		if shard := &m.leases[i]; shard.earliest.Load() <= now.UnixNano() {
			shard.mu.Lock()
			shard.reap(now, -1)
			shard.mu.Unlock()
		}
	}
}

// open binds l to the current pages of its limits' buckets and locks these.
func (m *Memory) open(l *memoryLease, limits []Limit, now time.Time) {
	l.shares = l.few[:0]
	for {
		for _, limit := range limits {
			if b := m.bucket(&limit, now); b != nil {
				l.shares = append(l.shares, share{limit: limit, bucket: b})
			} else {
				l.full = &FullError{MaxUsers: int(m.maxUsers)}
			}
		}
		l.sort()
		l.lock()
		if !l.anyGone() {
			break
		}
		l.unlock()
		l.shares = l.shares[:0]
	}
	for i := range l.shares {
		b := l.shares[i].bucket
		b.turn(now)
		b.limit = l.shares[i].limit
		if !b.Listed() {
			m.recent.Add(b, b.limit.Scope)
		}
		l.shares[i].page = b.page
	}
}

// bucket finds or makes the bucket of a limit. It is nil for a new user past
// maxUsers.
func (m *Memory) bucket(limit *Limit, now time.Time) *bucket {
	key := bucketKey{limit.Scope, limit.Subject, limit.Window}
	shard := &m.buckets[maphash.String(m.seed, limit.Subject)%memoryShards]
	shard.mu.RLock()
	b := shard.byKey[key]
	shard.mu.RUnlock()
	if b != nil {
		return b
	}
	if limit.Scope == ScopeUser {
		m.makeRoom(now)
	}
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if b = shard.byKey[key]; b != nil {
		return b
	}
	if shard.added++; shard.added >= sweptEvery+len(shard.byKey)/2 {
		m.users.Add(-shard.sweep(now))
	}
	if limit.Scope == ScopeUser && !m.admit() {
		return nil
	}
	b = &bucket{number: m.numbers.Add(1), limit: *limit, page: &page{}}
	shard.byKey[key] = b
	return b
}

// admit counts a new user, if there is room.
func (m *Memory) admit() bool {
	if m.users.Add(1) <= m.maxUsers {
		return true
	}
	m.users.Add(-1)
	return false
}

// makeRoom has users leave whose windows have ended, when there is no room for
// new ones.
func (m *Memory) makeRoom(now time.Time) {
	last := m.swept.Load()
	if m.users.Load() < m.maxUsers || now.UnixNano()-last < int64(sweptAgain) || !m.swept.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	for i := range m.buckets {
		shard := &m.buckets[i]
		shard.mu.Lock()
		m.users.Add(-shard.sweep(now))
		shard.mu.Unlock()
	}
}

// bucketKey names a bucket: limits that differ only in Amount and Hard share it.
type bucketKey struct {
	scope   Scope
	subject string
	window  Window
}

// bucketShard holds the buckets of some subjects.
type bucketShard struct {
	mu    sync.RWMutex
	byKey map[bucketKey]*bucket
	added int // since the last sweep
}

// sweep drops buckets whose window has ended, and says of how many users.
// Reservations that are still open in one keep its page.
func (s *bucketShard) sweep(now time.Time) (users int64) {
	s.added = 0
	for key, b := range s.byKey {
		b.mu.Lock()
		if !now.Before(b.page.end) && !b.page.end.IsZero() {
			b.gone = true
			delete(s.byKey, key)
			if key.scope == ScopeUser {
				users++
			}
		}
		b.mu.Unlock()
	}
	return users
}

// bucket counts what one subject spends in the current window.
type bucket struct {
	number uint64
	Recency

	mu    sync.Mutex // guards what follows, and all pages this bucket had
	page  *page
	limit Limit // as last asked for
	gone  bool  // dropped from its shard: look it up again
}

// page is one window of a bucket. A reservation keeps the page it was made on,
// so that it settles into the window that admitted it.
type page struct {
	spent, reserved Nanodollars
	end             time.Time
	resets          int
}

// turn begins a new page when the window has ended.
func (b *bucket) turn(now time.Time) {
	if !now.Before(b.page.end) {
		_, end := b.limit.Window.At(now)
		b.page = &page{end: end}
	}
}

func (p *page) status(limit Limit) Status {
	return Status{Limit: limit, Spent: p.spent, Reserved: p.reserved, ResetsAt: p.end}
}
