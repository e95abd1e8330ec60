package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/inference-router/inference-router/translate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ask       = `{"model":"m","messages":[{"role":"user","content":"hi"}]}`
	askStream = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hi"}]}`
	reply     = `{"id":"x","choices":[{"message":{"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
	part      = `{"id":"x","choices":[{"index":0,"delta":{"content":"hello"},"finish_reason":null}]}`
	final     = `{"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`
	stream    = "data: " + part + "\n\ndata: " + final + "\n\ndata: [DONE]\n\n"
)

func request(t *testing.T, body string) *translate.Request {
	t.Helper()
	r, err := translate.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// dial makes the upstream at url.
func dial(t *testing.T, url string, change ...func(*OpenAIConfig)) *OpenAI {
	t.Helper()
	c := OpenAIConfig{Name: "test", BaseURL: url, APIKey: "sk-canary"}
	for _, f := range change {
		f(&c)
	}
	u, err := NewOpenAI(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}

// serve starts an HTTP server and returns its URL.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

// script starts a raw server: each connection reads one request after another
// and gives it, with the connection, to answer, until that returns false.
func script(t *testing.T, answer func(c *net.TCPConn, r *http.Request) bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for in := bufio.NewReader(c); ; {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					if !answer(c.(*net.TCPConn), r) {
						return
					}
				}
			}()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "http://" + l.Addr().String()
}

// text is a raw server that answers each connection with s and closes it.
func text(t *testing.T, s string) string {
	return script(t, func(c *net.TCPConn, _ *http.Request) bool {
		_, _ = io.WriteString(c, s)
		return false
	})
}

type result struct {
	data   []string
	chunks []translate.Chunk
	err    error
}

// chat calls u and collects the answer.
func chat(ctx context.Context, u *OpenAI, r *translate.Request) (got result) {
	for c, err := range u.Chat(ctx, r) {
		if err != nil {
			got.err = err
			continue
		}
		if len(c.Data) > 0 {
			got.data = append(got.data, string(c.Data))
		}
		got.chunks = append(got.chunks, c)
	}
	return got
}

func TestChatWhole(t *testing.T) {
	u := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path != "/v1/chat/completions" || string(body) != ask || r.Header.Get("Authorization") != "Bearer sk-canary" {
			t.Errorf("got %s %s %v", r.URL, body, r.Header)
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Request-Id", "req_1")
		_, _ = io.WriteString(w, reply)
	})+"/v1/")
	got := chat(t.Context(), u, request(t, ask))
	if got.err != nil || len(got.data) != 1 || got.data[0] != reply {
		t.Fatalf("got %q, %v", got.data, got.err)
	}
	c := got.chunks[0]
	if !c.Whole || c.Usage == nil || c.Usage.OutputTokens != 2 || c.Head == nil || c.Head.RequestID != "req_1" {
		t.Errorf("got %+v", c)
	}
}

func TestChatStreamIsTheSameHoweverItIsSplit(t *testing.T) {
	full := ": ping\r\n\r\n" + stream
	for size := 1; size <= len(full); size += 7 {
		u := dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
			for rest := full; rest != ""; {
				n := min(size, len(rest))
				_, _ = io.WriteString(w, rest[:n])
				_ = http.NewResponseController(w).Flush()
				rest = rest[n:]
			}
		}))
		got := chat(t.Context(), u, request(t, askStream))
		if want := "[ping " + part + " " + final + "]"; got.err != nil || fmt.Sprint(got.data) != want {
			t.Fatalf("in slices of %d: got %v, %v", size, got.data, got.err)
		}
		if last := got.chunks[len(got.chunks)-1]; !last.Done {
			t.Errorf("the last chunk is %+v, want Done", last)
		}
	}
}

// failed checks the upstream error of a call.
func failed(t *testing.T, err error, kind translate.Kind, code string, billed translate.Billed) {
	t.Helper()
	var e *translate.UpstreamError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an upstream error", err)
	}
	if e.Kind != kind || e.Code != code || e.Billed != billed {
		t.Errorf("got %s/%s billed %d (%v), want %s/%s billed %d", e.Kind, e.Code, e.Billed, err, kind, code, billed)
	}
	for _, secret := range []string{"127.0.0.1", "sk-canary", "localhost", "http://"} {
		if strings.Contains(e.Message, secret) {
			t.Errorf("message %q tells %s", e.Message, secret)
		}
	}
}

func TestChatEndsWithItsContext(t *testing.T) {
	gone := errors.New("the client is gone")
	started := make(chan struct{}, 1)
	ended := make(chan struct{}, 1)
	u := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "completions") {
			_, _ = io.ReadAll(r.Body)
		}
		started <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
	}))
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-started
		cancel(gone)
	}()
	if got := chat(ctx, u, request(t, ask)); !errors.Is(got.err, gone) {
		t.Errorf("got %v, want the cause %v", got.err, gone)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the upstream was not told")
	}
}
