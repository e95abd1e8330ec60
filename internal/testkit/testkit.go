// Package testkit is what the tests of several packages share. No product code
// imports it.
package testkit

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"
)

// Minimal is the least configuration that is complete; tests append to it.
const Minimal = "tiers:\n  fast:\n    - {provider: simulated, model: small, price: {input: 1, output: 4}}\n  powerful:\n    - {provider: simulated, model: large, price: {input: 1, output: 4}}\n"

// Buffer is a buffer that may be read while it is written. Safe for concurrent
// use; the zero value is empty.
type Buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is all that was written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Write puts text into the file at path, which only its owner may read.
func Write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Eventually waits until holds returns true, at most a minute: a busy machine
// is slow, and only a test that fails waits that long.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not true after a minute: %s", what)
		}
	}
}

// OverUnix is a client that connects to the socket whatever the URL says.
func OverUnix(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

// Variables stand for the environment.
type Variables map[string]string

// Lookup finds a variable, as os.LookupEnv does.
func (v Variables) Lookup(name string) (string, bool) {
	value, ok := v[name]
	return value, ok
}
