package command

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-router/inference-router/internal/testkit"
	"github.com/inference-router/inference-router/proxy"
)

// fronted serves h on a unix socket and returns its path and what serve returned.
func fronted(t *testing.T, h http.HandlerFunc) (f *front, path string, served <-chan error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	f = newFront(slog.New(slog.DiscardHandler), 0)
	if _, err := f.add("unix:"+path, h); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- f.serve() }()
	t.Cleanup(f.close)
	return f, path, done
}

func TestUnixSocketIsPrivateAndRemoved(t *testing.T) {
	f, path, served := fronted(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Fatalf("socket = %v, %v, want mode 0600", info, err)
	}
	resp, err := testkit.OverUnix(path).Get("http://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "hello" {
		t.Errorf("body = %q", body)
	}
	f.shutdown(t.Context(), errors.New("stop"))
	if err := <-served; err != nil {
		t.Errorf("serve returned %v after a shutdown", err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestUnixSocketInTheWay(t *testing.T) {
	t.Run("one that is answered is not taken over", func(t *testing.T) {
		_, path, _ := fronted(t, func(http.ResponseWriter, *http.Request) {})
		if l, err := listen("unix:" + path); err == nil {
			l.Close()
			t.Error("listened on another process' socket")
		}
	})
	t.Run("a dead one is replaced", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		dead.SetUnlinkOnClose(false)
		dead.Close()
		l, err := listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	})
	t.Run("another kind of file stays", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		testkit.Write(t, path, "precious")
		if l, err := listen("unix:" + path); err == nil {
			l.Close()
			t.Error("listened over a file")
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Errorf("the file now holds %q", b)
		}
	})
	t.Run("a socket that another process put there is not removed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		ours, err := listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		theirs, err := listen("unix:" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		ours.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the other's socket is gone: %v", err)
		}
	})
}

func TestShutdownWaitsForRunningRequests(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	f, path, _ := fronted(t, func(w http.ResponseWriter, r *http.Request) {
		close(started)
		<-finish
		_, _ = io.WriteString(w, "whole")
	})
	answer := make(chan string)
	go func() {
		resp, err := testkit.OverUnix(path).Get("http://localhost/")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-started
	stopped := make(chan struct{})
	go func() { f.shutdown(t.Context(), errors.New("stop")); close(stopped) }()
	for { // until new connections are refused
		c, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		c.Close()
	}
	select {
	case <-stopped:
		t.Error("shutdown did not wait")
	default:
	}
	close(finish)
	if got := <-answer; got != "whole" {
		t.Errorf("answer = %q, want whole", got)
	}
	<-stopped
}

func TestShutdownEndsWhatDoesNotEndItself(t *testing.T) {
	why := errors.New("time is over")
	started, cause := make(chan struct{}), make(chan error, 1)
	f, path, _ := fronted(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		cause <- context.Cause(r.Context())
	})
	go func() {
		if resp, err := testkit.OverUnix(path).Get("http://localhost/"); err == nil {
			resp.Body.Close()
		}
	}()
	<-started
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	f.shutdown(ctx, why)
	if got := <-cause; !errors.Is(got, why) {
		t.Errorf("the request ended with %v, want %v", got, why)
	}
}

func TestListenErrorNamesTheAddress(t *testing.T) {
	first, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	address := first.Addr().String()
	if _, err := listen(address); err == nil || !strings.Contains(err.Error(), "listen on "+address) {
		t.Errorf("error = %v, want it to name %s", err, address)
	}
}

func TestTooManyHeaderFields(t *testing.T) {
	_, path, _ := fronted(t, func(http.ResponseWriter, *http.Request) {})
	for fields, want := range map[int]int{50: 200, 101: 431} {
		r, err := http.NewRequest("GET", "http://localhost/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header["X-Many"] = make([]string, fields)
		resp, err := testkit.OverUnix(path).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want || want == 431 && (!json.Valid(body) || resp.Header.Get("X-Request-Id") == "") {
			t.Errorf("%d fields: %d %s, want %d", fields, resp.StatusCode, body, want)
		}
	}
}

func TestARequestMustArriveInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		left := make(chan error, 1)
		server := newFront(slog.New(slog.DiscardHandler), 0).server(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			left <- err
		}))
		go func() { _ = server.Serve(&oneConn{conn: far}) }()
		start := time.Now()
		if _, err := io.WriteString(near, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf"); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, near) }()
		if err := <-left; err == nil || time.Since(start) != proxy.RequestTime {
			t.Errorf("half a body ended with %v after %v, want an error after %v", err, time.Since(start), proxy.RequestTime)
		}
		near.Close()
		server.Close()
	})
}

func TestAnswersMayTakeLongerThanRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		ended := make(chan error, 1)
		server := newFront(slog.New(slog.DiscardHandler), 0).server(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			select {
			case <-r.Context().Done():
				ended <- context.Cause(r.Context())
			case <-time.After(10 * proxy.RequestTime):
				ended <- nil
			}
		}))
		go func() { _ = server.Serve(&oneConn{conn: far}) }()
		if _, err := io.WriteString(near, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, near) }()
		if err := <-ended; err != nil {
			t.Errorf("a long answer was ended: %v", err)
		}
		near.Close()
		server.Close()
	})
}

// oneConn is a listener that accepts one connection.
type oneConn struct {
	conn net.Conn
	done bool
}

func (l *oneConn) Accept() (net.Conn, error) {
	if l.done {
		return nil, net.ErrClosed
	}
	l.done = true
	return l.conn, nil
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return l.conn.LocalAddr() }
