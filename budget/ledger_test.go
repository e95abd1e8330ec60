package budget

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// ledger is what both ledgers promise.
type ledger interface {
	Reserve(context.Context, Hold) (*Reservation, error)
	Status(context.Context, []Limit) ([]Status, error)
	Known() []Status
	Reset(context.Context) error
	Close(context.Context) error
}

// stage is a ledger under test: two replicas that share their money (the same
// one twice where there is only one process), and a hand on the clock.
type stage struct {
	a, b ledger
	// flush returns when all that was settled is counted and seen everywhere.
	flush func()
	// advance moves the store's time on.
	advance func(time.Duration)
}

const (
	cent   Nanodollars = 1e7
	dollar             = 100 * cent
)

// testLease is the lease of the ledgers under test.
const testLease = time.Minute

// testLedger is the contract of a ledger. on runs a test on a fresh, empty one.
func testLedger(t *testing.T, on func(t *testing.T, test func(*testing.T, stage))) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s stage)
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

func userDay(subject string, amount Nanodollars) Limit {
	return Limit{Scope: ScopeUser, Subject: subject, Amount: amount, Hard: true}
}

func globalDay(amount Nanodollars) Limit {
	return Limit{Scope: ScopeGlobal, Amount: amount, Hard: true}
}

// reserve admits or fails the test.
func reserve(t *testing.T, l ledger, amount Nanodollars, limits ...Limit) *Reservation {
	t.Helper()
	r, err := l.Reserve(t.Context(), Hold{ID: NewID(), Amount: amount, Limits: limits})
	if err != nil {
		t.Fatalf("Reserve(%d): %v, want it admitted", amount, err)
	}
	return r
}

// refuse wants a denial.
func refuse(t *testing.T, l ledger, amount Nanodollars, limits ...Limit) *ExceededError {
	t.Helper()
	_, err := l.Reserve(t.Context(), Hold{ID: NewID(), Amount: amount, Limits: limits})
	var exceeded *ExceededError
	if !errors.As(err, &exceeded) {
		t.Fatalf("Reserve(%d) = %v, want an ExceededError", amount, err)
	}
	return exceeded
}

func settle(t *testing.T, r *Reservation, actual Nanodollars) {
	t.Helper()
	if err := r.Settle(t.Context(), actual); err != nil {
		t.Fatalf("Settle(%d): %v", actual, err)
	}
}

// wantCounts reads one budget through both replicas.
func wantCounts(t *testing.T, s stage, limit Limit, spent, reserved Nanodollars) {
	t.Helper()
	s.flush()
	for i, l := range []ledger{s.a, s.b} {
		got, err := l.Status(t.Context(), []Limit{limit})
		if err != nil || len(got) != 1 {
			t.Fatalf("Status at replica %d = %v, %v", i, got, err)
		}
		if got[0].Spent != spent || got[0].Reserved != reserved {
			t.Fatalf("replica %d: spent %d, reserved %d; want %d, %d", i, got[0].Spent, got[0].Reserved, spent, reserved)
		}
	}
}

func contractHolds(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(10*dollar)
	r := reserve(t, s.a, 30*cent, user, all)
	if len(r.Budgets) != 2 || r.Budgets[0].Limit != user || r.Budgets[1].Limit != all {
		t.Fatalf("Budgets = %+v, want the two limits in their order", r.Budgets)
	}
	for _, b := range r.Budgets {
		if b.Reserved != 30*cent || b.Spent != 0 || b.ResetsAt.IsZero() {
			t.Errorf("right after the reservation: %+v", b)
		}
	}
	if got := r.Amount(); got != 30*cent {
		t.Errorf("Amount = %d, want %d", got, 30*cent)
	}
	wantCounts(t, s, user, 0, 30*cent)
	reserve(t, s.b, 70*cent, user, all)
	wantCounts(t, s, user, 0, dollar)
	refuse(t, s.a, 1, user, all)
}

func contractAllOrNone(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(50*cent)
	refuse(t, s.a, 51*cent, user, all)
	refuse(t, s.b, 51*cent, all, user)
	wantCounts(t, s, user, 0, 0)
	wantCounts(t, s, all, 0, 0)
	reserve(t, s.a, 50*cent, user, all)
}

func contractTightest(t *testing.T, s stage) {
	reserve(t, s.a, 40*cent, globalDay(dollar))
	reserve(t, s.a, 45*cent, userDay("ann", 50*cent))
	err := refuse(t, s.b, 61*cent, globalDay(dollar), userDay("ann", 50*cent))
	if err.Budget.Limit.Scope != ScopeUser || err.Needed != 61*cent || err.Budget.Remaining() != 5*cent {
		t.Errorf("denied by %+v, needed %d; want the user's budget with 5 cents left", err.Budget, err.Needed)
	}
	if err.Budget.ResetsAt.IsZero() {
		t.Errorf("the denial does not say when the window ends")
	}
	err = refuse(t, s.a, 61*cent, globalDay(dollar), Limit{Scope: ScopeKey, Subject: "k", Amount: cent})
	if err.Budget.Limit.Scope != ScopeGlobal {
		t.Errorf("denied by %+v; a soft limit denies nothing", err.Budget)
	}
}

func contractSoft(t *testing.T, s stage) {
	soft := Limit{Scope: ScopeUser, Subject: "ann", Amount: cent}
	r := reserve(t, s.a, dollar, soft)
	wantCounts(t, s, soft, 0, dollar)
	if err := r.Extend(t.Context(), dollar); err != nil {
		t.Errorf("Extend: %v", err)
	}
	settle(t, r, 150*cent)
	wantCounts(t, s, soft, 150*cent, 0)
	if got := r.Budgets[0].Used(); got != 0 {
		t.Errorf("Used with nothing spent yet = %v, want 0", got)
	}
}

func contractSameAnswer(t *testing.T, s stage) {
	limit := userDay("ann", dollar)
	h := Hold{ID: NewID(), Amount: 60 * cent, Limits: []Limit{limit}}
	first, err := s.a.Reserve(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.a.Reserve(t.Context(), h); err != nil {
		t.Errorf("the same id again: %v", err)
	}
	wantCounts(t, s, limit, 0, 60*cent)

	denied := Hold{ID: NewID(), Amount: 60 * cent, Limits: []Limit{limit}}
	if _, err := s.a.Reserve(t.Context(), denied); err == nil {
		t.Fatal("120 cents of a dollar were admitted")
	}
	settle(t, first, 10*cent)
	s.flush()
	var exceeded *ExceededError
	if _, err := s.a.Reserve(t.Context(), denied); !errors.As(err, &exceeded) {
		t.Errorf("a denied id again, now with room: %v, want the denial", err)
	}
	if _, err := s.a.Reserve(t.Context(), h); err != nil && !errors.As(err, &exceeded) {
		t.Errorf("a settled id again: %v", err)
	}
	wantCounts(t, s, limit, 10*cent, 0)
}

func contractAtOnce(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(dollar)
	for range 30 {
		settle(t, reserve(t, s.a, dollar, user, all), 0)
	}
	settle(t, reserve(t, s.a, dollar, user, all), cent)
	refuse(t, s.a, dollar, user, all)
	settle(t, reserve(t, s.a, 99*cent, user, all), 99*cent)
}

func contractSettle(t *testing.T, s stage) {
	limit := userDay("ann", dollar)
	r := reserve(t, s.a, 60*cent, limit)
	settle(t, r, 12_345_678)
	settle(t, r, 99)
	wantCounts(t, s, limit, 12_345_678, 0)
	if got := r.Amount(); got != 0 {
		t.Errorf("Amount after Settle = %d", got)
	}
	over := reserve(t, s.b, 10*cent, limit)
	settle(t, over, 2*dollar)
	wantCounts(t, s, limit, 12_345_678+2*dollar, 0)
	refuse(t, s.a, 1, limit)
	nothing := reserve(t, s.a, cent, globalDay(dollar))
	settle(t, nothing, 0)
	wantCounts(t, s, globalDay(dollar), 0, 0)
}

func contractExtend(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(3*dollar)
	r := reserve(t, s.a, 40*cent, user, all)
	if err := r.Extend(t.Context(), 50*cent); err != nil {
		t.Fatalf("Extend: %v", err)
	}
	var exceeded *ExceededError
	if err := r.Extend(t.Context(), 11*cent); !errors.As(err, &exceeded) || exceeded.Needed != 11*cent {
		t.Fatalf("Extend beyond the limit = %v, want an ExceededError for 11 cents", err)
	}
	if got := r.Amount(); got != 90*cent {
		t.Errorf("Amount = %d, want %d", got, 90*cent)
	}
	wantCounts(t, s, user, 0, 90*cent)
	wantCounts(t, s, all, 0, 90*cent)
	if err := r.Extend(t.Context(), 10*cent); err != nil {
		t.Errorf("Extend to the limit: %v", err)
	}
	settle(t, r, 95*cent)
	wantCounts(t, s, user, 95*cent, 0)
	wantCounts(t, s, all, 95*cent, 0)
}

func contractLease(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(10*dollar)
	r := reserve(t, s.a, 60*cent, user, all)
	s.advance(testLease + time.Second)
	refuse(t, s.b, 41*cent, user)
	reserve(t, s.b, 40*cent, user)
	wantCounts(t, s, user, 60*cent, 40*cent)
	settle(t, r, 20*cent)
	wantCounts(t, s, user, 20*cent, 40*cent)
	settle(t, r, 20*cent)
	wantCounts(t, s, user, 20*cent, 40*cent)
	wantCounts(t, s, all, 20*cent, 0)
}

func contractRenew(t *testing.T, s stage) {
	limit := userDay("ann", dollar)
	r := reserve(t, s.a, 60*cent, limit)
	for range 4 {
		s.advance(testLease / 2)
		if err := r.Renew(t.Context()); err != nil {
			t.Fatalf("Renew: %v", err)
		}
		s.flush()
	}
	wantCounts(t, s, limit, 0, 60*cent)
	s.advance(testLease + time.Second)
	wantCounts(t, s, limit, 60*cent, 0)
	if err := r.Extend(t.Context(), 10*cent); err != nil {
		t.Errorf("Extend of a lease that ran out: %v", err)
	}
	settle(t, r, 65*cent)
	wantCounts(t, s, limit, 65*cent, 0)
}

func contractRead(t *testing.T, s stage) {
	limit := userDay("ann", dollar)
	reserve(t, s.a, dollar, limit)
	r := reserve(t, s.a, 0, limit)
	if len(r.Budgets) != 1 || r.Budgets[0].Reserved != dollar {
		t.Errorf("Budgets = %+v, want a dollar reserved", r.Budgets)
	}
	var exceeded *ExceededError
	if err := r.Extend(t.Context(), 1); !errors.As(err, &exceeded) {
		t.Errorf("Extend of a read = %v, want an ExceededError", err)
	}
	settle(t, r, 0)

	full := userDay("cid", dollar)
	r = reserve(t, s.a, 0, full)
	if err := r.Extend(t.Context(), 2*dollar); !errors.As(err, &exceeded) {
		t.Errorf("Extend of a read by too much = %v, want an ExceededError", err)
	}
	if err := r.Extend(t.Context(), 20*cent); err != nil {
		t.Errorf("Extend by what fits, after a denial: %v", err)
	}
	settle(t, r, 10*cent)
	wantCounts(t, s, full, 10*cent, 0)

	free := userDay("bob", dollar)
	r = reserve(t, s.a, 0, free)
	if err := r.Extend(t.Context(), 30*cent); err != nil {
		t.Fatalf("Extend: %v", err)
	}
	wantCounts(t, s, free, 0, 30*cent)
	settle(t, r, 20*cent)
	wantCounts(t, s, free, 20*cent, 0)
	r = reserve(t, s.b, 0, free)
	settle(t, r, cent)
	wantCounts(t, s, free, 21*cent, 0)
}

func contractOwnLimit(t *testing.T, s stage) {
	reserve(t, s.a, 50*cent, userDay("ann", dollar))
	refuse(t, s.b, 1, userDay("ann", 40*cent))
	reserve(t, s.b, dollar, userDay("ann", 150*cent))
	refuse(t, s.a, 1, userDay("ann", dollar))
}

func contractApart(t *testing.T, s stage) {
	month, err := ParseWindow("month", nil)
	if err != nil {
		t.Fatal(err)
	}
	subjects := []string{"ann", "Ann", "ann ", "a", "nn", "{ann}", "ann:", "ann\n", "\x00ann", "é", "e\u0301", strings.Repeat("x", 300), ""}
	for _, subject := range subjects {
		for _, scope := range []Scope{ScopeUser, ScopeKey} {
			for _, window := range []Window{{}, month} {
				limit := Limit{Scope: scope, Subject: subject, Window: window, Amount: cent, Hard: true}
				reserve(t, s.a, cent, limit)
				refuse(t, s.b, 1, limit)
			}
		}
	}
}

func contractReset(t *testing.T, s stage) {
	limit := userDay("ann", dollar)
	settle(t, reserve(t, s.a, 50*cent, limit), 50*cent)
	open := reserve(t, s.b, 30*cent, limit)
	dead := reserve(t, s.a, 20*cent, limit)
	s.advance(testLease - time.Second)
	if err := open.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.flush()
	s.advance(2 * time.Second)
	wantCounts(t, s, limit, 70*cent, 30*cent)
	if err := s.a.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	wantCounts(t, s, limit, 0, 30*cent)
	refuse(t, s.a, 71*cent, limit)
	settle(t, open, 25*cent)
	wantCounts(t, s, limit, 25*cent, 0)
	settle(t, dead, 5*cent)
	wantCounts(t, s, limit, 30*cent, 0)
}

func contractRemaining(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(10*dollar)
	settle(t, reserve(t, s.a, 10*cent, user, all), 5*cent)
	s.flush()
	r := reserve(t, s.a, 50*cent, all, user)
	for _, when := range []string{"before", "after"} {
		if got, ok := r.Remaining(3 * cent); !ok || got != 92*cent {
			t.Errorf("Remaining %s settling = %d, %v; want 92 cents", when, got, ok)
		}
		settle(t, r, 3*cent)
	}
	r = reserve(t, s.a, 0, user)
	if got, ok := r.Remaining(2 * dollar); !ok || got != 0 {
		t.Errorf("Remaining of a cost above the limit = %d, %v; want 0", got, ok)
	}
	r = reserve(t, s.a, cent)
	if _, ok := r.Remaining(0); ok {
		t.Errorf("Remaining without budgets is ok")
	}
	settle(t, r, cent)
}

func contractWindow(t *testing.T, s stage) {
	hour, err := ParseWindow("hour", nil)
	if err != nil {
		t.Fatal(err)
	}
	limit := Limit{Scope: ScopeUser, Subject: "ann", Window: hour, Amount: dollar, Hard: true}
	r := reserve(t, s.a, dollar, limit)
	s.advance(time.Hour)
	wantCounts(t, s, limit, 0, 0)
	next := reserve(t, s.b, 60*cent, limit)
	if !next.Budgets[0].ResetsAt.Equal(r.Budgets[0].ResetsAt.Add(time.Hour)) {
		t.Errorf("the next window ends at %v, the last one at %v", next.Budgets[0].ResetsAt, r.Budgets[0].ResetsAt)
	}
	settle(t, r, dollar)
	wantCounts(t, s, limit, 0, 60*cent)
	settle(t, next, 60*cent)
	wantCounts(t, s, limit, 60*cent, 0)
}

func contractTwice(t *testing.T, s stage) {
	r := reserve(t, s.a, 30*cent, userDay("ann", dollar), userDay("ann", 40*cent))
	wantCounts(t, s, userDay("ann", dollar), 0, 30*cent)
	if len(r.Budgets) != 2 || r.Budgets[0].Reserved != 30*cent || r.Budgets[1].Reserved != 30*cent {
		t.Errorf("Budgets = %+v", r.Budgets)
	}
	refuse(t, s.a, 11*cent, userDay("ann", dollar), userDay("ann", 40*cent))
	refuse(t, s.a, 11*cent, userDay("ann", 40*cent), userDay("ann", dollar))
	settle(t, r, cent)
	wantCounts(t, s, userDay("ann", dollar), cent, 0)
}

func contractReload(t *testing.T, s stage) {
	limit := func() Limit {
		berlin, err := time.LoadLocation("Europe/Berlin") // another pointer each time
		if err != nil {
			t.Fatal(err)
		}
		day, err := ParseWindow("day", berlin)
		if err != nil {
			t.Fatal(err)
		}
		return Limit{Scope: ScopeUser, Subject: "ann", Window: day, Amount: dollar, Hard: true}
	}
	settle(t, reserve(t, s.a, dollar, limit()), dollar)
	wantCounts(t, s, limit(), dollar, 0)
	refuse(t, s.a, 1, limit())
	wantCounts(t, s, userDay("ann", dollar), 0, 0) // a day in UTC is another
}

func contractZero(t *testing.T, s stage) {
	err := refuse(t, s.a, 1, userDay("ann", 0))
	if err.Budget.Used() != 1 || err.Budget.Remaining() != 0 {
		t.Errorf("a limit of 0 is used by %v, %d remain", err.Budget.Used(), err.Budget.Remaining())
	}
	reserve(t, s.a, 0, userDay("ann", 0))
}

func contractKnown(t *testing.T, s stage) {
	settle(t, reserve(t, s.a, 10*cent, userDay("ann", dollar), globalDay(5*dollar)), 4*cent)
	s.flush()
	reserve(t, s.a, cent, userDay("ann", dollar), globalDay(5*dollar))
	got := map[Scope]Status{}
	for _, status := range s.a.Known() {
		got[status.Limit.Scope] = status
	}
	for _, limit := range []Limit{userDay("ann", dollar), globalDay(5 * dollar)} {
		if k := got[limit.Scope]; k.Limit != limit || k.Spent != 4*cent || k.Reserved != cent {
			t.Errorf("known of %s: %+v", limit.Scope, k)
		}
	}
}

func contractConcurrent(t *testing.T, s stage) {
	user, all := userDay("ann", dollar), globalDay(dollar)
	var admitted, denied atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		replica, limits := s.a, []Limit{user, all}
		if i%2 == 1 {
			replica, limits = s.b, []Limit{all, user}
		}
		wg.Go(func() {
			for range 4 {
				r, err := replica.Reserve(t.Context(), Hold{ID: NewID(), Amount: 2 * cent, Limits: limits})
				var exceeded *ExceededError
				switch {
				case err == nil:
					admitted.Add(1)
					err = r.Settle(t.Context(), 2*cent)
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
	wantCounts(t, s, user, dollar, 0)
	wantCounts(t, s, all, dollar, 0)
}

func TestIDsAreDistinct(t *testing.T) {
	seen := map[string]bool{}
	for range 10_000 {
		id := NewID()
		if seen[id] || len(id) != 22 {
			t.Fatalf("id %q: seen %v", id, seen[id])
		}
		seen[id] = true
	}
}

func ExampleStatus() {
	s := Status{Limit: Limit{Amount: 10e9}, Spent: 2e9, Reserved: 3e9}
	fmt.Println(s.Remaining(), s.Used())
	// Output: 5 0.2
}
