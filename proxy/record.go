package proxy

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
)

// Record is what happened to one request. Log line, decision log, metrics and
// dashboard are all written from it. It holds no text of prompts or answers.
type Record struct {
	routing.Decision
	Model     string          `json:"model"` // as the client asked
	Status    int             `json:"status"`
	Code      string          `json:"code,omitempty"` // the error's, when there was one
	Attempts  []AttemptRecord `json:"attempts"`
	Tokens    TokenRecord     `json:"tokens"`
	Cost      USD             `json:"cost_usd"`
	Reserved  USD             `json:"reserved_usd"`
	LatencyMS float64         `json:"latency_ms"`
	TTFTMS    float64         `json:"ttft_ms"`
	User      string          `json:"user"`
	Stream    bool            `json:"stream"`
	Fallback  bool            `json:"fallback"`
	RequestID string          `json:"request_id"`
	Tags      string          `json:"tags,omitempty"`

	route     string
	overhead  time.Duration
	remaining []budget.Status // budgets as they stood at admission
	dropped   []string

	decided    string      // the tier decided; Tier is the one that answered
	answered   *deployment // nil when none did
	upstreamID string
	header     map[string][]string // of the answer: what its rate limits leave
}

// AttemptRecord is one call of an upstream.
type AttemptRecord struct {
	Upstream  string  `json:"upstream"`
	Outcome   string  `json:"outcome"` // ok, or the error's code
	Status    int     `json:"status"`
	LatencyMS float64 `json:"latency_ms"`
	Cost      USD     `json:"cost_usd"`
	// Cause is why it failed: the upstream's own status and words, or what
	// became of the connection; masked, at most 300 bytes.
	Cause string `json:"cause,omitempty"`

	tier string
}

// TokenRecord is the usage of all attempts together.
type TokenRecord struct {
	Input      int64 `json:"input"`
	Output     int64 `json:"output"`
	Cached     int64 `json:"cached_input"`
	CacheWrite int64 `json:"cache_write"`
	Reasoning  int64 `json:"reasoning"`
}

// USD is an amount whose JSON is a plain decimal number of dollars.
type USD budget.Nanodollars

// MarshalJSON writes dollars with at most nine places.
func (u USD) MarshalJSON() ([]byte, error) { return []byte(budget.Nanodollars(u).USD()), nil }

// UnmarshalJSON reads what MarshalJSON writes.
func (u *USD) UnmarshalJSON(b []byte) error {
	n, err := budget.ParseUSD(string(b))
	*u = USD(n)
	return err
}

func millis(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// publish writes the record wherever it is read. Called once a request.
func (s *Server) publish(now *setup, r *Record) {
	r.User = now.userName(r.User)
	s.metrics.observe(r)
	s.live.add(r)
	s.recent.add(r)
	if now.Decisions != nil {
		if line, err := json.Marshal(r); err == nil {
			now.Decisions.Write(append(line, '\n'))
		}
	}
	logRecord(now.Log, r)
}

func logRecord(log *slog.Logger, r *Record) {
	level := slog.LevelInfo
	if r.Status >= 500 {
		level = slog.LevelWarn
	}
	handler := log.Handler()
	if !handler.Enabled(context.Background(), level) {
		return
	}
	// Not by the Logger, which would look up its caller for each line.
	line := slog.NewRecord(time.Now(), level, "request", 0)
	line.AddAttrs(
		slog.String("request_id", r.RequestID),
		slog.String("decision", r.ID),
		slog.String("route", r.route),
		slog.Int("status", r.Status),
		slog.String("code", r.Code),
		slog.String("tier", r.Tier),
		slog.String("upstream", r.Upstream),
		slog.String("reason", r.Reason),
		slog.Int("attempts", len(r.Attempts)),
		slog.Bool("fallback", r.Fallback),
		slog.Bool("stream", r.Stream),
		slog.String("user", r.User),
		slog.Int64("input_tokens", r.Tokens.Input),
		slog.Int64("output_tokens", r.Tokens.Output),
		slog.String("cost_usd", budget.Nanodollars(r.Cost).USD()),
		slog.Float64("latency_ms", r.LatencyMS),
		slog.Float64("ttft_ms", r.TTFTMS),
		slog.Float64("overhead_ms", millis(r.overhead)),
	)
	_ = handler.Handle(context.Background(), line) // an error has nowhere to go: this is the log
}

// userName is a user as logs and dashboard show it.
func (s *setup) userName(user string) string {
	if s.PlainUsers {
		return user
	}
	return hashUser(s.UsersKey, user)
}

// recent keeps the last records.
type recent struct {
	mu   sync.Mutex
	ring []*Record
	next int
}

func newRecent(n int) *recent { return &recent{ring: make([]*Record, n)} }

func (r *recent) add(rec *Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ring[r.next] = rec
	r.next = (r.next + 1) % len(r.ring)
}

// list returns at most n records that want accepts, the newest first; nil
// accepts all. It is given records, never a lock: they change no more.
func (r *recent) list(n int, want func(*Record) bool) []*Record {
	var out []*Record
	for _, rec := range r.all() {
		if len(out) == n {
			break
		}
		if want == nil || want(rec) {
			out = append(out, rec)
		}
	}
	return out
}

// all returns the records, the newest first.
func (r *recent) all() []*Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Record
	for i := range r.ring {
		rec := r.ring[(r.next-1-i+2*len(r.ring))%len(r.ring)]
		if rec == nil {
			break
		}
		out = append(out, rec)
	}
	return out
}

// USD is u as a plain decimal.
func (u USD) USD() string { return budget.Nanodollars(u).USD() }
