package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
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
	log     *slog.Logger
	servers []*http.Server
	open    []net.Listener
	all     *connections
	certs   *certificates
	base    context.Context // of every request
	end     context.CancelCauseFunc
	leaving atomic.Bool
}

// lastWords is how long requests have, once they are told to end, to say so to
// their clients and to settle.
const lastWords = 5 * time.Second

// newFront makes one that takes so many connections at once, 0 for the default.
func newFront(log *slog.Logger, maxConnections int) *front {
	f := &front{log: log, all: newConnections(connectionLimit(maxConnections), log), certs: new(certificates)}
	f.base, f.end = context.WithCancelCause(context.Background())
	return f
}

// add opens a listener for the handler.
func (f *front) add(address string, h http.Handler) (net.Addr, error) {
	l, err := listen(address)
	if err != nil {
		return nil, err
	}
	server := f.server(h)
	if l.Addr().Network() != "unix" {
		server.TLSConfig = f.certs.server()
	}
	f.open = append(f.open, listener{l, f.all})
	f.servers = append(f.servers, server)
	return l.Addr(), nil
}

// defaultConnections is server.max_connections when it is left out.
const defaultConnections = 16_384

// connectionLimit is how many connections may be open: as configured, and no
// more than 80 % of the descriptors, for upstreams and files need some, too.
func connectionLimit(configured int) int {
	limit := cmp.Or(configured, defaultConnections)
	if all := descriptors(); all > 0 {
		limit = min(limit, max(1, all*4/5))
	}
	return limit
}

const (
	maxHeaderFields = 100
	maxHeaderBytes  = 32 << 10
)

// server bounds what a client may take of us before anything is known of it.
// There is no WriteTimeout: an answer may take as long as timeouts.total, but
// its connection gives up when the client does not read. net/http lifts the read
// deadline once a request is read.
func (f *front) server(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           bounded(f.farewell(h)),
		BaseContext:       func(net.Listener) context.Context { return f.base },
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       proxy.RequestTime,
		IdleTimeout:       120 * time.Second,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnState:         f.all.changed,
		ErrorLog:          slog.NewLogLogger(f.log.Handler(), slog.LevelDebug), // what clients do wrong
	}
}

// bounded refuses requests with more header fields than any client needs.
func bounded(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fields := 0
		for _, values := range r.Header {
			fields += len(values)
		}
		if fields > maxHeaderFields {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("X-Request-Id", budget.NewID())
			w.WriteHeader(http.StatusRequestHeaderFieldsTooLarge)
			fmt.Fprintf(w, `{"error":{"message":"more than %d header fields","type":"invalid_request_error","param":null,"code":"headers_too_large"}}`, maxHeaderFields)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// serve runs until a server fails; after shutdown or close it returns nil.
func (f *front) serve() error {
	failed := make(chan error, len(f.servers))
	for i, s := range f.servers {
		go func() {
			if s.TLSConfig != nil {
				failed <- s.ServeTLS(f.open[i], "", "")
				return
			}
			failed <- s.Serve(f.open[i])
		}()
	}
	for range f.servers {
		if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
			f.close()
			return err
		}
	}
	return nil
}

// leave asks clients to come back on another connection, with each answer. Idle
// connections stay: a request may be on its way on any of them.
func (f *front) leave() { f.leaving.Store(true) }

// farewell ends connections with the answer, once the process is leaving.
func (f *front) farewell(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f.leaving.Load() {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
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
