package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
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
	if os.Getenv(standardOnly) != "" {
		u.via = newTransport(c.Connect, nil)
	}
	t.Cleanup(u.Close)
	return u
}

// standardOnly is an environment variable with which the tests use net/http's
// Transport where an upstream is plain, too.
const standardOnly = "TEST_STANDARD_TRANSPORT"

// The faults mean the same over either kind of connections.
func TestTheStandardTransportHasTheSameFaults(t *testing.T) {
	if os.Getenv(standardOnly) != "" {
		t.Skip("this is it")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^(TestFault|TestChat|TestConnections)", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), standardOnly+"=1")
	if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("PASS")) {
		t.Errorf("%v\n%s", err, out)
	}
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// setDial changes how u connects.
func setDial(u *OpenAI, change func(dialFunc) dialFunc) {
	switch via := u.via.(type) {
	case *plain:
		via.dial = change(via.dial)
	case transport:
		via.Proxy = nil
		via.DialContext = change(via.DialContext)
	}
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

func TestChatSendsOnlyItsOwnHeaders(t *testing.T) {
	forward := map[string]string{
		"traceparent": "00-1-2-03", "OpenAI-Beta": "x", "Idempotency-Key": "i", "OpenAI-Organization": "o",
		"Authorization": "Bearer sk-caller", "Cookie": "c", "X-Router-User": "u", "Connection": "Authorization", "Accept-Encoding": "gzip",
	}
	for _, c := range []struct {
		name   string
		change func(*OpenAIConfig)
		want   string
	}{
		{"our key", func(*OpenAIConfig) {}, "Accept-Encoding: identity\nAuthorization: Bearer sk-canary\nContent-Length: 57\nContent-Type: application/json\n" +
			"Idempotency-Key: i\nOpenai-Beta: x\nTraceparent: 00-1-2-03\nUser-Agent: inference-router\n"},
		{"the caller's key", func(c *OpenAIConfig) { c.ForwardClientKey = true }, "Accept-Encoding: identity\nAuthorization: Bearer sk-caller\nContent-Length: 57\nContent-Type: application/json\n" +
			"Idempotency-Key: i\nOpenai-Beta: x\nOpenai-Organization: o\nTraceparent: 00-1-2-03\nUser-Agent: inference-router\n"},
		{"configured headers", func(c *OpenAIConfig) {
			c.APIKey, c.Headers = "", map[string]string{"x-title": "t", "openai-beta": "ours"}
		}, "Accept-Encoding: identity\nContent-Length: 57\nContent-Type: application/json\n" +
			"Idempotency-Key: i\nOpenai-Beta: ours\nTraceparent: 00-1-2-03\nUser-Agent: inference-router\nX-Title: t\n"},
		{"Azure", func(c *OpenAIConfig) { c.Provider = "azure" }, "Accept-Encoding: identity\nApi-Key: sk-canary\nContent-Length: 57\nContent-Type: application/json\n" +
			"Idempotency-Key: i\nOpenai-Beta: x\nTraceparent: 00-1-2-03\nUser-Agent: inference-router\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got strings.Builder
			u := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				_ = r.Header.WriteSubset(&got, nil)
				w.Header().Set("Content-Type", jsonType)
				_, _ = io.WriteString(w, reply)
			}), c.change)
			r := request(t, ask)
			r.Forward, r.ClientKey = forward, "sk-caller"
			if got := chat(t.Context(), u, r); got.err != nil {
				t.Fatal(got.err)
			}
			if sent := strings.ReplaceAll(got.String(), "\r", ""); sent != c.want {
				t.Errorf("sent\n%s\nwant\n%s", sent, c.want)
			}
		})
	}
}

func TestChatTellsTheCallerAboutTheCallersOwnKey(t *testing.T) {
	u := dial(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(401)
		_, _ = io.WriteString(w, `{"error":{"message":"Incorrect API key provided: sk-caller"}}`)
	}), func(c *OpenAIConfig) { c.ForwardClientKey = true })
	r := request(t, ask)
	r.ClientKey = "sk-caller"
	got := chat(t.Context(), u, r)
	failed(t, got.err, translate.KindInvalid, "invalid_api_key", translate.BilledNothing)
	var e *translate.UpstreamError
	if errors.As(got.err, &e) && (e.Status != 401 || e.Type != "authentication_error" || strings.Contains(e.Message, "sk-") || e.Body != nil) {
		t.Errorf("got %+v", e)
	}
}

func TestNewOpenAIEndpoints(t *testing.T) {
	for _, c := range []struct{ provider, base, want string }{
		{"openai", "https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"},
		{"openai", "https://api.openai.com/v1/", "https://api.openai.com/v1/chat/completions"},
		{"gemini", "https://generativelanguage.googleapis.com/v1beta/openai", "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions"},
		{"vllm", "http://localhost:8000/a%2Fb?x=1", "http://localhost:8000/a%2Fb/chat/completions?x=1"},
		{"azure", "https://me.openai.azure.com", "https://me.openai.azure.com/openai/v1/chat/completions"},
		{"azure", "https://me.openai.azure.com/openai/v1/", "https://me.openai.azure.com/openai/v1/chat/completions"},
		{"azure", "https://me.openai.azure.com/openai/deployments/d", "https://me.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"},
		{"openai", "https://me.openai.azure.com/openai/deployments/d?api-version=2025-01-01", "https://me.openai.azure.com/openai/deployments/d/chat/completions?api-version=2025-01-01"},
	} {
		u := dial(t, c.base, func(o *OpenAIConfig) { o.Provider = c.provider })
		if got := u.chat.String(); got != c.want {
			t.Errorf("%s: got %s, want %s", c.base, got, c.want)
		}
	}
}

func TestNewOpenAIRefuses(t *testing.T) {
	for _, c := range []OpenAIConfig{
		{BaseURL: ""}, {BaseURL: "api.openai.com/v1"}, {BaseURL: "file:///etc/passwd"}, {BaseURL: "https://key@host/v1"},
		{BaseURL: "https://host/v1#x"}, {BaseURL: "https://ho st"}, {BaseURL: "https://host/v1?a=b c"}, {BaseURL: "https://h", Headers: map[string]string{"a": "b\r\nc: d"}},
		{BaseURL: "https://h", Headers: map[string]string{"a b": "c"}}, {BaseURL: "https://h", Headers: map[string]string{"Host": "c"}},
		{BaseURL: "https://h", APIKey: "a\nb"},
	} {
		c.Name = "here"
		if _, err := NewOpenAI(c); err == nil || !strings.Contains(err.Error(), "here") || strings.Contains(err.Error(), "key@") {
			t.Errorf("%+v: got %v, want an error that names the upstream", c, err)
		}
	}
}

func TestChatLetsGoOfTheRequestOnceItIsSent(t *testing.T) {
	release := make(chan struct{})
	u := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, "data: "+part+"\n\n")
		_ = http.NewResponseController(w).Flush()
		<-release
		_, _ = io.WriteString(w, stream)
	}))
	freed := make(chan struct{})
	start := func() translate.Chunks {
		r := request(t, strings.Replace(askStream, "hi", strings.Repeat("x", 1<<20), 1))
		runtime.AddCleanup(&r.Body[0], func(int) { close(freed) }, 0)
		return u.Chat(t.Context(), r)
	}
	for range start() {
		for done := false; !done; {
			runtime.GC()
			select {
			case <-freed:
				done = true
			case <-time.After(10 * time.Millisecond):
			case <-t.Context().Done():
				t.Fatal("the request's body is kept while the answer comes")
			}
		}
		break
	}
	close(release)
}

func TestChatIsSafeForConcurrentUse(t *testing.T) {
	u := dial(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", jsonType)
		_, _ = io.WriteString(w, strings.Replace(reply, "hello", r.Header.Get("Traceparent")+fmt.Sprint(len(body)), 1))
	}))
	r := request(t, ask)
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			r := *r
			if i%2 == 0 {
				r.Forward = map[string]string{"Traceparent": fmt.Sprint("t", i)}
			}
			for range 20 {
				if got := chat(t.Context(), u, r.For(translate.Edit{Model: "other"})); got.err != nil || i%2 == 0 && !strings.Contains(got.data[0], fmt.Sprintf(`"t%d61"`, i)) {
					t.Errorf("got %q, %v", got.data, got.err)
				}
			}
		})
	}
	all.Wait()
}

func TestEchoAnswersWithThePrompt(t *testing.T) {
	for _, body := range []string{ask, askStream} {
		r := request(t, body)
		for c, err := range Echo(t.Context(), r) {
			if err != nil || c.Whole == r.Stream || !strings.Contains(string(c.Data), `"content":"hi"`) || c.Usage == nil || c.Finish != "stop" || c.Head == nil {
				t.Errorf("got %+v, %v", c, err)
			}
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("gone")
	cancel(gone)
	for _, err := range Echo(ctx, request(t, ask)) {
		if err != gone {
			t.Errorf("got %v, want %v", err, gone)
		}
	}
}

func BenchmarkChat(b *testing.B) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", jsonType)
		_, _ = io.WriteString(w, reply)
	}))
	defer s.Close()
	u, err := NewOpenAI(OpenAIConfig{BaseURL: s.URL, APIKey: "k"})
	if err != nil {
		b.Fatal(err)
	}
	defer u.Close()
	r, err := translate.ParseRequest([]byte(ask))
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Chat", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			for _, err := range u.Chat(b.Context(), r) {
				if err != nil {
					b.Fatal(err)
				}
			}
		}
	})
	b.Run("net/http's RoundTrip", func(b *testing.B) {
		bare := newTransport(0, nil)
		defer bare.CloseIdleConnections()
		b.ReportAllocs()
		for b.Loop() {
			req, _ := http.NewRequestWithContext(b.Context(), "POST", u.chat.String(), strings.NewReader(ask))
			req.Header = u.header
			resp, err := bare.RoundTrip(req)
			if err != nil {
				b.Fatal(err)
			}
			_, _ = io.ReadAll(resp.Body)
			_ = resp.Body.Close()
		}
	})
}

func TestChatSpeaksHTTP2(t *testing.T) {
	proto := make(chan string, 2)
	gone := make(chan struct{})
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		proto <- r.Proto
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", sseType)
		_, _ = io.WriteString(w, "data: "+part+"\n\n")
		_ = http.NewResponseController(w).Flush()
		if r.Header.Get("Traceparent") != "" {
			panic(http.ErrAbortHandler) // a reset of the stream
		}
		<-r.Context().Done()
		close(gone)
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	u := dial(t, s.URL)
	u.via.(transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	r := request(t, askStream)
	for range u.Chat(t.Context(), r) {
		break
	}
	<-gone
	r.Forward = map[string]string{"Traceparent": "x"}
	got := chat(t.Context(), u, r)
	failed(t, got.err, translate.KindInterrupted, "stream_interrupted", translate.BilledPartly)
	if a, b := <-proto, <-proto; a != "HTTP/2.0" || b != "HTTP/2.0" {
		t.Errorf("spoke %s and %s, want HTTP/2.0", a, b)
	}
}
