package routing

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxSample is the longest latency that is believed: a request is cut off
// before that, so anything longer is a broken clock.
const maxSample = 30 * time.Minute

// window is a rolling window of the latest answers' latencies. Its 90th
// percentile is kept up to date by add, so that reading it costs two atomic
// loads.
type window struct {
	p90   atomic.Int64 // nanoseconds, 0 when empty
	count atomic.Int64

	mu     sync.Mutex
	rule   rule
	ring   []time.Duration // in order of arrival, oldest first
	sorted []time.Duration
	good   int // answers in a row within the SLA since the window was over it
}

// rule is how a window is kept and judged.
type rule struct {
	size int           // answers that count
	min  int           // fewer are no verdict
	sla  time.Duration // 0: none
}

// over reports whether the window's 90th percentile is above the SLA.
func (w *window) over(r rule) bool {
	return r.sla > 0 && w.count.Load() >= int64(r.min) && w.p90.Load() > int64(r.sla)
}

// setRule adopts a configuration's rule; what a smaller window has no room for
// is forgotten.
func (w *window) setRule(r rule) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rule = r
	w.keepLast(r.size)
	w.publish()
}

// add takes one answer's latency. Absurd ones are dropped.
func (w *window) add(v time.Duration) {
	if v <= 0 || v > maxSample {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.insert(v)
	w.publish()
}

// insert puts v into the window. A window over its SLA would take most of its
// size in good answers to come back, and a removed tier only gets a few probes:
// so as many good answers in a row as make a verdict outweigh what was before.
func (w *window) insert(v time.Duration) {
	wasOver := w.over(w.rule)
	w.keepLast(w.rule.size - 1)
	w.ring = append(w.ring, v)
	at, _ := slices.BinarySearch(w.sorted, v)
	w.sorted = slices.Insert(w.sorted, at, v)
	switch {
	case !wasOver || v > w.rule.sla:
		w.good = 0
	default:
		if w.good++; w.good >= w.rule.min {
			w.keepLast(w.good)
			w.good = 0
		}
	}
	w.publish()
}

// keepLast forgets all but the latest n answers.
func (w *window) keepLast(n int) {
	for len(w.ring) > max(n, 0) {
		at, _ := slices.BinarySearch(w.sorted, w.ring[0])
		w.sorted = slices.Delete(w.sorted, at, at+1)
		w.ring = slices.Delete(w.ring, 0, 1)
	}
}

// replace makes the window what it would be had it seen just these answers.
func (w *window) replace(samples []time.Duration) {
	w.ring, w.sorted, w.good = w.ring[:0], w.sorted[:0], 0
	w.publish()
	for _, v := range samples {
		w.insert(v)
	}
}

// reset forgets all answers.
func (w *window) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.replace(nil)
}

func (w *window) publish() {
	n := len(w.sorted)
	w.count.Store(int64(n))
	if n == 0 {
		w.p90.Store(0)
		return
	}
	w.p90.Store(int64(w.sorted[(n*9+9)/10-1])) // nearest rank
}

// average is an exponentially weighted latency of one deployment. It is
// forgotten after a minute of silence, so that a deployment that was slow once
// is tried again.
type average struct {
	mu    sync.Mutex
	value time.Duration
	at    time.Duration // on the State's clock
}

const averageLife = time.Minute

func (a *average) add(v, now time.Duration) {
	if v <= 0 || v > maxSample {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.value == 0 || now-a.at > averageLife {
		a.value = v
	} else {
		a.value += (v - a.value) / 5
	}
	a.at = now
}

// read is the average, 0 when nothing recent is known.
func (a *average) read(now time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now-a.at > averageLife {
		return 0
	}
	return a.value
}
