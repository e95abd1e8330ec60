package budget

import (
	"slices"
	"sync"
	"sync/atomic"
)

// knownBuckets is how many users' budgets Known returns at most.
const knownBuckets = 1024

// recent remembers the budgets used lately. Users leave for newer ones; the
// global budget and those of keys stay, being as many as the configuration
// names.
type recent[T interface{ isListed() *atomic.Bool }] struct {
	mu    sync.Mutex
	named []T
	users []T // a ring
	next  int
}

// recency is embedded in what is remembered: whether it is on the list.
type recency struct{ listed atomic.Bool }

func (r *recency) isListed() *atomic.Bool { return &r.listed }

// add puts b on the list.
func (r *recent[T]) add(b T, scope Scope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.isListed().Swap(true) {
		return
	}
	switch {
	case scope != ScopeUser && len(r.named) < knownBuckets:
		r.named = append(r.named, b)
	case len(r.users) < knownBuckets:
		r.users = append(r.users, b)
	default:
		r.users[r.next].isListed().Store(false)
		r.users[r.next] = b
		r.next = (r.next + 1) % len(r.users)
	}
}

// list is a copy of the list. Named ones for which ended says true leave it.
func (r *recent[T]) list(ended func(T) bool) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named = slices.DeleteFunc(r.named, func(b T) bool {
		if !ended(b) {
			return false
		}
		b.isListed().Store(false)
		return true
	})
	return slices.Concat(r.named, r.users)
}
