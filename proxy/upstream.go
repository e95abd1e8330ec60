package proxy

import (
	"context"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// Upstream is a model we call. Chat is used by many requests at once.
//
// r.Body and r.Prompt() are gone once the first chunk has been taken, for a
// long stream need not hold its request in memory. r.Body must not be kept.
//
// Nothing is sent until the answer is ranged over. Leaving the loop, or the
// end of ctx, ends the call; by the time the loop is left nothing of it runs on.
// The answer is one Whole chunk when r.Stream is false, else the events of a
// stream. The first chunk carries a Head. An error comes last: *translate.UpstreamError
// when the upstream failed, *translate.InvalidError when the request cannot be
// put to this upstream, ctx's cause when it was ended from outside. An answer
// that stops short of its end is an error.
type Upstream interface {
	Chat(ctx context.Context, r *translate.Request) translate.Chunks
}

// UpstreamFunc is an Upstream that needs no state.
type UpstreamFunc func(ctx context.Context, r *translate.Request) translate.Chunks

// Chat calls f.
func (f UpstreamFunc) Chat(ctx context.Context, r *translate.Request) translate.Chunks {
	return f(ctx, r)
}

// Ledger admits requests to their budgets. *budget.Memory and *redisledger.Ledger
// are the two.
type Ledger interface {
	// Reserve holds the worst case against all limits at once, or none: it
	// returns *budget.ExceededError when a hard one has no room and an error
	// wrapping budget.ErrUnavailable when the store is lost and the policy is
	// to refuse. An Amount of 0 only reads, and is never denied.
	Reserve(ctx context.Context, h budget.Hold) (*budget.Reservation, error)
}

// Store tells how a ledger fares with the store that it shares with other
// replicas. *redisledger.Ledger is one.
type Store interface {
	// Stats reads the counters, without asking the store. Safe for concurrent use.
	Stats() budget.StoreStats
}

// Books tell how the ledger stands. *budget.Memory and *redisledger.Ledger keep them.
type Books interface {
	// Seen tells the limits' state as this process last knew it, without asking
	// the store.
	Seen(limits []budget.Limit) []budget.Status
	// Status tells the limits' state as the store has it, if it can be asked.
	Status(ctx context.Context, limits []budget.Limit) ([]budget.Status, error)
	// Known lists the budgets that this process has lately seen, some at least.
	Known() []budget.Status
	// Reset starts all counters anew, in every replica.
	Reset(ctx context.Context) error
}
