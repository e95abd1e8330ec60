package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

const (
	// defaultOutput is reserved, and set as the output limit under a hard
	// budget, where neither client nor configuration name one. In tokens.
	defaultOutput = 4096
	// leastOutput is the smallest output limit a request is fitted to.
	leastOutput = 16
	// fitTries bounds the reservations tried for one request while others
	// change what remains.
	fitTries = 4
)

// purse is the money of one request: what is reserved, and what its attempts
// have cost so far. Used by one goroutine.
type purse struct {
	request *translate.Request
	limits  []budget.Limit
	hard    bool // the ceiling is exact: output limits are written into requests
	ceiling budget.Nanodollars
	hasCeil bool  // X-Router-Max-Cost-USD was sent
	output  int64 // fitted output limit in tokens; 0 when none
	hour    bool  // the request may write to a cache that lasts an hour
	extras  extras

	reservation *budget.Reservation // nil when no budget applies
	held        budget.Nanodollars
	spent       budget.Nanodollars // by the attempts so far
	settled     bool
	lease       *lease
}

// limitsOf lists the budgets that apply to an account.
func (s *setup) limitsOf(a account) []budget.Limit {
	limits := make([]budget.Limit, 0, len(s.Budgets)+2)
	daily := -1 // the user's daily budget among limits
	var user *Budget
	for i, b := range s.Budgets {
		l := budget.Limit{Scope: b.Scope, Amount: b.Amount, Window: b.Window, Hard: b.Hard}
		switch b.Scope {
		case budget.ScopeUser:
			l.Subject = a.user
			if user = &s.Budgets[i]; b.Window.Daily() {
				daily = len(limits)
			}
		case budget.ScopeKey:
			if a.key == nil {
				continue
			}
			l.Subject = a.key.Name
		}
		limits = append(limits, l)
	}
	if a.hasBudget {
		limits = withHeaderBudget(limits, daily, a, user)
	}
	if a.key != nil && a.key.HasBudget {
		limits = append(limits, budget.Limit{Scope: budget.ScopeKey, Subject: a.key.Name, Amount: a.key.Budget, Hard: true})
	}
	return limits
}

// withHeaderBudget puts the user's own daily budget in the place of the
// configured one. With an API key, or by the body's word where that is not
// believed in full, it can only be narrower than that.
func withHeaderBudget(limits []budget.Limit, daily int, a account, user *Budget) []budget.Limit {
	if daily >= 0 {
		if l := &limits[daily]; a.key == nil && !a.narrows || a.budget < l.Amount {
			l.Amount = a.budget
		}
		return limits
	}
	l := budget.Limit{Scope: budget.ScopeUser, Subject: a.user, Amount: a.budget}
	if user != nil {
		l.Hard = user.Hard
	}
	return append(limits, l)
}

// outputLimit is how many tokens one choice of the answer may have at d.
func (p *purse) outputLimit(d *deployment) int64 {
	limit := p.request.MaxTokens
	switch {
	case limit == 0 && d.maxOutput > 0:
		limit = d.maxOutput
	case limit == 0:
		limit = defaultOutput
	case d.maxOutput > 0:
		limit = min(limit, d.maxOutput)
	}
	if p.output > 0 {
		limit = min(limit, p.output)
	}
	return limit
}

// worst is the most that an attempt at d can cost with output tokens a choice.
func (p *purse) worst(d *deployment, output int64) budget.Nanodollars {
	return p.priceWithSearches(d).WorstCase(p.input(d), output*max(1, p.request.N))
}

// price is what d can charge for the request, at the dearest tier it can be
// served at.
func (p *purse) price(d *deployment) budget.Price {
	price := d.Price
	if tier := p.extras.tier(d); tier != "" {
		price = price.UpTo(tier) // a provider may fall back to the standard tier
	}
	if p.request.Audio == 0 && !p.extras.speaks(d) {
		price = price.WithoutAudio()
	}
	if p.hour || d.hour {
		return price
	}
	return price.WithoutHour()
}

// priceWithSearches is price, with the web searches that the request can make
// as part of what each request costs.
func (p *purse) priceWithSearches(d *deployment) budget.Price {
	price := p.price(d)
	price.PerRequest += price.PerSearch * p.extras.mostSearches(d)
	return price
}

// cost is what a reported usage of d costs. Where a cache's lifetime or the
// service tier is not reported, the one asked for counts. An upstream whose own
// word on the cost is taken needs no price where it gives it.
func (p *purse) cost(d *deployment, u *translate.Usage) budget.Nanodollars {
	if d.CostReported && u.CostKnown {
		return budget.Nanodollars(u.Cost)
	}
	t := budget.Usage{Input: u.InputTokens, Output: u.OutputTokens, CachedInput: u.CachedTokens,
		CacheWrite: u.CacheWriteTokens, CacheWriteHour: u.CacheWriteHourTokens,
		AudioInput: u.AudioInputTokens, AudioOutput: u.AudioOutputTokens, CachedAudio: u.CachedAudioTokens,
		Searches: max(u.Searches, p.extras.leastSearches(d)), Tier: u.Tier}
	if t.Tier == "" {
		t.Tier = p.extras.tier(d)
	}
	if !u.CacheTTLKnown && (p.hour || d.hour) {
		t.CacheWriteHour = t.CacheWrite
	}
	return d.Price.Cost(t)
}

// input bounds the prompt's tokens at d.
func (p *purse) input(d *deployment) int64 {
	return d.Meter.Cap(p.request.InputBytes + d.Meter.Tokens(p.request.Media))
}

// affordable is the largest output limit with which an attempt at d costs no
// more than room.
func (p *purse) affordable(d *deployment, room budget.Nanodollars) int64 {
	return p.priceWithSearches(d).AffordableOutput(p.input(d), room) / max(1, p.request.N)
}

// reserve holds the worst case of the plan's first target, fitting the plan to
// the budget where it does not fit: a cheaper tier, then a smaller output.
func (j *journey) reserve(ctx context.Context) (*purse, error) {
	s, a, d := j.now, j.account, j.decision
	p := &purse{request: j.request, extras: extrasOf(j.request), limits: j.limits, ceiling: a.maxCost, hasCeil: a.hasMaxCost, hard: a.hasMaxCost}
	for _, l := range p.limits {
		p.hard = p.hard || l.Hard
	}
	if err := p.mustBePriced(s.deployments[d.Plan[0].Deployment]); err != nil {
		return nil, err
	}
	p.hour = s.hourly && j.request.CachesForAnHour()
	if p.hasCeil && !s.fit(p, d, p.ceiling, paramMaxCost) {
		return nil, tooDear(p.ceiling)
	}
	if len(p.limits) == 0 {
		return p, nil
	}
	for try := 1; ; try++ {
		first := s.deployments[d.Plan[0].Deployment]
		amount := p.worst(first, p.outputLimit(first))
		reservation, err := s.Ledger.Reserve(ctx, budget.Hold{ID: budget.NewID(), Amount: amount, Limits: p.limits})
		if err == nil {
			p.reservation, p.held = reservation, amount
			p.lease = keep(reservation, s.Lease)
			if try == 1 {
				j.reconsider(ctx, p)
			}
			return p, nil
		}
		var exceeded *budget.ExceededError
		if !errors.As(err, &exceeded) || try == fitTries || !s.fit(p, d, p.room(exceeded), string(exceeded.Budget.Limit.Scope)+" budget") {
			return nil, err
		}
	}
}

// tooDear refuses a request whose worst case is above its own ceiling.
func tooDear(ceiling budget.Nanodollars) *refusal {
	return &refusal{Status: http.StatusPaymentRequired, Type: typeInvalid, Code: "max_cost_exceeded", Param: paramMaxCost, NoRetry: true,
		Message: "no allowed model can answer this for $" + ceiling.USD() + " (X-Router-Max-Cost-USD): raise it, or ask for less output"}
}

// room is what the budget that refused us still has, within the request's own
// ceiling.
func (p *purse) room(e *budget.ExceededError) budget.Nanodollars {
	if p.hasCeil {
		return min(p.ceiling, e.Budget.Remaining())
	}
	return e.Budget.Remaining()
}

// fit changes the plan so that its first target costs no more than room: the
// first target that does as it is, else the cheapest with a smaller output. A
// forced tier is kept. It reports whether that can be done.
func (s *setup) fit(p *purse, decision *routing.Decision, room budget.Nanodollars, by string) bool {
	plan := decision.Plan
	if decision.Forced {
		plan = onlyTier(plan, decision.Tier)
	}
	cheapest, least := -1, budget.Nanodollars(0)
	for i, t := range plan {
		d := s.deployments[t.Deployment]
		if i > 0 && p.mustBePriced(d) != nil {
			continue
		}
		cost := p.worst(d, p.outputLimit(d))
		if cost <= room {
			s.moveTo(decision, plan, i, by)
			return true
		}
		if cheapest < 0 || cost < least {
			cheapest, least = i, cost
		}
	}
	d := s.deployments[plan[cheapest].Deployment]
	output := min(p.affordable(d, room), p.outputLimit(d))
	if output < leastOutput {
		return false
	}
	p.output = output
	s.moveTo(decision, plan, cheapest, by)
	explainFit(decision, fmt.Sprintf("output limited to %d tokens", output))
	return true
}

func onlyTier(plan []routing.Target, tier string) []routing.Target {
	n := 0
	for n < len(plan) && plan[n].Tier == tier {
		n++
	}
	return plan[:max(1, n)]
}

// moveTo makes the plan begin with its i-th target.
func (s *setup) moveTo(d *routing.Decision, plan []routing.Target, i int, by string) {
	first := plan[i]
	if i > 0 {
		rest := append(append([]routing.Target{first}, plan[i+1:]...), plan[:i]...)
		d.Plan = rest
	}
	if first.Tier != d.Tier {
		d.Tier = first.Tier
		explainFit(d, fmt.Sprintf("the worst case fits the %s only with %s", by, first.Tier))
		for i := range d.Plan {
			d.Plan[i].Fallback = d.Plan[i].Tier != d.Tier
		}
	}
	d.Upstream = first.Deployment
}

// explainFit says in a decision's trace and reason what was done to fit it.
func explainFit(d *routing.Decision, what string) {
	d.Strategies = append(d.Strategies, routing.Step{Name: "budget", Allowed: []string{d.Tier}, Reason: what})
	d.Reason += "; budget: " + what
}

// cover makes sure that an attempt at d is paid for, extending the reservation
// where earlier attempts have used it.
func (p *purse) cover(ctx context.Context, d *deployment) error {
	if err := p.mustBePriced(d); err != nil {
		return err
	}
	need := p.spent + p.worst(d, p.outputLimit(d))
	if p.hasCeil && need > p.ceiling {
		return &budget.ExceededError{Needed: need}
	}
	if p.reservation == nil || need <= p.held {
		return nil
	}
	if err := p.reservation.Extend(ctx, need-p.held); err != nil {
		return err
	}
	p.held = need
	return nil
}

// lease keeps a reservation alive while its request runs.
type lease struct {
	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// keep renews r every third of its lease, until end is called.
func keep(r *budget.Reservation, period time.Duration) *lease {
	l := &lease{}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer = time.AfterFunc(period/3, func() {
		ctx, cancel := context.WithTimeout(context.Background(), period/6)
		defer cancel()
		r.Renew(ctx) // a lease that cannot be renewed is charged, and corrected by Settle
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.ended {
			l.timer.Reset(period / 3)
		}
	})
	return l
}

func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	l.timer.Stop()
}

// settle charges what the attempts cost and gives the rest back. It may be
// called more than once; the client's leaving does not stop it.
func (p *purse) settle(ctx context.Context) error {
	if p.settled || p.reservation == nil {
		return nil
	}
	p.settled = true
	p.lease.end()
	return p.reservation.Settle(context.WithoutCancel(ctx), p.spent)
}
