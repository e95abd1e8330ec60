package budget

import (
	"context"
	"sync"
)

// sliceSet is the parts of hard budgets that this replica has set aside for the
// time when Redis is lost: ordinary reservations, so that nothing admitted
// against them can exceed a limit.
type sliceSet struct {
	mu  sync.Mutex
	all map[*view]*slice
}

// slice is set aside in one budget.
type slice struct {
	lease  *redisLease
	amount Nanodollars
}

func (s *sliceSet) tend(*Redis, *redisLease) {}
func (s *sliceSet) expire(*Redis)            {}
func (s *sliceSet) giveBack(*Redis)          {}

func (l *redisLease) settleSliced(actual Nanodollars) Nanodollars { return actual }

// withoutStore decides by the policy when Redis did not answer. l is locked, or nobody else's yet.
func (l *redisLease) withoutStore(amount Nanodollars, cause error) error {
	r := l.ledger
	hard := false
	for _, s := range l.shares {
		hard = hard || s.limit.Hard
	}
	if hard && r.config.OnLoss != OnLossOpen {
		r.store.count.refused.Add(1)
		return cause
	}
	r.store.count.unenforced.Add(1)
	l.Unenforced = true
	l.local += amount
	return nil
}

// reclaim brings back money of this replica that stands in the way of l.
func (r *Redis) reclaim(ctx context.Context, l *redisLease) {
	ctx, cancel := context.WithTimeout(ctx, r.store.timeout)
	defer cancel()
	_ = r.queue.flush(ctx) // what could not be settled is not there to be had
}
