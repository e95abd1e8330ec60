// Package budget keeps the money: prices, limits, and a ledger in which every
// request is reserved at its worst case before it is sent and settled once
// with what it cost. It knows nothing of HTTP, models' dialects or tiers.
package budget

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Nanodollars is an amount of money in units of 1e-9 US dollars. Costs round
// up, limits round down.
type Nanodollars int64

// MaxLimit is the least limit that is refused: above 2^53 nano-dollars the
// doubles of Redis' Lua no longer compare exactly.
const MaxLimit Nanodollars = 9_000_000 * 1e9

// Scope says whose budget a limit is.
type Scope string

// Scopes of a budget.
const (
	ScopeGlobal Scope = "global"
	ScopeUser   Scope = "user"
	ScopeKey    Scope = "key"
)

// Limit is one budget that applies to a request. Two limits with equal Scope,
// Subject and Window (and zone) count in the same bucket, whatever their Amount.
type Limit struct {
	Scope   Scope
	Subject string // the user's or key's name; "" for global
	Amount  Nanodollars
	Window  Window
	// Hard limits are never exceeded by spent + reserved: Reserve is denied.
	// Others only count.
	Hard bool
}

// Status is a budget as the ledger last saw it.
type Status struct {
	Limit    Limit
	Spent    Nanodollars
	Reserved Nanodollars
	ResetsAt time.Time // the window's end
}

// Remaining is limit − spent − reserved, not under 0.
func (s Status) Remaining() Nanodollars {
	return max(0, s.Limit.Amount-s.Spent-s.Reserved)
}

// Used is the fraction of the limit that is spent or reserved, 1 for a limit
// of 0.
func (s Status) Used() float64 {
	if s.Limit.Amount <= 0 {
		return 1
	}
	return float64(s.Spent+s.Reserved) / float64(s.Limit.Amount)
}

// Hold asks for a reservation.
type Hold struct {
	// ID makes the call idempotent: the same id gets the same answer, also a
	// denial. Made by NewID, never by a client.
	ID     string
	Amount Nanodollars // the worst case
	Limits []Limit     // all are reserved, or none
}

// ExceededError is a denied reservation: a hard budget has no room.
type ExceededError struct {
	Budget Status      // the budget with the least room
	Needed Nanodollars // what was asked for
}

func (e *ExceededError) Error() string {
	return fmt.Sprintf("budget of %s %q exceeded: %d of %d nano-dollars remain, %d needed",
		e.Budget.Limit.Scope, e.Budget.Limit.Subject, e.Budget.Remaining(), e.Budget.Limit.Amount, e.Needed)
}

// ErrUnavailable says that the ledger's store cannot be reached and the
// budget's policy forbids going on without it.
var ErrUnavailable = errors.New("budget store unavailable")

// Reservation is an admitted Hold. Extend, Renew and Settle may be repeated;
// each takes effect once. Safe for concurrent use.
type Reservation struct {
	ID string
	// Budgets are the limits as they stood right after the reservation, in
	// the order of the Hold.
	Budgets []Status
	// Unenforced says that the store was lost and the policy is open.
	Unenforced bool

	book   book
	limits []Limit
}

// book is the ledger's side of a reservation.
type book interface {
	extend(ctx context.Context, r *Reservation, id string, extra Nanodollars) error
	renew(ctx context.Context, r *Reservation) error
	settle(ctx context.Context, r *Reservation, actual Nanodollars) error
}
