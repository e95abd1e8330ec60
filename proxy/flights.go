package proxy

import (
	"sync"
	"sync/atomic"
)

// flights bounds the requests that are under way: in all, and per user, so
// that one user cannot keep the others out.
type flights struct {
	total atomic.Int64
	bytes atomic.Int64 // of request bodies held

	shards [64]struct {
		sync.Mutex
		byUser map[string]int
	}
}

// maxBodiesHeld bounds the memory of all request bodies together, in bytes.
const maxBodiesHeld = 512 << 20

// enter admits a request, or says why not. The stay that begins must be ended.
func (f *flights) enter(limit int) error {
	if f.total.Add(1) > int64(limit) {
		f.total.Add(-1)
		return unavailable("overloaded", "too many requests are under way; try again shortly")
	}
	return nil
}

// hold counts n more bytes of a request's body.
func (f *flights) hold(n int64) error {
	if f.bytes.Add(n) > maxBodiesHeld {
		return unavailable("overloaded", "too many large requests are under way; try again shortly")
	}
	return nil
}

// stay is a request's place among those under way, and its body's.
type stay struct {
	flights *flights
	held    int64 // bytes of its body
}

// free says that the body is no longer in memory.
func (s *stay) free() {
	s.flights.bytes.Add(-s.held)
	s.held = 0
}

// end gives the place back.
func (s *stay) end() {
	s.free()
	s.flights.total.Add(-1)
}

// enterUser counts a request of user in. Once more than half of the places are
// taken, users with limit requests under way are refused more, so that the rest
// of the room is for others; before that nobody is in anyone's way.
func (f *flights) enterUser(user string, limit int, places int) error {
	crowded := f.total.Load() > int64(places/2)
	shard := &f.shards[shardOf(user)]
	shard.Lock()
	defer shard.Unlock()
	if shard.byUser == nil {
		shard.byUser = map[string]int{}
	}
	if crowded && shard.byUser[user] >= limit {
		return unavailable("overloaded", "this user has too many requests under way; try again shortly")
	}
	shard.byUser[user]++
	return nil
}

func (f *flights) leaveUser(user string) {
	shard := &f.shards[shardOf(user)]
	shard.Lock()
	defer shard.Unlock()
	if shard.byUser[user]--; shard.byUser[user] <= 0 {
		delete(shard.byUser, user)
	}
}

// shardOf is FNV-1a, folded to a shard.
func shardOf(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return (h ^ h>>16) % 64
}

// retryBudgets keep repeats at one upstream a fraction of its requests, so that
// retries do not multiply an outage.
type retryBudgets struct {
	mu     sync.Mutex
	tokens map[string]float64 // by deployment name: repeats it may still have
}

// A deployment starts with, and never has more than, this many repeats in hand.
const (
	firstRetries = 3
	mostRetries  = 10
)

func (b *retryBudgets) init() { b.tokens = map[string]float64{} }

// earn counts a request to a deployment: share of a repeat is earned.
func (b *retryBudgets) earn(deployment string, share float64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, known := b.tokens[deployment]
	if !known {
		t = firstRetries
	}
	b.tokens[deployment] = min(mostRetries, t+max(0, share))
}

// spend takes one repeat, if there is one.
func (b *retryBudgets) spend(deployment string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens[deployment] < 1 {
		return false
	}
	b.tokens[deployment]--
	return true
}
