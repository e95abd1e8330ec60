// Package budget keeps the money: prices, limits, and a ledger in which every
// request is reserved at its worst case before it is sent and settled once
// with what it cost. It knows nothing of HTTP, models' dialects or tiers.
package budget

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
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

// named says whether the configuration names the scope's subjects, and not the
// traffic.
func (s Scope) named() bool { return s == ScopeGlobal || s == ScopeKey }

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
	Allotted Nanodollars // set aside by replicas beside Reserved; it comes back when a request needs it
	ResetsAt time.Time   // the window's end
}

// Room is limit − spent − reserved, under 0 where more is used than allowed.
func (s Status) Room() Nanodollars { return s.Limit.Amount - s.Spent - s.Reserved }

// Remaining is Room, not under 0.
func (s Status) Remaining() Nanodollars { return max(0, s.Room()) }

// Used is the fraction of the limit that is spent, 1 for a limit of 0.
// Reservations do not count: they are worst cases, most of which comes back.
func (s Status) Used() float64 {
	if s.Limit.Amount <= 0 {
		return 1
	}
	return float64(s.Spent) / float64(s.Limit.Amount)
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

// FullError is a reservation of a user who is new to a ledger that counts as many
// as it may, and has spent nothing that a window still remembers.
type FullError struct{ MaxUsers int }

func (e *FullError) Error() string {
	return fmt.Sprintf("the budgets of %d users are counted already", e.MaxUsers)
}

// Reservation is an admitted Hold. Settle takes effect once, however often it
// is called; nothing does after it. Safe for concurrent use.
type Reservation struct {
	ID string
	// Budgets are the limits as they stood right after the reservation, in
	// the order of the Hold. They are not updated later.
	Budgets []Status
	// Unenforced says that the store was lost and that nothing but the policy
	// let the request in: it is charged, but no limit was checked.
	Unenforced bool

	lease Lease
}

// Lease is a ledger's side of a reservation. Its methods are those of
// Reservation, for one that has budgets.
type Lease interface {
	Extend(ctx context.Context, extra Nanodollars) error
	Renew(ctx context.Context) error
	Settle(ctx context.Context, actual Nanodollars) error
	Amount() Nanodollars
	// Remaining may be under 0.
	Remaining(actual Nanodollars) Nanodollars
}

// StoreStats is how a ledger fares with the store that it shares with others.
// All but Up, Unsent and OldestUnsent count from the start of the process.
type StoreStats struct {
	Up              bool
	Unenforced      int64         // requests let in without a check
	UnenforcedSpent Nanodollars   // what they cost
	Allotted        int64         // requests admitted against an allotment
	Refused         int64         // requests refused because the store was lost
	Failures        int64         // round trips that failed
	Opened          int64         // times the breaker opened
	Corrupt         int64         // replies that could not be read
	Recovered       int64         // times this process brought back lost data
	Late            int64         // settlements too late to know whether they had counted
	Lost            int64         // settlements dropped: too many waited, or unreadable counts
	Unsent          int           // settlements that wait
	OldestUnsent    time.Duration // how long the oldest has waited
}

// NewReservation is for ledgers: what they hand out for an admitted Hold.
func NewReservation(id string, l Lease) Reservation { return Reservation{ID: id, lease: l} }

// Amount is what is held now: the Hold's amount and all extensions. 0 once
// settled.
func (r *Reservation) Amount() Nanodollars {
	if r.lease == nil {
		return 0
	}
	return r.lease.Amount()
}

// Extend holds extra on top, before a further attempt is made. It is denied
// as Reserve is; what is held already stays held then.
func (r *Reservation) Extend(ctx context.Context, extra Nanodollars) error {
	if r.lease == nil {
		return nil
	}
	return r.lease.Extend(ctx, Clamp(extra))
}

// Renew begins the lease anew. A request that may outlive the lease renews
// every third of it. A lease that ran out has been charged in full; Settle
// corrects that, so a failed Renew needs no answer.
func (r *Reservation) Renew(ctx context.Context) error {
	if r.lease == nil {
		return nil
	}
	return r.lease.Renew(ctx)
}

// Settle ends the reservation: what is held is given back, actual is charged,
// also when it is more than was held. The charge is not lost when the store is
// away: it is kept and sent later.
func (r *Reservation) Settle(ctx context.Context, actual Nanodollars) error {
	if r.lease == nil {
		return nil
	}
	return r.lease.Settle(ctx, Clamp(actual))
}

// Remaining is what is left of the tightest of the request's budgets as this
// process knows it now, without asking the store: the least of limit − spent −
// reserved, not under 0, with actual counted in place of what this reservation
// holds. It says the same before and after Settle(actual). ok is false when the
// request has no budgets.
func (r *Reservation) Remaining(actual Nanodollars) (left Nanodollars, ok bool) {
	if len(r.Budgets) == 0 {
		return 0, false
	}
	if r.lease == nil {
		left = r.Budgets[0].Remaining()
		for _, b := range r.Budgets[1:] {
			left = min(left, b.Remaining())
		}
		return left, true
	}
	return max(0, r.lease.Remaining(Clamp(actual))), true
}

// NewID is a fresh id for a Hold: 128 random bits that nobody can guess.
func NewID() string {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// DefaultLease is how long a reservation lives without being renewed.
const DefaultLease = time.Minute

// Clamp keeps an amount within what the ledgers count exactly.
func Clamp(n Nanodollars) Nanodollars { return min(max(n, 0), MaxLimit) }
