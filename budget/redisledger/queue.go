package redisledger

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// settlement is a change that nobody waits for: a settled reservation, a
// renewed lease, or the undoing of a reservation that may have been made.
type settlement struct {
	lease     *lease
	parts     []part
	actual    budget.Nanodollars
	held      budget.Nanodollars // that Redis is known to hold
	tombstone string             // S when settled, D when never admitted
	renew     bool
	urgent    bool // others may be refused for what it gives back
	queued    time.Time
	sent      time.Time // first sent; zero if it never was
	sentTo    string    // the data set that it was first sent to
	lost      *epoch    // under which Redis had lost the counts
	calls     []*call   // being made for it; the first is kept in one
	one       [1]*call
}

// pend counts a settlement in the views before Redis does, or (-1) no longer.
func (s *settlement) pend(sign budget.Nanodollars) {
	for _, p := range s.parts {
		for _, share := range p.shares {
			v := share.view
			v.mu.Lock()
			v.pendingSpent += sign * s.actual
			v.pendingHeld += sign * s.held
			v.mu.Unlock()
		}
	}
}

// prepare makes the calls that tell Redis, one for each part.
func (s *settlement) prepare(r *Ledger) []*call {
	calls := s.one[:0]
	e := r.current()
	certain := int64(1)
	switch {
	case s.sent.IsZero():
		s.sentTo = e.made
	case s.sentTo != e.made:
		certain = 2
	case time.Since(s.sent) > certainFor:
		certain = 0
	}
	for i := range s.parts {
		p := &s.parts[i]
		if s.renew {
			calls = append(calls, s.renewal(r, p))
			continue
		}
		calls = append(calls, s.call(r, p, e, certain))
	}
	s.calls = calls
	return calls
}

// renewal is a call of renew.lua.
func (s *settlement) renewal(r *Ledger, p *part) *call {
	c := newCall(renewScript, len(p.shares), 3)
	for i := range p.shares {
		c.text(&p.shares[i].view.leases)
	}
	r.store.clock(c)
	c.text(&s.lease.ID)
	c.int(r.config.Lease.Milliseconds())
	return c
}

// call is a call of settle.lua.
func (s *settlement) call(r *Ledger, p *part, e *epoch, certain int64) *call {
	c := p.call(r, settleScript, 7+4*len(p.shares))
	r.sayEpoch(c, e)
	r.store.clock(c)
	c.text(&s.lease.ID)
	c.int(int64(s.actual))
	c.int(e.gen)
	c.int(certain)
	c.text(&s.tombstone)
	for i := range p.shares {
		v := p.shares[i].view
		c.int(v.ends)
		if s.lost != nil && s.lost.made != e.made { // they are back
			c.text(&nothing)
		} else {
			c.text(v.madeAs())
		}
		gross, corrected := v.floors(e.gen)
		c.int(gross)
		c.int(corrected)
	}
	return c
}

// queue sends scripts to Redis. Those that somebody waits for go at once, a few
// round trips at a time; the others wait to go along with them, or for a moment.
type queue struct {
	ledger *Ledger
	linger time.Duration
	// timer is set while something is pending. That it mostly is stopped again
	// matters: to wake an idle processor costs more than a reservation does.
	timer *time.Timer

	mu      sync.Mutex
	busy    int       // round trips being made for waiters
	waiting []*waiter // for one of them to end
	pending []*settlement
	sending int // settlements in flight
	ended   bool
	changed chan struct{} // closed when some came back; nil while nobody waits for that
}

// waiter is one who waits for calls.
type waiter struct {
	calls []*call
	until time.Time // when it will have waited long enough
	ready chan struct{}
	err   error
	// When it is to make the round trip itself: for these, itself first.
	batch []*waiter
	along []*settlement
	alone [1]*waiter
}

const (
	// Settlements that go along with a reservation at most.
	alongAtOnce = 64
	// Settlements that wait at most. In an outage there are as many as requests
	// were running, more only where they are let in unenforced.
	maxPending = 200_000
)

func (q *queue) init(r *Ledger) {
	q.ledger, q.linger = r, 2*time.Millisecond
	q.timer = time.NewTimer(0)
	q.timer.Stop()
}

// do runs calls. When as many round trips are under way as may be, it waits for
// one to end and shares the next with all who wait.
func (q *queue) do(calls []*call, until time.Time) error {
	if q.ledger.store.cluster {
		return q.ledger.store.exec(deadline{context.Background(), until}, calls)
	}
	w := &waiter{calls: calls, until: until}
	q.mu.Lock()
	if q.busy >= inFlight {
		w.ready = make(chan struct{}, 1)
		q.waiting = append(q.waiting, w)
		q.mu.Unlock()
		if err := q.await(w); err != nil || w.batch == nil {
			return err
		}
	} else {
		q.busy++
		w.alone[0] = w
		w.batch, w.along = w.alone[:], q.take(alongAtOnce)
		q.mu.Unlock()
	}
	q.lead(w)
	return w.err
}

// await returns when w's calls were made by another, when it is w's turn to
// make them, or when w has waited long enough.
func (q *queue) await(w *waiter) error {
	timer := time.NewTimer(time.Until(w.until))
	defer timer.Stop()
	select {
	case <-w.ready:
		return w.err
	case <-timer.C:
	}
	q.mu.Lock()
	if i := slices.Index(q.waiting, w); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
		q.mu.Unlock()
		return errNotSent
	}
	leads := w.batch != nil
	q.mu.Unlock()
	if leads {
		return nil // the others of the batch count on it
	}
	return errLost
}

// lead makes the round trip for a batch and hands on the turn.
func (q *queue) lead(w *waiter) {
	calls, until := q.prepare(w.along, len(w.batch)), w.until
	for _, other := range w.batch {
		calls = append(calls, other.calls...)
		if other.until.After(until) {
			until = other.until // whoever has waited for long does not fail the others
		}
	}
	sent := q.ledger.store.breaker.allows()
	if sent {
		_ = q.ledger.store.exec(deadline{context.Background(), until}, calls) // each call has its own
	}
	q.finish(w.along, sent)
	for _, other := range w.batch {
		other.err = lost(other.calls)
		if !sent {
			other.err = errNotSent
		}
	}
	for _, other := range w.batch[1:] {
		other.ready <- struct{}{}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		q.busy--
		return
	}
	next := q.waiting[0]
	next.batch, next.along = q.waiting, q.take(alongAtOnce)
	q.waiting = nil
	next.ready <- struct{}{}
}

// add puts a settlement into the queue.
func (q *queue) add(s *settlement) error {
	s.queued = time.Now()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		if !s.renew {
			q.ledger.store.count.lost.Add(1)
		}
		return fmt.Errorf("settle: %w", errClosed)
	}
	if len(q.pending) >= maxPending {
		q.ledger.store.count.lost.Add(1)
		return fmt.Errorf("settle: %w: %d settlements wait already", budget.ErrUnavailable, maxPending)
	}
	q.pending = append(q.pending, s)
	switch {
	case s.urgent:
		q.timer.Reset(0)
	case len(q.pending) == 1:
		q.timer.Reset(q.linger)
	}
	return nil
}

// take removes some settlements from the queue, to be sent. q is locked.
func (q *queue) take(most int) []*settlement {
	n := min(most, len(q.pending))
	if n == 0 {
		return nil
	}
	taken := q.pending[:n:n]
	if q.pending = q.pending[n:]; len(q.pending) == 0 {
		q.timer.Stop()
	}
	q.sending += n
	return taken
}

// prepare makes the calls of settlements, and room for so many more.
func (q *queue) prepare(taken []*settlement, more int) []*call {
	calls := make([]*call, 0, len(taken)+more)
	for _, s := range taken {
		calls = append(calls, s.prepare(q.ledger)...)
	}
	return calls
}

// finish takes in the replies to settlements; those without one go back to the
// front of the queue.
func (q *queue) finish(taken []*settlement, sent bool) {
	if len(taken) == 0 {
		return
	}
	var back []*settlement
	for _, s := range taken {
		switch {
		case sent && lost(s.calls) == nil:
			if !q.ledger.settled(s) {
				back = append(back, s)
			}
		case s.renew: // not worth a second try
		default:
			if s.sent.IsZero() && sent {
				s.sent = time.Now()
			}
			back = append(back, s)
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if back != nil {
		q.pending = append(back, q.pending...)
		q.timer.Reset(q.linger)
	}
	q.sending -= len(taken)
	if q.changed != nil {
		close(q.changed)
		q.changed = nil
	}
}

// settled takes in the replies to one settlement. It is not done while a part
// met another data set.
func (r *Ledger) settled(s *settlement) (done bool) {
	unreadable := false
	for i, c := range s.calls {
		verdict, err := r.heard(c, s.parts[i].shares)
		if err != nil {
			r.store.count.lost.Add(1) // logged already
			unreadable = true
			continue
		}
		switch verdict {
		case 'E':
			r.wakeHeartbeat()
			return false
		case 'M':
			s.lost = c.epoch
			r.wakeHeartbeat()
			return false
		case 'L':
			r.store.count.late.Add(1)
		case 'W':
			s.lease.ranOut.Store(true)
		}
	}
	if s.renew {
		return true
	}
	s.pend(-1)
	if unreadable { // its lease runs out, and is charged
		r.open.forget(s.lease.ID)
		return true
	}
	r.open.remove(s.lease.ID)
	return true
}

// loop sends settlements that no reservation has taken along.
func (q *queue) loop() {
	for {
		select {
		case <-q.ledger.stop:
			return
		case <-q.timer.C:
		}
		again := q.linger
		if !q.send() {
			again = jittered(100 * time.Millisecond) // redis is lost
		}
		q.mu.Lock()
		if len(q.pending) > 0 {
			q.timer.Reset(again)
		}
		q.mu.Unlock()
	}
}

// pause waits, unless the ledger is closed.
func (q *queue) pause(d time.Duration) bool {
	select {
	case <-q.ledger.stop:
		return false
	case <-time.After(d):
		return true
	}
}

// send makes one round trip for settlements; it says whether Redis took them.
func (q *queue) send() bool {
	if !q.ledger.Up() {
		return false
	}
	q.mu.Lock()
	taken := q.take(4 * alongAtOnce)
	q.mu.Unlock()
	if len(taken) == 0 {
		return true
	}
	err := q.ledger.store.exec(context.Background(), q.prepare(taken, 0))
	q.finish(taken, true)
	return err == nil
}

// flush returns when nothing waits to be settled, or ctx ends.
func (q *queue) flush(ctx context.Context) error {
	for {
		q.mu.Lock()
		unsent := len(q.pending) + q.sending
		q.mu.Unlock()
		if unsent == 0 {
			return nil
		}
		if err := q.progress(ctx); err != nil {
			return fmt.Errorf("%d settlements are unsent: %w", unsent, err)
		}
	}
}

// progress sends what waits, or waits for what is being sent.
func (q *queue) progress(ctx context.Context) error {
	q.mu.Lock()
	if q.changed == nil {
		q.changed = make(chan struct{})
	}
	waits, changed := len(q.pending), q.changed
	q.mu.Unlock()
	if waits > 0 && q.send() {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-time.After(20 * time.Millisecond):
	}
	return context.Cause(ctx) // also where several are ready
}

// end lets nothing more in.
func (q *queue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.ended = true
}

// unsent is how many settlements wait, and how long the first has.
func (q *queue) unsent() (n int, oldest time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.pending) > 0 {
		oldest = time.Since(q.pending[0].queued)
	}
	return len(q.pending) + q.sending, oldest
}
