package proxy

import (
	"io"
	"sync"
	"sync/atomic"
)

// AsyncWriter writes lines from a goroutine of its own, so that a slow disk or
// a stopped reader of standard output never holds a request up. When its queue
// is full, lines are dropped and counted. Safe for concurrent use.
type AsyncWriter struct {
	w       io.Writer
	lines   chan []byte
	dropped atomic.Int64
	mu      sync.RWMutex // held for reading while a line is queued, so that Close is clean
	closed  bool
	done    chan struct{}
}

// maxLogLine is where a line is cut, in bytes.
const maxLogLine = 8 << 10

// writeBatch is about how many bytes of lines are written at once.
const writeBatch = 64 << 10

// NewAsyncWriter starts a writer of lines to w with room for queue of them.
// Close ends it.
func NewAsyncWriter(w io.Writer, queue int) *AsyncWriter {
	a := &AsyncWriter{w: w, lines: make(chan []byte, queue), done: make(chan struct{})}
	go a.run()
	return a
}

func (a *AsyncWriter) run() {
	defer close(a.done)
	var batch []byte
	for line := range a.lines {
		batch = append(batch[:0], line...)
		for more := true; more && len(batch) < writeBatch; {
			select {
			case next := <-a.lines: // nil once closed, which the range then sees
				batch, more = append(batch, next...), next != nil
			default:
				more = false
			}
		}
		a.w.Write(batch) // an error here has nowhere to go: this is the log
	}
}

// Write queues a copy of line. It never blocks and never fails.
func (a *AsyncWriter) Write(line []byte) (int, error) {
	own := append(make([]byte, 0, min(len(line), maxLogLine)+1), line[:min(len(line), maxLogLine)]...)
	if len(line) > maxLogLine {
		own = append(own, '\n')
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	if a.closed {
		return len(line), nil
	}
	select {
	case a.lines <- own:
	default:
		a.dropped.Add(1)
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
		close(a.lines)
	}
	a.mu.Unlock()
	<-a.done
	return nil
}
