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
	// judged is the percentile the tier is judged by: 0 while there are too few
	// answers, and that of the latest ones alone while the tier is on trial.
	judged atomic.Int64

	mu     sync.Mutex
	rule   rule
	ring   []time.Duration // in order of arrival, oldest first
	sorted []time.Duration
	good   int           // probes in a row within the SLA
	trial  int           // the latest answers that count since the tier came back; 0: all
	share  *sharedWindow // nil unless replicas share the window
}

// rule is how a window is kept and judged.
type rule struct {
	size int           // answers that count
	min  int           // fewer are no verdict
	sla  time.Duration // 0: none
}

// over reports whether the 90th percentile is above the SLA.
func (w *window) over(sla time.Duration) bool {
	return sla > 0 && w.judged.Load() > int64(sla)
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
//
// A removed tier gets only a few probes, and most of a window would have to be
// good answers before its percentile is. So as many good probes in a row as make
// a verdict bring it back on trial: from then on it is judged by them and by
// what follows.
func (w *window) add(v time.Duration, probe bool) {
	if v <= 0 || v > maxSample {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	removed := w.over(w.rule.sla)
	w.insert(v)
	switch {
	case v > w.rule.sla:
		w.good = 0
	case removed && probe:
		w.good++
	}
	if w.trial > 0 {
		w.trial++
	}
	if removed && w.good >= w.rule.min {
		w.trial, w.good = w.good, 0
	}
	w.publish()
	if w.share != nil {
		w.share.note(v)
	}
}

func (w *window) insert(v time.Duration) {
	w.keepLast(w.rule.size - 1)
	w.ring = append(w.ring, v)
	at, _ := slices.BinarySearch(w.sorted, v)
	w.sorted = slices.Insert(w.sorted, at, v)
}

// keepLast forgets all but the latest n answers.
func (w *window) keepLast(n int) {
	for len(w.ring) > max(n, 0) {
		at, _ := slices.BinarySearch(w.sorted, w.ring[0])
		w.sorted = slices.Delete(w.sorted, at, at+1)
		w.ring = slices.Delete(w.ring, 0, 1)
	}
}

// replace makes the window hold just these answers, of which so many are news
// from other processes.
func (w *window) replace(samples []time.Duration, news int) {
	w.ring, w.sorted = w.ring[:0], w.sorted[:0]
	for _, v := range samples {
		w.insert(v)
	}
	if w.trial > 0 {
		w.trial += news
	}
	w.publish()
}

// reset forgets all answers.
func (w *window) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.good, w.trial = 0, 0
	w.replace(nil, 0)
	if w.share != nil {
		w.share.forget()
	}
}

// publish lets readers see the window as it is now.
func (w *window) publish() {
	p90 := percentile(w.sorted)
	w.p90.Store(int64(p90))
	w.count.Store(int64(len(w.sorted)))
	if w.trial >= len(w.ring) || p90 <= w.rule.sla {
		w.trial = 0
	}
	counts := len(w.ring)
	if w.trial > 0 {
		counts = w.trial
		p90 = percentile(slices.Sorted(slices.Values(w.ring[len(w.ring)-w.trial:])))
	}
	if counts < w.rule.min {
		p90 = 0
	}
	w.judged.Store(int64(p90))
}

// percentile is the 90th by nearest rank, 0 of nothing.
func percentile(sorted []time.Duration) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*9+9)/10-1]
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
