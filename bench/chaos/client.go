package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
)

// tally is what became of all requests.
type tally struct {
	answered  atomic.Int64 // 200, to the end
	cutShort  atomic.Int64 // a stream that ended with an error event
	hungUp    atomic.Int64 // by the client
	denied    atomic.Int64 // 429 budget_exceeded
	refused   atomic.Int64 // 503 budget_store_unavailable: does not count as a request
	limited   atomic.Int64 // 429 of an upstream
	badReq    atomic.Int64 // 400, as planned
	failed    atomic.Int64 // other errors that the router reports
	lost      atomic.Int64 // the replica died
	unsent    atomic.Int64 // no replica was there: does not count as a request
	falseDeny atomic.Int64
	slowest   atomic.Int64 // time until an answer beyond what the plan says, ns

	mu     sync.Mutex
	codes  map[string]int64 // errors by status and code
	broken map[string]int64 // what must not happen
}

func newTally() *tally { return &tally{codes: map[string]int64{}, broken: map[string]int64{}} }

// requests is how many were made and came to an end that counts.
func (t *tally) requests() int64 {
	return t.answered.Load() + t.cutShort.Load() + t.hungUp.Load() + t.denied.Load() + t.limited.Load() + t.badReq.Load() +
		t.failed.Load() + t.lost.Load()
}

// violation notes something that must not happen. The text is the same for the
// same kind of thing.
func (t *tally) violation(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.broken[fmt.Sprintf(format, args...)]++
}

func (t *tally) code(status int, code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.codes[fmt.Sprintf("%d %s", status, code)]++
}

// hangs is the time after which a request counts as hanging.
const hangs = 20 * time.Second

// work makes requests until there is enough.
func (s *stage) work(ctx context.Context) {
	for ctx.Err() == nil {
		r := s.pick()
		if r == nil {
			s.tally.unsent.Add(1)
			time.Sleep(5 * time.Millisecond)
			continue
		}
		q := s.plan.request(s.next.Add(1))
		s.upstreams.expect(q)
		if s.once(q, r) {
			time.Sleep(50 * time.Millisecond) // Redis is lost: Retry-After, shortened
		}
	}
}

// pick is any replica that is up.
func (s *stage) pick() *replica {
	start := rand.IntN(len(s.replicas)) //nolint:gosec // not for security
	for i := range s.replicas {
		if r := s.replicas[(start+i)%len(s.replicas)]; r.up.Load() {
			return r
		}
	}
	return nil
}

// once sends a request to a replica and judges what comes of it. It says
// whether Redis was lost.
func (s *stage) once(q *request, r *replica) (storeLost bool) {
	q.begin(r)
	ctx, cancel := context.WithTimeout(context.Background(), hangs)
	defer cancel()
	if q.outcomes[0] == hangUp && !q.stream {
		go func() {
			select {
			case <-q.reached:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	resp, err := r.transport.RoundTrip(q.httpRequest(ctx, r.address))
	if err != nil {
		s.unanswered(q, r, err)
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	switch {
	case resp.StatusCode != http.StatusOK:
		storeLost = s.refusal(q, r, resp)
	case q.stream:
		s.stream(q, r, resp, cancel)
	default:
		s.whole(q, r, resp)
	}
	return storeLost
}

func (q *request) httpRequest(ctx context.Context, address string) *http.Request {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/v1/chat/completions", bytes.NewReader(q.body))
	if err != nil {
		panic(err) // constants
	}
	r.Header["Content-Type"] = []string{"application/json"}
	r.Header["X-Router-User"] = []string{q.user.name}
	if q.user.header != "" {
		r.Header["X-Router-Budget-Usd"] = []string{q.user.header}
	}
	return r
}

// unanswered is a request whose connection broke, or that its client left.
func (s *stage) unanswered(q *request, r *replica, err error) {
	q.end(false)
	if q.left() {
		s.tally.hungUp.Add(1)
		return
	}
	s.broke(q, r, err)
}

// broke is a connection that ended by itself: the replica must have died.
func (s *stage) broke(q *request, r *replica, err error) {
	s.tally.lost.Add(1)
	now := time.Now()
	switch {
	case r.diedIn(q.began, now):
	case now.Sub(q.began) >= hangs:
		s.tally.violation("a request hangs")
	default:
		if s.plan.verbose {
			fmt.Fprintf(os.Stderr, "%8.3f s  request %d to %s, %v old, attempts %d, outcomes %v: %v\n", time.Since(s.began).Seconds(), q.id, r.name,
				now.Sub(q.began), q.attempts.Load(), q.outcomes, err)
		}
		s.tally.violation("a connection to a living replica broke: %v", err)
	}
}

// left says whether the client had its reason to leave.
func (q *request) left() bool {
	select {
	case <-q.reached:
		return true
	default:
		return false
	}
}

// refusal is an answer that is an error.
func (s *stage) refusal(q *request, r *replica, resp *http.Response) (storeLost bool) {
	body, err := io.ReadAll(resp.Body)
	q.end(true)
	if err != nil {
		s.broke(q, r, err)
		return false
	}
	code := gjson.GetBytes(body, "error.code").String()
	s.tally.code(resp.StatusCode, code)
	s.took(q)
	switch {
	case code == "budget_store_unavailable":
		s.tally.refused.Add(1)
		return true
	case code == "budget_exceeded":
		s.tally.denied.Add(1)
		q.user.refusals.Add(1)
		s.judgeDenial(q)
	case resp.StatusCode == http.StatusBadRequest && q.planned(refuses):
		s.tally.badReq.Add(1)
	case resp.StatusCode == http.StatusTooManyRequests:
		s.tally.limited.Add(1)
	case resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusServiceUnavailable:
		s.tally.failed.Add(1)
	default:
		s.tally.failed.Add(1)
		s.tally.violation("unexpected answer %d %s", resp.StatusCode, code)
	}
	return false
}

// planned says whether an outcome was among those met.
func (q *request) planned(o outcome) bool {
	for _, p := range q.outcomes[:min(int(q.attempts.Load()), len(q.outcomes))] {
		if p == o {
			return true
		}
	}
	return false
}

// took notes how long the request took beyond what was planned.
func (s *stage) took(q *request) {
	d := int64(time.Since(q.began))
	for i := range min(int(q.attempts.Load()), len(q.outcomes)) {
		switch q.outcomes[i] {
		case answersLate:
			d -= int64(q.late)
		case resetBilled, resetFree:
			d -= int64(seenAfter) * (q.id % 2)
		}
	}
	for {
		most := s.tally.slowest.Load()
		if d <= most || s.tally.slowest.CompareAndSwap(most, d) {
			return
		}
	}
}

func (s *stage) whole(q *request, r *replica, resp *http.Response) {
	_, err := io.Copy(io.Discard, resp.Body)
	if err != nil {
		s.unanswered(q, r, err)
		return
	}
	q.end(true)
	s.tally.answered.Add(1)
	s.took(q)
	s.checkCost(q, resp.Header)
}

// checkCost compares what the client is told with what was billed.
func (s *stage) checkCost(q *request, h http.Header) {
	told := h.Get("X-Router-Cost-Usd")
	if want := budget.Nanodollars(q.charged.Load()).USD(); told != want {
		if s.plan.verbose {
			fmt.Printf("request %d: cost %q, want %q, outcomes %v, attempts %d\n", q.id, told, want, q.outcomes, q.attempts.Load())
		}
		s.tally.violation("X-Router-Cost-USD is not what was billed")
	}
}

// stream reads a stream, as far as the plan says.
func (s *stage) stream(q *request, r *replica, resp *http.Response, cancel func()) {
	lines := bufio.NewScanner(resp.Body)
	var chunks int32
	done, failed := false, false
	for lines.Scan() {
		line := lines.Bytes()
		switch {
		case bytes.Equal(line, []byte("data: [DONE]")):
			done = true
		case bytes.HasPrefix(line, []byte(`data: {"error"`)):
			failed = true
		case bytes.HasPrefix(line, []byte("data:")):
			chunks++
			if n := q.chunks.Load(); n > 0 && chunks >= n {
				cancel()
			}
		}
	}
	err := lines.Err()
	complete := err == nil && (done || failed)
	q.end(complete)
	switch {
	case complete && done:
		s.tally.answered.Add(1)
		s.took(q)
		s.checkCost(q, resp.Trailer)
	case complete:
		s.tally.cutShort.Add(1)
		s.took(q)
		if !q.planned(cut) {
			s.tally.violation("an error in a stream that was not planned")
		}
	case q.chunks.Load() > 0 && chunks >= q.chunks.Load():
		s.tally.hungUp.Add(1)
	case err == nil:
		s.tally.lost.Add(1)
		s.tally.violation("a stream ended without [DONE] and without an error")
	default:
		s.broke(q, r, err)
	}
}
