package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/inference-router/inference-router/translate"
)

func TestIsPlain(t *testing.T) {
	for base, want := range map[string]bool{
		"http://10.0.0.1:8000/v1":  true,
		"http://vllm/v1":           true,
		"http://[::1]:8000":        true,
		"http://[fe80::1%25eth0]/": false, // a zone belongs in the address and not in Host
		"http://bücher.test":       false,
		"https://api.openai.com":   false,
	} {
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		if got := isPlain(u); got != want {
			t.Errorf("%s: got %v", base, got)
		}
	}
}

// counted is an upstream that counts its connections.
func counted(t *testing.T, url string) (u *OpenAI, dials *atomic.Int32) {
	u, dials = dial(t, url), new(atomic.Int32)
	setDial(u, func(inner dialFunc) dialFunc {
		return func(ctx context.Context, network, address string) (net.Conn, error) {
			dials.Add(1)
			return inner(ctx, network, address)
		}
	})
	return u, dials
}

func TestPlainUsesAConnectionAgainOnlyIfItCanBe(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		dials        int32
	}{
		{"a length", framed(jsonType, reply), 1},
		{"chunks", chunked(jsonType, reply), 1},
		{"an announcement first", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + framed(jsonType, reply), 1},
		{"Connection: close", strings.Replace(framed(jsonType, reply), "\r\n", "\r\nConnection: close\r\n", 1), 2},
		{"HTTP/1.0", strings.Replace(framed(jsonType, reply), "HTTP/1.1", "HTTP/1.0", 1), 2},
		{"something after the end", framed(jsonType, reply) + "HTTP/1.1 500 Really\r\n\r\n", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			u, dials := counted(t, script(t, func(conn *net.TCPConn, _ *http.Request) bool {
				_, _ = io.WriteString(conn, c.answer)
				return true
			}))
			for range 2 {
				if got := chat(t.Context(), u, request(t, ask)); got.err != nil || len(got.data) != 1 || got.data[0] != reply {
					t.Fatalf("got %+v", got)
				}
			}
			if dials.Load() != c.dials {
				t.Errorf("%d connections, want %d", dials.Load(), c.dials)
			}
		})
	}
}

func TestPlainReadsToTheEndOfTheConnection(t *testing.T) {
	got := chat(t.Context(), dial(t, text(t, ok(jsonType)+"\r\n"+reply)), request(t, ask))
	if got.err != nil || len(got.data) != 1 || got.data[0] != reply {
		t.Errorf("got %+v", got)
	}
}

// A server may refuse a request by its first bytes, and never read the rest.
func TestPlainHearsAnEarlyAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	release := make(chan struct{})
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		_, _ = http.ReadRequest(bufio.NewReader(c))
		_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
		<-release
		_ = c.Close()
	}()
	u := dial(t, "http://"+l.Addr().String())
	got := chat(t.Context(), u, request(t, strings.Replace(ask, "hi", strings.Repeat("x", 20<<20), 1)))
	close(release)
	var refused *translate.UpstreamError
	if !errors.As(got.err, &refused) || refused.Status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %v", got.err)
	}
}

func TestPlainFindsAConnectionClosed(t *testing.T) {
	closed := make(chan struct{})
	u, dials := counted(t, script(t, func(c *net.TCPConn, _ *http.Request) bool {
		_, _ = io.WriteString(c, framed(jsonType, reply))
		_ = c.Close()
		closed <- struct{}{}
		return false
	}))
	for range 2 {
		if got := chat(t.Context(), u, request(t, ask)); got.err != nil {
			t.Fatal(got.err)
		}
		<-closed
	}
	if dials.Load() != 2 {
		t.Errorf("%d connections, want 2", dials.Load())
	}
}

func TestPlainSendsNoHeaderWithALineBreak(t *testing.T) {
	_, err := appendHead(nil, &url.URL{Host: "x", Path: "/"}, http.Header{"Traceparent": {"a\r\nX-Evil: 1"}}, 0)
	if err == nil {
		t.Error("sent")
	}
}

func TestPlainHead(t *testing.T) {
	to, err := url.Parse("http://host:1/a%2Fb/chat?x=y%20z")
	if err != nil {
		t.Fatal(err)
	}
	head, err := appendHead(nil, to, http.Header{"Host": {"other"}, "Content-Length": {"7"}, "Transfer-Encoding": {"chunked"}, "A": {"1", "2"}}, 3)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(head) + "abc")))
	if err != nil {
		t.Fatal(err)
	}
	if r.Host != "host:1" || r.RequestURI != "/a%2Fb/chat?x=y%20z" || r.ContentLength != 3 || len(r.Header["A"]) != 2 {
		t.Errorf("got %s %s %d %v", r.Host, r.RequestURI, r.ContentLength, r.Header)
	}
}

// pipe serves HTTP answers on one end of a pipe.
func pipe(answer string) (dialFunc, *atomic.Int32) {
	open := new(atomic.Int32)
	return func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		open.Add(1)
		go func() {
			defer open.Add(-1)
			for in := bufio.NewReader(theirs); ; {
				r, err := http.ReadRequest(in)
				if err != nil {
					return
				}
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return
				}
				if _, err := io.WriteString(theirs, answer); err != nil {
					return
				}
			}
		}()
		return ours, nil
	}, open
}

func TestPlainClosesWhatIsIdleForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := dial(t, "http://model.test")
		p, ok := u.via.(*plain)
		if !ok {
			t.Skip("not these connections")
		}
		var open *atomic.Int32
		p.dial, open = pipe(framed(jsonType, reply))
		ask := func() {
			if got := chat(t.Context(), u, request(t, ask)); got.err != nil {
				t.Fatal(got.err)
			}
		}
		ask()
		time.Sleep(idleTime - time.Second)
		ask()
		time.Sleep(idleTime - time.Second)
		if synctest.Wait(); open.Load() != 1 {
			t.Fatalf("%d connections are open before their time, want 1", open.Load())
		}
		time.Sleep(time.Second + time.Millisecond)
		if synctest.Wait(); open.Load() != 0 {
			t.Errorf("%d connections are open after their time", open.Load())
		}
	})
}

func TestPlainEndsWithItsContext(t *testing.T) {
	for _, answer := range []string{"", ok(jsonType) + "Content-Length: 500\r\n\r\n{"} {
		gone, came := make(chan struct{}), make(chan struct{})
		u := dial(t, script(t, func(c *net.TCPConn, _ *http.Request) bool {
			_, _ = io.WriteString(c, answer)
			close(came)
			_, _ = c.Read(make([]byte, 1))
			close(gone)
			return false
		}))
		cause := errors.New("the client left")
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-came; cancel(cause) }()
		if got := chat(ctx, u, request(t, ask)); !errors.Is(got.err, cause) {
			t.Errorf("got %v, want the cause", got.err)
		}
		<-gone
	}
}
