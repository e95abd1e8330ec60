package main

import (
	"slices"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// begin puts the request among its user's, if denials of that user are judged.
func (q *request) begin(r *replica) {
	q.user.mu.Lock()
	defer q.user.mu.Unlock()
	q.began, q.by = time.Now(), r
	if !q.user.isRich() {
		q.user.past = append(q.user.past, q)
		q.user.served[r] = true
	}
}

func (q *request) end(answered bool) {
	q.user.mu.Lock()
	defer q.user.mu.Unlock()
	q.ended, q.answered = time.Now(), answered
}

// disturbances are the times at which Redis was lost to some replica.
type disturbances struct {
	mu    sync.Mutex
	spans []span
}

func (d *disturbances) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans = append(d.spans, span{from: time.Now()})
}

func (d *disturbances) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spans[len(d.spans)-1].to = time.Now()
}

const (
	// A settlement reaches Redis within this time of its answer...
	settlesIn = time.Second
	// ... or of the end of what kept it from Redis.
	recoversIn = 3 * time.Second
)

// settledBy is the time at which what was settled at t has reached Redis.
func (d *disturbances) settledBy(t time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	by := t.Add(settlesIn)
	first := len(d.spans)
	for first > 0 && (d.spans[first-1].to.IsZero() || d.spans[first-1].to.Add(recoversIn).After(t)) {
		first--
	}
	for _, s := range d.spans[first:] {
		if s.to.IsZero() && s.from.Before(by) {
			return time.Now().Add(time.Hour) // not yet over
		}
		if end := s.to.Add(recoversIn); s.from.Before(by) && end.After(t) && end.After(by) {
			by = end
		}
	}
	return by
}

func (d *disturbances) any(from, to time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.ContainsFunc(d.spans, func(s span) bool {
		return s.from.Before(to) && (s.to.IsZero() || s.to.Add(recoversIn).After(from))
	})
}

// judgeDenial decides whether a request was denied although its budget had
// room, counting the room as low as it can have been: everything that may have
// been held at its worst case, and as spent only what surely was settled.
// Requests of users who cannot use up their budget are never denied rightly.
func (s *stage) judgeDenial(q *request) {
	u := q.user
	if u.isRich() {
		s.tally.falseDeny.Add(1)
		return
	}
	if s.plan.onLoss == "bounded" && s.disturbed.any(q.began, time.Now()) {
		return // slices of replicas that cannot be reached may stand in the way
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	q.denied = true
	taken := s.deadSlices(u)
	kept := u.past[:0]
	for _, p := range u.past {
		if p.denied {
			continue // itself too
		}
		held, final := s.mostHeld(p, q.began)
		if final {
			u.settled += held
			continue
		}
		taken += held
		kept = append(kept, p)
	}
	clear(u.past[len(kept):])
	u.past = kept
	if taken += u.settled; taken+q.worstCase() <= u.limit {
		s.tally.falseDeny.Add(1)
	}
}

// mostHeld bounds what a request has taken of its user's budget at any time
// since then, and says whether that will not change any more.
func (s *stage) mostHeld(p *request, then time.Time) (held budget.Nanodollars, final bool) {
	held = budget.Nanodollars(p.held.Load())
	if !p.answered || held == 0 {
		held = max(held, p.worstCase())
	}
	if p.ended.IsZero() {
		return held, false
	}
	by := s.disturbed.settledBy(p.ended)
	if final = by.Before(then); final && !p.by.diedIn(p.began, by) {
		held = budget.Nanodollars(p.charged.Load())
	}
	return held, final
}

// deadSlices bounds what replicas had set aside of a budget when they died:
// until the lease runs out it is held, and then charged.
func (s *stage) deadSlices(u *user) (sum budget.Nanodollars) {
	if s.plan.onLoss != "bounded" {
		return 0
	}
	most := max(u.limit/50, 2*models["c"].price.WorstCase(1000, mostOutput))
	for r := range u.served {
		r.mu.Lock()
		sum += most * budget.Nanodollars(len(r.downs))
		r.mu.Unlock()
	}
	return sum
}
