// Package ledgertest is the contract of a ledger, as tests that each of them runs.
package ledgertest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// Ledger is what both ledgers promise.
type Ledger interface {
	Reserve(context.Context, budget.Hold) (*budget.Reservation, error)
	Status(context.Context, []budget.Limit) ([]budget.Status, error)
	Known() []budget.Status
	Reset(context.Context) error
	Close(context.Context) error
}

// Stage is a ledger under test: two replicas that share their money (the same
// one twice where there is only one process), and a hand on the clock.
type Stage struct {
	A, B Ledger
	// Flush returns when all that was settled is counted and seen everywhere.
	Flush func()
	// Advance moves the store's time on.
	Advance func(time.Duration)
}

// Amounts that the tests count in.
const (
	Cent   budget.Nanodollars = 1e7
	Dollar                    = 100 * Cent
)

// LeaseTime is the lease of the ledgers under test.
const LeaseTime = time.Minute

// Run is the contract of a ledger. on runs a test on a fresh, empty one.
func Run(t *testing.T, on func(t *testing.T, test func(*testing.T, Stage))) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s Stage)
	}{
		{"a reservation that fits is held in every budget", contractHolds},
		{"all budgets are held or none", contractAllOrNone},
		{"a denial names the tightest budget", contractTightest},
		{"soft limits count and never deny", contractSoft},
		{"an id gets its answer again", contractSameAnswer},
		{"what is settled is there for the next request at once", contractAtOnce},
		{"settling charges exactly, once", contractSettle},
		{"extending holds more or changes nothing", contractExtend},
		{"a lease that runs out is charged, a late settle corrects it", contractLease},
		{"renewing keeps a lease", contractRenew},
		{"an amount of 0 reads and can be extended", contractRead},
		{"the limit is each admission's own", contractOwnLimit},
		{"budgets of other scopes, subjects and windows are apart", contractApart},
		{"a reset forgets what is spent, not what is held", contractReset},
		{"remaining counts the actual cost", contractRemaining},
		{"a window's reservations settle into it", contractWindow},
		{"a budget named twice is held once", contractTwice},
		{"a window read anew is the same", contractReload},
		{"a limit of 0 admits nothing", contractZero},
		{"the budgets in use are known", contractKnown},
		{"concurrent reservations never exceed a limit", contractConcurrent},
	} {
		t.Run(c.name, func(t *testing.T) { on(t, c.test) })
	}
}

// UserDay is a hard budget of a user for a day.
func UserDay(subject string, amount budget.Nanodollars) budget.Limit {
	return budget.Limit{Scope: budget.ScopeUser, Subject: subject, Amount: amount, Hard: true}
}

// GlobalDay is a hard budget of everybody for a day.
func GlobalDay(amount budget.Nanodollars) budget.Limit {
	return budget.Limit{Scope: budget.ScopeGlobal, Amount: amount, Hard: true}
}

// reserve admits or fails the test.
func Reserve(t *testing.T, l Ledger, amount budget.Nanodollars, limits ...budget.Limit) *budget.Reservation {
	t.Helper()
	r, err := l.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: amount, Limits: limits})
	if err != nil {
		t.Fatalf("Reserve(%d): %v, want it admitted", amount, err)
	}
	return r
}

// refuse wants a denial.
func Refuse(t *testing.T, l Ledger, amount budget.Nanodollars, limits ...budget.Limit) *budget.ExceededError {
	t.Helper()
	_, err := l.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: amount, Limits: limits})
	var exceeded *budget.ExceededError
	if !errors.As(err, &exceeded) {
		t.Fatalf("Reserve(%d) = %v, want an ExceededError", amount, err)
	}
	return exceeded
}

// Settle charges or fails the test.
func Settle(t *testing.T, r *budget.Reservation, actual budget.Nanodollars) {
	t.Helper()
	if err := r.Settle(t.Context(), actual); err != nil {
		t.Fatalf("Settle(%d): %v", actual, err)
	}
}

// WantCounts reads one budget through both replicas.
func WantCounts(t *testing.T, s Stage, limit budget.Limit, spent, reserved budget.Nanodollars) {
	t.Helper()
	s.Flush()
	for i, l := range []Ledger{s.A, s.B} {
		got, err := l.Status(t.Context(), []budget.Limit{limit})
		if err != nil || len(got) != 1 {
			t.Fatalf("Status at replica %d = %v, %v", i, got, err)
		}
		if got[0].Spent != spent || got[0].Reserved != reserved {
			t.Fatalf("replica %d: spent %d, reserved %d; want %d, %d", i, got[0].Spent, got[0].Reserved, spent, reserved)
		}
	}
}

func contractHolds(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(10*Dollar)
	r := Reserve(t, s.A, 30*Cent, user, all)
	if len(r.Budgets) != 2 || r.Budgets[0].Limit != user || r.Budgets[1].Limit != all {
		t.Fatalf("Budgets = %+v, want the two limits in their order", r.Budgets)
	}
	for _, b := range r.Budgets {
		if b.Reserved != 30*Cent || b.Spent != 0 || b.ResetsAt.IsZero() {
			t.Errorf("right after the reservation: %+v", b)
		}
	}
	if got := r.Amount(); got != 30*Cent {
		t.Errorf("Amount = %d, want %d", got, 30*Cent)
	}
	WantCounts(t, s, user, 0, 30*Cent)
	Reserve(t, s.B, 70*Cent, user, all)
	WantCounts(t, s, user, 0, Dollar)
	Refuse(t, s.A, 1, user, all)
}

func contractAllOrNone(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(50*Cent)
	Refuse(t, s.A, 51*Cent, user, all)
	Refuse(t, s.B, 51*Cent, all, user)
	WantCounts(t, s, user, 0, 0)
	WantCounts(t, s, all, 0, 0)
	Reserve(t, s.A, 50*Cent, user, all)
}

func contractTightest(t *testing.T, s Stage) {
	Reserve(t, s.A, 40*Cent, GlobalDay(Dollar))
	Reserve(t, s.A, 45*Cent, UserDay("ann", 50*Cent))
	err := Refuse(t, s.B, 61*Cent, GlobalDay(Dollar), UserDay("ann", 50*Cent))
	if err.Budget.Limit.Scope != budget.ScopeUser || err.Needed != 61*Cent || err.Budget.Remaining() != 5*Cent {
		t.Errorf("denied by %+v, needed %d; want the user's budget with 5 cents left", err.Budget, err.Needed)
	}
	if err.Budget.ResetsAt.IsZero() {
		t.Errorf("the denial does not say when the window ends")
	}
	err = Refuse(t, s.A, 61*Cent, GlobalDay(Dollar), budget.Limit{Scope: budget.ScopeKey, Subject: "k", Amount: Cent})
	if err.Budget.Limit.Scope != budget.ScopeGlobal {
		t.Errorf("denied by %+v; a soft limit denies nothing", err.Budget)
	}
}

func contractSoft(t *testing.T, s Stage) {
	soft := budget.Limit{Scope: budget.ScopeUser, Subject: "ann", Amount: Cent}
	r := Reserve(t, s.A, Dollar, soft)
	WantCounts(t, s, soft, 0, Dollar)
	if err := r.Extend(t.Context(), Dollar); err != nil {
		t.Errorf("Extend: %v", err)
	}
	Settle(t, r, 150*Cent)
	WantCounts(t, s, soft, 150*Cent, 0)
	if got := r.Budgets[0].Used(); got != 0 {
		t.Errorf("Used with nothing spent yet = %v, want 0", got)
	}
}

func contractSameAnswer(t *testing.T, s Stage) {
	limit := UserDay("ann", Dollar)
	h := budget.Hold{ID: budget.NewID(), Amount: 60 * Cent, Limits: []budget.Limit{limit}}
	first, err := s.A.Reserve(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.A.Reserve(t.Context(), h); err != nil {
		t.Errorf("the same id again: %v", err)
	}
	WantCounts(t, s, limit, 0, 60*Cent)

	denied := budget.Hold{ID: budget.NewID(), Amount: 60 * Cent, Limits: []budget.Limit{limit}}
	if _, err := s.A.Reserve(t.Context(), denied); err == nil {
		t.Fatal("120 cents of a Dollar were admitted")
	}
	Settle(t, first, 10*Cent)
	s.Flush()
	var exceeded *budget.ExceededError
	if _, err := s.A.Reserve(t.Context(), denied); !errors.As(err, &exceeded) {
		t.Errorf("a denied id again, now with room: %v, want the denial", err)
	}
	if _, err := s.A.Reserve(t.Context(), h); err != nil && !errors.As(err, &exceeded) {
		t.Errorf("a settled id again: %v", err)
	}
	WantCounts(t, s, limit, 10*Cent, 0)
}

func contractAtOnce(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(Dollar)
	for range 30 {
		Settle(t, Reserve(t, s.A, Dollar, user, all), 0)
	}
	Settle(t, Reserve(t, s.A, Dollar, user, all), Cent)
	Refuse(t, s.A, Dollar, user, all)
	Settle(t, Reserve(t, s.A, 99*Cent, user, all), 99*Cent)
}

func contractSettle(t *testing.T, s Stage) {
	limit := UserDay("ann", Dollar)
	r := Reserve(t, s.A, 60*Cent, limit)
	Settle(t, r, 12_345_678)
	Settle(t, r, 99)
	WantCounts(t, s, limit, 12_345_678, 0)
	if got := r.Amount(); got != 0 {
		t.Errorf("Amount after Settle = %d", got)
	}
	over := Reserve(t, s.B, 10*Cent, limit)
	Settle(t, over, 2*Dollar)
	WantCounts(t, s, limit, 12_345_678+2*Dollar, 0)
	Refuse(t, s.A, 1, limit)
	nothing := Reserve(t, s.A, Cent, GlobalDay(Dollar))
	Settle(t, nothing, 0)
	WantCounts(t, s, GlobalDay(Dollar), 0, 0)
}

func contractExtend(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(3*Dollar)
	r := Reserve(t, s.A, 40*Cent, user, all)
	if err := r.Extend(t.Context(), 50*Cent); err != nil {
		t.Fatalf("Extend: %v", err)
	}
	var exceeded *budget.ExceededError
	if err := r.Extend(t.Context(), 11*Cent); !errors.As(err, &exceeded) || exceeded.Needed != 11*Cent {
		t.Fatalf("Extend beyond the limit = %v, want an ExceededError for 11 cents", err)
	}
	if got := r.Amount(); got != 90*Cent {
		t.Errorf("Amount = %d, want %d", got, 90*Cent)
	}
	WantCounts(t, s, user, 0, 90*Cent)
	WantCounts(t, s, all, 0, 90*Cent)
	if err := r.Extend(t.Context(), 10*Cent); err != nil {
		t.Errorf("Extend to the limit: %v", err)
	}
	Settle(t, r, 95*Cent)
	WantCounts(t, s, user, 95*Cent, 0)
	WantCounts(t, s, all, 95*Cent, 0)
}

func contractLease(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(10*Dollar)
	r := Reserve(t, s.A, 60*Cent, user, all)
	s.Advance(LeaseTime + time.Second)
	Refuse(t, s.B, 41*Cent, user)
	Reserve(t, s.B, 40*Cent, user)
	WantCounts(t, s, user, 60*Cent, 40*Cent)
	Settle(t, r, 20*Cent)
	WantCounts(t, s, user, 20*Cent, 40*Cent)
	Settle(t, r, 20*Cent)
	WantCounts(t, s, user, 20*Cent, 40*Cent)
	WantCounts(t, s, all, 20*Cent, 0)
}

func contractRenew(t *testing.T, s Stage) {
	limit := UserDay("ann", Dollar)
	r := Reserve(t, s.A, 60*Cent, limit)
	for range 4 {
		s.Advance(LeaseTime / 2)
		if err := r.Renew(t.Context()); err != nil {
			t.Fatalf("Renew: %v", err)
		}
		s.Flush()
	}
	WantCounts(t, s, limit, 0, 60*Cent)
	s.Advance(LeaseTime + time.Second)
	WantCounts(t, s, limit, 60*Cent, 0)
	if err := r.Extend(t.Context(), 10*Cent); err != nil {
		t.Errorf("Extend of a lease that ran out: %v", err)
	}
	Settle(t, r, 65*Cent)
	WantCounts(t, s, limit, 65*Cent, 0)
}

func contractRead(t *testing.T, s Stage) {
	limit := UserDay("ann", Dollar)
	Reserve(t, s.A, Dollar, limit)
	r := Reserve(t, s.A, 0, limit)
	if len(r.Budgets) != 1 || r.Budgets[0].Reserved != Dollar {
		t.Errorf("Budgets = %+v, want a Dollar reserved", r.Budgets)
	}
	var exceeded *budget.ExceededError
	if err := r.Extend(t.Context(), 1); !errors.As(err, &exceeded) {
		t.Errorf("Extend of a read = %v, want an ExceededError", err)
	}
	Settle(t, r, 0)

	full := UserDay("cid", Dollar)
	r = Reserve(t, s.A, 0, full)
	if err := r.Extend(t.Context(), 2*Dollar); !errors.As(err, &exceeded) {
		t.Errorf("Extend of a read by too much = %v, want an ExceededError", err)
	}
	if err := r.Extend(t.Context(), 20*Cent); err != nil {
		t.Errorf("Extend by what fits, after a denial: %v", err)
	}
	Settle(t, r, 10*Cent)
	WantCounts(t, s, full, 10*Cent, 0)

	free := UserDay("bob", Dollar)
	r = Reserve(t, s.A, 0, free)
	if err := r.Extend(t.Context(), 30*Cent); err != nil {
		t.Fatalf("Extend: %v", err)
	}
	WantCounts(t, s, free, 0, 30*Cent)
	Settle(t, r, 20*Cent)
	WantCounts(t, s, free, 20*Cent, 0)
	r = Reserve(t, s.B, 0, free)
	Settle(t, r, Cent)
	WantCounts(t, s, free, 21*Cent, 0)
}

func contractOwnLimit(t *testing.T, s Stage) {
	Reserve(t, s.A, 50*Cent, UserDay("ann", Dollar))
	Refuse(t, s.B, 1, UserDay("ann", 40*Cent))
	Reserve(t, s.B, Dollar, UserDay("ann", 150*Cent))
	Refuse(t, s.A, 1, UserDay("ann", Dollar))
}

func contractApart(t *testing.T, s Stage) {
	month, err := budget.ParseWindow("month", nil)
	if err != nil {
		t.Fatal(err)
	}
	subjects := []string{"ann", "Ann", "ann ", "a", "nn", "{ann}", "ann:", "ann\n", "\x00ann", "é", "e\u0301", strings.Repeat("x", 300), ""}
	for _, subject := range subjects {
		for _, scope := range []budget.Scope{budget.ScopeUser, budget.ScopeKey} {
			for _, window := range []budget.Window{{}, month} {
				limit := budget.Limit{Scope: scope, Subject: subject, Window: window, Amount: Cent, Hard: true}
				Reserve(t, s.A, Cent, limit)
				Refuse(t, s.B, 1, limit)
			}
		}
	}
}

func contractReset(t *testing.T, s Stage) {
	limit := UserDay("ann", Dollar)
	Settle(t, Reserve(t, s.A, 50*Cent, limit), 50*Cent)
	open := Reserve(t, s.B, 30*Cent, limit)
	dead := Reserve(t, s.A, 20*Cent, limit)
	s.Advance(LeaseTime - time.Second)
	if err := open.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Flush()
	s.Advance(2 * time.Second)
	WantCounts(t, s, limit, 70*Cent, 30*Cent)
	if err := s.A.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	WantCounts(t, s, limit, 0, 30*Cent)
	Refuse(t, s.A, 71*Cent, limit)
	Settle(t, open, 25*Cent)
	WantCounts(t, s, limit, 25*Cent, 0)
	Settle(t, dead, 5*Cent)
	WantCounts(t, s, limit, 30*Cent, 0)
}

func contractRemaining(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(10*Dollar)
	Settle(t, Reserve(t, s.A, 10*Cent, user, all), 5*Cent)
	s.Flush()
	r := Reserve(t, s.A, 50*Cent, all, user)
	for _, when := range []string{"before", "after"} {
		if got, ok := r.Remaining(3 * Cent); !ok || got != 92*Cent {
			t.Errorf("Remaining %s settling = %d, %v; want 92 cents", when, got, ok)
		}
		Settle(t, r, 3*Cent)
	}
	r = Reserve(t, s.A, 0, user)
	if got, ok := r.Remaining(2 * Dollar); !ok || got != 0 {
		t.Errorf("Remaining of a cost above the limit = %d, %v; want 0", got, ok)
	}
	r = Reserve(t, s.A, Cent)
	if _, ok := r.Remaining(0); ok {
		t.Errorf("Remaining without budgets is ok")
	}
	Settle(t, r, Cent)
}

func contractWindow(t *testing.T, s Stage) {
	hour, err := budget.ParseWindow("hour", nil)
	if err != nil {
		t.Fatal(err)
	}
	limit := budget.Limit{Scope: budget.ScopeUser, Subject: "ann", Window: hour, Amount: Dollar, Hard: true}
	r := Reserve(t, s.A, Dollar, limit)
	s.Advance(time.Hour)
	WantCounts(t, s, limit, 0, 0)
	next := Reserve(t, s.B, 60*Cent, limit)
	if !next.Budgets[0].ResetsAt.Equal(r.Budgets[0].ResetsAt.Add(time.Hour)) {
		t.Errorf("the next window ends at %v, the last one at %v", next.Budgets[0].ResetsAt, r.Budgets[0].ResetsAt)
	}
	Settle(t, r, Dollar)
	WantCounts(t, s, limit, 0, 60*Cent)
	Settle(t, next, 60*Cent)
	WantCounts(t, s, limit, 60*Cent, 0)
}

func contractTwice(t *testing.T, s Stage) {
	r := Reserve(t, s.A, 30*Cent, UserDay("ann", Dollar), UserDay("ann", 40*Cent))
	WantCounts(t, s, UserDay("ann", Dollar), 0, 30*Cent)
	if len(r.Budgets) != 2 || r.Budgets[0].Reserved != 30*Cent || r.Budgets[1].Reserved != 30*Cent {
		t.Errorf("Budgets = %+v", r.Budgets)
	}
	Refuse(t, s.A, 11*Cent, UserDay("ann", Dollar), UserDay("ann", 40*Cent))
	Refuse(t, s.A, 11*Cent, UserDay("ann", 40*Cent), UserDay("ann", Dollar))
	Settle(t, r, Cent)
	WantCounts(t, s, UserDay("ann", Dollar), Cent, 0)
}

func contractReload(t *testing.T, s Stage) {
	limit := func() budget.Limit {
		berlin, err := time.LoadLocation("Europe/Berlin") // another pointer each time
		if err != nil {
			t.Fatal(err)
		}
		day, err := budget.ParseWindow("day", berlin)
		if err != nil {
			t.Fatal(err)
		}
		return budget.Limit{Scope: budget.ScopeUser, Subject: "ann", Window: day, Amount: Dollar, Hard: true}
	}
	Settle(t, Reserve(t, s.A, Dollar, limit()), Dollar)
	WantCounts(t, s, limit(), Dollar, 0)
	Refuse(t, s.A, 1, limit())
	WantCounts(t, s, UserDay("ann", Dollar), 0, 0) // a day in UTC is another
}

func contractZero(t *testing.T, s Stage) {
	err := Refuse(t, s.A, 1, UserDay("ann", 0))
	if err.Budget.Used() != 1 || err.Budget.Remaining() != 0 {
		t.Errorf("a limit of 0 is used by %v, %d remain", err.Budget.Used(), err.Budget.Remaining())
	}
	Reserve(t, s.A, 0, UserDay("ann", 0))
}

func contractKnown(t *testing.T, s Stage) {
	Settle(t, Reserve(t, s.A, 10*Cent, UserDay("ann", Dollar), GlobalDay(5*Dollar)), 4*Cent)
	s.Flush()
	Reserve(t, s.A, Cent, UserDay("ann", Dollar), GlobalDay(5*Dollar))
	got := map[budget.Scope]budget.Status{}
	for _, status := range s.A.Known() {
		got[status.Limit.Scope] = status
	}
	for _, limit := range []budget.Limit{UserDay("ann", Dollar), GlobalDay(5 * Dollar)} {
		if k := got[limit.Scope]; k.Limit != limit || k.Spent != 4*Cent || k.Reserved != Cent {
			t.Errorf("known of %s: %+v", limit.Scope, k)
		}
	}
}

func contractConcurrent(t *testing.T, s Stage) {
	user, all := UserDay("ann", Dollar), GlobalDay(Dollar)
	var admitted, denied atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		replica, limits := s.A, []budget.Limit{user, all}
		if i%2 == 1 {
			replica, limits = s.B, []budget.Limit{all, user}
		}
		wg.Go(func() {
			for range 4 {
				r, err := replica.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 2 * Cent, Limits: limits})
				var exceeded *budget.ExceededError
				switch {
				case err == nil:
					admitted.Add(1)
					err = r.Settle(t.Context(), 2*Cent)
				case errors.As(err, &exceeded):
					denied.Add(1)
					err = nil
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if admitted.Load() != 50 || denied.Load() != 206 {
		t.Errorf("admitted %d, denied %d; want 50, 206", admitted.Load(), denied.Load())
	}
	WantCounts(t, s, user, Dollar, 0)
	WantCounts(t, s, all, Dollar, 0)
}
