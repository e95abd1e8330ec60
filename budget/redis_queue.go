package budget

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// settlement is a change that nobody waits for: a settled reservation, a
// renewed lease, or the undoing of a reservation that may have been made.
type settlement struct {
	lease     *redisLease
	parts     []part
	actual    Nanodollars
	held      Nanodollars // that Redis is known to hold
	tombstone string      // S when settled, D when never admitted
	renew     bool
	queued    time.Time
	sent      time.Time // first sent; zero if it never was
}

// pend counts a settlement in the views before Redis does, or (-1) no longer.
func (s *settlement) pend(sign Nanodollars) {
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

// calls are what tells Redis, one for each part.
func (s *settlement) calls(r *Redis) []*call {
	calls := make([]*call, len(s.parts))
	e := r.epoch.Load()
	certain := int64(1)
	if !s.sent.IsZero() && time.Since(s.sent) > certainFor {
		certain = 0
	}
	for i := range s.parts {
		p := &s.parts[i]
		if s.renew {
			calls[i] = newCall(renewScript, len(p.shares), 3)
			for j := range p.shares {
				calls[i].text(&p.shares[j].view.leases)
			}
			r.store.clock(calls[i])
			calls[i].text(&s.lease.ID)
			calls[i].int(r.config.Lease.Milliseconds())
			continue
		}
		calls[i] = s.call(r, p, e, certain)
	}
	return calls
}

// call is a call of settle.lua.
func (s *settlement) call(r *Redis, p *part, e *epoch, certain int64) *call {
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
		c.text(v.madeAs())
		gross, corrected := v.floors(e.gen)
		c.int(gross)
		c.int(corrected)
	}
	return c
}

// queue sends scripts to Redis. Those that somebody waits for go at once, a few
// round trips at a time; the others wait to go along with them, or for a moment.
type queue struct {
	ledger *Redis
	wake   chan struct{}
	linger time.Duration

	mu      sync.Mutex
	busy    int       // round trips being made for waiters
	waiting []*waiter // for one of them to end
	pending []*settlement
	sending int // settlements in flight
	ended   bool
	changed chan struct{}
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
}

const (
	// Settlements that go along with a reservation at most.
	alongAtOnce = 64
	// Settlements that wait at most. In an outage there are as many as requests
	// were running, more only where they are let in unenforced.
	maxPending = 200_000
)

func (q *queue) init(r *Redis) {
	q.ledger, q.linger = r, 2*time.Millisecond
	q.wake = make(chan struct{}, 1)
	q.changed = make(chan struct{})
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
		<-w.ready // not for long: every round trip has a timeout
		if w.batch == nil {
			return w.err
		}
	} else {
		q.busy++
		w.batch, w.along = []*waiter{w}, q.take(alongAtOnce)
		q.mu.Unlock()
	}
	q.lead(w)
	return w.err
}

// lead makes the round trip for a batch and hands on the turn.
func (q *queue) lead(w *waiter) {
	settlements, calls := q.prepare(w.along)
	for _, other := range w.batch {
		calls = append(calls, other.calls...)
	}
	sent := q.ledger.store.breaker.allows()
	if sent {
		_ = q.ledger.store.exec(deadline{context.Background(), w.until}, calls) // each call has its own
	}
	q.finish(w.along, settlements, sent)
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
		return fmt.Errorf("settle: %w: %d settlements wait already", ErrUnavailable, maxPending)
	}
	q.pending = append(q.pending, s)
	select {
	case q.wake <- struct{}{}:
	default:
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
	q.pending = q.pending[n:]
	q.sending += n
	return taken
}

// prepare makes the calls of settlements; perSettlement[i] are those of the i-th.
func (q *queue) prepare(taken []*settlement) (perSettlement [][]*call, all []*call) {
	for _, s := range taken {
		calls := s.calls(q.ledger)
		perSettlement = append(perSettlement, calls)
		all = append(all, calls...)
	}
	return perSettlement, all
}

// finish takes in the replies to settlements; those without one go back to the
// front of the queue.
func (q *queue) finish(taken []*settlement, calls [][]*call, sent bool) {
	if len(taken) == 0 {
		return
	}
	var back []*settlement
	for i, s := range taken {
		switch {
		case sent && lost(calls[i]) == nil:
			if !q.ledger.settled(s, calls[i]) {
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
	q.pending = append(back, q.pending...)
	q.sending -= len(taken)
	close(q.changed)
	q.changed = make(chan struct{})
}

// settled takes in the replies to one settlement. It is not done while a part
// met another data set.
func (r *Redis) settled(s *settlement, calls []*call) (done bool) {
	for i, c := range calls {
		verdict, err := r.heard(c, s.parts[i].shares)
		if err != nil {
			r.store.count.lost.Add(1) // logged already
			continue
		}
		switch verdict {
		case 'E':
			r.askBeat()
			return false
		case 'L':
			r.store.count.late.Add(1)
		}
	}
	if s.renew {
		return true
	}
	s.pend(-1)
	r.open.remove(s.lease.ID)
	return true
}

// loop sends settlements that no reservation has taken along.
func (q *queue) loop() {
	for {
		select {
		case <-q.ledger.stop:
			return
		case <-q.wake:
		}
		for q.waits() {
			if !q.pause(q.linger) {
				return
			}
			if !q.send() && !q.pause(jittered(100*time.Millisecond)) {
				return
			}
		}
	}
}

func (q *queue) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending) > 0
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
	settlements, calls := q.prepare(taken)
	err := q.ledger.store.exec(context.Background(), calls)
	q.finish(taken, settlements, true)
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
	waits, changed := len(q.pending), q.changed
	q.mu.Unlock()
	if waits > 0 && q.send() {
		return context.Cause(ctx)
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	case <-time.After(20 * time.Millisecond):
	}
	return nil
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
