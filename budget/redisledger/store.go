package redisledger

import (
	"context"
	"crypto/sha1" // Redis names scripts by it
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/inference-router/inference-router/internal/redisclient"
	"github.com/redis/go-redis/v9"
)

// script is a Lua script and the name Redis has for it.
type script struct{ text, sha string }

func newScript(text string) *script {
	sum := sha1.Sum([]byte(text))
	return &script{text: text, sha: hex.EncodeToString(sum[:])}
}

var (
	//go:embed hold.lua
	holdText string
	//go:embed settle.lua
	settleText string
	//go:embed renew.lua
	renewText string
	//go:embed heartbeat.lua
	heartbeatText string

	holdScript      = newScript(holdText)
	settleScript    = newScript(settleText)
	renewScript     = newScript(renewText)
	heartbeatScript = newScript(heartbeatText)
)

// call is one run of a script. Its arguments are pointers, which spares an
// allocation for each, and so does the room for those of two budgets.
type call struct {
	script *script
	epoch  *epoch // that it was made under
	args   []any  // EVALSHA, the script's name, how many keys; the keys; the rest
	ints   []int64
	reply  string
	err    error

	fewArgs [32]any
	fewInts [24]int64
}

// newCall makes room for so many keys and other arguments.
func newCall(s *script, keys, others int) *call {
	c := &call{script: s}
	c.args, c.ints = c.fewArgs[:3], c.fewInts[:0]
	if 3+keys+others > len(c.fewArgs) || 1+others > len(c.fewInts) {
		c.args, c.ints = make([]any, 3, 3+keys+others), make([]int64, 0, 1+others)
	}
	c.ints = append(c.ints, int64(keys))
	c.args[2] = &c.ints[0]
	return c
}

func (c *call) text(s *string) { c.args = append(c.args, s) }

func (c *call) int(n int64) {
	c.ints = append(c.ints, n)
	c.args = append(c.args, &c.ints[len(c.ints)-1])
}

// store is Redis as the ledger sees it: scripts, a clock, and a breaker.
type store struct {
	client  redis.UniversalClient
	cluster bool
	timeout time.Duration
	breaker breaker
	count   counters
	trouble atomic.Int64 // when the store last failed to answer, ns since 1970

	// server is the run id of the server that the epoch speaks of, and strange
	// is set when a connection leads to another.
	server  atomic.Pointer[string]
	strange atomic.Bool
	// lost is the epoch under which a cluster's node had lost counts.
	lost atomic.Pointer[epoch]

	began  time.Time    // what the local clock counts from
	offset atomic.Int64 // Redis' clock ahead of the local one, ms
	shift  atomic.Int64 // ms that a test moved time on by
}

// counters are the ledger's, see budget.StoreStats.
type counters struct {
	unenforced, unenforcedSpent, allotted, refused, failures, opened atomic.Int64
	corrupt, recovered, late, lost                                   atomic.Int64
}

// inFlight is how many round trips are made at once. Beyond it, reservations
// gather and share one.
const inFlight = 8

// openStore makes the client; it does not connect.
func openStore(c Config) (*store, error) {
	s := &store{timeout: c.Timeout / 2, began: time.Now()} // so that one lost reply leaves time to ask again
	s.breaker.ticks = int(max(1, min(silence, c.Timeout)/silenceTick))
	s.breaker.onOpen = func() { s.count.opened.Add(1) }
	conf := redisclient.Config{URL: c.URL, Username: c.Username, Password: c.Password, TLS: c.TLS, Timeout: s.timeout}
	conf.OnConnect = s.checkServer
	var err error
	if s.client, err = redisclient.New(conf); err != nil {
		return nil, fmt.Errorf("redis url: %w", err)
	}
	s.cluster = redisclient.IsCluster(s.client)
	return s, nil
}

// checkServer refuses a connection to another server than the one the epoch speaks
// of: one that was restarted from an old snapshot, or a replica that was
// promoted, may have counts that are too low. The beat is let through, to find
// out.
func (s *store) checkServer(ctx context.Context, c *redis.Conn) error {
	known := s.server.Load()
	if known == nil || *known == "" || s.cluster || ctx.Value(anyServer{}) != nil {
		return nil
	}
	info, err := c.Info(ctx, "server").Result()
	if err != nil {
		var reply redis.Error
		if errors.As(err, &reply) {
			return nil // INFO may be forbidden
		}
		return err
	}
	sentinel := infoField(info, "redis_mode") == "sentinel" // asked for the address only
	if id := infoField(info, "run_id"); id != "" && id != *known && !sentinel {
		s.strange.Store(true)
		return errStrange
	}
	return nil
}

// servers lists a cluster's masters, by what their run ids begin with. Those
// that do not answer are not among them.
func (s *store) servers(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*s.timeout)
	defer cancel()
	var mu sync.Mutex
	var ids []string
	err := s.client.(*redis.ClusterClient).ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		info, err := c.Info(ctx).Result()
		var reply redis.Error
		if errors.As(err, &reply) {
			return nil // INFO may be forbidden, to the scripts as well
		}
		if id := infoField(info, "run_id"); len(id) >= 8 && infoField(info, "role") == "master" {
			mu.Lock()
			ids = append(ids, id[:8])
			mu.Unlock()
		}
		return nil
	})
	if ids == nil && err == nil {
		err = ctx.Err()
	}
	slices.Sort(ids)
	return strings.Join(ids, ""), err
}

// anyServer is the key of a context whose connections may lead to any server.
type anyServer struct{}

var errStrange = errors.New("redis is not the server it was")

// infoField reads a field of INFO's answer.
func infoField(info, name string) string {
	_, rest, _ := strings.Cut(info, name+":")
	value, _, _ := strings.Cut(rest, "\r\n")
	return value
}

// patience is how long a request waits for an answer, retries and all.
func (s *store) patience() time.Duration { return 2 * s.timeout }

// silentSince is how long the store has said nothing to one who waits since
// then.
func (s *store) silentSince(began time.Time) time.Duration {
	if last := s.breaker.lastReply(); last.After(began) {
		began = last
	}
	return time.Since(began)
}

// troubleFor is how long a sign of trouble is remembered.
const troubleFor = 10 * time.Minute

// troubled says whether the store has failed to answer lately.
func (s *store) troubled() bool {
	at := s.trouble.Load()
	return at != 0 && time.Since(time.Unix(0, at)) < troubleFor
}

// exec runs the calls in one round trip. Its error is the store's, and that of
// some of the calls: whether these took effect is unknown. Errors that concern
// a call alone are only its own.
//
// Reading an answer has the store's timeout. All of it has at most twice that,
// because a new connection begins with a greeting, a round trip of its own.
func (s *store) exec(ctx context.Context, calls []*call) error {
	s.breaker.begin()
	defer s.breaker.end()
	until := time.Now().Add(2 * s.timeout)
	if earlier, ok := ctx.Deadline(); !ok || until.Before(earlier) {
		ctx = deadline{ctx, until}
	}
	if s.cluster { // whose client makes several attempts, and looks at the timer only
		until, _ := ctx.Deadline()
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, until)
		defer cancel()
	}
	err := s.run(ctx, calls, false)
	var unknown []*call
	for _, c := range calls {
		if c.err != nil && redis.HasErrorPrefix(c.err, "NOSCRIPT") {
			unknown = append(unknown, c)
		}
	}
	if unknown != nil { // whatever became of the others: a Redis that starts answers some with LOADING
		_ = s.run(ctx, unknown, true)
		err = lost(calls)
	}
	if err != nil {
		s.count.failures.Add(1)
		s.trouble.Store(time.Now().UnixNano())
		if c, ok := s.client.(*redis.ClusterClient); ok {
			c.ReloadState(ctx) // a dead node does not say who has its slots now
		}
		return err
	}
	s.breaker.replied()
	return nil
}

// deadline is a context with a deadline and no timer: the deadlines of the
// connection do the waiting, and a timer for every round trip would be dear.
type deadline struct {
	context.Context
	until time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.until, true }

// run sends the calls, by name or in full.
func (s *store) run(ctx context.Context, calls []*call, full bool) error {
	pipe := s.client.Pipeline()
	commands := make([]*redis.StringCmd, len(calls))
	for i, c := range calls {
		c.args[0], c.args[1] = "EVALSHA", &c.script.sha
		if full {
			c.args[0], c.args[1] = "EVAL", &c.script.text
		}
		commands[i] = redis.NewStringCmd(ctx, c.args...)
		commands[i].SetFirstKeyPos(3)
		_ = pipe.Process(ctx, commands[i]) // queued; it cannot fail
	}
	_, _ = pipe.Exec(ctx) // its error is one of the commands'
	for i, c := range calls {
		c.reply, c.err = commands[i].Result()
	}
	return lost(calls)
}

// lost is why some of the calls have no reply, if so.
func lost(calls []*call) error {
	for _, c := range calls {
		if c.err != nil && !isCallError(c.err) {
			return c.err
		}
	}
	return nil
}

// isCallError says whether Redis is well and only this call is not: its counts
// cannot be read.
func isCallError(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	if redis.HasErrorPrefix(err, "WRONGTYPE") {
		return true
	}
	text := reply.Error()
	return strings.Contains(text, "CORRUPT count") || strings.Contains(text, "is not an integer") ||
		strings.Contains(text, "would overflow")
}

// now is Redis' time in ms, as well as this process knows it.
func (s *store) now() int64 { return s.local() + s.offset.Load() + s.shift.Load() }

// local is a clock that nobody sets back.
func (s *store) local() int64 { return s.began.UnixMilli() + time.Since(s.began).Milliseconds() }

// heard corrects the clock by the time in a reply.
func (s *store) heard(now int64) {
	if s.shift.Load() == 0 {
		s.offset.Store(now - s.local())
	}
}

// clock appends the time that scripts are told: none, so that they ask Redis.
func (s *store) clock(c *call) {
	if s.shift.Load() == 0 {
		c.text(&nothing)
		return
	}
	c.int(s.now())
}

// nothing is an empty argument.
var nothing = ""

// inspect warns of set-ups that lose money.
func (s *store) inspect(log *slog.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if got, err := s.client.ConfigGet(ctx, "maxmemory-policy").Result(); err == nil {
		if policy := got["maxmemory-policy"]; strings.HasPrefix(policy, "allkeys-") {
			log.Warn("redis may evict budgets: set maxmemory-policy to noeviction", "maxmemory_policy", policy)
		}
	}
	if got, err := s.client.ConfigGet(ctx, "appendonly").Result(); err == nil && got["appendonly"] == "no" {
		log.Warn("redis forgets budgets when it restarts: set appendonly to yes")
	}
	info, err := s.client.Info(ctx, "server").Result()
	if err != nil {
		return
	}
	if v := infoField(info, "redis_version"); v != "" && v[0] >= '1' && v[0] <= '5' && !strings.HasPrefix(v, "1") {
		log.Warn("redis is older than 6.0: not tested", "version", v)
	}
	if infoField(info, "redis_mode") == "cluster" && !s.cluster {
		log.Warn("redis is a cluster: add ?cluster=true to its url")
	}
}
