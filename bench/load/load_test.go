package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// serve answers with h and returns its address.
func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestBodies(t *testing.T) {
	for _, size := range []int{1 << 10, 10 << 10, 100 << 10} {
		b := body{size: size, chunks: 7, pace: 10 * time.Millisecond}
		text := b.json()
		var request struct {
			Messages            []struct{ Role, Content string }
			MaxCompletionTokens int `json:"max_completion_tokens"`
			Stream              bool
		}
		if err := json.Unmarshal(text, &request); err != nil {
			t.Fatalf("body of %d bytes: %v", size, err)
		}
		if len(text) < size*95/100 || len(text) > size*105/100 {
			t.Errorf("body has %d bytes, want about %d", len(text), size)
		}
		newest := request.Messages[len(request.Messages)-1]
		if newest.Role != "user" || !strings.Contains(newest.Content, "pace=10ms") || !request.Stream || request.MaxCompletionTokens != 7 {
			t.Errorf("newest turn %+v, stream %t of %d, want a user's with the pace, of 7", newest, request.Stream, request.MaxCompletionTokens)
		}
	}
}

func TestClosedLoop(t *testing.T) {
	var requests atomic.Int64
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) || r.Header.Get("X-Router-User") == "" {
			t.Errorf("request with body %q, user %q, error %v", body, r.Header.Get("X-Router-User"), err)
		}
		requests.Add(1)
		_, _ = io.WriteString(w, `{"ok":true}`)
	})
	got, err := run(options{address: address, conns: 3, length: 50 * time.Millisecond, body: body{size: 1024}})
	if err != nil || got.Errors > 0 || int64(got.Requests) != requests.Load() || got.Requests < 3 {
		t.Errorf("run = %+v, %v, want no error and %d requests", got, err, requests.Load())
	}
	if got.P50 <= 0 || got.P99 < got.P50 || got.FirstP50 > got.P50 {
		t.Errorf("times %+v are not in order", got)
	}
}

// A server that stalls makes every request that was due meanwhile late.
func TestOpenLoopCountsFromWhenARequestWasDue(t *testing.T) {
	var requests atomic.Int64
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			time.Sleep(200 * time.Millisecond)
		}
		_, _ = io.WriteString(w, "{}")
	})
	got, err := run(options{address: address, conns: 1, rate: 500, length: 200 * time.Millisecond, body: body{size: 1024}})
	if err != nil || got.Requests != 100 {
		t.Fatalf("run = %+v, %v, want 100 requests", got, err)
	}
	if got.P50 < 50_000 {
		t.Errorf("median %v µs, want about 100,000: half of the stall", got.P50)
	}
}

func TestStreams(t *testing.T) {
	const event = `data: {"choices":[{"delta":{"content":" token"}}]}` + "\n\n"
	for _, tt := range []struct {
		name, end, err string
	}{
		{"a stream that ends as it should", "data: [DONE]\n\n", ""},
		{"a stream that is cut", "", "without [DONE]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			address := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				w.Header().Set("Trailer", "X-Router-Cost-USD")
				for range 5 {
					_, _ = io.WriteString(w, event)
					w.(http.Flusher).Flush()
				}
				_, _ = io.WriteString(w, tt.end)
				w.Header().Set("X-Router-Cost-USD", "0.1")
			})
			c, err := dial(address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.close()
			request := body{size: 1024, chunks: 5}.request(address, "a")
			for range 2 { // the second shows that the first was read to its end
				_, err := c.do(request)
				if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
					t.Errorf("do() = %v, want %q", err, tt.err)
				}
			}
		})
	}
}

func TestErrorsAreCounted(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "no budget", http.StatusTooManyRequests)
	})
	got, err := run(options{address: address, conns: 1, length: 20 * time.Millisecond, body: body{size: 1024}})
	if err != nil || got.Requests != 0 || got.Errors == 0 || !strings.Contains(got.FirstError, "429") {
		t.Errorf("run = %+v, %v, want errors only, with the status", got, err)
	}
}
