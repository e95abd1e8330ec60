// Package upstream calls the models: OpenAI-compatible APIs, Anthropic and
// Bedrock. It knows how to get a request there and the answer back, and what
// went wrong when that failed. It does not know whether to try again
// elsewhere, who asked, or what it costs.
package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
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
	drainTime       = time.Second
	staleWindow     = time.Second // within which an idle connection turns out to be closed
)

// newTransport makes the long-lived connection pool of one upstream. It has no
// timeout for an answer: that is the context's, which knows what is asked.
func newTransport(connect time.Duration) *http.Transport {
	if connect <= 0 {
		connect = defaultConnect
	}
	dialer := net.Dialer{
		Timeout:         connect,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 15 * time.Second, Count: 3},
	}
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment, // leaves loopback alone
		DialContext:            dialer.DialContext,
		TLSHandshakeTimeout:    tlsTimeout,
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second},
		MaxIdleConnsPerHost:    512,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true,
	}
}

// post sends body and returns once the answer's headers have come, whatever
// the status. The caller closes the answer's body. Redirects are not followed.
//
// header is not copied and may be shared by requests: nobody writes to it.
// An error is ctx's cause when ctx has ended, else a *translate.UpstreamError
// that says whether the request may have been billed.
func post(ctx context.Context, rt http.RoundTripper, to *url.URL, header http.Header, body []byte) (*http.Response, error) {
	for attempt := 0; ; attempt++ {
		c := call{body: body}
		resp, err := c.do(ctx, rt, to, header)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if attempt == 0 && c.stale(err) {
			continue
		}
		return nil, sendError(err, c.written)
	}
}

// call is one request on one connection.
type call struct {
	body    []byte
	reused  bool      // it went out on a connection used before
	written bool      // it was written in full
	at      time.Time // when
}

func (c *call) do(ctx context.Context, rt http.RoundTripper, to *url.URL, header http.Header) (*http.Response, error) {
	sent := &sentBody{rest: c.body}
	trace := httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { c.reused = i.Reused },
		WroteRequest: func(i httptrace.WroteRequestInfo) {
			c.written, c.at = i.Err == nil, time.Now()
		},
	}
	req := (&http.Request{
		Method: http.MethodPost, URL: to, Host: to.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Body: sent, ContentLength: int64(len(c.body)),
	}).WithContext(httptrace.WithClientTrace(ctx, &trace))
	whole := &sentBody{rest: c.body}
	req.GetBody = func() (io.ReadCloser, error) { return &sentBody{rest: whole.rest}, nil }
	resp, err := rt.RoundTrip(req)
	// The response keeps its request alive, for as long as a stream lasts;
	// the request's body need not be.
	whole.rest = nil
	return resp, err
}

// stale reports whether the call failed because the server had closed an idle
// connection just before: it then never saw the request. A request that was
// written in full counts as unseen only when the connection was closed in
// order and at once.
func (c *call) stale(err error) bool {
	if !c.reused {
		return false
	}
	if !c.written {
		return true
	}
	closed := errors.Is(err, io.EOF) || strings.Contains(err.Error(), "server closed idle connection")
	return closed && time.Since(c.at) < staleWindow
}

// sentBody is a request body that lets go of its bytes once they are sent.
type sentBody struct{ rest []byte }

func (b *sentBody) Read(p []byte) (int, error) {
	n := copy(p, b.rest)
	if b.rest = b.rest[n:]; len(b.rest) == 0 {
		b.rest = nil
		return n, io.EOF
	}
	return n, nil
}

func (b *sentBody) Close() error { return nil }

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

// retryAfter is how long an upstream asks us to wait, at most a minute; 0 when
// it does not say, or says nonsense.
func retryAfter(h http.Header) time.Duration {
	const most = time.Minute
	if ms, ok := seconds(h.Get("Retry-After-Ms")); ok {
		return min(ms/1000, most)
	}
	v := h.Get("Retry-After")
	if d, ok := seconds(v); ok {
		return min(d, most)
	}
	if at, err := http.ParseTime(v); err == nil {
		return min(max(time.Until(at), 0), most)
	}
	return 0
}

// Upstreams that answer with something else than what was asked for.
func badResponse(message string, err error) *translate.UpstreamError {
	return &translate.UpstreamError{
		Kind: translate.KindBadResponse, Code: "upstream_bad_response",
		Message: message, Billed: translate.BilledUnknown, Err: err,
	}
}
