package routing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
)

// server is a Redis to test against.
type server struct {
	network, addr string
	process       *os.Process // nil for miniredis
	flush         func()
}

// realRedis starts a redis-server for the test.
func realRedis(t *testing.T, options ...string) *server {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("REQUIRE_ALL") == "1" {
			t.Fatal("redis-server is not installed")
		}
		t.Skip("redis-server is not installed")
	}
	dir, err := os.MkdirTemp("", "redis") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	options = append([]string{"--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no", "--dir", dir}, options...)
	command := exec.Command(path, options...)
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command.Process.Signal(syscall.SIGCONT)
		command.Process.Kill()
		command.Wait()
	})
	s := &server{network: "unix", addr: socket, process: command.Process}
	client := s.client(t)
	eventually(t, 10*time.Second, "redis-server to start", func() bool { return client.Ping(t.Context()).Err() == nil })
	s.flush = func() { client.FlushAll(t.Context()) }
	return s
}

// freePort is a TCP port of this host that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestAllKeysShareASlotOfACluster(t *testing.T) {
	s := realRedis(t, "--cluster-enabled", "yes", "--bind", "127.0.0.1", "--port", freePort(t), "--cluster-port", freePort(t))
	a, b := newReplica(t, s), newReplica(t, s)
	if err := a.client.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the cluster to form", func() bool { return a.client.Set(t.Context(), "x", "y", 0).Err() == nil })
	answers(a.Router, "a/small", time.Second, 4)
	a.exchange(t)
	b.exchange(t)
	wantSees(t, "1s of 4", a, b)
	b.Reset()
	b.exchange(t)
	a.exchange(t)
	wantSees(t, "0s of 0", a, b)
}

// eachRedis runs a test against miniredis and against a real server.
func eachRedis(t *testing.T, test func(t *testing.T, s *server)) {
	t.Run("miniredis", func(t *testing.T) {
		m := miniredis.RunT(t)
		test(t, &server{network: "tcp", addr: m.Addr(), flush: m.FlushAll})
	})
	t.Run("redis-server", func(t *testing.T) { test(t, realRedis(t)) })
}

func (s *server) client(t testing.TB) *redis.Client {
	c := redis.NewClient(&redis.Options{Network: s.network, Addr: s.addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	t.Cleanup(func() { c.Close() })
	return c
}

func eventually(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(within)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v for %s", within, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// replica is one process of several.
type replica struct {
	*Router
	shared *Shared
	client *redis.Client
}

func newReplica(t testing.TB, s *server) *replica {
	t.Helper()
	state := NewState()
	r := &replica{
		Router: mustNew(t, Config{Tiers: threeTiers(), State: state, Strategies: []Strategy{NewLatency(LatencyConfig{}), NewComplexity(ComplexityConfig{})}}),
		client: s.client(t),
	}
	r.latency.neverProbe()
	var err error
	if r.shared, err = NewShared(SharedConfig{Client: r.client, State: state}); err != nil {
		t.Fatal(err)
	}
	return r
}

// run exchanges in the background until the test ends.
func (r *replica) run(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { r.shared.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

func (r *replica) exchange(t testing.TB) {
	t.Helper()
	r.shared.exchange(t.Context())
	if !r.shared.Up() {
		t.Fatal("the exchange failed")
	}
}

// sees describes the first tier's window.
func (r *replica) sees() string {
	s := r.Tiers()[0]
	return fmt.Sprintf("%v of %d", s.P90, s.Samples)
}

func wantSees(t *testing.T, want string, replicas ...*replica) {
	t.Helper()
	for i, r := range replicas {
		if got := r.sees(); got != want {
			t.Errorf("replica %d sees %s, want %s", i, got, want)
		}
	}
}

func TestReplicasAgreeWithinASecondAndRouteAwayTogether(t *testing.T) {
	eachRedis(t, func(t *testing.T, s *server) {
		a, b, c := newReplica(t, s), newReplica(t, s), newReplica(t, s)
		for _, r := range []*replica{a, b, c} {
			r.run(t)
		}
		eventually(t, 10*time.Second, "the replicas to meet", func() bool { return a.shared.Up() && b.shared.Up() && c.shared.Up() })
		for i := range 20 {
			answers(a.Router, "a/small", time.Duration(1+i)*10*time.Millisecond, 1)
			answers(b.Router, "a/small", time.Duration(1+i)*20*time.Millisecond, 1)
			answers(c.Router, "a/small", time.Duration(1+i)*30*time.Millisecond, 1)
		}
		eventually(t, time.Second, "the replicas to agree", func() bool {
			return a.Tiers()[0].Samples == 50 && a.sees() == b.sees() && b.sees() == c.sees()
		})
		answers(a.Router, "a/small", 9*time.Second, 50)
		eventually(t, time.Second, "all to route away", func() bool {
			away := 0
			for _, r := range []*replica{a, b, c} {
				if r.Decide(&Request{Prompt: "hi"}).Tier != "fast" {
					away++
				}
			}
			return away == 3
		})
		late := newReplica(t, s)
		late.exchange(t)
		if d := late.Decide(&Request{Prompt: "hi"}); d.Tier == "fast" {
			t.Errorf("a replica that starts later does not know: %s, %s", d.Tier, d.Reason)
		}
	})
}

func TestResetReachesEveryReplica(t *testing.T) {
	eachRedis(t, func(t *testing.T, s *server) {
		a, b, c := newReplica(t, s), newReplica(t, s), newReplica(t, s)
		answers(a.Router, "a/small", 9*time.Second, 10)
		for _, r := range []*replica{a, b, c, a, b, c} {
			r.exchange(t)
		}
		wantSees(t, "9s of 10", a, b, c)
		answers(b.Router, "a/small", 9*time.Second, 5) // not published when the reset comes
		a.Reset()
		wantSees(t, "0s of 0", a)
		answers(a.Router, "a/small", time.Second, 1)
		a.exchange(t)
		b.exchange(t)
		c.exchange(t)
		wantSees(t, "1s of 1", a, b, c)
		late := newReplica(t, s)
		late.exchange(t)
		wantSees(t, "1s of 1", late)
	})
}

func TestAResetDuringAnExchangeHolds(t *testing.T) {
	s := &server{network: "tcp", addr: miniredis.RunT(t).Addr()}
	a, b := newReplica(t, s), newReplica(t, s)
	answers(b.Router, "a/small", 9*time.Second, 10)
	b.exchange(t)
	a.client.AddHook(hook(func(next redis.ProcessHook, ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if strings.HasPrefix(cmd.Name(), "eval") && err == nil {
			a.Reset() // Redis has told of b's answers, a has not heard yet
		}
		return err
	}))
	a.shared.exchange(t.Context())
	wantSees(t, "0s of 0", a)
}

func TestAResetWithoutRedisIsMadeUpFor(t *testing.T) {
	s := realRedis(t)
	a, b := newReplica(t, s), newReplica(t, s)
	answers(a.Router, "a/small", 9*time.Second, 10)
	a.exchange(t)
	b.exchange(t)
	lost := errors.New("lost")
	down := true
	a.client.AddHook(hook(func(next redis.ProcessHook, ctx context.Context, cmd redis.Cmder) error {
		if down {
			return lost
		}
		return next(ctx, cmd)
	}))
	a.shared.exchange(t.Context())
	a.Reset()
	answers(a.Router, "a/small", time.Second, 3)
	a.shared.exchange(t.Context())
	wantSees(t, "1s of 3", a)
	down = false
	a.exchange(t) // repeats what was asked before the reset
	wantSees(t, "1s of 3", a)
	a.exchange(t)
	b.exchange(t)
	wantSees(t, "1s of 3", a, b)
}

// hook wraps every command.
type hook func(next redis.ProcessHook, ctx context.Context, cmd redis.Cmder) error

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }
func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return h(next, ctx, cmd) }
}
func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestALostReplyIsNotCountedTwice(t *testing.T) {
	eachRedis(t, func(t *testing.T, s *server) {
		a, b := newReplica(t, s), newReplica(t, s)
		a.exchange(t)
		lose := true
		a.client.AddHook(hook(func(next redis.ProcessHook, ctx context.Context, cmd redis.Cmder) error {
			if err := next(ctx, cmd); err != nil || !lose {
				return err
			}
			return net.ErrClosed
		}))
		answers(a.Router, "a/small", time.Second, 3)
		a.shared.exchange(t.Context())
		answers(a.Router, "a/small", 2*time.Second, 4)
		a.shared.exchange(t.Context())
		wantSees(t, "2s of 7", a)
		lose = false
		a.exchange(t)
		wantSees(t, "2s of 7", a)
		a.exchange(t)
		b.exchange(t)
		wantSees(t, "2s of 7", a, b)
	})
}

func TestLostDataIsPublishedAgain(t *testing.T) {
	eachRedis(t, func(t *testing.T, s *server) {
		a, b := newReplica(t, s), newReplica(t, s)
		answers(a.Router, "a/small", time.Second, 4)
		answers(b.Router, "a/small", 2*time.Second, 6)
		for _, r := range []*replica{a, b, a} {
			r.exchange(t)
		}
		wantSees(t, "2s of 10", a, b)
		s.flush()
		for _, r := range []*replica{a, b, a, b, a} {
			r.exchange(t)
		}
		wantSees(t, "2s of 10", a, b)
		late := newReplica(t, s)
		late.exchange(t)
		wantSees(t, "2s of 10", late)
	})
}

func TestAFrozenRedisHasNoEffectOnRequests(t *testing.T) {
	s := realRedis(t)
	a, b := newReplica(t, s), newReplica(t, s)
	a.run(t)
	b.run(t)
	eventually(t, 5*time.Second, "the replicas to meet", func() bool { return a.shared.Up() && b.shared.Up() })
	if err := s.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for range 1000 {
		a.Decide(&Request{Prompt: "hi"})
		answers(a.Router, "a/small", 9*time.Second, 1)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("1000 requests took %v", took)
	}
	if d := a.Decide(&Request{Prompt: "hi"}); d.Tier == "fast" {
		t.Errorf("the process's own answers do not count: %s", d.Reason)
	}
	eventually(t, 10*time.Second, "the loss to be noticed", func() bool { return !a.shared.Up() })
	a.Reset()
	answers(a.Router, "a/small", time.Second, 7)
	if err := s.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the replicas to agree again", func() bool { return b.sees() == "1s of 7" && a.sees() == "1s of 7" })
}

func TestPeersAnswersEndWithTheirRedis(t *testing.T) {
	m := miniredis.RunT(t)
	s := &server{network: "tcp", addr: m.Addr()}
	a, b := newReplica(t, s), newReplica(t, s)
	answers(a.Router, "a/small", time.Second, 4)
	answers(b.Router, "a/small", 9*time.Second, 6)
	for _, r := range []*replica{a, b, a} {
		r.exchange(t)
	}
	wantSees(t, "9s of 10", a)
	m.Close()
	a.shared.exchange(t.Context())
	wantSees(t, "9s of 10", a)
	a.shared.lostAt = a.shared.lostAt.Add(-2 * sharedPatience)
	a.shared.exchange(t.Context())
	wantSees(t, "1s of 4", a)
}

func TestWhatRedisHoldsIsBounded(t *testing.T) {
	m := miniredis.RunT(t)
	a := newReplica(t, &server{network: "tcp", addr: m.Addr()})
	for range 5 {
		answers(a.Router, "a/small", time.Second, 200)
		a.exchange(t)
	}
	for _, key := range m.Keys() {
		if !strings.HasPrefix(key, "router:{latency}:") {
			t.Errorf("key %s is not in the hash tag's slot", key)
		}
		if m.TTL(key) <= 0 {
			t.Errorf("key %s never expires", key)
		}
	}
	if list, err := m.List("router:{latency}:whole:fast"); err != nil || len(list) != defaultWindow {
		t.Errorf("%d answers are kept, %v", len(list), err)
	}
	m.FastForward(2 * sharedLife)
	a.exchange(t)
	wantSees(t, "0s of 0", a)
}

func TestRunPublishesWhatIsLeft(t *testing.T) {
	s := &server{network: "tcp", addr: miniredis.RunT(t).Addr()}
	a, b := newReplica(t, s), newReplica(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	answers(a.Router, "a/small", time.Second, 4)
	cancel()
	a.shared.Run(ctx)
	b.exchange(t)
	wantSees(t, "1s of 4", b)
}

func TestSharedConfigErrors(t *testing.T) {
	client := redis.NewClient(&redis.Options{})
	defer client.Close()
	state := NewState()
	for _, c := range []SharedConfig{{State: state}, {Client: client}, {Client: client, State: state, Prefix: "a}b"}} {
		if _, err := NewShared(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	if _, err := NewShared(SharedConfig{Client: client, State: state}); err != nil {
		t.Error(err)
	}
	if _, err := NewShared(SharedConfig{Client: client, State: state}); err == nil {
		t.Error("a state was shared twice")
	}
}

func TestReplicasAgreeAfterResetsAndReloadsUnderLoad(t *testing.T) {
	s := &server{network: "tcp", addr: miniredis.RunT(t).Addr()}
	a, b := newReplica(t, s), newReplica(t, s)
	a.shared.interval, b.shared.interval = time.Millisecond, time.Millisecond
	a.run(t)
	b.run(t)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for n := range 300 {
				r := []*replica{a, b}[(i+n)%2]
				answers(r.Router, "a/small", time.Duration(1+n)*time.Millisecond, 1)
				r.Decide(&Request{Prompt: "hi"})
				switch n % 100 {
				case 50:
					r.Reset()
				case 99:
					reloaded, err := New(Config{Tiers: threeTiers(), State: r.state, Strategies: []Strategy{NewLatency(LatencyConfig{WindowSize: 30 + i})}})
					if err != nil {
						t.Error(err)
						return
					}
					answers(reloaded, "a/small", time.Second, 1)
				}
				time.Sleep(100 * time.Microsecond)
			}
		})
	}
	wg.Wait()
	for _, r := range []*replica{a, b} {
		if _, err := New(Config{Tiers: threeTiers(), State: r.state, Strategies: []Strategy{NewLatency(LatencyConfig{})}}); err != nil {
			t.Fatal(err)
		}
	}
	answers(a.Router, "a/small", time.Second, 40)
	answers(b.Router, "a/small", 2*time.Second, 40)
	eventually(t, 5*time.Second, "the replicas to agree", func() bool {
		return a.Tiers()[0].Samples == 50 && a.sees() == b.sees()
	})
}
