package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// reset closes a connection so that its peer gets a reset.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// refused is an address that nobody listens on.
func refused(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// at is an upstream line for an address of its own.
func at(base, model string, more ...string) string {
	line := "{provider: openai, model: " + model + ", base_url: '" + base + "', api_key: sk-canary-1234, price: {input: 1, output: 10}"
	for _, m := range more {
		line += ", " + m
	}
	return line + "}"
}

// rawUpstream answers each connection by hand, once its request is read.
func rawUpstream(t *testing.T, answer func(c net.Conn)) (base string, calls *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls = new(atomic.Int64)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer func() { _ = c.Close() }()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return
				}
				calls.Add(1)
				answer(c)
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); running.Wait() })
	return "http://" + l.Addr().String() + "/v1", calls
}

// hardBudget makes the ledger visible.
const hardBudget = "budgets: [{scope: global, usd: 5, per: day, on_exhausted: reject}]\n"

// ledger is what the global budget has spent and reserved.
func (s *served) ledger(t *testing.T) (spent, reserved string) {
	t.Helper()
	b := s.do(t, "GET", "/budgets", "").get(`budgets.#(scope=="global")`)
	return b.Get("spent_usd").Raw, b.Get("reserved_usd").Raw
}

// nothingReserved waits until all reservations are settled.
func (s *served) nothingReserved(t *testing.T) (spent string) {
	t.Helper()
	testkit.Eventually(t, "nothing is reserved", func() bool {
		var reserved string
		spent, reserved = s.ledger(t)
		return reserved == "0"
	})
	return spent
}

func TestFaultsBeforeAnAnswer(t *testing.T) {
	good := newFake(t, answersWell)
	bad := newFake(t, nil)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	_, _ = z.Write([]byte(`{"error":{"message":"too long","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}`))
	_ = z.Close()
	var bomb bytes.Buffer
	z = gzip.NewWriter(&bomb)
	for range 200 {
		_, _ = z.Write(bytes.Repeat([]byte(" "), 1<<20))
	}
	_ = z.Close()
	raw := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
				_, _ = io.WriteString(c, text)
				_ = c.Close()
			}
		}
	}
	const free, full = "0", "F"
	for _, tt := range []struct {
		name   string
		script http.HandlerFunc
		status int
		code   string
		charge string // free, or full: all that the attempt had reserved
	}{
		{"U11 a reset after the request", resets, 502, "upstream_reset", full},
		{"U19 429", answersWith(429, `{}`, "Retry-After", "2"), 429, "rate_limit_exceeded", free},
		{"U23 500", answersWith(500, `{}`), 502, "upstream_error", free},
		{"U28 our credential", answersWith(401, `{}`), 502, "upstream_auth_error", free},
		{"U29 no such model", answersWith(404, `{}`), 502, "model_not_found", free},
		{"U30 408", answersWith(408, `{}`), 504, "upstream_timeout", free},
		{"U30 409", answersWith(409, `{}`), 502, "upstream_error", free},
		{"U33 an error with status 200", answersWith(200, `{"error":{"message":"overloaded","type":"server_error","code":"503"}}`), 503, "upstream_overloaded", free},
		{"U34 HTML", answersWith(200, "<html>", "Content-Type", "text/html"), 502, "upstream_bad_response", free},
		{"U35 an empty body", answersWith(200, ""), 502, "upstream_bad_response", full},
		{"U36 a body that is cut short", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n" + completion), 502, "upstream_truncated", full},
		{"U37 broken JSON", answersWith(200, completion[:80]), 502, "upstream_bad_response", full},
		{"U39 a gzip bomb", answersWith(200, bomb.String(), "Content-Encoding", "gzip"), 502, "upstream_too_large", full},
		{"U40 an endless answer", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			for page := bytes.Repeat([]byte(" "), 1<<20); ; {
				if _, err := w.Write(page); err != nil {
					return
				}
			}
		}, 502, "upstream_too_large", full},
		{"U41 endless headers", raw("HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n"), 502, "upstream_bad_response", full},
		{"U43 broken chunks", raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"), 502, "upstream_bad_response", full},
		{"not HTTP at all", raw("SSH-2.0-OpenSSH\r\n"), 502, "upstream_bad_response", full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := newFake(t, tt.script)
			only := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"))+hardBudget+"retries: {max_attempts: 1}\n")
			a := only.chat(t, asking("auto", "x", `"max_tokens":50`))
			if code := a.get("error.code").String(); a.status != tt.status || code != tt.code && !(tt.name == "U29 no such model" && code == "upstream_error") {
				t.Errorf("only: %d %s, want %d %s", a.status, a.body, tt.status, tt.code)
			}
			spent := only.nothingReserved(t)
			if charged := spent != "0"; charged != (tt.charge == full) {
				t.Errorf("charged %s, want %s", spent, tt.charge)
			}
			other := newFake(t, answersWell)
			pair := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"), upstreamLine(other, "good"))+hardBudget)
			b := pair.chat(t, asking("auto", "x", `"max_tokens":50`))
			if b.status != 200 || b.body != completion || b.header.Get("X-Router-Model") != "openai/good" || b.header.Get("X-Router-Attempts") != "2" || b.header.Get("X-Router-Fallback") != "false" {
				t.Errorf("with another: %d %s %v", b.status, b.body, b.header)
			}
			want := nano(t, "0.0002") + nano(t, spent)
			if got := pair.nothingReserved(t); nano(t, got) != want || b.header.Get("X-Router-Cost-USD") != got {
				t.Errorf("both cost %s, header %s; want %d nano-dollars", got, b.header.Get("X-Router-Cost-USD"), want)
			}
			for _, leak := range []string{"sk-canary", "127.0.0.1", "<html>"} {
				if strings.Contains(a.body, leak) {
					t.Errorf("%s leaks: %s", leak, a.body)
				}
			}
		})
	}
	t.Run("U38 a gzipped error body", func(t *testing.T) {
		bad.now(answersWith(400, packed.String(), "Content-Encoding", "gzip"))
		s := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"), upstreamLine(good, "good")))
		a := s.chat(t, asking("auto", "x"))
		if a.status != 400 || a.get("error.code").String() != "context_length_exceeded" || a.header.Get("Content-Encoding") != "" {
			t.Errorf("%d %q %v", a.status, a.body, a.header)
		}
	})
}

func TestFaultU01_U02_NobodyListens(t *testing.T) {
	good := newFake(t, answersWell)
	pair := serveConfig(t, oneTierOf(at("http://"+refused(t)+"/v1", "bad"), upstreamLine(good, "good"))+hardBudget)
	a := pair.chat(t, asking("auto", "x"))
	if a.status != 200 || a.header.Get("X-Router-Attempts") != "2" {
		t.Errorf("%d %v", a.status, a.header)
	}
	if spent := pair.nothingReserved(t); spent != "0.0002" {
		t.Errorf("spent %s", spent)
	}
	only := serveConfig(t, oneTierOf(at("http://"+refused(t)+"/v1", "bad"))+hardBudget)
	start := time.Now()
	b := only.chat(t, asking("auto", "x"))
	b.wantError(t, 502, "api_error", "upstream_unavailable")
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if spent := only.nothingReserved(t); spent != "0" {
		t.Errorf("spent %s", spent)
	}
}

// deaf is an address where connections are never accepted.
func deaf(t *testing.T) (address string) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for full := false; !full; { // until its queue is full
		c, err := net.DialTimeout("tcp", address, 100*time.Millisecond)
		if full = err != nil; !full {
			t.Cleanup(func() { _ = c.Close() })
		}
	}
	return address
}

func TestFaultU03_U04_NoConnection(t *testing.T) {
	address := deaf(t)
	good := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(at("http://"+address+"/v1", "bad"), upstreamLine(good, "good"))+"timeouts: {connect: 200ms}\n")
	if a := s.chat(t, asking("auto", "x")); a.status != 200 || a.header.Get("X-Router-Attempts") != "2" {
		t.Errorf("%d %v", a.status, a.header)
	}
	only := serveConfig(t, oneTierOf(at("http://"+address+"/v1", "bad", "timeouts: {connect: 200ms}"))+hardBudget+"retries: {max_attempts: 1}\n")
	only.chat(t, asking("auto", "x")).wantError(t, 504, "api_error", "upstream_connect_timeout")
	if spent := only.nothingReserved(t); spent != "0" {
		t.Errorf("spent %s", spent)
	}
	nameless := serveConfig(t, oneTierOf(at("http://no-such-host.invalid/v1", "bad"), upstreamLine(good, "good")))
	if a := nameless.chat(t, asking("auto", "x")); a.status != 200 || a.header.Get("X-Router-Attempts") != "2" {
		t.Errorf("%d %v", a.status, a.header)
	}
	b := nameless.chat(t, asking("openai/bad", "x"))
	if b.status != 502 && b.status != 504 || strings.Contains(b.body, "no-such-host") {
		t.Errorf("a name that does not resolve: %d %s", b.status, b.body)
	}
}

func TestFaultU06_U09_TLS(t *testing.T) {
	secure := httptest.NewTLSServer(http.HandlerFunc(answersWell))
	defer secure.Close()
	secure.Config.ErrorLog = nil
	plain := newFake(t, answersWell)
	pemFile := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(pemFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	port := secure.URL[strings.LastIndexByte(secure.URL, ':'):]
	for _, tt := range []struct {
		name, base string
		env        []string
		status     int
	}{
		{"U06 an unknown CA", secure.URL, nil, 502},
		{"a known one", secure.URL, []string{"SSL_CERT_FILE=" + pemFile}, 200},
		{"U07 the wrong name", "https://localhost" + port, []string{"SSL_CERT_FILE=" + pemFile}, 502},
		{"U09 plain HTTP on the TLS port", strings.Replace(plain.URL, "http:", "https:", 1), nil, 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serveConfig(t, oneTierOf(at(tt.base+"/v1", "m")), tt.env...)
			a := s.chat(t, asking("auto", "x"))
			if tt.status == 502 {
				a.wantError(t, 502, "api_error", "upstream_tls_error")
			} else if a.status != tt.status {
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
}

func TestFaultU08_TLSStalls(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	good := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(at("https://"+l.Addr().String()+"/v1", "bad"), upstreamLine(good, "good")))
	start := time.Now()
	if a := s.chat(t, asking("auto", "x")); a.status != 200 || a.header.Get("X-Router-Attempts") != "2" || time.Since(start) > 10*time.Second {
		t.Errorf("%d %v after %v", a.status, a.header, time.Since(start))
	}
}

func TestFaultU10_IdleConnectionClosed(t *testing.T) {
	base, calls := rawUpstream(t, func(c net.Conn) {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(completion), completion)
	}) // and closes, though it did not say so
	s := serveConfig(t, oneTierOf(at(base, "m"))+hardBudget)
	for i := range 5 {
		if a := s.chat(t, asking("auto", "x")); a.status != 200 {
			t.Errorf("%d: %d %s", i, a.status, a.body)
		}
	}
	if spent := s.nothingReserved(t); spent != "0.001" || calls.Load() != 5 {
		t.Errorf("spent %s in %d calls, want 0.001 in 5", spent, calls.Load())
	}
}

func TestFaultU12_OnUnknownNever(t *testing.T) {
	bad, good := newFake(t, resets), newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"), upstreamLine(good, "good"))+"retries: {on_unknown: never}\n"+hardBudget)
	a := s.chat(t, asking("auto", "x"))
	a.wantError(t, 502, "api_error", "upstream_reset")
	a.wantHeader(t, "X-Should-Retry", "false")
	if len(good.seen()) != 0 || s.nothingReserved(t) == "0" {
		t.Errorf("%d further calls", len(good.seen()))
	}
}

func TestFaultU19_U22_CoolDown(t *testing.T) {
	for _, tt := range []struct {
		name   string
		script http.HandlerFunc
	}{
		{"U19", answersWith(429, `{}`, "Retry-After", "30")},
		{"U21 a date", answersWith(429, `{}`, "Retry-After", time.Now().Add(50*time.Second).UTC().Format(http.TimeFormat))},
		{"U22 quota", answersWith(429, `{"error":{"code":"insufficient_quota","message":"x"}}`)},
		{"U28 credential", answersWith(403, `{}`)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad, good := newFake(t, tt.script), newFake(t, answersWell)
			s := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"), upstreamLine(good, "good")))
			for range 5 {
				if a := s.chat(t, asking("auto", "x")); a.status != 200 {
					t.Errorf("%d %s", a.status, a.body)
				}
			}
			if n := len(bad.seen()); n != 1 {
				t.Errorf("%d calls of the one that is out, want 1", n)
			}
		})
	}
}

func TestFaultU23_U30_OneUpstreamAloneIsRetried(t *testing.T) {
	for _, status := range []int{500, 502, 503, 504, 529, 408, 409} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var n atomic.Int64
			f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
				if n.Add(1) == 1 {
					answersWith(status, `{}`)(w, r)
					return
				}
				answersWell(w, r)
			})
			s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+hardBudget)
			a := s.chat(t, asking("auto", "x"))
			if a.status != 200 || a.header.Get("X-Router-Attempts") != "2" {
				t.Errorf("%d %s", a.status, a.body)
			}
			if spent := s.nothingReserved(t); spent != "0.0002" {
				t.Errorf("spent %s", spent)
			}
		})
	}
	t.Run("retry_budget: 0", func(t *testing.T) {
		f := newFake(t, answersWith(500, `{}`))
		s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"retries: {retry_budget: 0, max_attempts: 20}\n")
		for range 20 {
			s.chat(t, asking("auto", "x"))
		}
		if n := len(f.seen()); n > 24 {
			t.Errorf("%d calls for 20 requests without a retry budget", n)
		}
	})
	t.Run("max_attempts", func(t *testing.T) {
		f := newFake(t, answersWith(500, `{}`))
		s := serveConfig(t, oneTierOf(upstreamLine(f, "a"), upstreamLine(f, "b"), upstreamLine(f, "c"), upstreamLine(f, "d"))+"retries: {max_attempts: 3}\n")
		s.chat(t, asking("auto", "x"))
		if n := len(f.seen()); n != 3 {
			t.Errorf("%d calls, want 3", n)
		}
	})
}

func TestFaultU24_TheBreakerOpens(t *testing.T) {
	f := newFake(t, answersWith(500, `{}`))
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"), upstreamLine(f, "m2")))
	for range 50 {
		if a := s.chat(t, asking("auto", "x")); a.status != 502 && a.status != 503 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if tiers := s.do(t, "GET", "/tiers", ""); tiers.get("tiers.fast.upstreams.0.healthy").Bool() {
		t.Errorf("%s", tiers.body)
	}
	if n := len(f.seen()); n > 70 {
		t.Errorf("%d calls for 50 requests", n)
	}
	f.now(answersWell)
	if a := s.chat(t, asking("auto", "x")); a.status != 200 && a.status != 503 {
		t.Errorf("U54, all out: %d %s", a.status, a.body)
	} else if a.status == 503 {
		a.wantError(t, 503, "api_error", "no_upstream")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
}

func TestFaultU32_RedirectsAreNotFollowed(t *testing.T) {
	target := newFake(t, answersWell)
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := newFake(t, answersWith(status, "", "Location", target.URL+"/v1/chat/completions"))
		s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"retries: {max_attempts: 1}\n")
		s.chat(t, asking("auto", "x")).wantError(t, 502, "api_error", "upstream_redirect")
	}
	if len(target.seen()) != 0 {
		t.Errorf("the target got %v", target.last(t).header)
	}
}

func TestFaultU45_U49_Usage(t *testing.T) {
	f := newFake(t, nil)
	s := serveConfig(t, loopback+"tiers: {fast: [{provider: openai, model: m, base_url: '"+f.URL+"/v1', api_key: k, price: {input: 1, output: 10, cached_input: 0.1, cache_write: 2}}]}\n"+hardBudget)
	before := int64(0)
	for _, tt := range []struct {
		name, usage string
		least, most string
	}{
		{"exact", `"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110}`, "0.0002", "0.0002"},
		{"U45 missing", `"x":1`, "0.00001", "0.001"},
		{"U46 negative", `"usage":{"prompt_tokens":-5,"completion_tokens":-10}`, "0.00001", "0.001"},
		{"U46 1e400", `"usage":{"prompt_tokens":1e400,"completion_tokens":1}`, "0.00001", "0.001"},
		{"U46 text", `"usage":{"prompt_tokens":"many","completion_tokens":1}`, "0.00001", "0.001"},
		{"U46 2^63", `"usage":{"prompt_tokens":9223372036854775808,"completion_tokens":9223372036854775807}`, "0.00001", "0.001"},
		{"U46 null", `"usage":null`, "0.00001", "0.001"},
		{"U47 zero", `"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`, "0", "0"},
		{"U48 more than reserved", `"usage":{"prompt_tokens":100,"completion_tokens":300,"total_tokens":400}`, "0.0031", "0.0031"},
		{"U49 cached input", `"usage":{"prompt_tokens":100,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":40}}`, "0.000164", "0.000164"},
		{"U49 reasoning is part of the output", `"usage":{"prompt_tokens":100,"completion_tokens":10,"completion_tokens_details":{"reasoning_tokens":8}}`, "0.0002", "0.0002"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f.now(answersWith(200, `{"choices":[{"index":0,"message":{"role":"assistant","content":"Paris"},"finish_reason":"stop"}],`+tt.usage+`}`))
			a := s.chat(t, asking("auto", "x", `"max_tokens":20`))
			if a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			after := nano(t, s.nothingReserved(t))
			cost := after - before
			before = after
			if cost < nano(t, tt.least) || cost > nano(t, tt.most) || nano(t, a.header.Get("X-Router-Cost-USD")) != cost {
				t.Errorf("spent %d nano-dollars, header %s; want %s to %s", cost, a.header.Get("X-Router-Cost-USD"), tt.least, tt.most)
			}
		})
	}
}

// streamFault starts a router before one upstream with the script, streams
// once, and returns what came.
func streamFault(t *testing.T, script http.HandlerFunc, more string) (answered, *served, *fake) {
	t.Helper()
	f := newFake(t, script)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+hardBudget+more)
	return s.chat(t, asking("auto", "x", `"stream":true`, `"max_tokens":50`)), s, f
}

// wantStreamError checks that a stream has the events, then an error event, and
// no [DONE].
func (a answered) wantStreamError(t *testing.T, code string, before ...string) {
	t.Helper()
	data := dataOf(a.body)
	if len(data) != len(before)+1 || !slices.Equal(data[:len(data)-1], before) || strings.Contains(a.body, "[DONE]") {
		t.Errorf("events %q\nwant   %q and an error", data, before)
		return
	}
	e := gjson.Get(data[len(data)-1], "error")
	if e.Get("code").String() != code || e.Get("type").String() != "api_error" || e.Get("message").String() == "" || !e.Get("param").Exists() {
		t.Errorf("error event %s, want code %s", e.Raw, code)
	}
	if a.err != nil || !strings.HasSuffix(a.body, "\n\n") {
		t.Errorf("the body does not end well: %v", a.err)
	}
	if a.trailer.Get("X-Router-Cost-Usd") == "" {
		t.Error("no trailers")
	}
}

func TestFaultT01_T03_NoFirstEvent(t *testing.T) {
	good := newFake(t, answersWell)
	silent := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
	for _, tt := range []struct {
		name   string
		script http.HandlerFunc
		status int
		code   string
		full   bool
	}{
		{"T01 headers, then silence", silent, 504, "upstream_timeout", true},
		{"T02 the first event is an error", func(w http.ResponseWriter, _ *http.Request) {
			sse(w, `{"error":{"message":"overloaded","type":"overloaded_error","code":"server_is_overloaded"}}`)
		}, 503, "upstream_overloaded", false},
		{"an empty stream", func(w http.ResponseWriter, _ *http.Request) { sse(w) }, 502, "upstream_bad_response", true},
		{"only [DONE]", func(w http.ResponseWriter, _ *http.Request) { sse(w, "[DONE]") }, 502, "upstream_bad_response", true},
		{"comments only", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, ": hello\n\n: again\n\n")
		}, 502, "upstream_bad_response", true},
		{"a reset before the first event", func(w http.ResponseWriter, r *http.Request) {
			sse(w)
			_ = http.NewResponseController(w).Flush()
			resets(w, r)
		}, 502, "upstream_reset", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bad := newFake(t, tt.script)
			pair := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"), upstreamLine(good, "good"))+"timeouts: {first_event: 500ms}\n")
			a := pair.chat(t, asking("auto", "x", `"stream":true`))
			if a.status != 200 || a.header.Get("X-Router-Attempts") != "2" || !slices.Equal(dataOf(a.body), append(slices.Clone(events), "[DONE]")) {
				t.Errorf("with another: %d %v %s", a.status, a.header, a.body)
			}
			only := serveConfig(t, oneTierOf(upstreamLine(bad, "bad"))+"timeouts: {first_event: 150ms}\nretries: {max_attempts: 1}\n"+hardBudget)
			b := only.chat(t, asking("auto", "x", `"stream":true`, `"max_tokens":50`))
			b.wantError(t, tt.status, "api_error", tt.code)
			if spent := only.nothingReserved(t); (spent != "0") != tt.full {
				t.Errorf("spent %s, want all of it: %v", spent, tt.full)
			}
		})
	}
}

func TestFaultT04_StallInTheMiddle(t *testing.T) {
	cancelled := make(chan struct{})
	a, s, _ := streamFault(t, func(w http.ResponseWriter, r *http.Request) {
		sse(w, events[0], events[1])
		<-r.Context().Done()
		close(cancelled)
	}, "timeouts: {idle: 150ms}\n")
	a.wantStreamError(t, "stream_idle_timeout", events[0], events[1])
	<-cancelled
	spent := nano(t, s.nothingReserved(t))
	if spent == 0 || spent >= nano(t, "0.0006") { // less than 50 tokens of output
		t.Errorf("spent %d nano-dollars", spent)
	}
}

func TestFaultT05_CommentsArePassedOn(t *testing.T) {
	a, _, _ := streamFault(t, func(w http.ResponseWriter, r *http.Request) {
		sse(w, events[0])
		for range 3 {
			_, _ = io.WriteString(w, ": still here\n\n")
			_ = http.NewResponseController(w).Flush()
		}
		sse(w, append(slices.Clone(events[1:]), "[DONE]")...)
	}, "")
	if strings.Count(a.body, ": still here\n\n") != 3 || !slices.Equal(dataOf(a.body), append(slices.Clone(events), "[DONE]")) {
		t.Errorf("%s", a.body)
	}
}

func TestFaultT06_T08_HowStreamsEnd(t *testing.T) {
	done := append(slices.Clone(events), "[DONE]")
	for _, tt := range []struct {
		name   string
		script http.HandlerFunc
		want   []string // a whole stream; else an error after two events
		code   string
	}{
		{"T06 a reset", func(w http.ResponseWriter, r *http.Request) {
			sse(w, events[0], events[1])
			time.Sleep(20 * time.Millisecond) // a reset may overtake data
			resets(w, r)
		}, nil, "stream_interrupted"},
		{"T07 an end without finish_reason and [DONE]", func(w http.ResponseWriter, _ *http.Request) { sse(w, events[0], events[1]) }, nil, "stream_interrupted"},
		{"T07 half an event", func(w http.ResponseWriter, _ *http.Request) {
			sse(w, events[0], events[1])
			_, _ = io.WriteString(w, `data: {"choices":[{"in`)
		}, nil, "stream_interrupted"},
		{"T08 finish_reason without [DONE]", func(w http.ResponseWriter, _ *http.Request) { sse(w, events...) }, done, ""},
		{"T20 an error event", func(w http.ResponseWriter, _ *http.Request) {
			sse(w, events[0], events[1], `{"error":{"message":"overloaded at sk-canary-1234","type":"overloaded_error"}}`)
		}, nil, "upstream_overloaded"},
		{"T20 a named error event", func(w http.ResponseWriter, _ *http.Request) {
			sse(w, events[0], events[1])
			_, _ = io.WriteString(w, "event: error\ndata: {\"error\":{\"message\":\"x\",\"type\":\"server_error\"}}\n\n")
		}, nil, "stream_interrupted"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, s, f := streamFault(t, tt.script, "")
			if tt.want != nil {
				if !slices.Equal(dataOf(a.body), tt.want) {
					t.Errorf("%q", dataOf(a.body))
				}
			} else {
				a.wantStreamError(t, tt.code, events[0], events[1])
			}
			if spent := nano(t, s.nothingReserved(t)); spent == 0 || len(f.seen()) != 1 {
				t.Errorf("spent %d in %d calls", spent, len(f.seen()))
			}
			if strings.Contains(a.body, "sk-canary") {
				t.Error("the upstream's words on our key are relayed")
			}
		})
	}
}

func TestFaultT09_DoneButOpen(t *testing.T) {
	closed := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		sse(w, append(slices.Clone(events), "[DONE]")...)
		<-r.Context().Done()
		close(closed)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	start := time.Now()
	a := s.chat(t, asking("auto", "x", `"stream":true`))
	if took := time.Since(start); took > 5*time.Second || a.status != 200 {
		t.Errorf("%d after %v", a.status, took)
	}
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Error("the upstream's connection stays open")
	}
}

func TestFaultT10_T15_OddStreams(t *testing.T) {
	huge := strings.Repeat("x", 5<<20)
	for _, tt := range []struct {
		name, sent string
		want       []string // data
	}{
		{"T10 a malformed line", "data: " + events[1] + "\n\ndata: {nonsense\n\ndata: " + events[3] + "\n\ndata: [DONE]\n\n", []string{events[1], "{nonsense", events[3], "[DONE]"}},
		{"T13 CRLF", "data: " + events[1] + "\r\n\r\ndata: " + events[3] + "\r\n\r\ndata: [DONE]\r\n\r\n", []string{events[1], events[3], "[DONE]"}},
		{"T13 CR", "data: " + events[1] + "\r\rdata: " + events[3] + "\r\rdata: [DONE]\r\r", []string{events[1], events[3], "[DONE]"}},
		{"T13 a byte order mark", "\ufeffdata: " + events[1] + "\n\ndata: " + events[3] + "\n\ndata: [DONE]\n\n", []string{events[1], events[3], "[DONE]"}},
		{"T13 no space after the colon, other fields", "id: 7\nevent: message\nretry: 10\ndata:" + events[1] + "\n\ndata:" + events[3] + "\n\ndata:[DONE]\n\n", []string{events[1], events[3], "[DONE]"}},
		{"T14 a line of 5 MiB", "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"" + huge + "\"}}]}\n\ndata: " + events[3] + "\n\ndata: [DONE]\n\n", []string{`{"choices":[{"index":0,"delta":{"content":"` + huge + `"}}]}`, events[3], "[DONE]"}},
		{"T15 many empty lines", strings.Repeat("\n", 100_000) + "data: " + events[3] + "\n\n" + strings.Repeat("\n", 100_000) + "data: [DONE]\n\n", []string{events[3], "[DONE]"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, _, _ := streamFault(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				_, _ = io.WriteString(w, tt.sent)
			}, "")
			if got := dataOf(a.body); !slices.Equal(got, tt.want) {
				t.Errorf("%d events, %.300q\nwant %d, %.300q", len(got), got, len(tt.want), tt.want)
			}
		})
	}
	t.Run("T12 a byte at a time", func(t *testing.T) {
		a, _, _ := streamFault(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, b := range []byte("data: " + strings.Join(append(slices.Clone(events), usageEvent, "[DONE]"), "\n\ndata: ") + "\n\n") {
				_, _ = w.Write([]byte{b})
				_ = http.NewResponseController(w).Flush()
			}
		}, "")
		if got := dataOf(a.body); !slices.Equal(got, append(slices.Clone(events), "[DONE]")) || a.trailer.Get("X-Router-Cost-Usd") != "0.0002" {
			t.Errorf("%q %v", got, a.trailer)
		}
	})
}

func TestFaultT18_StreamOptionsRefused(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if gjson.GetBytes(body, "stream_options").Exists() {
			answersWith(400, `{"error":{"message":"Unknown parameter: 'stream_options'.","param":"stream_options"}}`)(w, r)
			return
		}
		sse(w, append(slices.Clone(events), "[DONE]")...)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	for range 3 {
		if a := s.chat(t, asking("auto", "x", `"stream":true`)); a.status != 200 || len(dataOf(a.body)) != 5 {
			t.Errorf("%d %s", a.status, a.body)
		}
	}
	if n := len(f.seen()); n != 4 {
		t.Errorf("%d calls for three requests, want 4: the refusal is remembered", n)
	}
}

func TestFaultT23_T24_TheOtherForm(t *testing.T) {
	f := newFake(t, answersWith(200, completion))
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"retries: {max_attempts: 1}\n")
	a := s.chat(t, asking("auto", "x", `"stream":true`))
	data := dataOf(a.body)
	text := ""
	for _, d := range data {
		text += gjson.Get(d, "choices.0.delta.content").String()
	}
	if a.status != 200 || text != "Paris" || data[len(data)-1] != "[DONE]" || a.trailer.Get("X-Router-Cost-Usd") != "0.0002" {
		t.Errorf("T23: %d %s %v", a.status, a.body, a.trailer)
	}
	f.now(func(w http.ResponseWriter, _ *http.Request) { sse(w, append(slices.Clone(events), "[DONE]")...) })
	if b := s.chat(t, asking("auto", "x")); b.status != 502 && (b.status != 200 || b.get("choices.0.message.content").String() != "Paris") {
		t.Errorf("T24: %d %s", b.status, b.body)
	}
}

// hangUp starts a chat on a connection of its own, waits until the upstream has
// it, and ends the connection by end. It returns how long the upstream took to
// notice.
func hangUp(t *testing.T, s *served, body string, reached, cancelled <-chan struct{}, end func(c net.Conn)) time.Duration {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	<-reached
	start := time.Now()
	end(c)
	select {
	case <-cancelled:
	case <-time.After(10 * time.Second):
		t.Fatal("the upstream call goes on")
	}
	return time.Since(start)
}

func TestFaultT27_T30_ClientGone(t *testing.T) {
	reached, cancelled := make(chan struct{}), make(chan struct{})
	tell := func(r *http.Request) {
		reached <- struct{}{}
		<-r.Context().Done()
		cancelled <- struct{}{}
	}
	before := func(_ http.ResponseWriter, r *http.Request) { tell(r) }
	middle := func(w http.ResponseWriter, r *http.Request) { sse(w, events[0], events[1]); tell(r) }
	for _, tt := range []struct {
		name   string
		script http.HandlerFunc
		more   string
		end    func(c net.Conn)
		full   bool
	}{
		{"T27 a whole answer, before headers", before, `"stream":false`, func(c net.Conn) { _ = c.Close() }, true},
		{"T27 a stream, before headers", before, `"stream":true`, func(c net.Conn) { _ = c.Close() }, false},
		{"T27 by a reset", before, `"stream":true`, reset, false},
		{"T28 in the middle", middle, `"stream":true`, func(c net.Conn) { _ = c.Close() }, false},
		{"T28 in the middle, by a reset", middle, `"stream":true`, reset, false},
		{"T30 a half close", middle, `"stream":true`, func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake(t, tt.script)
			s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+hardBudget)
			var took []time.Duration
			for range 20 {
				took = append(took, hangUp(t, s, asking("auto", "x", tt.more, `"max_tokens":50`), reached, cancelled, tt.end))
			}
			slices.Sort(took)
			if took[len(took)/2] > 20*time.Millisecond {
				t.Errorf("the upstream noticed after %v", took)
			}
			t.Logf("median %v, worst %v", took[10], took[19])
			spent := nano(t, s.nothingReserved(t)) / 20
			if worst := nano(t, "0.0005"); spent == 0 || tt.full != (spent > worst) {
				t.Errorf("charged %d nano-dollars each; all that was reserved: %v", spent, tt.full)
			}
			s.waitLog(t, `"status":(499)`)
		})
	}
	t.Run("T27 before anything was sent", func(t *testing.T) {
		s := serveConfig(t, oneTierOf(at("http://"+deaf(t)+"/v1", "m"))+hardBudget)
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		body := asking("auto", "x")
		_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		testkit.Eventually(t, "the request is under way", func() bool { _, reserved := s.ledger(t); return reserved != "0" })
		_ = c.Close()
		if spent := s.nothingReserved(t); spent != "0" {
			t.Errorf("spent %s though the upstream was never reached", spent)
		}
	})
	t.Run("T29 on_abort: drain", func(t *testing.T) {
		reached, drained := make(chan struct{}), make(chan struct{})
		goOn := make(chan struct{})
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			sse(w, events[0], events[1])
			reached <- struct{}{}
			<-goOn
			sse(w, append(slices.Clone(events[2:]), usageEvent, "[DONE]")...)
			drained <- struct{}{}
		})
		s := serveConfig(t, oneTierOf(upstreamLine(f, "m", "on_abort: drain"))+hardBudget)
		go func() { time.Sleep(50 * time.Millisecond); close(goOn) }()
		hangUp(t, s, asking("auto", "x", `"stream":true`), reached, drained, func(c net.Conn) { _ = c.Close() })
		if spent := s.nothingReserved(t); spent != "0.0002" {
			t.Errorf("spent %s, want the usage that was read on for", spent)
		}
	})
}

func TestFaultT36_Upgrades(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	for _, path := range []string{"/v1/realtime", "/v1/responses", "/v1/files", "/v1/batches", "/v1/completions", "/debug/pprof/", "/debug/vars"} {
		a := s.do(t, "GET", path, "", "Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
		if a.status < 400 || a.status >= 600 || a.get("error.type").String() == "" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if len(f.seen()) != 0 {
		t.Error("an upgrade reached the upstream")
	}
}

// sendRaw sends bytes and returns all that comes back until the connection
// closes or is silent for a while.
func sendRaw(t *testing.T, s *served, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
	_, _ = io.WriteString(c, text)
	b, _ := io.ReadAll(c)
	return string(b)
}

func TestFaultS07_S10_Framing(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 1, per: day}]\n")
	body := asking("auto", "x")
	head := "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	for _, tt := range []struct{ name, text, want string }{
		{"S07 33 KiB of headers", head + "X-A: " + strings.Repeat("a", 40<<10) + "\r\n" + length + "\r\n" + body, "431"},
		{"S07 101 fields", head + strings.Repeat("X-A: a\r\n", 101) + length + "\r\n" + body, "431"},
		{"S08 two lengths", head + length + "Content-Length: 5\r\n\r\n" + body, "400"},
		{"S08 an unknown transfer encoding", head + "Transfer-Encoding: xchunked\r\n\r\n" + body, "501"},
		{"S08 a space before the colon", head + "X-A : b\r\n" + length + "\r\n" + body, "400"},
		{"S08 NUL", head + "X-A: b\x00\r\n" + length + "\r\n" + body, "400"},
		{"S08 two hosts", head + "Host: localhost\r\n" + length + "\r\n" + body, "400"},
		{"no host", "POST /v1/chat/completions HTTP/1.1\r\n" + length + "\r\n" + body, "400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := sendRaw(t, s, tt.text)
			if !strings.HasPrefix(got, "HTTP/1.1 "+tt.want) {
				t.Errorf("got %.200q, want %s", got, tt.want)
			}
		})
	}
	if n := len(f.seen()); n != 0 {
		t.Fatalf("%d of them reached the upstream", n)
	}
	t.Run("S08b length and chunks, folding", func(t *testing.T) {
		chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
		got := sendRaw(t, s, head+"X-Router-User: ann\r\nX-Fold: a\r\n X-Router-User: eve\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"+chunked)
		if strings.HasPrefix(got, "HTTP/1.1 200") {
			r := f.last(t)
			if r.header.Get("Transfer-Encoding") != "" || gjson.Get(r.body, "model").String() != "m" {
				t.Errorf("the upstream got %v %s", r.header, r.body)
			}
			if eve := s.do(t, "GET", "/budgets?user=eve", ""); eve.get(`budgets.#(user=="eve").spent_usd`).Num != 0 {
				t.Errorf("a folded header named the user: %s", eve.body)
			}
		}
	})
	t.Run("S09 a pipelined request is its own", func(t *testing.T) {
		one := head + "X-Router-User: p1\r\n" + length + "\r\n" + body
		two := head + "X-Router-User: p2\r\n" + length + "\r\n" + body
		before := len(f.seen())
		got := sendRaw(t, s, one+two)
		if strings.Count(got, "HTTP/1.1 200") < 1 || len(f.seen()) > before+2 {
			t.Errorf("%d answers, %d calls", strings.Count(got, "HTTP/1.1 200"), len(f.seen())-before)
		}
		if p1 := s.do(t, "GET", "/budgets?user=p1", ""); p1.get(`budgets.#(user=="p1").spent_usd`).Raw != "0.0002" && strings.Count(got, "HTTP/1.1 200") == 2 {
			t.Errorf("%s", p1.body)
		}
	})
	t.Run("S10 Expect: 100-continue", func(t *testing.T) {
		if a := s.chat(t, body, "Expect", "100-continue"); a.status != 200 || f.last(t).header.Get("Expect") != "" {
			t.Errorf("%d, upstream %v", a.status, f.last(t).header)
		}
	})
	t.Run("S11 Connection names our headers", func(t *testing.T) {
		got := sendRaw(t, s, head+"Connection: X-Router-User, close\r\nX-Router-User: conn\r\n"+length+"\r\n"+body)
		if !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%.100q", got)
		}
		if a := s.do(t, "GET", "/budgets?user=conn", ""); a.get(`budgets.#(user=="conn").spent_usd`).Raw != "0.0002" {
			t.Errorf("%s", a.body)
		}
	})
}

func TestFaultS21_OddUsersAreApart(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 1, per: day}]\n")
	users := []string{"a", "A", "a:b", "{a}", "a{b}", "\u00e9", "e\u0301", "a b", "user:a", "global", "anonymous ", strings.Repeat("u", 256)}
	for _, u := range users {
		if a := s.chat(t, asking("auto", "x", `"metadata":{"user_id":`+quoteJSON(u)+`}`)); a.status != 200 {
			t.Errorf("%q: %d %s", u, a.status, a.body)
		}
	}
	all := s.do(t, "GET", "/budgets", "")
	for _, u := range users {
		n := 0
		all.get("budgets").ForEach(func(_, b gjson.Result) bool {
			if b.Get("user").String() == u && b.Get("spent_usd").Raw == "0.0002" {
				n++
			}
			return true
		})
		if n != 1 {
			t.Errorf("%q has %d budgets with its own spending: %.2000s", u, n, all.body)
		}
	}
}

func quoteJSON(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func TestFaultS24_NothingNamesAnotherDestination(t *testing.T) {
	trap := newFake(t, answersWell)
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	names := []string{"api_base", "base_url", "api_key", "endpoint", "custom_host", "host", "url", "upstream", "provider", "aws_endpoint", "aws_bedrock_runtime_endpoint", "proxy", "headers", "extra_headers", "extra_body", "organization", "region",
		"litellm_params", "litellm_embedding_config", "metadata", "api_version", "azure_endpoint", "openai_api_base", "model_list", "fallbacks", "router", "callback_url", "webhook"}
	for _, n := range names {
		for _, value := range []string{`"` + trap.URL + `"`, `{"api_base":"` + trap.URL + `","base_url":"` + trap.URL + `"}`} {
			s.chat(t, asking("auto", "x", `"`+n+`":`+value))
		}
		s.do(t, "POST", "/v1/chat/completions?"+n+"="+trap.URL, asking("auto", "x"), "X-"+n, trap.URL, "X-Portkey-Custom-Host", trap.URL, "X-Base-Url", trap.URL, "X-Forwarded-Host", strings.TrimPrefix(trap.URL, "http://"))
	}
	if len(trap.seen()) != 0 {
		t.Errorf("the trap got %v", trap.last(t))
	}
	for _, r := range f.seen() {
		if r.path != "/v1/chat/completions" {
			t.Errorf("path %s", r.path)
		}
	}
}

func TestFaultS27_Paths(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, strings.Replace(threeTiersOf(f), "0'}", "0', admin_listen: 'localhost:0'}", 1))
	for _, path := range []string{"/v1/../metrics", "/v1/%2e%2e/metrics", "/%2e%2e/metrics", "/v1/%2fmetrics", "/v1%5c..%5cmetrics", "//metrics", "/metrics;x", "/metrics%00", "/./metrics", "/METRICS", "/metrics/", "/v1/models/../../metrics", "/v1/models/%2e%2e%2f%2e%2e%2fmetrics", "/docs/../metrics", "/docs/%2e%2e/metrics"} {
		got := sendRaw(t, s, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
		if !regexp.MustCompile(`^HTTP/1.1 4\d\d`).MatchString(got) || strings.Contains(got, "router_requests_total") {
			t.Errorf("%s: %.100q", path, got)
		}
	}
}

func TestFaultS33_LogInjection(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"log: {decisions: d.jsonl, users: plain}\n")
	long := strings.Repeat("z", 200_000)
	s.chat(t, asking("evil\n{\"level\":\"ERROR\"}\u001b[31m"+long, "x"), "X-Router-Tags", strings.Repeat("t", 1000), "User-Agent", strings.Repeat("u", 20000))
	s.waitLog(t, `"msg":"(request)"`)
	testkit.Eventually(t, "the decision is logged", func() bool { return readFile(t, filepath.Join(s.dir, "d.jsonl")) != "" })
	for name, text := range map[string]string{"log": s.log.String(), "decision log": readFile(t, filepath.Join(s.dir, "d.jsonl"))} {
		for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
			if len(line) > 8<<10 {
				t.Errorf("a line of %d bytes in the %s", len(line), name)
			}
			if !gjson.Valid(line) || strings.Contains(line, "\x1b") {
				t.Errorf("a line in the %s that is no JSON: %.200q", name, line)
			}
		}
	}
}

func TestFaultP03_P05_Shutdown(t *testing.T) {
	release := make(chan struct{})
	script := func(w http.ResponseWriter, r *http.Request) {
		sse(w, events[0])
		select {
		case <-release:
			sse(w, append(slices.Clone(events[1:]), "[DONE]")...)
		case <-r.Context().Done():
		}
	}
	begin := func(t *testing.T, s *served, f *fake, n int) <-chan answered {
		t.Helper()
		all := make(chan answered, n)
		for range n {
			go func() { all <- s.chat(t, asking("auto", "x", `"stream":true`)) }()
		}
		testkit.Eventually(t, "all streams run", func() bool { return len(f.seen()) == n })
		return all
	}
	t.Run("P03 running streams finish", func(t *testing.T) {
		f := newFake(t, script)
		s := serveConfig(t, strings.Replace(oneTierOf(upstreamLine(f, "m")), "0'}", "0', drain_delay: 300ms}", 1))
		all := begin(t, s, f, 20)
		s.signal(t, syscall.SIGTERM)
		testkit.Eventually(t, "it is not ready", func() bool { return s.do(t, "GET", "/readyz", "").status == 503 })
		if a := s.do(t, "GET", "/livez", ""); a.status != 200 {
			t.Errorf("livez while draining: %d", a.status)
		}
		close(release)
		for range 20 {
			if a := <-all; !strings.HasSuffix(a.body, "data: [DONE]\n\n") {
				t.Errorf("a stream ended with %q", a.body)
			}
		}
		if code := s.exit(t); code != 0 {
			t.Errorf("exit %d", code)
		}
	})
	release = make(chan struct{})
	t.Run("P04 longer than drain_timeout", func(t *testing.T) {
		f := newFake(t, script)
		s := serveConfig(t, strings.Replace(oneTierOf(upstreamLine(f, "m")), "0'}", "0', drain_timeout: 100ms}", 1))
		all := begin(t, s, f, 3)
		s.signal(t, syscall.SIGTERM)
		for range 3 {
			(<-all).wantStreamError(t, "server_shutdown", events[0])
		}
		if code := s.exit(t); code != 0 {
			t.Errorf("exit %d", code)
		}
	})
	t.Run("P05 a second signal", func(t *testing.T) {
		f := newFake(t, script)
		s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		body := asking("auto", "x", `"stream":true`)
		_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		testkit.Eventually(t, "the stream runs", func() bool { return len(f.seen()) == 1 })
		s.signal(t, syscall.SIGTERM)
		s.waitLog(t, `(draining)`)
		start := time.Now()
		s.signal(t, syscall.SIGTERM)
		s.exit(t)
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("ended %v after the second signal", took)
		}
	})
}

func TestFaultP06_P08_ReloadsUnderLoad(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"models: {aliases: {v: fast}}\n")
	file := filepath.Join(s.dir, "config.yaml")
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var bad atomic.Int64
	for range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				if a := s.chat(t, asking("fast", "x")); a.status != 200 {
					bad.Add(1)
				}
			}
		})
	}
	for i := range 5 {
		testkit.Write(t, file, threeTiersOf(f)+fmt.Sprintf("models: {aliases: {v%d: fast}}\n", i))
		s.signal(t, syscall.SIGHUP)
		testkit.Eventually(t, "the new file is in force", func() bool { return s.do(t, "GET", fmt.Sprintf("/v1/models/v%d", i), "").status == 200 })
	}
	stop()
	load.Wait()
	if n := bad.Load(); n > 0 {
		t.Errorf("%d requests failed while reloading", n)
	}
	t.Run("P08 an upstream in use is removed", func(t *testing.T) {
		release, running := make(chan struct{}), make(chan struct{})
		var once sync.Once
		slow := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			sse(w, events[0])
			once.Do(func() { close(running) })
			<-release
			sse(w, append(slices.Clone(events[1:]), "[DONE]")...)
		})
		s := serveConfig(t, oneTierOf(upstreamLine(slow, "m")))
		done := make(chan answered, 1)
		go func() { done <- s.chat(t, asking("auto", "x", `"stream":true`)) }()
		<-running
		testkit.Write(t, filepath.Join(s.dir, "config.yaml"), oneTierOf(upstreamLine(f, "other")))
		s.signal(t, syscall.SIGHUP)
		testkit.Eventually(t, "the new upstream is known", func() bool {
			return s.do(t, "POST", "/v1/route", asking("auto", "x")).get("upstream").String() == "openai/other"
		})
		close(release)
		if a := <-done; !strings.HasSuffix(a.body, "[DONE]\n\n") {
			t.Errorf("the running stream: %s", a.body)
		}
	})
}

func TestFaultP15_LogsHoldNothingUp(t *testing.T) {
	f := newFake(t, answersWell)
	s := &served{dir: t.TempDir(), log: new(testkit.Buffer), ended: make(chan struct{})}
	address := refused(t)
	testkit.Write(t, filepath.Join(s.dir, "config.yaml"), strings.Replace(oneTierOf(upstreamLine(f, "m")), "127.0.0.1:0", address, 1)+"log: {decisions: /dev/full}\n")
	s.cmd = program(t, s.dir, nil)
	unread, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unread.Close() }()
	s.cmd.Stderr = ours
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = ours.Close()
	go func() { defer close(s.ended); _ = s.cmd.Wait() }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	s.url = "http://" + address
	testkit.Eventually(t, "it answers", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	client := &http.Client{Timeout: 5 * time.Second}
	defer client.CloseIdleConnections()
	for i := range 400 { // far more than a pipe holds
		resp, err := client.Post(s.url+"/v1/chat/completions", "application/json", strings.NewReader(asking("auto", "x")))
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Fatalf("request %d: %d", i, resp.StatusCode)
		}
	}
	client.CloseIdleConnections()
	s.signal(t, syscall.SIGTERM)
	if code := s.exit(t); code != 0 {
		t.Errorf("exit %d", code)
	}
}
