package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// listen opens host:port, or unix:/path as a socket that only this user may
// connect to.
func listen(address string) (net.Listener, error) {
	path, unix := strings.CutPrefix(address, "unix:")
	if !unix {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
		return l, nil
	}
	l, err := listenUnix(path)
	if err != nil {
		return nil, fmt.Errorf("listen on unix:%s: %w", path, err)
	}
	return l, nil
}

// listenUnix makes the socket in a directory of its own and moves it into
// place when its mode is right: at no time can others connect. A socket that
// nobody answers is one that a dead process left, and is replaced.
func listenUnix(path string) (net.Listener, error) {
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, errors.New("there is a file that is no socket")
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			_ = c.Close()
			return nil, errors.New("another process answers there")
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".ir") // mode 0700
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	hidden := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(hidden, 0o600); err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	own, err := os.Lstat(path)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &unixListener{l, path, own}, nil
}

// unixListener removes its socket when it is closed, unless another process
// has put its own there.
type unixListener struct {
	*net.UnixListener
	path string
	own  os.FileInfo
}

func (l *unixListener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.own) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// Addr is where clients find the socket.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// front is the process' side to the network: listeners, and what serves them.
type front struct {
	servers []*http.Server
	open    []net.Listener
	base    context.Context // of every request
	end     context.CancelCauseFunc
}

// lastWords is how long requests have, once they are told to end, to say so to
// their clients and to settle.
const lastWords = 5 * time.Second

func newFront() *front {
	f := new(front)
	f.base, f.end = context.WithCancelCause(context.Background())
	return f
}

// add opens a listener for the handler.
func (f *front) add(address string, h http.Handler) (net.Addr, error) {
	l, err := listen(address)
	if err != nil {
		return nil, err
	}
	f.open = append(f.open, l)
	f.servers = append(f.servers, &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return f.base },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    32 << 10,
		// No WriteTimeout: an answer may take as long as timeouts.total.
	})
	return l.Addr(), nil
}

// serve runs until a server fails; after shutdown or close it returns nil.
func (f *front) serve() error {
	failed := make(chan error, len(f.servers))
	for i, s := range f.servers {
		go func() { failed <- s.Serve(f.open[i]) }()
	}
	for range f.servers {
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			f.close()
			return err
		}
	}
	return nil
}

// leave asks clients to come back on another connection.
func (f *front) leave() {
	for _, s := range f.servers {
		s.SetKeepAlivesEnabled(false)
	}
}

// shutdown stops taking requests, waits for the running ones, and ends them
// with the cause when ctx ends first.
func (f *front) shutdown(ctx context.Context, cause error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, s := range f.servers {
			_ = s.Shutdown(context.Background()) // ends when all requests have
		}
	}()
	select {
	case <-done:
		return
	case <-ctx.Done():
	}
	f.end(cause)
	select {
	case <-done:
	case <-time.After(lastWords):
		f.close()
		<-done
	}
}

// close ends everything at once.
func (f *front) close() {
	f.end(context.Canceled)
	for _, s := range f.servers {
		_ = s.Close()
	}
	for _, l := range f.open {
		_ = l.Close()
	}
}
