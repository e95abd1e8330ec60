package redisledger

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// breaker stops asking a store that is silent: one that has replied to nothing
// for a while although calls were out. It counts that while in ticks, so that a
// process that was not scheduled, or calls that queue here, do not look like
// silence. While it is open only the heartbeat asks, one at a time.
type breaker struct {
	open     atomic.Bool
	replies  atomic.Int64 // so far
	last     atomic.Int64 // when the last came, ns since 1970
	out      atomic.Int64 // who waits for a reply, or to try again
	watching atomic.Bool
	ticks    int // of silence that open it
	onOpen   func()

	// What the tick compares; only the one that watches touches them.
	seen   int64
	silent int

	mu   sync.Mutex
	wait time.Duration
	next time.Time
}

const (
	// silence is how long nothing may be replied before the breaker opens.
	silence     = 500 * time.Millisecond
	silenceTick = 25 * time.Millisecond
	breakerWait = 100 * time.Millisecond
	// The probe is a single small command: it can be made this often.
	breakerMaxWait = 400 * time.Millisecond
)

func (b *breaker) allows() bool { return !b.open.Load() }

// replied notes a useful reply.
func (b *breaker) replied() {
	b.replies.Add(1)
	b.last.Store(time.Now().UnixNano())
}

// lastReply is when the store last said something.
func (b *breaker) lastReply() time.Time { return time.Unix(0, b.last.Load()) }

// begin notes that somebody waits for the store, until end.
func (b *breaker) begin() {
	b.out.Add(1)
	b.watch()
}

func (b *breaker) end() { b.out.Add(-1) }

// watch has silence counted while somebody waits.
func (b *breaker) watch() {
	if b.watching.CompareAndSwap(false, true) {
		b.seen, b.silent = b.replies.Load(), 0
		time.AfterFunc(silenceTick, b.tick)
	}
}

func (b *breaker) tick() {
	if b.out.Load() == 0 {
		b.watching.Store(false)
		if b.out.Load() > 0 { // somebody came meanwhile
			b.watch()
		}
		return
	}
	replies := b.replies.Load()
	if replies != b.seen {
		b.seen, b.silent = replies, 0
	} else {
		b.silent++
	}
	if b.silent >= b.ticks {
		b.silent = 0
		b.trip()
	}
	time.AfterFunc(silenceTick, b.tick)
}

func (b *breaker) trip() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Load() {
		return
	}
	b.wait = breakerWait
	b.next = time.Now().Add(jittered(b.wait))
	b.open.Store(true)
	b.onOpen()
}

// probed tells the outcome of a probe of an open breaker.
func (b *breaker) probed(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ok {
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
