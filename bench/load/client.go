package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// client is one connection that speaks just enough HTTP/1.1 to be cheap: the
// load must not take the time of what it measures.
type client struct {
	address string
	conn    net.Conn
	reader  *bufio.Reader
	events  bool   // the answer is a stream of events
	tail    []byte // its last bytes
}

func dial(address string) (*client, error) {
	c := &client{address: address, tail: make([]byte, 0, 64)}
	return c, c.connect()
}

func (c *client) connect() error {
	conn, err := net.Dial("tcp", c.address)
	if err != nil {
		return err
	}
	c.conn, c.reader = conn, bufio.NewReaderSize(conn, 64<<10)
	return nil
}

func (c *client) close() { _ = c.conn.Close() }

// do sends a request and reads its answer to the end. first is when the first
// byte of the answer's body was there. After an error the connection is a new
// one.
func (c *client) do(request []byte) (first time.Time, err error) {
	if _, err = c.conn.Write(request); err == nil {
		first, err = c.answer()
	}
	if err != nil {
		c.close()
		if redial := c.connect(); redial != nil {
			return first, redial
		}
	}
	return first, err
}

func (c *client) answer() (first time.Time, err error) {
	status, err := c.line()
	if err != nil {
		return first, err
	}
	if !bytes.HasPrefix(status, []byte("HTTP/1.1 200 ")) {
		rest, _ := c.reader.Peek(min(c.reader.Buffered(), 2000))
		return first, fmt.Errorf("answer %q %q", status, rest)
	}
	length, err := c.header()
	if err != nil {
		return first, err
	}
	if _, err := c.reader.Peek(1); err != nil {
		return first, err
	}
	first = time.Now()
	if length >= 0 {
		_, err = c.reader.Discard(length)
		return first, err
	}
	return first, c.chunked()
}

// header reads to the end of the header and returns the body's length, -1
// when it is chunked.
func (c *client) header() (length int, err error) {
	length, c.events = -1, false
	for {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		if len(line) == 0 {
			return length, nil
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimSpace(value)
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		case bytes.EqualFold(name, []byte("Content-Type")):
			c.events = bytes.HasPrefix(value, []byte("text/event-stream"))
		}
	}
}

// chunked reads a chunked body and its trailer. A stream of events must end
// with [DONE].
func (c *client) chunked() error {
	c.tail = c.tail[:0]
	for {
		line, err := c.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return fmt.Errorf("chunk size %q", line)
		}
		if size == 0 {
			break
		}
		if err := c.discard(int(size)); err != nil {
			return err
		}
		if _, err := c.reader.Discard(len("\r\n")); err != nil {
			return err
		}
	}
	cut := c.events && !bytes.Contains(c.tail, []byte("[DONE]"))
	if _, err := c.header(); err != nil { // the trailer has the same form
		return err
	}
	if cut {
		return errors.New("stream ended without [DONE]")
	}
	return nil
}

// discard skips n bytes but for the last of them, which it adds to the tail.
func (c *client) discard(n int) error {
	keep := min(n, cap(c.tail)/2)
	if _, err := c.reader.Discard(n - keep); err != nil {
		return err
	}
	if over := len(c.tail) + keep - cap(c.tail); over > 0 {
		c.tail = c.tail[:copy(c.tail, c.tail[over:])]
	}
	start := len(c.tail)
	c.tail = c.tail[:start+keep]
	_, err := io.ReadFull(c.reader, c.tail[start:])
	return err
}

// line reads a line without its end, valid until the next read.
func (c *client) line() ([]byte, error) {
	line, err := c.reader.ReadSlice('\n')
	return bytes.TrimRight(line, "\r\n"), err
}
