package redisledger

import (
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/budget/ledgertest"

	"github.com/alicebob/miniredis/v2"
	"pgregory.net/rapid"
)

// patient is a timeout for tests that are not about time: machines are slow.
const patient = 5 * time.Second

func TestRedisKeepsTheContract(t *testing.T) {
	s := startRedis(t)
	ledgertest.Run(t, func(t *testing.T, test func(*testing.T, ledgertest.Stage)) {
		test(t, redisStage(t, Config{URL: s.url(), OnLoss: OnLossClosed, Timeout: patient}))
	})
}

func TestRedisKeepsTheContractWhileItSetsSlicesAside(t *testing.T) {
	s := startRedis(t)
	ledgertest.Run(t, func(t *testing.T, test func(*testing.T, ledgertest.Stage)) {
		test(t, redisStage(t, Config{URL: s.url(), OnLoss: OnLossBounded, Timeout: patient}))
	})
}

func TestRedisKeepsTheContractOverAFakeServer(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T, test func(*testing.T, ledgertest.Stage)) {
		s := miniredis.RunT(t)
		test(t, redisStage(t, Config{URL: "redis://" + s.Addr(), OnLoss: OnLossClosed, Timeout: patient}))
	})
}

func TestRedisAgreesWithTheModel(t *testing.T) {
	s := startRedis(t)
	rapid.Check(t, func(rt *rapid.T) {
		stage := redisStage(t, Config{URL: s.url(), OnLoss: OnLossClosed, Timeout: patient})
		ledgertest.RunModel(rt, stage)
	})
}

func BenchmarkRedis(b *testing.B) {
	s := startRedis(b)
	for _, parallel := range []int{1, 8, 64} {
		b.Run(strconv.Itoa(parallel)+" at once", func(b *testing.B) {
			r := newReplica(b, Config{URL: s.url(), Prefix: "bench-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient})
			limits := []budget.Limit{userDay("ann", budget.MaxLimit-1), globalDay(budget.MaxLimit - 1)}
			ctx := b.Context()
			before, served := cpuTime(), s.scriptTime()
			b.ReportAllocs()
			b.SetParallelism(parallel / min(parallel, runtime.GOMAXPROCS(0)))
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					held, err := r.Reserve(ctx, budget.Hold{ID: budget.NewID(), Amount: 100, Limits: limits})
					if err == nil {
						err = held.Settle(ctx, 1)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.StopTimer()
			if err := r.queue.flush(ctx); err != nil {
				b.Error(err)
			}
			b.ReportMetric(float64((s.scriptTime()-served).Microseconds())/float64(b.N), "redis-µs/op")
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// cpuTime is what this process has used, the server not counted.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// scriptTime is what the server has spent on scripts, elapsed.
func (s *redisServer) scriptTime() time.Duration {
	text, _ := s.do("INFO", "commandstats").(string)
	_, rest, _ := strings.Cut(text, "cmdstat_evalsha:")
	_, rest, _ = strings.Cut(rest, "usec=")
	usec, _, _ := strings.Cut(rest, ",")
	n, _ := strconv.ParseInt(usec, 10, 64)
	return time.Duration(n) * time.Microsecond
}

func TestRedisReservesInOneRoundTrip(t *testing.T) {
	s := startRedis(t)
	r := newReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient})
	r.freshFor = heartbeatEvery
	month, err := budget.ParseWindow("month", nil)
	if err != nil {
		t.Fatal(err)
	}
	limits := []budget.Limit{userDay("ann", 1000*dollar), globalDay(1000 * dollar),
		{Scope: budget.ScopeUser, Subject: "ann", Window: month, Amount: 1000 * dollar, Hard: true}}
	reserve(t, r, cent, limits...)
	r.heartbeats.Lock() // no beats meanwhile
	before := s.scripts()
	for range 100 {
		reserve(t, r, 0, limits...) // a look at what is known already
		reserve(t, r, cent, limits...)
	}
	got := s.scripts() - before
	r.heartbeats.Unlock()
	if got != 100 {
		t.Errorf("100 reservations took %d calls of scripts", got)
	}
}

// scripts is how often scripts have been called.
func (s *redisServer) scripts() (calls int64) {
	text, _ := s.do("INFO", "commandstats").(string)
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_eval"); ok { // eval, evalsha
			_, rest, _ = strings.Cut(rest, ":calls=")
			n, _, _ := strings.Cut(rest, ",")
			got, _ := strconv.ParseInt(n, 10, 64)
			calls += got
		}
	}
	return calls
}

func TestRedisSettlesAtOnceWhereAnotherMayBeRefused(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient}
	a, b := newReplica(t, config), newReplica(t, config)
	a.queue.linger = time.Hour
	limit := userDay("ann", dollar)
	settle(t, reserve(t, a, 60*cent, limit), cent)
	eventually(t, 2*time.Second, "room for the next", func() bool {
		_, err := b.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 60 * cent, Limits: []budget.Limit{limit}})
		return err == nil
	})
	settle(t, reserve(t, a, cent, userDay("bob", dollar)), cent)
	if n, _ := a.queue.unsent(); n != 1 {
		t.Errorf("%d settlements wait to go along with others, want that of a budget with plenty of room", n)
	}
}
