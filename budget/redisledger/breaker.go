package redisledger

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// breaker stops asking a store that does not answer. While it is open only the
// beat asks, one at a time.
type breaker struct {
	open   atomic.Bool // open, in the language of electricity: nothing passes
	inRow  atomic.Int64
	calls  atomic.Int64 // since the window began
	onOpen func()
	// onlyInRow leaves out the share of calls that fail.
	onlyInRow bool

	mu       sync.Mutex
	failures int
	window   time.Time
	wait     time.Duration
	next     time.Time
}

const (
	breakerInRow  = 5
	breakerCalls  = 20
	breakerWindow = time.Second
	breakerWait   = 200 * time.Millisecond
	// Kept under a second, so that a store that is back is found within one.
	// The probe is a single small command: it can be made this often.
	breakerMaxWait = 800 * time.Millisecond
)

func (b *breaker) allows() bool { return !b.open.Load() }

func (b *breaker) succeeded() {
	b.calls.Add(1)
	if b.inRow.Load() != 0 {
		b.inRow.Store(0)
	}
}

// failed counts any failure: refusals, timeouts and waits for a connection.
func (b *breaker) failed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if now.Sub(b.window) > breakerWindow {
		b.window, b.failures = now, 0
		b.calls.Store(0)
	}
	b.failures++
	calls := b.calls.Add(1)
	row := b.inRow.Add(1)
	many := !b.onlyInRow && calls >= breakerCalls && int64(b.failures)*2 >= calls
	if b.open.Load() || row < breakerInRow && !many {
		return
	}
	b.open.Store(true)
	b.wait = breakerWait
	b.next = now.Add(jittered(b.wait))
	b.onOpen()
}

// probed tells the outcome of a probe of an open breaker.
func (b *breaker) probed(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
		b.failures = 0
		b.calls.Store(0)
		b.inRow.Store(0)
		b.open.Store(false)
		return
	}
	b.wait = min(2*b.wait, breakerMaxWait)
	b.next = time.Now().Add(jittered(b.wait))
}

// untilProbe is the time until an open breaker is to be probed.
func (b *breaker) untilProbe() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Until(b.next)
}

// jittered is between half of d and d.
func jittered(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
