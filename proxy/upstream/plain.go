package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// plain is the connections of one upstream that speaks HTTP without TLS: a
// model server in the same cluster, a sidecar. The goroutine of a request
// writes and reads by itself. net/http's Transport has two goroutines for each
// connection, and waking them costs more than all that the router does.
// Answers are parsed by net/http. Safe for concurrent use.
type plain struct {
	address string // host and port
	dial    func(ctx context.Context, network, address string) (net.Conn, error)

	mu   sync.Mutex
	idle []*plainConn // the one used last is used next
	// sweeper closes connections that nobody needs; nil while there are none.
	sweeper *time.Timer
}

const (
	maxIdle  = 512
	idleTime = 90 * time.Second
	// Requests beyond this are written by a goroutine of their own, so that an
	// upstream that answers before it has read them is heard.
	writtenAtOnce = 32 << 10
	// What an answer that comes before its request was written in full is
	// waited with: mostly the writer is only about to say that it is done.
	writerGrace = 5 * time.Millisecond
	max1xx      = 5
)

// isPlain says whether plain can reach base: not through a proxy, nor by a
// name that has to be encoded first.
func isPlain(base *url.URL) bool {
	if base.Scheme != "http" || strings.ContainsFunc(base.Host, func(r rune) bool { return r >= 0x80 || r == '%' }) {
		return false
	}
	proxy, err := http.ProxyFromEnvironment(&http.Request{URL: base})
	return err == nil && proxy == nil
}

func newPlain(base *url.URL, connect time.Duration) *plain {
	port := base.Port()
	if port == "" {
		port = "80"
	}
	return &plain{address: net.JoinHostPort(base.Hostname(), port), dial: newDialer(connect).DialContext}
}

// plainConn is one connection. It is used by one request at a time.
type plainConn struct {
	net.Conn
	in     *bufio.Reader
	room   int64  // bytes of headers that may still come
	out    []byte // room for the head of a request
	used   bool
	idleAt time.Time
}

var errLongHeader = errors.New("the answer's headers are too long")

// Read keeps headers from growing without end.
func (c *plainConn) Read(p []byte) (int, error) {
	if c.room <= 0 {
		return 0, errLongHeader
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.room)])
	c.room -= int64(n)
	return n, err
}

// do implements connections.
func (p *plain) do(ctx context.Context, c *call, to *url.URL, header http.Header, body []byte) (*http.Response, error) {
	conn := p.take()
	if conn == nil {
		raw, err := p.dial(ctx, "tcp", p.address)
		if err != nil {
			return nil, err
		}
		conn = &plainConn{Conn: raw}
		conn.in = bufio.NewReader(conn)
	}
	c.reused.Store(conn.used)
	conn.used = true
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	resp, err := conn.exchange(c, to, header, body)
	if err != nil {
		stop()
		_ = conn.Close()
		return nil, err
	}
	b := &plainBody{inner: resp.Body, pool: p, conn: conn, stop: stop}
	b.again = !resp.Close && resp.StatusCode >= 200 && c.sentAt.Load() != 0
	if resp.Body = b; b.inner == http.NoBody {
		b.finish(io.EOF)
	}
	return resp, nil
}

// exchange sends a request and reads the head of its answer.
func (c *plainConn) exchange(of *call, to *url.URL, header http.Header, body []byte) (*http.Response, error) {
	var err error
	if c.out, err = appendHead(c.out[:0], to, header, len(body)); err != nil {
		return nil, err
	}
	if len(body) <= writtenAtOnce {
		if err := c.send(of, body); err != nil {
			return nil, err
		}
		return c.receive()
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		_ = c.send(of, body) // the reader finds out, too
	}()
	resp, err := c.receive()
	if err != nil {
		_ = c.Close()
		<-written
		return nil, err
	}
	select {
	case <-written:
	case <-time.After(writerGrace): // it answered early; nobody waits for the rest
	}
	return resp, nil
}

// send writes a request and notes when it has been.
func (c *plainConn) send(of *call, body []byte) error {
	var err error
	if len(body) <= 8<<10 {
		c.out = append(c.out, body...)
		_, err = c.Conn.Write(c.out)
	} else {
		_, err = (&net.Buffers{c.out, body}).WriteTo(c.Conn)
	}
	if err != nil {
		return err
	}
	of.sentAt.Store(time.Now().UnixNano())
	return nil
}

// receive reads the head of an answer, and any that announce it.
func (c *plainConn) receive() (*http.Response, error) {
	c.room = maxHeader
	if _, err := c.in.Peek(1); err != nil {
		return nil, err // io.EOF only where nothing has come
	}
	for range max1xx + 1 {
		resp, err := http.ReadResponse(c.in, nil)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode/100 != 1 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.room = math.MaxInt64
			return resp, nil
		}
	}
	return nil, errors.New("too many 1xx answers")
}

// appendHead appends the head of a request. The fields that frame it are ours.
func appendHead(b []byte, to *url.URL, header http.Header, size int) ([]byte, error) {
	b = append(append(append(b, "POST "...), to.RequestURI()...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, to.Host...), "\r\nContent-Length: "...)
	b = append(strconv.AppendInt(b, int64(size), 10), "\r\n"...)
	for name, values := range header {
		switch name {
		case "Host", "Content-Length", "Transfer-Encoding", "Trailer", "Connection":
			continue
		}
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") {
				return nil, fmt.Errorf("the value of header %s has a line break in it", name)
			}
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	return append(b, "\r\n"...), nil
}

// take returns the connection used last that its server has not closed; nil if
// there is none.
func (p *plain) take() *plainConn {
	for {
		p.mu.Lock()
		n := len(p.idle) - 1
		if n < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n]
		p.idle[n] = nil
		p.idle = p.idle[:n]
		p.mu.Unlock()
		if isAlive(c.Conn) {
			return c
		}
		_ = c.Close()
	}
}

// put keeps a connection for the next request.
func (p *plain) put(c *plainConn) {
	if cap(c.out) > writtenAtOnce {
		c.out = nil
	}
	c.idleAt = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxIdle {
		_ = c.Close()
		return
	}
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleTime, p.sweep)
	}
}

// sweep closes connections that have been idle for long.
func (p *plain) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	old := 0
	for ; old < len(p.idle) && now.Sub(p.idle[old].idleAt) >= idleTime; old++ {
		_ = p.idle[old].Close()
	}
	p.idle = slices.Delete(p.idle, 0, old)
	if p.sweeper = nil; len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(p.idle[0].idleAt.Add(idleTime).Sub(now), p.sweep)
	}
}

// CloseIdleConnections closes what no request uses.
func (p *plain) CloseIdleConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		_ = c.Close()
	}
	p.idle = nil
	if p.sweeper != nil {
		p.sweeper.Stop()
		p.sweeper = nil
	}
}

// plainBody is an answer's body. At its end the connection is kept for the
// next request; closed before, it is given up, and the upstream notices. Used
// by one goroutine.
type plainBody struct {
	inner io.Reader
	pool  *plain
	conn  *plainConn
	stop  func() bool // watching the context
	again bool        // the connection can be used again
	err   error       // why there is no more of it
}

func (b *plainBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.inner.Read(p)
	if err != nil {
		b.finish(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *plainBody) Close() error {
	if b.err == nil {
		b.finish(http.ErrBodyReadAfterClose)
	}
	return nil
}

func (b *plainBody) finish(err error) {
	b.err = err
	if b.stop() && err == io.EOF && b.again && b.conn.in.Buffered() == 0 {
		b.pool.put(b.conn)
		return
	}
	_ = b.conn.Close()
}
