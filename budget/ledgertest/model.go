package ledgertest

import (
	"errors"
	"time"

	"github.com/inference-router/inference-router/budget"

	"pgregory.net/rapid"
)

// model is a ledger so plain that it is seen to be right: it keeps every
// reservation and counts anew each time.
type model struct {
	now  time.Duration
	held map[string]*modelHold
}

// modelHold is one reservation of the model.
type modelHold struct {
	limits  []budget.Limit
	amount  budget.Nanodollars
	ends    time.Duration
	settled bool
	actual  budget.Nanodollars
	// forgiven says that a reset came after the charge.
	forgiven bool
}

// expired says whether the lease ran out and the reservation is charged.
func (h *modelHold) expired(now time.Duration) bool { return !h.settled && now >= h.ends }

func (m *model) counts(limit budget.Limit) (spent, reserved budget.Nanodollars) {
	for _, h := range m.held {
		for _, l := range h.limits {
			switch {
			case l.Scope != limit.Scope || l.Subject != limit.Subject:
			case h.settled && !h.forgiven:
				spent += h.actual
			case h.settled:
			case h.expired(m.now) && !h.forgiven:
				spent += h.amount
			case h.expired(m.now):
			default:
				reserved += h.amount
			}
		}
	}
	return spent, reserved
}

func (m *model) fits(limits []budget.Limit, extra budget.Nanodollars) bool {
	for _, l := range limits {
		spent, reserved := m.counts(l)
		if l.Hard && spent+reserved+extra > l.Amount {
			return false
		}
	}
	return true
}

func (m *model) reset() {
	for _, h := range m.held {
		h.forgiven = h.forgiven || h.settled || h.expired(m.now)
	}
}

// modelMachine drives a ledger and the model with the same calls.
type modelMachine struct {
	Stage
	model
	open   []*budget.Reservation
	denied []budget.Hold
}

var modelSubjects = []string{"ann", "bob"}

func drawLimits(t *rapid.T) []budget.Limit {
	user := budget.Limit{
		Scope:   budget.ScopeUser,
		Subject: rapid.SampledFrom(modelSubjects).Draw(t, "user"),
		Amount:  budget.Nanodollars(rapid.IntRange(0, 30).Draw(t, "limit")),
		Hard:    rapid.Bool().Draw(t, "hard"),
	}
	all := budget.Limit{Scope: budget.ScopeGlobal, Amount: 50, Hard: true}
	switch rapid.IntRange(0, 2).Draw(t, "budgets") {
	case 0:
		return []budget.Limit{user}
	case 1:
		return []budget.Limit{all, user}
	}
	return []budget.Limit{all}
}

func (m *modelMachine) replica(t *rapid.T) Ledger {
	if rapid.Bool().Draw(t, "replica") {
		return m.A
	}
	return m.B
}

// pick draws one of the reservations made so far, or skips the step.
func (m *modelMachine) pick(t *rapid.T) (*budget.Reservation, *modelHold) {
	if len(m.open) == 0 {
		t.Skip("no reservation yet")
	}
	r := rapid.SampledFrom(m.open).Draw(t, "reservation")
	return r, m.held[r.ID]
}

func (m *modelMachine) reserve(t *rapid.T) {
	h := budget.Hold{ID: budget.NewID(), Amount: budget.Nanodollars(rapid.IntRange(1, 15).Draw(t, "amount")), Limits: drawLimits(t)}
	want := m.fits(h.Limits, h.Amount)
	r, err := m.replica(t).Reserve(t.Context(), h)
	wantAnswer(t, "Reserve", err, want)
	if err != nil {
		m.denied = append(m.denied, h)
		return
	}
	m.open = append(m.open, r)
	m.held[r.ID] = &modelHold{limits: h.Limits, amount: h.Amount, ends: m.now + LeaseTime}
}

func (m *modelMachine) reserveAgain(t *rapid.T) {
	r, h := m.pick(t)
	if h.settled || h.expired(m.now) {
		t.Skip("it has ended")
	}
	_, err := m.replica(t).Reserve(t.Context(), budget.Hold{ID: r.ID, Amount: 1, Limits: h.limits})
	wantAnswer(t, "Reserve again", err, true)
}

func (m *modelMachine) reserveDeniedAgain(t *rapid.T) {
	if len(m.denied) == 0 {
		t.Skip("none denied yet")
	}
	_, err := m.replica(t).Reserve(t.Context(), m.denied[len(m.denied)-1])
	wantAnswer(t, "Reserve after a denial", err, false)
}

func (m *modelMachine) extend(t *rapid.T) {
	r, h := m.pick(t)
	extra := budget.Nanodollars(rapid.IntRange(1, 10).Draw(t, "extra"))
	if h.settled || h.expired(m.now) {
		t.Skip("it has ended")
	}
	want := m.fits(h.limits, extra)
	wantAnswer(t, "Extend", r.Extend(t.Context(), extra), want)
	if want {
		h.amount += extra
		h.ends = m.now + LeaseTime
	}
}

func (m *modelMachine) settle(t *rapid.T) {
	r, h := m.pick(t)
	actual := budget.Nanodollars(rapid.IntRange(0, 25).Draw(t, "actual"))
	if err := r.Settle(t.Context(), actual); err != nil {
		t.Fatalf("Settle: %v", err)
	}
	m.Flush()
	if !h.settled {
		h.settled, h.actual = true, actual
		h.forgiven = false // an open or expired one settles into the new count
	}
}

func (m *modelMachine) renew(t *rapid.T) {
	r, h := m.pick(t)
	if h.expired(m.now) {
		t.Skip("it has run out")
	}
	if err := r.Renew(t.Context()); err != nil {
		t.Fatalf("Renew: %v", err)
	}
	m.Flush()
	h.ends = m.now + LeaseTime
}

// advance moves time on by steps that a lease is no multiple of: with real
// replicas time passes by itself as well, and their clocks differ by as much as
// replies take, so that the very moment at which a lease ends is not to be met.
func (m *modelMachine) advance(t *rapid.T) {
	const step = LeaseTime / 15 * 2
	d := time.Duration(rapid.IntRange(1, 6).Draw(t, "steps")) * step
	m.Stage.Advance(d)
	m.now += d
}

func (m *modelMachine) reset(t *rapid.T) {
	if err := m.A.Reset(t.Context()); err != nil {
		t.Fatalf("Reset: %v", err)
	}
	m.Flush()
	m.model.reset()
}

func (m *modelMachine) check(t *rapid.T) {
	limits := []budget.Limit{GlobalDay(50)}
	for _, subject := range modelSubjects {
		limits = append(limits, UserDay(subject, 30))
	}
	got, err := m.replica(t).Status(t.Context(), limits)
	if err != nil {
		t.Fatalf("Status: %v", err)
	}
	for i, limit := range limits {
		spent, reserved := m.counts(limit)
		if got[i].Spent != spent || got[i].Reserved != reserved {
			t.Fatalf("%s %q: spent %d, reserved %d; the model says %d, %d",
				limit.Scope, limit.Subject, got[i].Spent, got[i].Reserved, spent, reserved)
		}
	}
}

func wantAnswer(t *rapid.T, what string, err error, admitted bool) {
	t.Helper()
	var exceeded *budget.ExceededError
	if (err == nil) != admitted || (err != nil && !errors.As(err, &exceeded)) {
		t.Fatalf("%s: %v; the model says admitted %v", what, err, admitted)
	}
}

// RunModel makes random calls and compares.
func RunModel(t *rapid.T, s Stage) {
	m := &modelMachine{Stage: s, model: model{held: map[string]*modelHold{}}}
	t.Repeat(map[string]func(*rapid.T){
		"reserve":        m.reserve,
		"reserve again":  m.reserveAgain,
		"reserve denied": m.reserveDeniedAgain,
		"extend":         m.extend,
		"settle":         m.settle,
		"renew":          m.renew,
		"time passes":    m.advance,
		"reset":          m.reset,
		"":               m.check,
	})
}
