package redisledger

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/budget/ledgertest"

	"github.com/redis/go-redis/v9"
)

// redisServer is a redis-server of the test's own.
type redisServer struct {
	t    testing.TB
	port int
	args []string
	cmd  *exec.Cmd
}

// needRedis skips a test on a machine without redis-server, unless
// REQUIRE_ALL=1.
func needRedis(t testing.TB) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err == nil {
		return path
	}
	if os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatal("redis-server is not installed")
	}
	t.Skip("redis-server is not installed")
	return ""
}

// startRedis starts a redis-server that ends with the test.
func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	s := &redisServer{t: t, port: freePort(t)}
	s.args = append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--save", "",
		"--dir", t.TempDir(), "--daemonize", "no", "--loglevel", "warning"}, args...)
	s.start()
	t.Cleanup(s.kill)
	return s
}

func (s *redisServer) start() {
	s.t.Helper()
	s.launch(needRedis(s.t))
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", s.addr()); err == nil { // sooner than a client dials again
			_ = c.Close()
			break
		}
	}
	s.await(func(ctx context.Context, c *redis.Client) error {
		if err := c.Ping(ctx).Err(); err != nil && !redis.HasErrorPrefix(err, "NOAUTH") {
			return err
		}
		return nil
	})
}

func (s *redisServer) launch(path string, more ...string) {
	s.t.Helper()
	s.cmd = exec.Command(path, append(more, s.args...)...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// await polls the server until it does what is asked.
func (s *redisServer) await(ask func(context.Context, *redis.Client) error) {
	s.t.Helper()
	c := s.client()
	defer func() { _ = c.Close() }()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		err = ask(ctx, c)
		cancel()
		if err == nil {
			return
		}
	}
	s.t.Fatalf("redis at port %d: %v", s.port, err)
}

// kill ends the server as a crash does.
func (s *redisServer) kill() {
	if s.cmd == nil {
		return
	}
	s.signal(syscall.SIGCONT)
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	s.cmd = nil
}

func (s *redisServer) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func (s *redisServer) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *redisServer) url() string { return "redis://" + s.addr() }

// client is a plain client, for what tests do behind the ledger's back.
func (s *redisServer) client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2, DisableIdentity: true})
}

// do runs one command.
func (s *redisServer) do(args ...any) any {
	s.t.Helper()
	c := s.client()
	defer func() { _ = c.Close() }()
	v, err := c.Do(context.Background(), args...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		s.t.Fatalf("%v: %v", args, err)
	}
	return v
}

// freePort finds a port that nobody listens at, below those that the system
// hands out by itself.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 10000 + int(nextPort.Add(1))%10000
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		_ = l.Close()
		if bus, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+10000)); err == nil {
			_ = bus.Close()
			return port
		}
	}
	t.Fatal("no free port")
	return 0
}

// nextPort begins elsewhere in every process, so that tests of other packages
// are not met.
var nextPort = func() *atomic.Int64 {
	var n atomic.Int64
	n.Store(int64(os.Getpid()) * 37 % 10000)
	return &n
}()

// newReplica makes a ledger that ends with the test.
func newReplica(t testing.TB, c Config) *Ledger {
	t.Helper()
	if c.Lease == 0 {
		c.Lease = ledgertest.LeaseTime
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.store.trouble.Store(time.Now().UnixNano()) // allotments are taken
	r.freshFor = -1                              // always ask: two replicas look at the same money
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = r.Close(ctx)
	})
	return r
}

// quietReplica makes a ledger that does nothing by itself: it beats and sends
// when it is told to.
func quietReplica(t testing.TB, c Config) *Ledger {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	r, err := newQuiet(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.store.client.Close() })
	return r
}

func newQuiet(c Config) (*Ledger, error) {
	c.Lease = ledgertest.LeaseTime
	r, err := newLedger(c)
	if err == nil {
		r.freshFor = -1
		close(r.stop) // it waits for no other
	}
	return r, err
}

// redisStage is two replicas with a prefix of their own.
func redisStage(t testing.TB, c Config) ledgertest.Stage {
	t.Helper()
	if c.Prefix == "" {
		c.Prefix = "test-" + budget.NewID()
	}
	a, b := newReplica(t, c), newReplica(t, c)
	flush := func() {
		for _, r := range []*Ledger{a, b} {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			err := r.queue.flush(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return ledgertest.Stage{
		A: a, B: b,
		Flush: flush,
		Advance: func(d time.Duration) {
			if c.OnLoss == OnLossBounded { // in one leap slices would run out that are renewed all the time
				giveBackAllotments(t, a)
				giveBackAllotments(t, b)
				flush()
			}
			a.store.shift.Add(d.Milliseconds())
			b.store.shift.Add(d.Milliseconds())
		},
	}
}

// giveBackAllotments has r's slices given back, those too that it is only about to
// set aside.
func giveBackAllotments(t testing.TB, r *Ledger) {
	t.Helper()
	// The budgets that wait to be looked at are, once the last of them has its
	// slice.
	l := r.newLease(budget.Hold{Limits: []budget.Limit{userDay("last-"+budget.NewID(), 1000)}})
	l.bind(r.store.now())
	v := l.shares[0].view
	v.largest = 1
	r.allotments.asked <- l
	for end := time.Now().Add(20 * time.Second); !slices.ContainsFunc(r.allotments.list(), func(s *allotment) bool { return s.view == v }); {
		if time.Now().After(end) {
			t.Fatal("a budget in use gets no slice")
		}
		time.Sleep(time.Millisecond)
	}
	r.allotments.giveBackAll()
}

// socketPath is short enough for a unix socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "r")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// What the contract's tests call alike for both ledgers.
const (
	cent   = ledgertest.Cent
	dollar = ledgertest.Dollar
)

var (
	userDay    = ledgertest.UserDay
	globalDay  = ledgertest.GlobalDay
	reserve    = ledgertest.Reserve
	refuse     = ledgertest.Refuse
	settle     = ledgertest.Settle
	wantCounts = ledgertest.WantCounts
)
