package proxy

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/inference-router/inference-router/translate"
)

// sink is where an answer goes: an event stream, one JSON object, plain text,
// or memory. write is called from one goroutine; ping may come from another.
type sink interface {
	// write takes the next chunk. The first call commits the answer's headers,
	// unless the sink gathers the answer first. An error means that the client
	// has left.
	write(j *journey, c *translate.Chunk) error
	// ping keeps the client's connection alive in a silence.
	ping()
	// begun says that something has been written, so that no other upstream
	// may be tried any more.
	begun() bool
	// end closes the answer: completely when err is nil, else with an error
	// the client cannot mistake for an end. Not called after a whole answer.
	end(j *journey, err error)
}

// writeTimeout is how long a client may take to accept what is written to it.
const writeTimeout = 60 * time.Second

// Names of our response headers that come again as trailers of a stream.
const (
	headerCost     = "X-Router-Cost-Usd"
	headerLatency  = "X-Router-Latency-Ms"
	headerOverhead = "X-Router-Overhead-Ms"
)

// writeHeading says in headers who answers and why.
func writeHeading(h http.Header, j *journey) {
	r := j.record
	set := setter(h)
	set(headerTier, r.Tier)
	set("X-Router-Model", r.answered.label)
	set("X-Router-Strategy", r.Strategy)
	set("X-Router-Reason", r.Reason)
	set("X-Router-Fallback", strconv.FormatBool(r.Fallback))
	set("X-Router-Attempts", strconv.Itoa(j.attempts))
	set("X-Router-Decision", r.ID)
	if r.Scored {
		set("X-Router-Score", formatScore(r.Score))
	}
	if len(r.dropped) > 0 {
		set("X-Router-Dropped-Params", strings.Join(r.dropped, ", "))
	}
	if r.upstreamID != "" {
		set("X-Router-Upstream-Request-Id", r.upstreamID)
	}
	for name, values := range r.header {
		h[name] = values
	}
	if left, ok := j.remaining(); ok {
		set("X-Router-Budget-Remaining-Usd", left.USD())
	}
}

// setter sets canonical names with one allocation for all their values.
func setter(h http.Header) func(name, value string) {
	values := make([]string, 0, 12)
	return func(name, value string) {
		values = append(values, value)
		h[name] = values[len(values)-1 : len(values) : len(values)]
	}
}

// writeTotals says what the answer cost and how long it took: in the headers
// of a whole answer, in the trailers of a stream.
func writeTotals(h http.Header, j *journey) {
	took := time.Since(j.start)
	set := setter(h)
	set(headerCost, j.purse.spent.USD())
	set(headerLatency, formatMillis(took))
	set(headerOverhead, formatMillis(took-j.upstream))
}

func formatMillis(d time.Duration) string {
	return strconv.FormatFloat(millis(d), 'f', -1, 64)
}

// streamRelay writes an answer as server-sent events.
type streamRelay struct {
	w       http.ResponseWriter
	flusher http.Flusher
	control *http.ResponseController
	cost    bool // the client wants usage.cost
	dialect translate.Dialect

	mu       sync.Mutex // guards what follows against ping
	buf      []byte
	started  bool
	inEvent  bool // a partial event's beginning has been written
	deadline time.Time
	id       string // of the answer, where its dialect tells it
	sequence int64  // of the next event
}

func newStreamRelay(w http.ResponseWriter, r *translate.Request) *streamRelay {
	flusher, _ := w.(http.Flusher)
	return &streamRelay{w: w, flusher: flusher, control: http.NewResponseController(w), cost: r.IncludeCost, dialect: r.Dialect}
}

func (o *streamRelay) begun() bool { return o.started }

func (o *streamRelay) write(j *journey, c *translate.Chunk) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		if len(c.Data) == 0 {
			return nil
		}
		o.start(j)
	}
	switch {
	case c.Comment:
		o.buf = append(append(append(o.buf, ": "...), bytes.TrimSpace(c.Data)...), "\n\n"...)
	case len(c.Data) > 0:
		data := c.Data
		if o.cost && c.Usage != nil && !c.Partial {
			data = translate.AppendWithCost(nil, data, j.costSoFar(c.Usage).USD())
		}
		if c.Event != "" && !o.inEvent {
			o.buf = append(append(append(o.buf, "event: "...), c.Event...), '\n')
		}
		o.event(data, c.Partial)
		o.sequence = c.Sequence + 1
		if c.AnswerID != "" {
			o.id = c.AnswerID
		}
	}
	if c.More && len(o.buf) < 32<<10 {
		return nil
	}
	return o.flush()
}

// start commits the headers.
func (o *streamRelay) start(j *journey) {
	o.started = true
	h := o.w.Header()
	h["Content-Type"] = []string{"text/event-stream; charset=utf-8"}
	h["Cache-Control"] = []string{"no-cache"}
	h["X-Accel-Buffering"] = []string{"no"}
	h["Trailer"] = []string{headerCost + ", " + headerLatency + ", " + headerOverhead}
	writeHeading(h, j)
	o.w.WriteHeader(http.StatusOK)
}

// event appends one event, or a piece of one, to the buffer.
func (o *streamRelay) event(data []byte, partial bool) {
	if !o.inEvent {
		o.buf = append(o.buf, "data: "...)
	}
	for {
		line, rest, more := bytes.Cut(data, []byte{'\n'})
		o.buf = append(o.buf, line...)
		if !more {
			break
		}
		o.buf = append(o.buf, "\ndata: "...)
		data = rest
	}
	if o.inEvent = partial; !partial {
		o.buf = append(o.buf, "\n\n"...)
	}
}

// flush sends what is buffered. A client that takes nothing for a while is cut
// off.
func (o *streamRelay) flush() error {
	if len(o.buf) == 0 {
		return nil
	}
	if now := time.Now(); o.deadline.Sub(now) < writeTimeout*3/4 {
		o.deadline = now.Add(writeTimeout)
		o.control.SetWriteDeadline(o.deadline)
	}
	_, err := o.w.Write(o.buf)
	if o.buf = o.buf[:0]; cap(o.buf) > 64<<10 {
		o.buf = nil
	}
	if err == nil && o.flusher != nil {
		o.flusher.Flush()
	}
	return err
}

func (o *streamRelay) ping() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started && !o.inEvent {
		if o.dialect == translate.DialectMessages {
			o.buf = append(o.buf, "event: ping\ndata: {\"type\": \"ping\"}\n\n"...)
		} else {
			o.buf = append(o.buf, ": keep-alive\n\n"...)
		}
		o.flush() // a client that has left shows by its context
	}
}

func (o *streamRelay) end(j *journey, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.started {
		o.start(j)
	}
	if o.inEvent {
		o.event(nil, false)
	}
	switch d := (*refusal)(nil); {
	case err != nil:
		if d = describe(err); d.Status != statusClientGone {
			o.failure(j, interrupted(d))
		}
	case hasDoneMark(o.dialect):
		o.event([]byte("[DONE]"), false)
	}
	writeTotals(o.w.Header(), j)
	o.flush()
	o.control.SetWriteDeadline(time.Time{})
}

// interrupted is how an error reads in the middle of a stream.
func interrupted(d *refusal) *refusal {
	if d.Type == typeInvalid || d.Code == "" || d.Code == "upstream_error" {
		return &refusal{Type: typeAPI, Code: "stream_interrupted", Message: d.Message}
	}
	return d
}

// wholeRelay writes an answer that comes in one chunk: one JSON object.
type wholeRelay struct {
	w       http.ResponseWriter
	cost    bool
	started bool
}

func newWholeRelay(w http.ResponseWriter, r *translate.Request) *wholeRelay {
	return &wholeRelay{w: w, cost: r.IncludeCost}
}

func (o *wholeRelay) begun() bool { return o.started }

func (o *wholeRelay) ping() {}

func (o *wholeRelay) write(j *journey, c *translate.Chunk) error {
	data := c.Data
	o.started = true
	if o.cost && c.Usage != nil {
		data = translate.AppendWithCost(nil, data, j.purse.spent.USD())
	}
	h := o.w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(data))}
	writeHeading(h, j)
	writeTotals(h, j)
	o.w.WriteHeader(http.StatusOK)
	_, err := o.w.Write(data)
	return err
}

func (o *wholeRelay) end(*journey, error) {} // a whole answer is its own end
