// Package upstream calls the models: OpenAI-compatible APIs, Anthropic and
// Bedrock. It knows how to get a request there and the answer back, and what
// went wrong when that failed. It does not know whether to try again
// elsewhere, who asked, or what it costs.
package upstream

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/translate"
)

const (
	defaultConnect  = 2 * time.Second
	tlsTimeout      = 3 * time.Second
	maxAnswer       = 64 << 20 // bytes of a whole answer
	maxPackedAnswer = 16 << 20 // of one that came compressed, although we ask for none
	maxErrorBody    = 1 << 20
	maxHeader       = 64 << 10
	drainBytes      = 64 << 10
	drainTime       = 5 * time.Millisecond   // the client waits for it; the end of an answer mostly is here by then
	staleWindow     = 250 * time.Millisecond // within which an idle connection turns out to be closed
)

// connections is the long-lived connection pool of one upstream. It has no
// timeout for an answer: that is the context's, which knows what is asked.
type connections interface {
	// do sends a request once and returns when the answer's headers have come.
	// It notes in c how far it got. header is only read; body is not read any
	// more once c says that it was sent.
	do(ctx context.Context, c *call, to *url.URL, header http.Header, body []byte) (*http.Response, error)
	CloseIdleConnections()
}

// newConnections makes the connections to base.
func newConnections(base *url.URL, connect time.Duration, secure *tls.Config) connections {
	if isPlain(base) {
		return newPlain(base, connect)
	}
	return newTransport(connect, secure)
}

func newDialer(connect time.Duration) *net.Dialer {
	if connect <= 0 {
		connect = defaultConnect
	}
	return &net.Dialer{
		Timeout:         connect,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3},
	}
}

// transport is net/http's connections: TLS, HTTP/2, proxies.
type transport struct{ *http.Transport }

func newTransport(connect time.Duration, secure *tls.Config) transport {
	return transport{&http.Transport{
		Proxy:               http.ProxyFromEnvironment, // leaves loopback alone
		DialContext:         newDialer(connect).DialContext,
		TLSHandshakeTimeout: tlsTimeout,
		TLSClientConfig:     secure,
		ForceAttemptHTTP2:   true,
		HTTP2: &http.HTTP2Config{
			SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second,
			MaxReceiveBufferPerStream: 512 << 10, // a slow client holds its upstream back before that
		},
		MaxIdleConnsPerHost:    512,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
	}}
}

// post sends body and returns once the answer's headers have come, whatever
// the status. The caller closes the answer's body. Redirects are not followed.
//
// header is not copied and may be shared by requests: nobody writes to it.
// An error is, or wraps, ctx's cause when ctx has ended, else a *translate.UpstreamError
// that says whether the request may have been billed.
func post(ctx context.Context, via connections, to *url.URL, header http.Header, body []byte) (*http.Response, error) {
	resp, _, err := send(ctx, via, to, header, body)
	return resp, err
}

// send is post that also says whether all of body has been sent, so that
// nobody reads it any more.
func send(ctx context.Context, via connections, to *url.URL, header http.Header, body []byte) (resp *http.Response, sent bool, err error) {
	for attempt := 0; ; attempt++ {
		var c call
		resp, err := via.do(ctx, &c, to, header, body)
		if err == nil {
			return resp, c.sentAt.Load() != 0, nil
		}
		if ctx.Err() != nil {
			return nil, false, ended(ctx, c.written(err))
		}
		if attempt > 0 || !c.stale(err) {
			return nil, false, sendError(err, c.written(err))
		}
	}
}

// ended is ctx's cause. What had not been sent by then cannot have been billed.
func ended(ctx context.Context, sent bool) error {
	if sent {
		return context.Cause(ctx)
	}
	return &translate.UpstreamError{Kind: translate.KindConnect, Billed: translate.BilledNothing, Message: "The request was not sent.", Err: context.Cause(ctx)}
}

// call is one request on one connection: what is known of how far it got.
type call struct {
	reused atomic.Bool  // it went out on a connection used before
	sentAt atomic.Int64 // when all of it was handed to the connection; 0 = not yet
}

// do implements connections.
func (t transport) do(ctx context.Context, c *call, to *url.URL, header http.Header, body []byte) (*http.Response, error) {
	// The response keeps its request alive, for as long as a stream lasts; the
	// body need not be, so its readers let go of it once it is sent. They are
	// bytes.Readers because net/http sends those along with the headers.
	first, again := bytes.NewReader(body), bytes.NewReader(body)
	trace := httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { c.reused.Store(i.Reused) },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			if i.Err == nil {
				c.sentAt.Store(time.Now().UnixNano())
				first.Reset(nil)
			}
		},
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: to, Host: to.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: io.NopCloser(first), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) {
			c.sentAt.Store(0)
			r := *again
			return io.NopCloser(&r), nil
		},
	}).WithContext(httptrace.WithClientTrace(ctx, &trace))
	resp, err := t.RoundTrip(req)
	again.Reset(nil)
	return resp, err
}

// written reports whether the request may have reached the upstream in full.
func (c *call) written(err error) bool {
	var op *net.OpError
	return c.sentAt.Load() != 0 && !(errors.As(err, &op) && op.Op == "write") // the last bytes are written later
}

// stale reports whether the call failed because the server had closed an idle
// connection just before: it then never saw the request. A request that was
// written in full counts as unseen only when the connection was closed in
// order and at once.
func (c *call) stale(err error) bool {
	if !c.reused.Load() {
		return false
	}
	if !c.written(err) {
		return true
	}
	closed := errors.Is(err, io.EOF) || strings.Contains(err.Error(), "server closed idle connection")
	return closed && time.Since(time.Unix(0, c.sentAt.Load())) < staleWindow
}

// decoded undoes a compression that we did not ask for. Only gzip is known.
func decoded(resp *http.Response) (io.Reader, int64, error) {
	switch strings.ToLower(resp.Header.Get("Content-Encoding")) {
	case "", "identity":
		return resp.Body, maxAnswer, nil
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(resp.Body)
		return r, maxPackedAnswer, err
	}
	return nil, 0, errors.New("unknown content encoding")
}

var errTooLong = errors.New("the answer is too long")

// readAll reads a whole answer of at most limit bytes.
func readAll(resp *http.Response, limit int64) ([]byte, error) {
	r, most, err := decoded(resp)
	if err != nil {
		return nil, err
	}
	limit = min(limit, most)
	if resp.ContentLength > limit {
		return nil, errTooLong
	}
	// Room for all of it if it is short, and for the read that finds the end.
	buf := bytes.NewBuffer(make([]byte, 0, min(max(resp.ContentLength, 0), 256<<10)+bytes.MinRead))
	if _, err = buf.ReadFrom(io.LimitReader(r, limit+1)); err != nil {
		return nil, err
	}
	if int64(buf.Len()) > limit {
		return nil, errTooLong
	}
	return buf.Bytes(), nil
}

// drain reads on after the end of an answer, for a moment, so that the
// connection can be used again. cancel ends the call if that takes too long.
func drain(body io.Reader, cancel func()) {
	t := time.AfterFunc(drainTime, cancel)
	defer t.Stop()
	_, _ = io.CopyN(io.Discard, body, drainBytes)
}

// longestWait bounds what an upstream may ask us to wait.
const longestWait = time.Minute

// retryAfter is how long an upstream asks us to wait, at most a minute; 0 when
// it does not say, or says nonsense. Milliseconds are OpenAI's and Azure's,
// a duration in words some gateways'.
func retryAfter(h http.Header) time.Duration {
	for _, name := range []string{"Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
		if ms, ok := seconds(h.Get(name)); ok {
			return min(ms/1000, longestWait)
		}
	}
	v := strings.TrimSpace(h.Get("Retry-After"))
	if d, ok := seconds(v); ok {
		return min(d, longestWait)
	}
	if d, err := time.ParseDuration(v); err == nil && d >= 0 {
		return min(d, longestWait)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), longestWait)
	}
	return resetAfter(h)
}

// resetAfter is when a limit that is used up has room again, by the headers
// that tell how much of each is left: x-ratelimit-remaining-tokens beside
// x-ratelimit-reset-tokens, anthropic-ratelimit-tokens-remaining beside
// …-reset. Without a remainder the soonest reset counts.
func resetAfter(h http.Header) time.Duration {
	used, any := time.Duration(0), time.Duration(0)
	for name, values := range h {
		low := strings.ToLower(name)
		if !strings.Contains(low, "ratelimit") || !strings.Contains(low, "reset") || len(values) == 0 {
			continue
		}
		wait, ok := resetIn(values[0])
		if !ok {
			continue
		}
		left := h.Get(strings.Replace(low, "reset", "remaining", 1))
		switch n, err := strconv.ParseFloat(left, 64); {
		case err != nil && (any == 0 || wait < any):
			any = wait
		case err == nil && n <= 0:
			used = max(used, wait)
		}
	}
	if used > 0 {
		return min(used, longestWait)
	}
	return min(any, longestWait)
}

// resetIn reads a reset: a duration (6m0s), a time, or a number, which is Unix
// time in milliseconds or seconds where it is large enough, else seconds.
func resetIn(v string) (time.Duration, bool) {
	if d, err := time.ParseDuration(v); err == nil {
		return d, d > 0
	}
	if at, err := time.Parse(time.RFC3339, v); err == nil {
		return max(time.Until(at), 0), true
	}
	n, err := strconv.ParseFloat(v, 64)
	switch {
	case err != nil || !(n > 0):
		return 0, false
	case n > 1e12:
		return max(time.Until(time.UnixMilli(int64(n))), 0), n < 1e15
	case n > 1e9:
		return max(time.Until(time.Unix(int64(n), 0)), 0), true
	}
	return time.Duration(min(n, 1e6) * float64(time.Second)), true
}

// aboutLimits are an answer's headers that concern the client: what its rate
// limits leave, and how long the provider took. nil when there are none.
func aboutLimits(h http.Header) (out map[string][]string) {
	for name, values := range h {
		if !strings.HasPrefix(name, "X-Ratelimit-") && !strings.HasPrefix(name, "Anthropic-Ratelimit-") && name != "Openai-Processing-Ms" ||
			len(out) == maxLimitHeaders || len(values[0]) > maxLimitHeader {
			continue
		}
		if out == nil {
			out = make(map[string][]string, 8)
		}
		out[name] = values[:1:1]
	}
	return out
}

const (
	maxLimitHeaders = 32
	maxLimitHeader  = 128 // bytes of one's value
)

// Upstreams that answer with something else than what was asked for.
func badResponse(message string, err error) *translate.UpstreamError {
	return &translate.UpstreamError{
		Kind: translate.KindBadResponse, Code: "upstream_bad_response",
		Message: message, Billed: translate.BilledUnknown, Err: err,
	}
}

// answerKind tells what an answer is: sse, json, or "" for anything else. Where
// the content type does not say, or says something else than was asked for,
// the first byte does; the body to read on from is returned.
func answerKind(resp *http.Response, stream bool) (kind string, body io.ReadCloser) {
	media, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	packed := resp.Header.Get("Content-Encoding") != ""
	switch media = strings.ToLower(strings.TrimSpace(media)); {
	case media == "text/event-stream" && (stream || packed):
		return "sse", resp.Body
	case (media == "application/json" || strings.HasSuffix(media, "+json")) && !stream, packed:
		return "json", resp.Body
	}
	b := bufio.NewReaderSize(resp.Body, 512)
	rest := struct {
		io.Reader
		io.Closer
	}{b, resp.Body}
	for n := 1; n <= 512; n++ {
		have, err := b.Peek(n)
		if err != nil {
			break
		}
		switch have[n-1] {
		case ' ', '\t', '\r', '\n':
		case '{':
			return "json", rest
		case 'd', 'e', ':', 'i', 'r': // data, event, a comment, id, retry
			return "sse", rest
		default:
			return "", rest
		}
	}
	return "", rest
}

// judged makes a broken stream's error say what it means.
func judged(ctx context.Context, events iter.Seq2[translate.Event, error]) iter.Seq2[translate.Event, error] {
	return func(yield func(translate.Event, error) bool) {
		begun := false
		for e, err := range events {
			switch {
			case err != nil && ctx.Err() != nil:
				err = context.Cause(ctx)
			case err != nil:
				err = streamError(err, begun)
			}
			begun = begun || !e.Comment
			if !yield(e, err) {
				return
			}
		}
	}
}

// requestID is the provider's id of a call, if it looks like one.
func requestID(h http.Header) string {
	for _, name := range []string{"X-Request-Id", "Request-Id", "Apim-Request-Id"} {
		if id := h.Get(name); id != "" && len(id) <= 128 {
			return id
		}
	}
	return ""
}
