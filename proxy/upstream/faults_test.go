package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// ok is the head of a good answer of a kind, without its framing.
func ok(kind string) string {
	return "HTTP/1.1 200 OK\r\nContent-Type: " + kind + "\r\n"
}

// framed is a whole raw answer.
func framed(kind, body string) string {
	return ok(kind) + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// chunked is a raw answer in one HTTP chunk.
func chunked(kind, body string) string {
	return ok(kind) + fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
}

func packed(body []byte) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(body)
	_ = w.Close()
	return b.String()
}

const (
	sseType  = "text/event-stream"
	jsonType = "application/json"
)

func TestFaultsOfAnswers(t *testing.T) {
	html := "<html><body>Sign in to the network</body></html>"
	bomb := packed(make([]byte, maxPackedAnswer+1))
	for _, c := range []struct {
		name, answer string
		kind         translate.Kind
		code         string
		billed       translate.Billed
	}{
		{"U32 a redirect", "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n", translate.KindBadResponse, "upstream_redirect", translate.BilledNothing},
		{"U33 an error with a good status", framed(jsonType, `{"error":{"message":"x","type":"overloaded_error"}}`), translate.KindOverloaded, "upstream_overloaded", translate.BilledNothing},
		{"U34 HTML", framed("text/html", html), translate.KindBadResponse, "upstream_bad_response", translate.BilledNothing},
		{"U34 HTML that calls itself JSON", framed(jsonType, html), translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U35 nothing", framed(jsonType, ""), translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U35 nothing of an unknown type", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U35 no content", "HTTP/1.1 204 No Content\r\n\r\n", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U36 shorter than it says", ok(jsonType) + "Content-Length: 500\r\n\r\n" + reply, translate.KindBadResponse, "upstream_truncated", translate.BilledUnknown},
		{"U36 chunks without an end", ok(jsonType) + "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n", translate.KindBadResponse, "upstream_truncated", translate.BilledUnknown},
		{"U37 broken JSON", framed(jsonType, `{"choices":[`), translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U39 a gzip bomb", ok(jsonType) + "Content-Encoding: gzip\r\nContent-Length: " + strconv.Itoa(len(bomb)) + "\r\n\r\n" + bomb, translate.KindBadResponse, "upstream_too_large", translate.BilledUnknown},
		{"U39 an unknown encoding", ok(jsonType) + "Content-Encoding: br\r\nContent-Length: 2\r\n\r\n{}", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U40 a length of 1 GB", ok(jsonType) + "Content-Length: 1073741824\r\n\r\n{", translate.KindBadResponse, "upstream_too_large", translate.BilledUnknown},
		{"U41 headers of 1 MB", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U42 endless 1xx", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 10_000), translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U43 broken chunk framing", ok(jsonType) + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"U43 broken chunk framing of a stream", ok(sseType) + "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"no HTTP at all", "SSH-2.0-OpenSSH_9.6\r\n\r\n", translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"a switch of protocols", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", translate.KindServer, "upstream_error", translate.BilledNothing},
		{"T01 an empty stream", chunked(sseType, ""), translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown},
		{"T02 an error first", chunked(sseType, "data: {\"error\":{\"code\":503}}\n\n"), translate.KindOverloaded, "upstream_overloaded", translate.BilledNothing},
	} {
		for _, body := range []string{ask, askStream} {
			if strings.Contains(c.answer, sseType) && body == ask {
				continue
			}
			t.Run(c.name+map[bool]string{true: ", whole", false: ", streamed"}[body == ask], func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				got := chat(ctx, dial(t, text(t, c.answer)), request(t, body))
				failed(t, got.err, c.kind, c.code, c.billed)
				if len(got.data) > 0 {
					t.Errorf("%q came before the error", got.data)
				}
			})
		}
	}
}

func TestFaultU26ClientsMistakesComeBackAsTheyWere(t *testing.T) {
	const body = `{"error":{"message":"'x' is wrong","type":"invalid_request_error","param":"x","code":null}}`
	for _, status := range []int{400, 413, 422} {
		for _, packing := range []string{"", "gzip"} { // U38: gzip although we asked for none
			got := chat(t.Context(), dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", jsonType)
				if packing != "" {
					w.Header().Set("Content-Encoding", packing)
					w.WriteHeader(status)
					_, _ = io.WriteString(w, packed([]byte(body)))
					return
				}
				w.WriteHeader(status)
				_, _ = io.WriteString(w, body)
			})), request(t, ask))
			failed(t, got.err, translate.KindInvalid, "", translate.BilledNothing)
			var e *translate.UpstreamError
			if errors.As(got.err, &e) && (string(e.Body) != body || e.Status != status || e.Param != "x" || e.Message != "'x' is wrong") {
				t.Errorf("%d %s: got %+v", status, packing, e)
			}
		}
	}
}

func TestFaultU21RetryAfter(t *testing.T) {
	for _, c := range []struct {
		header, value string
		low, high     time.Duration
	}{
		{"Retry-After", "2", 2 * time.Second, 2 * time.Second},
		{"Retry-After", "0.5", time.Second / 2, time.Second / 2},
		{"Retry-After-Ms", "1500", 1500 * time.Millisecond, 1500 * time.Millisecond},
		{"Retry-After", "86400", time.Minute, time.Minute},
		{"Retry-After", time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat), 25 * time.Second, 30 * time.Second},
		{"Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT", 0, 0},
		{"Retry-After", "-1", 0, 0},
		{"Retry-After", "soon", 0, 0},
		{"Retry-After", "NaN", 0, 0},
		{"Retry-After", "1e999", 0, time.Minute},
		{"Retry-After", "", 0, 0},
	} {
		got := chat(t.Context(), dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(c.header, c.value)
			w.WriteHeader(429)
		})), request(t, ask))
		failed(t, got.err, translate.KindRateLimited, "rate_limit_exceeded", translate.BilledNothing)
		var e *translate.UpstreamError
		if errors.As(got.err, &e) && (e.RetryAfter < c.low || e.RetryAfter > c.high) {
			t.Errorf("%s: %s: RetryAfter = %s", c.header, c.value, e.RetryAfter)
		}
	}
}

func TestFaultsOfConnecting(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	_ = l.Close()
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	defer secure.Close()
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		name, url string
		kind      translate.Kind
		code      string
	}{
		{"U02 refused", "http://" + closed, translate.KindConnect, "upstream_unavailable"},
		{"U04 no such name", "http://no-such-host.invalid", translate.KindConnect, "upstream_dns_error"},
		{"U06 an unknown authority", secure.URL, translate.KindConnect, "upstream_tls_error"},
		{"U09 plain HTTP on the TLS port", strings.Replace(plain, "http:", "https:", 1), translate.KindConnect, "upstream_tls_error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := chat(t.Context(), dial(t, c.url), request(t, ask))
			failed(t, got.err, c.kind, c.code, translate.BilledNothing)
			if strings.Contains(got.err.(*translate.UpstreamError).Message, "no-such-host") {
				t.Errorf("the name is told: %v", got.err)
			}
		})
	}
}

func TestFaultU03SilentConnect(t *testing.T) {
	u := dial(t, "http://upstream.test", func(c *OpenAIConfig) { c.Connect = 20 * time.Millisecond })
	setDial(u, func(dialFunc) dialFunc {
		return func(ctx context.Context, _, _ string) (net.Conn, error) {
			d := net.Dialer{Timeout: 20 * time.Millisecond, Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}}
			return d.DialContext(ctx, "tcp", "silent.test:80")
		}
	})
	got := chat(t.Context(), u, request(t, ask))
	failed(t, got.err, translate.KindTimeout, "upstream_connect_timeout", translate.BilledNothing)
}

func TestFaultU08StalledHandshake(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts by its backlog, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	u := dial(t, "https://"+l.Addr().String())
	u.via.(transport).TLSHandshakeTimeout = 50 * time.Millisecond
	got := chat(t.Context(), u, request(t, ask))
	failed(t, got.err, translate.KindTimeout, "upstream_connect_timeout", translate.BilledNothing)
}

func TestFaultU10IdleConnectionClosedByTheServer(t *testing.T) {
	var calls, fresh atomic.Int32
	url := script(t, func(c *net.TCPConn, _ *http.Request) bool {
		calls.Add(1)
		_, _ = io.WriteString(c, framed(jsonType, reply))
		return true
	})
	u := dial(t, url)
	setDial(u, func(inner dialFunc) dialFunc {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := inner(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			return &dying{Conn: c, young: fresh.Add(1) > 1}, nil
		}
	})
	for range 2 {
		if got := chat(t.Context(), u, request(t, ask)); got.err != nil {
			t.Fatal(got.err)
		}
	}
	if calls.Load() != 2 || fresh.Load() != 2 {
		t.Errorf("%d calls on %d connections, want 2 on 2", calls.Load(), fresh.Load())
	}
}

// dying is a connection whose server has closed it when its second request is
// written, which nobody could know before.
type dying struct {
	net.Conn
	young  bool
	writes int
}

func (d *dying) Write(p []byte) (int, error) {
	if d.writes++; d.writes > 1 && !d.young {
		_ = d.Conn.(*net.TCPConn).CloseRead() // what the server's FIN does to the reader
		return len(p), nil
	}
	return d.Conn.Write(p)
}

func TestFaultU11ResetAfterTheRequest(t *testing.T) {
	var calls atomic.Int32
	reset := func(c *net.TCPConn) {
		_ = c.SetLinger(0)
	}
	for _, c := range []struct {
		name   string
		before string // sent before the end
		end    func(*net.TCPConn)
	}{
		{"reset", "", reset},
		{"closed", "", func(*net.TCPConn) {}},
		{"closed amid the headers", "HTTP/1.1 200 OK\r\n", func(*net.TCPConn) {}},
		{"stream reset before its first event", ok(sseType) + "Transfer-Encoding: chunked\r\n\r\n", reset},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls.Store(0)
			url := script(t, func(conn *net.TCPConn, _ *http.Request) bool {
				calls.Add(1)
				_, _ = io.WriteString(conn, c.before)
				c.end(conn)
				return false
			})
			got := chat(t.Context(), dial(t, url), request(t, askStream))
			failed(t, got.err, translate.KindUnknownState, "upstream_reset", translate.BilledUnknown)
			if calls.Load() != 1 {
				t.Errorf("%d calls, want 1: this one may have been billed", calls.Load())
			}
		})
	}
	t.Run("on a connection used before", func(t *testing.T) {
		calls.Store(0)
		url := script(t, func(conn *net.TCPConn, _ *http.Request) bool {
			if calls.Add(1) == 2 {
				reset(conn)
				return false
			}
			_, _ = io.WriteString(conn, framed(jsonType, reply))
			return true
		})
		u := dial(t, url)
		if got := chat(t.Context(), u, request(t, ask)); got.err != nil {
			t.Fatal(got.err)
		}
		got := chat(t.Context(), u, request(t, ask))
		failed(t, got.err, translate.KindUnknownState, "upstream_reset", translate.BilledUnknown)
		if calls.Load() != 2 {
			t.Errorf("%d calls, want 2: a reset is no orderly end", calls.Load())
		}
	})
}

func TestFaultU13ResetWhileTheRequestIsWritten(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = io.ReadFull(c, make([]byte, 64<<10))
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}()
	long := strings.Replace(ask, "hi", strings.Repeat("x", 16<<20), 1)
	got := chat(t.Context(), dial(t, "http://"+l.Addr().String()), request(t, long))
	failed(t, got.err, translate.KindConnect, "upstream_reset", translate.BilledNothing)
}

func TestFaultU32NobodyFollowsARedirect(t *testing.T) {
	target := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("somebody came: %v", r.Header) })
	got := chat(t.Context(), dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target, http.StatusTemporaryRedirect)
	})), request(t, ask))
	failed(t, got.err, translate.KindBadResponse, "upstream_redirect", translate.BilledNothing)
}

func TestFaultU40AnAnswerWithoutEndIsCutOff(t *testing.T) {
	gone := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		defer close(gone)
		w.Header().Set("Content-Type", jsonType)
		for block := bytes.Repeat([]byte(" "), 1<<20); ; {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	})
	got := chat(t.Context(), dial(t, url), request(t, ask))
	failed(t, got.err, translate.KindBadResponse, "upstream_too_large", translate.BilledUnknown)
	<-gone
}

func TestFaultT06ResetMidStream(t *testing.T) {
	for _, c := range []struct {
		name, rest string
		linger     int
	}{
		{"T06 a reset", "", 0},
		{"T06 a cut connection", "", -1},
		{"T07 a clean end", "0\r\n\r\n", -1},
		{"broken framing", "zz\r\n", -1},
	} {
		t.Run(c.name, func(t *testing.T) {
			event := "data: " + part + "\n\n"
			read := make(chan struct{})
			url := script(t, func(conn *net.TCPConn, _ *http.Request) bool {
				_, _ = fmt.Fprintf(conn, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", ok(sseType), len(event), event)
				<-read // a reset throws away what the other side has not read
				_, _ = io.WriteString(conn, c.rest)
				_ = conn.SetLinger(c.linger)
				return false
			})
			var got result
			for chunk, err := range dial(t, url).Chat(t.Context(), request(t, askStream)) {
				if err != nil {
					got.err = err
					continue
				}
				got.data = append(got.data, string(chunk.Data))
				close(read)
			}
			failed(t, got.err, translate.KindInterrupted, "stream_interrupted", translate.BilledPartly)
			if len(got.data) != 1 || got.data[0] != part {
				t.Errorf("got %q before the error, want the event", got.data)
			}
		})
	}
}

func TestFaultT08NoDone(t *testing.T) {
	for _, end := range []string{"data: [DONE]\n\n", "data: [DONE]\n", "data: [DONE]", ""} {
		got := chat(t.Context(), dial(t, text(t, chunked(sseType, "data: "+part+"\n\ndata: "+final+"\n\n"+end))), request(t, askStream))
		if got.err != nil || len(got.data) != 2 || !got.chunks[len(got.chunks)-1].Done {
			t.Errorf("ending in %q: got %q, %v", end, got.data, got.err)
		}
	}
}

func TestFaultT09DoneOnAConnectionThatStaysOpen(t *testing.T) {
	closed := make(chan struct{})
	url := script(t, func(c *net.TCPConn, _ *http.Request) bool {
		_, _ = fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", ok(sseType), len(stream), stream)
		_, _ = c.Read(make([]byte, 1))
		close(closed)
		return false
	})
	start := time.Now()
	done := false
	for c, err := range dial(t, url).Chat(t.Context(), request(t, askStream)) {
		if err != nil {
			t.Fatal(err)
		}
		done = c.Done
	}
	<-closed
	if took := time.Since(start); !done || took > time.Second {
		t.Errorf("done = %v, and the connection was closed after %s; want that at once", done, took)
	}
}

func TestConnectionsAreUsedAgain(t *testing.T) {
	var fresh atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if !bytes.Contains(body, []byte(`"stream":true`)) {
			w.Header().Set("Content-Type", jsonType)
			_, _ = io.WriteString(w, reply)
			return
		}
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, stream)
		_ = http.NewResponseController(w).Flush()
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			fresh.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	u := dial(t, s.URL)
	for range 5 {
		for _, body := range []string{ask, askStream} {
			if got := chat(t.Context(), u, request(t, body)); got.err != nil {
				t.Fatal(got.err)
			}
		}
	}
	if fresh.Load() != 1 {
		t.Errorf("%d connections for 10 calls, want 1", fresh.Load())
	}
}

func TestFaultT14OneLineOf40MiB(t *testing.T) {
	const size = 40 << 20
	long := `{"choices":[{"delta":{"content":"` + strings.Repeat("x", size) + `"},"finish_reason":"stop"}]}`
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, "data: ")
		_, _ = io.WriteString(w, long)
		_, _ = io.WriteString(w, "\n\ndata: "+final+"\n\ndata: [DONE]\n\n")
	})
	total, peak := 0, uint64(0)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	before := m.HeapAlloc
	for c, err := range dial(t, url).Chat(t.Context(), request(t, askStream)) {
		if err != nil {
			t.Fatal(err)
		}
		if total%(8<<20) < len(c.Data) {
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc-min(before, m.HeapAlloc))
		}
		total += len(c.Data)
	}
	if want := len(long) + len(final); total != want {
		t.Errorf("%d bytes passed on, want %d", total, want)
	}
	if peak > 8<<20 {
		t.Errorf("the heap grew by %d MiB, want at most 8", peak>>20)
	}
}

func TestFaultT15FloodOfComments(t *testing.T) {
	const n = 200_000
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, strings.Repeat(": ping\n\n", n)+strings.Repeat("\n", n)+stream)
	})
	comments, data := 0, 0
	for c, err := range dial(t, url).Chat(t.Context(), request(t, askStream)) {
		switch {
		case err != nil:
			t.Fatal(err)
		case c.Comment:
			comments++
		case len(c.Data) > 0:
			if data++; data == 1 && c.Head == nil {
				t.Error("the first event has no head")
			}
		}
	}
	if comments != n || data != 2 {
		t.Errorf("%d comments and %d events, want %d and 2", comments, data, n)
	}
}

func TestFaultT18StreamOptionsRefused(t *testing.T) {
	var calls, refused atomic.Int32
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte("stream_options")) {
			refused.Add(1)
			w.WriteHeader(400)
			_, _ = io.WriteString(w, `{"error":{"message":"Unrecognized request argument supplied: stream_options"}}`)
			return
		}
		if string(body) != askStream {
			t.Errorf("got %s", body)
		}
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, stream)
	})
	u := dial(t, url)
	r := request(t, askStream).For(translate.Edit{AskUsage: true})
	for range 3 {
		if got := chat(t.Context(), u, r); got.err != nil || len(got.data) != 2 {
			t.Fatalf("got %q, %v", got.data, got.err)
		}
	}
	if calls.Load() != 4 || refused.Load() != 1 {
		t.Errorf("%d calls of which %d were refused, want 4 and 1", calls.Load(), refused.Load())
	}
}

func TestFaultT23StreamAskedForAndJSONCame(t *testing.T) {
	got := chat(t.Context(), dial(t, text(t, framed(jsonType, reply))), request(t, askStream))
	if got.err != nil || len(got.data) != 1 || !strings.Contains(got.data[0], `"delta":{"content":"hello"}`) {
		t.Fatalf("got %q, %v", got.data, got.err)
	}
	if c := got.chunks[0]; c.Whole || c.Head == nil || c.Finish != "stop" {
		t.Errorf("got %+v", c)
	}
}

func TestFaultT24JSONAskedForAndAStreamCame(t *testing.T) {
	got := chat(t.Context(), dial(t, text(t, chunked(sseType, stream))), request(t, ask))
	failed(t, got.err, translate.KindBadResponse, "upstream_bad_response", translate.BilledUnknown)
}

func TestAnswersWithoutATypeAreToldByTheirFirstByte(t *testing.T) {
	for _, answer := range []string{
		chunked("text/plain", ": hi\n\n"+stream), chunked("application/octet-stream", stream), chunked("text/plain", "\n  "+reply),
	} {
		got := chat(t.Context(), dial(t, text(t, answer)), request(t, askStream))
		if got.err != nil || len(got.data) == 0 {
			t.Errorf("%s: got %q, %v", answer, got.data, got.err)
		}
	}
}

func TestFaultT25SlowReaderHoldsTheUpstreamBack(t *testing.T) {
	event := "data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", 200) + "\"}}]}\n\n"
	blocked := make(chan error)
	url := script(t, func(c *net.TCPConn, _ *http.Request) bool {
		_, _ = io.WriteString(c, ok(sseType)+"\r\n"+event)
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		_, err := io.WriteString(c, strings.Repeat(event, (64<<20)/len(event)))
		blocked <- err
		return false
	})
	for _, err := range dial(t, url).Chat(t.Context(), request(t, askStream)) {
		if err != nil {
			t.Fatal(err)
		}
		if err := <-blocked; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("the upstream could send 64 MiB to a reader of one event: %v", err)
		}
		break
	}
}

func TestFaultT28LeavingTheLoopEndsTheCall(t *testing.T) {
	gone := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, "data: "+part+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})
	for range dial(t, url).Chat(t.Context(), request(t, askStream)) {
		break
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the upstream was not told")
	}
}

func TestFaultT04TheCauseOfACutStreamIsKept(t *testing.T) {
	idle := errors.New("idle for too long")
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, "data: "+part+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var last error
	for _, err := range dial(t, url).Chat(ctx, request(t, askStream)) {
		last = err
		cancel(idle)
	}
	if !errors.Is(last, idle) {
		t.Errorf("got %v, want %v", last, idle)
	}
}

func TestFaultU06AServerThatWantsAClientCertificate(t *testing.T) {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	u := dial(t, s.URL)
	u.via.(transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	got := chat(t.Context(), u, request(t, ask))
	var e *translate.UpstreamError
	if !errors.As(got.err, &e) || e.Kind != translate.KindConnect || e.Code != "upstream_tls_error" {
		t.Errorf("got %v, want a TLS error", got.err)
	}
}

func TestACompressedStreamIsReadAsItComes(t *testing.T) {
	first := make(chan struct{})
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", sseType)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = io.WriteString(z, "data: "+part+"\n\n")
		_ = z.Flush()
		_ = http.NewResponseController(w).Flush()
		<-first
		_, _ = io.WriteString(z, "data: "+final+"\n\ndata: [DONE]\n\n")
		_ = z.Close()
	})
	var got []string
	for c, err := range dial(t, url).Chat(t.Context(), request(t, askStream)) {
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Data) > 0 {
			got = append(got, string(c.Data))
		}
		if len(got) == 1 && !c.Done {
			close(first)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint([]string{part, final}) {
		t.Errorf("got %q", got)
	}
}
