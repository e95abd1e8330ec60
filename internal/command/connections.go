package command

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// writePatience is how long an answer may stand still: then its client is
	// taken to be gone.
	writePatience = 60 * time.Second
	// writePiece is what has to get through within writePatience, in bytes.
	writePiece = 32 << 10
	// spareAge is how long a connection must have been of no use, idle or stuck,
	// before it makes room for another one.
	spareAge = 500 * time.Millisecond
	// acceptPause is between two looks for room.
	acceptPause = 50 * time.Millisecond
)

// connections bounds the connections of all listeners together. Where a new one
// finds no room, one that nobody uses makes it: the one that has been idle,
// without a request, or stuck in a write the longest. So clients that connect
// and stay away, or ask and do not read, keep nobody out. Safe for concurrent
// use.
type connections struct {
	log *slog.Logger

	mu     sync.Mutex
	limit  int
	open   map[*conn]struct{}
	warned time.Time
	queued int // connections that wait for room
}

func newConnections(limit int, log *slog.Logger) *connections {
	return &connections{log: log, limit: limit, open: map[*conn]struct{}{}}
}

// conn is one client's connection.
type conn struct {
	net.Conn
	all *connections
	// useless is since when the connection serves nobody, in nanoseconds; 0
	// while a request is under way.
	useless atomic.Int64
	// writing is since when a write has been waiting, in nanoseconds; 0: none is.
	writing atomic.Int64
	// deadline is what the handler has set for its writes; 0: none.
	deadline atomic.Int64
	armed    time.Time // deadline of the connection below; of the writer alone
}

// listener is a net.Listener that counts its connections among others.
type listener struct {
	net.Listener
	all *connections
}

// Accept waits for a connection and for room for it. Errors are logged: they
// mean that the process is short of something.
func (l listener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		if !errors.Is(err, net.ErrClosed) {
			l.all.warn("a connection could not be accepted", "error", err)
		}
		return nil, err
	}
	return l.all.add(raw), nil
}

// add counts a connection in. When there is no room it waits for some.
func (a *connections) add(raw net.Conn) *conn {
	c := &conn{Conn: raw, all: a}
	c.useless.Store(time.Now().UnixNano())
	if a.enter(c) {
		return c
	}
	a.queue(1)
	defer a.queue(-1)
	for !a.enter(c) {
		a.warn("all connections are in use; new ones wait", "max_connections", a.limit)
		time.Sleep(acceptPause)
	}
	return c
}

func (a *connections) queue(n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.queued += n
}

// enter counts c in if there is room, or if another connection can go.
func (a *connections) enter(c *conn) bool {
	a.mu.Lock()
	var spare *conn
	if len(a.open) >= a.limit {
		if spare = a.spare(); spare == nil {
			a.mu.Unlock()
			return false
		}
		delete(a.open, spare)
	}
	a.open[c] = struct{}{}
	a.mu.Unlock()
	if spare != nil {
		_ = spare.Conn.Close()
	}
	return true
}

// spare is the connection that has been of no use for the longest, nil when
// none has been for spareAge. mu is held.
func (a *connections) spare() (found *conn) {
	oldest := time.Now().Add(-spareAge).UnixNano()
	for c := range a.open {
		for _, since := range [...]int64{c.useless.Load(), c.writing.Load()} {
			if since != 0 && since < oldest {
				found, oldest = c, since
			}
		}
	}
	return found
}

// warn logs no more than once a second.
func (a *connections) warn(message string, args ...any) {
	a.mu.Lock()
	quiet := time.Since(a.warned) < time.Second
	if !quiet {
		a.warned = time.Now()
	}
	a.mu.Unlock()
	if !quiet {
		a.log.Warn(message, args...)
	}
}

// changed is http.Server's ConnState.
func (a *connections) changed(n net.Conn, state http.ConnState) {
	if t, ok := n.(*tls.Conn); ok {
		n = t.NetConn()
	}
	c, ok := n.(*conn)
	switch {
	case !ok:
	case state == http.StateActive:
		c.useless.Store(0)
	case state == http.StateIdle || state == http.StateNew:
		c.useless.Store(time.Now().UnixNano())
	}
}

// Close ends the connection and makes room.
func (c *conn) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// Write writes piece by piece, each of which must get through in time.
func (c *conn) Write(b []byte) (written int, err error) {
	for {
		piece := b[written:min(len(b), written+writePiece)]
		if err := c.arm(); err != nil {
			return written, err
		}
		n, err := c.Conn.Write(piece)
		written += n
		c.writing.Store(0)
		if err != nil || written == len(b) {
			return written, err
		}
	}
}

// arm sets the deadline of the next piece. One that is nearly new is kept: it
// costs a lock of the network poller.
func (c *conn) arm() error {
	now := time.Now()
	c.writing.Store(now.UnixNano())
	due := now.Add(writePatience)
	if set := c.deadline.Load(); set != 0 && set < due.UnixNano() {
		due = time.Unix(0, set)
	}
	if off := due.Sub(c.armed); 0 <= off && off < time.Second {
		return nil
	}
	c.armed = due
	return c.Conn.SetWriteDeadline(due)
}

// SetWriteDeadline can only make the time that a write has shorter.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if t.IsZero() {
		c.deadline.Store(0)
		return nil
	}
	c.deadline.Store(t.UnixNano())
	if c.writing.Load() != 0 { // a write is waiting already
		return c.Conn.SetWriteDeadline(t)
	}
	return nil
}

// SetDeadline sets both; net/http uses it to end what is under way.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
