package routing

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// When a deployment is taken out, and for how long.
const (
	tripStreak   = 5                // failures in a row
	tripVolume   = 20               // or this many answers within tripWindow, half of them failures
	tripWindow   = 10               // seconds
	openFirst    = 5 * time.Second  // doubles with each trip
	openMost     = 60 * time.Second // at most; also the quiet time after which doubling starts anew
	coolDefault  = time.Second
	coolMost     = 60 * time.Second
	misconfigOut = 30 * time.Second
	outMost      = 5 * time.Minute
	probeLife    = 2 * time.Minute // a probe nobody reported on does not block the next for longer
)

// breaker is the health of one deployment as this process sees it. Times are
// readings of the State's clock.
type breaker struct {
	open atomic.Int64 // not before then; 0: closed. Past it, half-open
	cool atomic.Int64 // limited until then
	busy atomic.Bool  // a probe is on its way

	mu       sync.Mutex
	cause    string // why it is open: StateOpen or StateMisconfigured
	probedAt time.Duration
	closedAt time.Duration
	trips    int // in a row
	streak   int // failures in a row
	seconds  [tripWindow]tally
}

// tally counts the answers of one second.
type tally struct {
	second  int64
	ok, bad int
}

// States of a deployment.
const (
	StateClosed        = "closed"        // in use
	StateOpen          = "open"          // failing, left alone for a while
	StateHalfOpen      = "half-open"     // may be probed by one request
	StateLimited       = "limited"       // cooling down after a rate limit
	StateMisconfigured = "misconfigured" // credential refused or model missing
)

// usable reports whether a request may be planned on the deployment. It takes
// no lock: every decision asks it of every deployment.
func (b *breaker) usable(now time.Duration) bool {
	if int64(now) < b.cool.Load() {
		return false
	}
	open := b.open.Load()
	return open == 0 || int64(now) >= open && !b.busy.Load()
}

// acquire lets an attempt through: any when closed, exactly one when half-open,
// and none otherwise, unless it is the last choice.
func (b *breaker) acquire(now time.Duration, last bool) bool {
	if b.open.Load() == 0 {
		return last || int64(now) >= b.cool.Load()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	open := b.open.Load()
	if open == 0 {
		return last || int64(now) >= b.cool.Load()
	}
	taken := b.busy.Load() && now-b.probedAt < probeLife
	if !last && (taken || int64(now) < open || int64(now) < b.cool.Load()) {
		return false
	}
	if !taken {
		b.probedAt = now
		b.busy.Store(true)
	}
	return true
}

// observe takes the outcome of an attempt.
func (b *breaker) observe(now time.Duration, o *Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	probed := b.busy.Swap(false)
	open := b.open.Load() != 0
	switch o.Result {
	case ResultOK:
		b.succeeded(now, open, probed)
	case ResultFailed, ResultSlow:
		b.failed(now, open, probed)
	case ResultLimited:
		wait := o.RetryAfter
		if wait <= 0 {
			wait = coolDefault
		}
		b.cool.Store(max(b.cool.Load(), int64(now+min(wait, coolMost))))
	case ResultMisconfigured:
		wait := o.RetryAfter
		if wait <= 0 {
			wait = misconfigOut
		}
		b.cause = StateMisconfigured
		b.open.Store(int64(now + min(wait, outMost)))
	case ResultNeutral:
	}
}

func (b *breaker) succeeded(now time.Duration, open, probed bool) {
	b.streak = 0
	if !open {
		b.count(now).ok++
		return
	}
	if !probed {
		return // an answer that was on its way when the deployment was taken out
	}
	b.seconds = [tripWindow]tally{}
	b.closedAt = now
	b.open.Store(0)
}

func (b *breaker) failed(now time.Duration, open, probed bool) {
	if open {
		if probed {
			b.trip(now)
		}
		return
	}
	b.streak++
	b.count(now).bad++
	if b.streak >= tripStreak || b.mostlyFails(now) {
		b.trip(now)
	}
}

// trip opens the breaker, for longer each time. The jitter keeps replicas from
// probing in step.
func (b *breaker) trip(now time.Duration) {
	if b.open.Load() == 0 && now-b.closedAt > openMost {
		b.trips = 0
	}
	wait := min(openFirst<<min(b.trips, 4), openMost)
	b.trips++
	b.streak = 0
	b.cause = StateOpen
	wait = wait*4/5 + rand.N(wait/5)
	b.open.Store(int64(now + wait))
}

// count is the tally of the running second.
func (b *breaker) count(now time.Duration) *tally {
	second := int64(now / time.Second)
	t := &b.seconds[second%tripWindow]
	if t.second != second {
		*t = tally{second: second}
	}
	return t
}

func (b *breaker) mostlyFails(now time.Duration) bool {
	oldest := int64(now/time.Second) - tripWindow
	ok, bad := 0, 0
	for _, t := range b.seconds {
		if t.second > oldest {
			ok, bad = ok+t.ok, bad+t.bad
		}
	}
	return ok+bad >= tripVolume && bad >= ok
}

// state names the deployment's state and when it ends, 0 when it has no end.
func (b *breaker) state(now time.Duration) (state string, until time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	open, cool := time.Duration(b.open.Load()), time.Duration(b.cool.Load())
	switch {
	case open > now:
		return b.cause, open
	case cool > now:
		return StateLimited, cool
	case open != 0:
		return StateHalfOpen, 0
	}
	return StateClosed, 0
}
