package proxy

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// Causes with which a watch ends an upstream call.
var (
	errFirstEvent = errors.New("no first event in time")
	errIdle       = errors.New("no event in time")
	errTotal      = errors.New("no end in time")
)

// ErrShutdown is the cause with which the server's base context is ended when
// the time to drain is over; running streams then end with an error event.
var ErrShutdown = errors.New("server is shutting down")

// pingAfter is the silence after which a stream's client is sent a comment, so
// that nothing between us takes the connection for dead.
const pingAfter = 15 * time.Second

// watch ends an upstream call that keeps us waiting: for its first event, then
// between events, and in all. It also pings the client in silences. One timer
// serves all of that; touching is two atomic stores, cheap enough per chunk.
type watch struct {
	start  time.Time
	limits Timeouts
	cancel context.CancelCauseFunc
	ping   func() // nil when the client cannot be pinged

	phase   atomic.Int32 // waiting, begun or expired: the first event and its limit race for it
	touched atomic.Int64 // when the upstream last said something, since start
	pinged  time.Duration

	mu      sync.Mutex // held while fire runs, so that stop waits for it
	timer   *time.Timer
	stopped bool
}

// Phases of a watch.
const (
	waiting int32 = iota // for the first event
	begun
	expired // the first event is no longer waited for
)

// newWatch starts watching. A whole answer is bounded by its total only.
func newWatch(limits Timeouts, stream bool, cancel context.CancelCauseFunc, ping func()) *watch {
	if !stream {
		limits.FirstEvent = limits.Total
	}
	w := &watch{start: time.Now(), limits: limits, cancel: cancel, ping: ping}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(min(limits.FirstEvent, limits.Total), w.fire)
	return w
}

// touch notes that the upstream said something.
func (w *watch) touch() { w.touched.Store(int64(time.Since(w.start))) }

// begin notes the first event: from here on the idle limit holds. It reports
// false when the event came too late, and the call has been ended.
func (w *watch) begin() bool {
	w.touch()
	if !w.phase.CompareAndSwap(waiting, begun) {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.next(time.Since(w.start)))
	}
	return true
}

// stop ends the watch and waits for a ping that is being written.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

func (w *watch) fire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	now := time.Since(w.start)
	silent := now - time.Duration(w.touched.Load())
	switch {
	case now >= w.limits.Total:
		w.cancel(errTotal)
		return
	case silent >= w.limits.FirstEvent && w.phase.CompareAndSwap(waiting, expired):
		w.cancel(errFirstEvent)
		return
	case w.phase.Load() == begun && silent >= w.limits.Idle:
		w.cancel(errIdle)
		return
	}
	if w.phase.Load() == begun && w.ping != nil && silent >= pingAfter && now-w.pinged >= pingAfter {
		w.pinged = now
		w.ping()
	}
	w.timer.Reset(w.next(now))
}

// next is how long nothing can be due.
func (w *watch) next(now time.Duration) time.Duration {
	until := w.limits.Total - now
	touched := time.Duration(w.touched.Load())
	if w.phase.Load() != begun {
		return max(time.Millisecond, min(until, touched+w.limits.FirstEvent-now))
	}
	until = min(until, touched+w.limits.Idle-now)
	if w.ping != nil {
		until = min(until, max(touched, w.pinged)+pingAfter-now)
	}
	return max(time.Millisecond, until)
}

// timeoutError is what a watch's cause means as an upstream's failure; nil for
// other causes.
func timeoutError(cause error, begun bool) *translate.UpstreamError {
	e := &translate.UpstreamError{Kind: translate.KindTimeout, Billed: translate.BilledUnknown, Err: cause}
	switch {
	case errors.Is(cause, errFirstEvent):
		e.Message = "the upstream sent nothing in the time allowed (timeouts.first_event)"
	case errors.Is(cause, errIdle):
		e.Code, e.Message = "stream_idle_timeout", "the upstream fell silent in the middle of its answer (timeouts.idle)"
	case errors.Is(cause, errTotal):
		e.Message = "the upstream did not finish in the time allowed (timeouts.total)"
	default:
		return nil
	}
	if begun {
		e.Billed = translate.BilledPartly
	}
	return e
}
