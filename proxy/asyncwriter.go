package proxy

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// AsyncWriter writes lines from a goroutine of its own, so that a slow disk or
// a stopped reader of standard output never holds a request up. When its queue
// is full, lines are dropped and counted. Safe for concurrent use.
type AsyncWriter struct {
	w       io.Writer
	room    int // lines
	dropped atomic.Int64
	wake    chan struct{} // there are lines; closed at the end
	done    chan struct{}

	mu     sync.Mutex
	lines  []byte
	queued int // lines in lines
	closed bool
}

// maxLogLine is where a line is cut, in bytes.
const maxLogLine = 8 << 10

// gather is how long a line waits for others to be written along with it: a
// system call for each would cost more than making the line does.
const gather = 5 * time.Millisecond

// mostKept is the largest buffer that is kept for the next lines, in bytes.
const mostKept = 1 << 20

// NewAsyncWriter starts a writer of lines to w with room for queue of them.
// Close ends it.
func NewAsyncWriter(w io.Writer, queue int) *AsyncWriter {
	a := &AsyncWriter{w: w, room: queue, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go a.run()
	return a
}

func (a *AsyncWriter) run() {
	defer close(a.done)
	var batch []byte
	for open := true; open; {
		if _, open = <-a.wake; open {
			time.Sleep(gather)
		}
		if cap(batch) > mostKept {
			batch = nil
		}
		a.mu.Lock()
		batch, a.lines, a.queued = a.lines, batch[:0], 0
		a.mu.Unlock()
		if len(batch) > 0 {
			a.w.Write(batch) // an error here has nowhere to go: this is the log
		}
	}
}

// Write queues a copy of line. It never blocks and never fails.
func (a *AsyncWriter) Write(line []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return len(line), nil
	case a.queued == a.room:
		a.dropped.Add(1)
		return len(line), nil
	}
	a.queued++
	if a.lines = append(a.lines, line[:min(len(line), maxLogLine)]...); len(line) > maxLogLine {
		a.lines = append(a.lines, '\n')
	}
	select {
	case a.wake <- struct{}{}:
	default:
	}
	return len(line), nil
}

// Dropped is the number of lines that found the queue full.
func (a *AsyncWriter) Dropped() int64 { return a.dropped.Load() }

// Close writes what is queued and ends the goroutine.
func (a *AsyncWriter) Close() error {
	a.mu.Lock()
	if !a.closed {
		a.closed = true
		close(a.wake)
	}
	a.mu.Unlock()
	<-a.done
	return nil
}
