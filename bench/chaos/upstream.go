package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// model is what one upstream sells. The prices make every sum a fraction, so
// that rounding shows.
type model struct {
	name          string
	input, output string // US dollars per million tokens
	price         budget.Price
}

// models by the first element of their path.
var models = map[string]*model{
	"a": newModel("chaos-a", "0.3337", "1.2511"),
	"b": newModel("chaos-b", "0.4001", "1.6001"),
	"c": newModel("chaos-c", "1.2503", "5.0077"),
}

func newModel(name, input, output string) *model {
	in, err := budget.ParsePrice(input)
	if err != nil {
		panic(err) // constants
	}
	out, err := budget.ParsePrice(output)
	if err != nil {
		panic(err)
	}
	return &model{name: name, input: input, output: output, price: budget.FlatPrice(in, out)}
}

// upstreams is all models on one server, each doing what the request's plan
// says. It keeps the invoice.
type upstreams struct {
	server  *http.Server
	address string

	recent  [1 << 15]atomic.Pointer[request] // by id, the latest ones
	calls   atomic.Int64
	strays  atomic.Int64 // calls that nobody asked for
	badBody atomic.Int64
	kept    atomic.Int64 // calls that were not cancelled when their client left
}

func startUpstreams() (*upstreams, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u := &upstreams{address: l.Addr().String()}
	u.server = &http.Server{Handler: u}
	go func() { _ = u.server.Serve(l) }() // ends with stop
	return u, nil
}

func (u *upstreams) stop() { _ = u.server.Close() }

// expect makes a request known before it is sent.
func (u *upstreams) expect(q *request) { u.recent[q.id%int64(len(u.recent))].Store(q) }

func (u *upstreams) find(id int64) *request {
	q := u.recent[id%int64(len(u.recent))].Load()
	if q == nil || q.id != id {
		return nil
	}
	return q
}

// ServeHTTP plays one attempt.
func (u *upstreams) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the replica died while sending: nothing was asked
	}
	u.calls.Add(1)
	m := models[strings.SplitN(r.URL.Path, "/", 3)[1]]
	id, ok := numberAfter(body, `"content":"r`)
	limit, limited := numberAfter(body, `"max_tokens":`)
	if m == nil || !ok || !limited || limit < 1 || limit > mostOutput {
		u.badBody.Add(1)
		http.Error(w, `{"error":{"message":"not a request of ours"}}`, http.StatusInternalServerError)
		return
	}
	q := u.find(id)
	if q == nil {
		u.strays.Add(1)
		http.Error(w, `{"error":{"message":"nobody asked"}}`, http.StatusInternalServerError)
		return
	}
	c := &call{q: q, m: m, limit: limit, w: w, r: r}
	c.play(u, q.attempt())
}

// numberAfter reads the number that follows the first appearance of a text.
func numberAfter(body []byte, text string) (n int64, ok bool) {
	i := bytes.Index(body, []byte(text))
	if i < 0 {
		return 0, false
	}
	rest := body[i+len(text):]
	end := 0
	for end < len(rest) && rest[end] >= '0' && rest[end] <= '9' {
		end++
	}
	n, err := strconv.ParseInt(string(rest[:end]), 10, 64)
	return n, err == nil
}

// call is one attempt at an upstream.
type call struct {
	q     *request
	m     *model
	limit int64 // of the output, in tokens
	w     http.ResponseWriter
	r     *http.Request
}

const (
	bytesPerToken  = 4
	tokensPerChunk = 4
)

// worst is what the router holds for this attempt.
func (c *call) worst() budget.Nanodollars { return c.m.price.WorstCase(c.q.input, c.limit) }

// cost is what so many tokens of output cost, and the prompt.
func (c *call) cost(output int64) budget.Nanodollars {
	return c.m.price.Cost(budget.Usage{Input: c.promptTokens(), Output: output})
}

// bound is what the router charges when it was not told the usage: no token
// has less than a byte.
func (c *call) bound(delivered int64) budget.Nanodollars {
	return min(c.worst(), c.m.price.Cost(budget.Usage{Input: c.q.input, Output: delivered}))
}

func (c *call) promptTokens() int64 { return c.q.input / bytesPerToken }

// play does what is planned. What a model bills is on the invoice before the
// first byte of its answer.
func (c *call) play(u *upstreams, o outcome) {
	q := c.q
	q.held.Add(int64(c.worst()))
	if o.isUncertain() {
		q.user.uncertain.Add(1)
	}
	tokens := min(q.tokens, c.limit)
	switch o {
	case answers:
		c.answer(tokens, true)
	case answersLate:
		c.sleep(q.late)
		c.answer(tokens, true)
	case withoutUsage:
		q.bill(c.cost(tokens), c.bound(bytesPerToken*tokens))
		c.whole(tokens, false)
	case serverError:
		c.fail(http.StatusInternalServerError, "")
	case rateLimited:
		c.fail(http.StatusTooManyRequests, "1")
	case refuses:
		c.fail(http.StatusBadRequest, "")
	case resetBilled:
		q.bill(c.cost(tokens), c.worst())
		c.reset()
	case resetFree:
		q.bill(0, c.worst())
		c.reset()
	case cut:
		c.cutStream(tokens)
	case hangUp:
		c.waitForLeaving(u, tokens)
	}
}

func (c *call) answer(tokens int64, usage bool) {
	c.q.bill(c.cost(tokens), c.cost(tokens))
	if !c.q.stream {
		c.whole(tokens, usage)
		return
	}
	c.begin()
	c.chunks(tokens)
	_, _ = fmt.Fprintf(c.w, `data: {"id":"x","object":"chat.completion.chunk","model":%q,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`+
		"\n\n"+`data: {"id":"x","object":"chat.completion.chunk","model":%q,"choices":[],"usage":%s}`+"\n\ndata: [DONE]\n\n",
		c.m.name, c.m.name, c.usage(tokens))
}

func (c *call) usage(tokens int64) string {
	return fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}`, c.promptTokens(), tokens, c.promptTokens()+tokens)
}

var letters = strings.Repeat("word", mostOutput)

func (c *call) whole(tokens int64, usage bool) {
	c.w.Header().Set("Content-Type", "application/json")
	tail := "}"
	if usage {
		tail = `,"usage":` + c.usage(tokens) + "}"
	}
	_, _ = fmt.Fprintf(c.w, `{"id":"x","object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}]%s`,
		c.m.name, letters[:bytesPerToken*tokens], tail)
}

func (c *call) begin() {
	c.w.Header().Set("Content-Type", "text/event-stream")
}

// chunks sends so many tokens, a few at a time.
func (c *call) chunks(tokens int64) {
	for left := tokens; left > 0; left -= tokensPerChunk {
		n := min(left, tokensPerChunk)
		_, _ = fmt.Fprintf(c.w, `data: {"id":"x","object":"chat.completion.chunk","model":%q,"choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}`+"\n\n",
			c.m.name, letters[:bytesPerToken*n])
	}
	_ = http.NewResponseController(c.w).Flush()
}

func (c *call) fail(status int, retryAfter string) {
	c.w.Header().Set("Content-Type", "application/json")
	if retryAfter != "" {
		c.w.Header().Set("Retry-After", retryAfter)
	}
	c.w.WriteHeader(status)
	_, _ = io.WriteString(c.w, `{"error":{"message":"as planned","type":"planned","param":null,"code":null}}`)
}

// seenAfter is the time after which a request on a used connection that is
// closed in good order cannot be taken for one that met a connection closed
// for idleness, which its server never saw.
const seenAfter = 1200 * time.Millisecond

// reset ends the connection without an answer: at once by a reset, or in good
// order after a while.
func (c *call) reset() {
	if c.q.id%2 == 1 {
		c.sleep(seenAfter)
	}
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		panic(err) // HTTP/1 can always be taken over
	}
	if tcp, ok := conn.(*net.TCPConn); ok && c.q.id%2 == 0 {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

func (c *call) cutStream(tokens int64) {
	c.q.bill(c.cost(tokens), c.bound(bytesPerToken*tokens))
	c.begin()
	c.chunks(tokens)
	panic(http.ErrAbortHandler) // ends the connection in the middle of the body
}

// waitForLeaving sends the first part of a stream, or of a whole answer
// nothing, and waits until the call is cancelled.
func (c *call) waitForLeaving(u *upstreams, tokens int64) {
	if c.q.stream {
		c.q.bill(c.cost(tokens), c.bound(bytesPerToken*tokens))
		c.begin()
		c.q.chunks.Store(int32((tokens + tokensPerChunk - 1) / tokensPerChunk))
		c.chunks(tokens)
	} else {
		c.q.bill(c.cost(tokens), c.worst())
	}
	c.q.once.Do(func() { close(c.q.reached) })
	select {
	case <-c.r.Context().Done():
	case <-time.After(10 * time.Second):
		u.kept.Add(1)
	}
	panic(http.ErrAbortHandler)
}

// sleep is a model that thinks: it goes on when nobody listens any more.
func (c *call) sleep(d time.Duration) {
	select {
	case <-c.r.Context().Done():
	case <-time.After(d):
	}
}
