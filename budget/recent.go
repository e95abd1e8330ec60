package budget

import (
	"slices"
	"sync"
	"sync/atomic"
)

// knownBuckets is how many users' budgets Known returns at most.
const knownBuckets = 1024

// Recent remembers the budgets a ledger used lately, at most about a thousand.
// Users, sessions and tags leave for newer ones; the global budget and those of
// keys stay, being as many as the configuration names. Safe for concurrent use;
// the zero value is empty.
type Recent[T interface{ listing() *atomic.Bool }] struct {
	mu    sync.Mutex
	named []T
	users []T // a ring
	next  int
}

// Recency is embedded in what a Recent remembers: whether it is on the list.
type Recency struct{ listed atomic.Bool }

// Listed says whether a Recent has it.
func (r *Recency) Listed() bool { return r.listed.Load() }

func (r *Recency) listing() *atomic.Bool { return &r.listed }

// Add puts b on the list.
func (r *Recent[T]) Add(b T, scope Scope) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b.listing().Swap(true) {
		return
	}
	switch {
	case scope.named() && len(r.named) < knownBuckets:
		r.named = append(r.named, b)
	case len(r.users) < knownBuckets:
		r.users = append(r.users, b)
	default:
		r.users[r.next].listing().Store(false)
		r.users[r.next] = b
		r.next = (r.next + 1) % len(r.users)
	}
}

// List is a copy of the list. Named ones for which ended says true leave it.
func (r *Recent[T]) List(ended func(T) bool) []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.named = slices.DeleteFunc(r.named, func(b T) bool {
		if !ended(b) {
			return false
		}
		b.listing().Store(false)
		return true
	})
	return slices.Concat(r.named, r.users)
}
