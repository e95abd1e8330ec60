package routing

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Shared keeps the latency windows of several processes alike: each publishes
// its answers in batches and takes over those of the others, in the order Redis
// has them. It works beside the requests: none waits for Redis, and while Redis
// is lost each process goes on with what it has measured itself.
type Shared struct {
	client   redis.UniversalClient
	log      *slog.Logger
	state    *State
	prefix   string // of all keys; one hash tag, so that they share a slot
	replica  string
	interval time.Duration
	up       atomic.Bool
	kick     chan struct{} // asks for an exchange at once

	mu      sync.Mutex
	windows []*sharedWindow
	reset   string // the token of a reset that Redis does not know of yet

	// The exchange's own; only Run touches them.
	generation string // of the data in Redis: changes when it was lost or reset
	resets     string // the token of the latest reset
	batch      int64
	open       *inquiry // sent, but not answered
	lostAt     time.Time
}

// SharedConfig sets up a Shared.
type SharedConfig struct {
	// Client should have ContextTimeoutEnabled, and MaxRetries -1: an exchange
	// is repeated by Shared itself.
	Client redis.UniversalClient
	Prefix string // of the keys; "" means router
	Logger *slog.Logger
	State  *State
	// Interval is the time between two exchanges; 0 means 250 ms. Processes
	// agree within two of them.
	Interval time.Duration
}

const (
	sharedInterval = 250 * time.Millisecond
	sharedTimeout  = time.Second
	sharedLife     = time.Hour      // of a window in Redis that nobody adds to
	sharedMetaLife = 24 * time.Hour // of what is known about the windows; outlives them
	sharedPatience = time.Minute    // how long the answers of others count while Redis is lost
)

//go:embed latency.lua
var exchangeSource string

var exchangeScript = redis.NewScript(exchangeSource)

// NewShared returns a Shared for the windows of c.State. Nothing happens before
// Run.
func NewShared(c SharedConfig) (*Shared, error) {
	if c.Client == nil || c.State == nil {
		return nil, errors.New("shared latency: a client and a state are needed")
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		return nil, fmt.Errorf("shared latency: prefix %q has braces", c.Prefix)
	}
	s := &Shared{
		client:   c.Client,
		log:      c.Logger,
		state:    c.State,
		prefix:   c.Prefix + ":{latency}:",
		replica:  token(),
		interval: c.Interval,
		kick:     make(chan struct{}, 1),
	}
	if c.Prefix == "" {
		s.prefix = "router:{latency}:"
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.interval <= 0 {
		s.interval = sharedInterval
	}
	return s, c.State.share(s)
}

func token() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// Up reports whether the last exchange succeeded.
func (s *Shared) Up() bool { return s.up.Load() }

// Run exchanges answers until ctx ends, and then publishes what is left.
func (s *Shared) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			s.exchange(context.WithoutCancel(ctx))
			return
		case <-timer.C:
		case <-s.kick:
		}
		s.exchange(ctx)
		// The jitter keeps replicas from asking in step.
		timer.Reset(s.interval*3/4 + rand.N(s.interval/4+1))
	}
}

// exchange publishes and takes over, once.
func (s *Shared) exchange(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, sharedTimeout)
	defer cancel()
	if s.open == nil {
		s.open = s.compose()
	}
	reply, err := exchangeScript.Run(ctx, s.client, s.open.keys, s.open.args...).Slice()
	if err == nil {
		err = s.fold(s.open, reply)
		s.open = nil
	}
	switch {
	case err != nil && s.lostAt.IsZero():
		s.lostAt = time.Now()
		if ctx.Err() != context.Canceled {
			s.log.Warn("latency windows are not shared for now", "error", err)
		}
	case err != nil && time.Since(s.lostAt) > sharedPatience:
		s.forgetPeers()
	case err == nil && !s.lostAt.IsZero():
		s.lostAt = time.Time{}
		s.log.Info("latency windows are shared again")
	}
	s.up.Store(err == nil)
}

// inquiry is one exchange's question. It is repeated as it is until it was
// answered: by its batch number its answers are not counted twice.
type inquiry struct {
	keys    []string
	args    []any
	windows []*sharedWindow
	sent    []int64 // by window: how many answers it had noted
	reset   string
}

func (s *Shared) compose() *inquiry {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.batch++
	ask := &inquiry{
		keys:    []string{s.prefix + "meta", s.prefix + "seen:" + s.replica},
		windows: slices.Clone(s.windows),
		reset:   s.reset,
	}
	fresh := s.reset
	if fresh == "" {
		fresh = token()
	}
	ask.args = []any{s.batch, s.generation, s.resets, fresh, strconv.FormatBool(s.reset != ""), sharedLife.Milliseconds(), sharedMetaLife.Milliseconds()}
	for _, w := range ask.windows {
		ask.keys = append(ask.keys, s.prefix+w.name)
		ask.args, ask.sent = w.outgoing(s.replica, ask.args, ask.sent)
	}
	return ask
}

// fold takes over the reply: the generation, the latest reset, and for each
// window the number of answers it has ever had, how many are kept, and those
// that are new to us.
func (s *Shared) fold(ask *inquiry, reply []any) error {
	if len(reply) != 2+len(ask.windows) {
		return fmt.Errorf("exchange of latencies: %d parts in the reply", len(reply))
	}
	generation, _ := reply[0].(string)
	resets, _ := reply[1].(string)
	wasReset := s.resets != resets && s.generation != ""
	wasLost := s.generation != generation && s.generation != "" && !wasReset
	s.generation, s.resets = generation, resets
	again := s.resetAgain(ask.reset)
	for i, w := range ask.windows {
		part, _ := reply[2+i].([]any)
		if len(part) != 3 {
			return errors.New("exchange of latencies: a window's reply is malformed")
		}
		version, _ := part[0].(int64)
		kept, _ := part[1].(int64)
		lines, _ := part[2].([]any)
		news := s.parse(lines)
		switch {
		case again:
			w.restart(nil, version, ask.sent[i])
		case wasReset:
			w.restart(news, version, ask.sent[i])
		case wasLost:
			w.republish(news, version, ask.sent[i])
		default:
			w.fold(news, version, kept, ask.sent[i])
		}
	}
	return nil
}

// resetAgain clears the wish for a reset that Redis now knows of, and reports
// whether there is one it does not know of yet: then what it told is outdated.
func (s *Shared) resetAgain(done string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reset == done {
		s.reset = ""
	}
	return s.reset != ""
}

// shot is an answer as Redis has it.
type shot struct {
	latency time.Duration
	mine    bool
}

func (s *Shared) parse(lines []any) []shot {
	shots := make([]shot, 0, len(lines))
	for _, line := range lines {
		text, _ := line.(string)
		replica, micros, _ := strings.Cut(text, ":")
		n, err := strconv.ParseInt(micros, 10, 64)
		if v := time.Duration(n) * time.Microsecond; err == nil && n > 0 && n <= maxSample.Microseconds() {
			shots = append(shots, shot{latency: v, mine: replica == s.replica})
		}
	}
	return shots
}

// askReset has the reset reach Redis, and by it the other processes.
func (s *Shared) askReset() {
	s.mu.Lock()
	s.reset = token()
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

func (s *Shared) forgetPeers() {
	s.mu.Lock()
	windows := slices.Clone(s.windows)
	s.mu.Unlock()
	for _, w := range windows {
		w.forgetPeers()
	}
}

// join shares a tier's windows.
func (s *Shared) join(tier string, t *tierWindows) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for kind, w := range map[string]*window{"whole:": &t.whole, "ttft:": &t.ttft} {
		shared := &sharedWindow{name: kind + tier, window: w}
		w.mu.Lock()
		shared.pending = slices.Clone(w.ring)
		w.share = shared
		w.mu.Unlock()
		s.windows = append(s.windows, shared)
	}
}

// sharedWindow is what a window keeps for sharing. The window's lock guards it.
type sharedWindow struct {
	name    string
	window  *window
	base    []shot          // the latest answers in Redis' order
	pending []time.Duration // our own that Redis does not have yet
	noted   int64           // answers of our own so far
	version int64           // answers Redis has had when base was taken
}

// note takes an answer of this process; the window's lock is held.
func (w *sharedWindow) note(v time.Duration) {
	w.pending = append(w.pending, v)
	w.noted++
	w.trim()
}

// trim bounds the pending answers while Redis is lost, and the base.
func (w *sharedWindow) trim() {
	size := w.window.rule.size
	if size == 0 {
		return // not configured yet
	}
	w.pending = slices.Delete(w.pending, 0, max(0, len(w.pending)-size))
	w.base = slices.Delete(w.base, 0, max(0, len(w.base)-size))
}

// forget drops everything; the window's lock is held.
func (w *sharedWindow) forget() {
	w.base, w.pending = w.base[:0], w.pending[:0]
}

// outgoing appends the window's part of an inquiry.
func (w *sharedWindow) outgoing(replica string, args []any, sent []int64) ([]any, []int64) {
	w.window.mu.Lock()
	defer w.window.mu.Unlock()
	args = append(args, max(w.window.rule.size, 1), w.version, len(w.pending))
	for _, v := range w.pending {
		args = append(args, replica+":"+strconv.FormatInt(v.Microseconds(), 10))
	}
	return args, append(sent, w.noted)
}

// fold adds what is new in Redis, our own sent answers among it.
func (w *sharedWindow) fold(news []shot, version, kept int64, sent int64) {
	w.window.mu.Lock()
	defer w.window.mu.Unlock()
	if version == w.version && len(news) == 0 && (kept > 0 || len(w.base) == 0) {
		return
	}
	if kept == 0 {
		w.base = w.base[:0] // nobody has added anything for so long that it expired
	}
	w.base = append(w.base, news...)
	peers := 0
	for _, s := range news {
		if !s.mine {
			peers++
		}
	}
	w.settle(version, sent, peers)
}

// restart begins anew after another process's reset.
func (w *sharedWindow) restart(news []shot, version int64, sent int64) {
	w.window.mu.Lock()
	defer w.window.mu.Unlock()
	w.base = append(w.base[:0], news...)
	w.window.good, w.window.trial = 0, 0
	w.settle(version, sent, 0)
}

// republish brings our own answers back to a Redis that has lost its data.
func (w *sharedWindow) republish(news []shot, version int64, sent int64) {
	w.window.mu.Lock()
	defer w.window.mu.Unlock()
	var mine []time.Duration
	for _, s := range w.base {
		if s.mine {
			mine = append(mine, s.latency)
		}
	}
	w.base = append(w.base[:0], news...)
	w.settle(version, sent, 0)
	w.pending = append(mine, w.pending...)
	w.rebuild(0)
}

func (w *sharedWindow) forgetPeers() {
	w.window.mu.Lock()
	defer w.window.mu.Unlock()
	before := len(w.base)
	w.base = slices.DeleteFunc(w.base, func(s shot) bool { return !s.mine })
	if len(w.base) != before {
		w.rebuild(0)
	}
}

// settle drops from the pending answers those that were noted when sent was
// read; what was noted since stays.
func (w *sharedWindow) settle(version, sent int64, peers int) {
	w.version = version
	later := int(min(w.noted-sent, int64(len(w.pending))))
	w.pending = slices.Delete(w.pending, 0, len(w.pending)-later)
	w.rebuild(peers)
}

// rebuild makes the window of the base and the pending answers; so many are
// news from other processes.
func (w *sharedWindow) rebuild(peers int) {
	w.trim()
	all := make([]time.Duration, 0, len(w.base)+len(w.pending))
	for _, s := range w.base {
		all = append(all, s.latency)
	}
	w.window.replace(append(all, w.pending...), peers)
}
