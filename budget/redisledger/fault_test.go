package redisledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/budget/ledgertest"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// eventually polls until a condition holds.
func eventually(t testing.TB, within time.Duration, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(within); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, within)
		}
	}
}

// wantUnavailable wants a refusal because Redis is lost.
func wantUnavailable(t testing.TB, l ledgertest.Ledger, limits ...budget.Limit) {
	t.Helper()
	_, err := l.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: cent, Limits: limits})
	if !errors.Is(err, budget.ErrUnavailable) {
		t.Fatalf("Reserve without Redis = %v, want ErrUnavailable", err)
	}
}

// invoice is what a test's requests have really cost.
type invoice struct{ admitted, refused, denied, spent atomic.Int64 }

// load makes requests through a replica until the returned function is called.
func (v *invoice) load(r *Ledger, workers int, amount, cost budget.Nanodollars, limits ...budget.Limit) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for ctx.Err() == nil {
				held, err := r.Reserve(context.Background(), budget.Hold{ID: budget.NewID(), Amount: amount, Limits: limits})
				var exceeded *budget.ExceededError
				switch {
				case err == nil:
					v.admitted.Add(1)
					v.spent.Add(int64(cost))
					_ = held.Settle(context.Background(), cost)
				case errors.As(err, &exceeded):
					v.denied.Add(1)
				default:
					v.refused.Add(1)
				}
				time.Sleep(200 * time.Microsecond) // not to starve a small machine
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// wantAudit wants Redis to have counted exactly what was spent.
func wantAudit(t *testing.T, s *redisServer, prefix string, spent budget.Nanodollars, limit budget.Limit) {
	t.Helper()
	r := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed, Timeout: patient})
	got, err := r.Status(t.Context(), []budget.Limit{limit})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Spent != spent || got[0].Reserved != 0 {
		t.Errorf("redis has counted %d spent, %d reserved; the invoice says %d", got[0].Spent, got[0].Reserved, spent)
	}
}

func flushed(t *testing.T, replicas ...*Ledger) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for _, r := range replicas {
		if err := r.queue.flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRedisDownAtStart(t *testing.T) {
	port := freePort(t)
	url := fmt.Sprintf("redis://127.0.0.1:%d", port)
	soft := budget.Limit{Scope: budget.ScopeUser, Subject: "ann", Amount: dollar}
	for _, policy := range []OnLoss{OnLossClosed, OnLossBounded} {
		r := newReplica(t, Config{URL: url, OnLoss: policy})
		wantUnavailable(t, r, userDay("ann", dollar))
		if held := reserve(t, r, cent, soft); !held.Unenforced {
			t.Errorf("%s: a request without hard budgets is not marked unenforced", policy)
		}
		if got, err := r.Status(t.Context(), []budget.Limit{soft}); err != nil || len(got) != 1 {
			t.Errorf("%s: Status = %v, %v", policy, got, err)
		}
		if r.Up() {
			t.Errorf("%s: up without Redis", policy)
		}
	}
	prefix := "test-" + budget.NewID()
	r := newReplica(t, Config{URL: url, OnLoss: OnLossOpen, Prefix: prefix})
	held := reserve(t, r, cent, userDay("ann", 0))
	if !held.Unenforced || r.Stats().Unenforced != 1 {
		t.Errorf("open: unenforced %v, counted %d", held.Unenforced, r.Stats().Unenforced)
	}
	settle(t, held, 3*cent)

	s := &redisServer{t: t, port: port, args: []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}}
	s.start()
	t.Cleanup(s.kill)
	eventually(t, 2*time.Second, "found", r.Up)
	flushed(t, r)
	wantAudit(t, s, prefix, 3*cent, userDay("ann", dollar))
	refuse(t, r, cent, userDay("ann", 0))
}

func TestRedisKilledAndRestartedWithItsData(t *testing.T) {
	s := startRedis(t, "--appendonly", "yes")
	prefix := "test-" + budget.NewID()
	config := Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed}
	a, b := newReplica(t, config), newReplica(t, config)
	var v invoice
	limit := userDay("ann", 1000*dollar)
	stopA, stopB := v.load(a, 4, cent, cent/3, limit), v.load(b, 4, cent, cent/3, limit)
	eventually(t, 5*time.Second, "traffic", func() bool { return v.admitted.Load() > 100 })
	s.kill()
	eventually(t, 5*time.Second, "refusals", func() bool { return v.refused.Load() > 10 })
	s.start()
	before := v.admitted.Load()
	eventually(t, 5*time.Second, "traffic again", func() bool { return v.admitted.Load() > before+100 })
	stopA()
	stopB()
	flushed(t, a, b)
	wantAudit(t, s, prefix, budget.Nanodollars(v.spent.Load()), limit)
}

func TestRedisLosesItsData(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(s *redisServer)
	}{
		{"by FLUSHALL", func(s *redisServer) { s.do("FLUSHALL") }},
		{"by a crash without persistence", func(s *redisServer) { s.kill(); s.start() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startRedis(t)
			prefix := "test-" + budget.NewID()
			config := Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed, Timeout: 200 * time.Millisecond}
			a, b := newReplica(t, config), newReplica(t, config)
			user, all := userDay("ann", dollar), globalDay(10*dollar)
			settle(t, reserve(t, a, 20*cent, user, all), 10*cent)
			settle(t, reserve(t, b, 20*cent, user, all), 20*cent)
			flushed(t, a, b)
			openA, openB := reserve(t, a, 25*cent, user, all), reserve(t, b, 40*cent, user)
			meet(t, a, b)
			c.lose(s)

			// A request to the replica that knows less must not be let in before
			// the other has brought back what it knows.
			var err error
			eventually(t, 5*time.Second, "an answer", func() bool {
				_, err = a.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 6 * cent, Limits: []budget.Limit{user, all}})
				return !errors.Is(err, budget.ErrUnavailable)
			})
			var exceeded *budget.ExceededError
			if !errors.As(err, &exceeded) {
				t.Errorf("6 cents of a budget with 5 left: %v", err)
			}
			eventually(t, 5*time.Second, "the other replica", b.Up)
			reserve(t, b, 5*cent, user)
			settle(t, openA, 25*cent)
			settle(t, openB, cent)
			flushed(t, a, b)
			got, _ := a.Status(t.Context(), []budget.Limit{user, all})
			if got[0].Spent != 56*cent || got[0].Reserved != 5*cent || got[1].Spent != 55*cent {
				t.Errorf("after the recovery: %+v", got)
			}
		})
	}
}

// meet lets replicas know of one another, as they do within a beat.
func meet(t *testing.T, replicas ...*Ledger) {
	t.Helper()
	for _, r := range slices.Concat(replicas, replicas) {
		if err := r.heartbeat(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
}

func TestANewReplicaIsNotMisledAfterALossOfData(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: 200 * time.Millisecond}
	a := newReplica(t, config)
	limit := userDay("ann", dollar)
	settle(t, reserve(t, a, dollar, limit), dollar)
	flushed(t, a)
	s.do("FLUSHALL")
	wantStatus := func(r *Ledger) bool {
		_, err := r.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 1, Limits: []budget.Limit{limit}})
		var exceeded *budget.ExceededError
		return errors.As(err, &exceeded)
	}
	eventually(t, 2*time.Second, "what was spent is back", func() bool { return wantStatus(a) })
	if !wantStatus(newReplica(t, config)) {
		t.Error("a new replica admits what is spent")
	}
}

func TestRedisRestartedFromAnOldSnapshot(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: 200 * time.Millisecond}
	a, b := newReplica(t, config), newReplica(t, config)
	limit := userDay("ann", dollar)
	settle(t, reserve(t, a, 10*cent, limit), 10*cent)
	old := reserve(t, b, 10*cent, limit)
	flushed(t, a)
	meet(t, a, b)
	s.do("SAVE")
	settle(t, old, 5*cent)
	settle(t, reserve(t, b, 80*cent, limit), 80*cent)
	flushed(t, b)
	s.kill()
	s.start()
	eventually(t, 5*time.Second, "found", func() bool {
		_, err := a.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 6 * cent, Limits: []budget.Limit{limit}})
		if err == nil {
			t.Fatal("6 cents of a budget with 5 left were admitted")
		}
		return !errors.Is(err, budget.ErrUnavailable)
	})
	got, _ := a.Status(t.Context(), []budget.Limit{limit})
	if got[0].Spent != 95*cent {
		t.Errorf("spent %d, want 95 cents", got[0].Spent)
	}
	// Of the lease that the snapshot had and that was settled nothing is left.
	a.store.shift.Add((2 * ledgertest.LeaseTime).Milliseconds())
	settle(t, reserve(t, a, 5*cent, limit), cent)
	flushed(t, a)
	if got, _ := a.Status(t.Context(), []budget.Limit{limit}); got[0].Spent != 96*cent || got[0].Reserved != 0 {
		t.Errorf("after the lease has ended: %+v", got)
	}
}

// Replicas that know nothing of the money that an old snapshot lacks wait for
// those that do, and do not count as one of them.
func TestReplicasThatKnowNothingWaitForThoseThatDo(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient}
	a, b, idle := quietReplica(t, config), quietReplica(t, config), quietReplica(t, config)
	meet(t, a, b, idle)
	limit := userDay("ann", dollar)
	s.do("SAVE")
	settle(t, reserve(t, a, 20*cent, limit), 20*cent)
	settle(t, reserve(t, b, 80*cent, limit), 80*cent)
	flushed(t, a, b)
	s.kill()
	s.start()
	fresh := quietReplica(t, config)
	meet(t, idle, fresh, a) // as many as there were
	for _, r := range []*Ledger{idle, fresh, a} {
		wantUnavailable(t, r, limit)
	}
	meet(t, b, idle, fresh, a)
	for _, r := range []*Ledger{idle, fresh, a, b} {
		refuse(t, r, 1, limit)
	}

	// Nor does one that was not there before a second loss.
	s.do("SAVE")
	settle(t, reserve(t, b, cent, userDay("bob", cent)), cent)
	flushed(t, b)
	s.kill()
	s.start()
	last := quietReplica(t, config)
	last.store.shift.Add(10_000) // the others have not been seen for long
	meet(t, last)
	s.kill()
	s.start()
	meet(t, last)
	wantUnavailable(t, last, userDay("bob", cent))
}

// What waits to be settled does not go along with a request that was let in
// before Redis lost its data, as long as not all have brought back theirs.
func TestNothingIsSettledWhileReplicasBringBack(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient}
	a, b := quietReplica(t, config), quietReplica(t, config)
	meet(t, a, b)
	limit := userDay("ann", dollar)
	open := reserve(t, a, 10*cent, limit)
	settle(t, reserve(t, b, 80*cent, limit), 80*cent)
	flushed(t, b)
	s.do("FLUSHALL")
	settle(t, open, 5*cent)
	meet(t, a)
	if err := a.queue.do(nil, time.Now().Add(patient)); err != nil {
		t.Fatal(err)
	}
	meet(t, b, a)
	flushed(t, a)
	if got, _ := b.Status(t.Context(), []budget.Limit{limit}); got[0].Spent != 85*cent || got[0].Reserved != 0 {
		t.Errorf("after the recovery: %+v; want 85 cents spent", got)
	}
}

// A lease whose renewal is lost with the data is begun anew, before it seems to
// have run out and to have been charged to what a reset forgave.
func TestRedisLosesTheRenewalOfALease(t *testing.T) {
	s := startRedis(t)
	r := quietReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient})
	pass := func(d time.Duration) { r.store.shift.Add(d.Milliseconds()) }
	pass(time.Second) // the clock that is told from now on
	meet(t, r)
	limit := userDay("ann", dollar)
	held := reserve(t, r, 70*cent, limit)
	s.do("SAVE")
	pass(ledgertest.LeaseTime / 2)
	if err := held.Renew(t.Context()); err != nil {
		t.Fatal(err)
	}
	flushed(t, r)
	pass(ledgertest.LeaseTime * 3 / 4)
	if err := r.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.kill()
	s.start()
	meet(t, r)
	refuse(t, r, 31*cent, limit)
	settle(t, held, 60*cent)
	flushed(t, r)
	if got, _ := r.Status(t.Context(), []budget.Limit{limit}); got[0].Spent != 60*cent || got[0].Reserved != 0 {
		t.Errorf("after the recovery: %+v", got)
	}
}

// What a late settle gives back of a lease that ran out is given back once,
// though another replica has seen that and Redis forgets it.
func TestRedisLosesASettleWhoseReplyWasLost(t *testing.T) {
	s := startRedis(t)
	addr, deaf := s.addr(), atomic.Bool{}
	config := Config{URL: "redis://" + lossyProxy(t, addr, deaf.Load), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient}
	a := quietReplica(t, config)
	config.URL = s.url()
	b := quietReplica(t, config)
	meet(t, a, b)
	limit := userDay("ann", dollar)
	settle(t, reserve(t, b, 50*cent, limit), 50*cent)
	held := reserve(t, a, 10*cent, limit)
	flushed(t, b)
	a.store.shift.Add((2 * ledgertest.LeaseTime).Milliseconds())
	b.store.shift.Add((2 * ledgertest.LeaseTime).Milliseconds())
	wantSpent := func(want budget.Nanodollars) {
		t.Helper()
		if got, _ := b.Status(t.Context(), []budget.Limit{limit}); got[0].Spent != want || got[0].Reserved != 0 {
			t.Errorf("%+v; want %d spent", got, want)
		}
	}
	wantSpent(60 * cent)
	s.do("SAVE")
	deaf.Store(true)
	settle(t, held, 4*cent)
	a.queue.send()
	wantSpent(54 * cent)
	s.kill()
	s.start()
	deaf.Store(false)
	meet(t, a, b)
	flushed(t, a)
	wantSpent(54 * cent)
}

// A replica that comes late has the others wait, too, though their time for
// that is over.
func TestAReplicaComesLateToALossOfData(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient}
	a, late := quietReplica(t, config), quietReplica(t, config)
	meet(t, a, late)
	limit := userDay("ann", dollar)
	settle(t, reserve(t, late, dollar, limit), dollar)
	settle(t, reserve(t, a, cent, userDay("bob", dollar)), cent)
	flushed(t, a, late)
	s.do("FLUSHALL")
	meet(t, a)
	a.store.shift.Add(2 * recoveryWait.Milliseconds())
	late.store.shift.Add(2 * recoveryWait.Milliseconds())
	if err := late.heartbeat(t.Context(), ""); err != nil || late.Up() {
		t.Errorf("the late one looks: %v; it does not wait for the other: %v", err, late.Up())
	}
	meet(t, a, late)
	refuse(t, a, 1, limit)
}

// A dead replica's lease that ran out while Redis was away is charged to all of
// its budgets, also to those that Redis knows less of than the replicas do.
func TestALeaseRunsOutWhileRedisLosesData(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient}
	a, b, dead := newReplica(t, config), newReplica(t, config), newReplica(t, config)
	ann, bob, all := userDay("ann", dollar), userDay("bob", dollar), globalDay(10*dollar)
	reserve(t, dead, 7*cent, bob, all)
	if err := dead.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.do("SAVE")
	settle(t, reserve(t, a, 20*cent, ann, all), 20*cent)
	settle(t, reserve(t, b, 10*cent, ann, all), 10*cent)
	flushed(t, a, b)
	meet(t, a, b)
	s.kill()
	for _, r := range []*Ledger{a, b} {
		r.store.shift.Add((2 * ledgertest.LeaseTime).Milliseconds())
	}
	s.start()
	eventually(t, 5*time.Second, "found", func() bool {
		for _, r := range []*Ledger{a, b} {
			_, err := r.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 9 * dollar, Limits: []budget.Limit{ann}})
			if errors.Is(err, budget.ErrUnavailable) {
				return false
			}
		}
		return true
	})
	got, err := b.Status(t.Context(), []budget.Limit{ann, bob, all})
	if err != nil {
		t.Fatal(err)
	}
	if got[0].Spent != 30*cent || got[1].Spent != 7*cent || got[2].Spent != 37*cent || got[2].Reserved != 0 {
		t.Errorf("after the recovery: %+v", got)
	}
}

func TestRedisEvictsABudget(t *testing.T) {
	s := startRedis(t)
	r := newReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed, Timeout: patient})
	user, all := userDay("ann", dollar), globalDay(10*dollar)
	settle(t, reserve(t, r, 20*cent, user, all), 20*cent)
	open, other := reserve(t, r, 30*cent, user, all), reserve(t, r, 30*cent, user)
	flushed(t, r)
	evict := func() {
		v := r.views.get(user, r.store.now())
		s.do("DEL", v.counts, v.leases)
	}
	evict()
	refuse(t, r, 21*cent, user, all)
	reserve(t, r, 20*cent, user)
	evict()
	settle(t, open, 10*cent) // the first to notice
	flushed(t, r)
	refuse(t, r, 21*cent, user)
	settle(t, other, 10*cent)
	flushed(t, r)
	got, _ := r.Status(t.Context(), []budget.Limit{user, all})
	if got[0].Spent != 40*cent || got[0].Reserved != 20*cent || got[1].Spent != 30*cent || got[1].Reserved != 0 {
		t.Errorf("after two evictions: %+v", got)
	}
}

func TestRedisSetUpIsJudged(t *testing.T) {
	var log bytes.Buffer
	s := startRedis(t, "--maxmemory-policy", "allkeys-lru")
	r := newReplica(t, Config{URL: s.url(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"maxmemory_policy=allkeys-lru", "appendonly"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("nothing of %s in the log:\n%s", want, log.String())
		}
	}
}

func TestRedisFrozen(t *testing.T) {
	s := startRedis(t)
	prefix := "test-" + budget.NewID()
	r := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed})
	limit := userDay("ann", 100*dollar)
	open := reserve(t, r, cent, limit)
	s.signal(syscall.SIGSTOP)
	var slowest atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			began := time.Now()
			wantUnavailable(t, r, limit)
			for took := int64(time.Since(began)); ; {
				if most := slowest.Load(); took <= most || slowest.CompareAndSwap(most, took) {
					return
				}
			}
		})
	}
	wg.Wait()
	if took := time.Duration(slowest.Load()); took < 900*time.Millisecond || took > 2*time.Second {
		t.Errorf("a request took %v to be refused, want the timeout of a second", took)
	}
	eventually(t, time.Second, "open breaker", func() bool { return !r.store.breaker.allows() })
	began := time.Now()
	for range 100 {
		wantUnavailable(t, r, limit)
	}
	if took := time.Since(began) / 100; took > time.Millisecond {
		t.Errorf("a request took %v with the breaker open", took)
	}
	settle(t, open, cent)
	s.signal(syscall.SIGCONT)
	began = time.Now()
	eventually(t, 2*time.Second, "found", r.Up)
	if took := time.Since(began); took > time.Second+200*time.Millisecond {
		t.Errorf("found after %v, want a second", took)
	}
	settle(t, reserve(t, r, cent, limit), cent)
	flushed(t, r)
	wantAudit(t, s, prefix, 2*cent, limit)
}

// lossyProxy stands before Redis and swallows some replies after they were
// made, ending the connection.
func lossyProxy(t *testing.T, upstream string, lose func() bool) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	serve := func(client net.Conn) {
		defer func() { _ = client.Close() }()
		server, err := net.Dial("tcp", upstream)
		if err != nil {
			return
		}
		defer func() { _ = server.Close() }()
		go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
		buf := make([]byte, 64<<10)
		for {
			n, err := server.Read(buf)
			if err != nil || lose() {
				return
			}
			if _, err := client.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

func TestRedisRepliesAreLost(t *testing.T) {
	s := startRedis(t)
	var replies atomic.Int64
	addr := lossyProxy(t, s.addr(), func() bool { return replies.Add(1)%10 == 0 })
	prefix := "test-" + budget.NewID()
	r := newReplica(t, Config{URL: "redis://" + addr, Prefix: prefix, OnLoss: OnLossClosed})
	var v invoice
	limit := userDay("ann", 1000*dollar)
	stop := v.load(r, 2, cent, cent/7, limit)
	eventually(t, 10*time.Second, "traffic", func() bool { return v.admitted.Load() > 300 })
	stop()
	flushed(t, r)
	wantAudit(t, s, prefix, budget.Nanodollars(v.spent.Load()), limit)
	if lost := r.Stats().Failures; lost < 10 {
		t.Errorf("only %d round trips failed: the proxy lost too little", lost)
	}
	if admitted, refused := v.admitted.Load(), v.refused.Load(); refused > admitted/4 {
		t.Errorf("%d refused, %d admitted: a lost reply should be asked for again", refused, admitted)
	}
}

// toxic makes a proxy before Redis that can be poisoned.
func toxic(t *testing.T, s *redisServer) *toxiproxy.Proxy {
	t.Helper()
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	p := toxiproxy.NewProxy(server, "redis", "127.0.0.1:0", s.addr())
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p
}

func poison(t *testing.T, p *toxiproxy.Proxy, toxic string) {
	t.Helper()
	if _, err := p.Toxics.AddToxicJson(strings.NewReader(toxic)); err != nil {
		t.Fatal(err)
	}
}

func TestRedisNetworkFaults(t *testing.T) {
	for _, c := range []struct {
		name, toxic string
		works       bool
	}{
		{"latency of 5 ms", `{"name":"x","type":"latency","stream":"downstream","attributes":{"latency":5}}`, true},
		{"latency of 30 ms", `{"name":"x","type":"latency","stream":"downstream","attributes":{"latency":30}}`, true},
		{"latency of 100 ms", `{"name":"x","type":"latency","stream":"downstream","attributes":{"latency":100}}`, true},
		{"replies in slices", `{"name":"x","type":"slicer","stream":"downstream","attributes":{"average_size":24,"size_variation":12,"delay":10}}`, true},
		{"a reset of every connection", `{"name":"x","type":"reset_peer","stream":"downstream","attributes":{"timeout":0}}`, false},
		{"a black hole", `{"name":"x","type":"timeout","stream":"upstream","attributes":{"timeout":0}}`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startRedis(t)
			p := toxic(t, s)
			prefix := "test-" + budget.NewID()
			r := newReplica(t, Config{URL: "redis://" + p.Listen, Prefix: prefix, OnLoss: OnLossClosed})
			limit := userDay("ann", 1000*dollar)
			var v invoice
			stop := v.load(r, 4, cent, cent/7, limit)
			eventually(t, 5*time.Second, "traffic", func() bool { return v.admitted.Load() > 20 })
			poison(t, p, c.toxic)
			admitted, refused := v.admitted.Load(), v.refused.Load()
			if c.works {
				eventually(t, 10*time.Second, "traffic", func() bool { return v.admitted.Load() > admitted+40 })
			} else {
				eventually(t, 10*time.Second, "refusals", func() bool { return v.refused.Load() > refused+40 })
			}
			if err := p.Toxics.RemoveToxic(t.Context(), "x"); err != nil {
				t.Fatal(err)
			}
			admitted = v.admitted.Load()
			eventually(t, 5*time.Second, "traffic again", func() bool { return v.admitted.Load() > admitted+20 })
			stop()
			flushed(t, r)
			wantAudit(t, s, prefix, budget.Nanodollars(v.spent.Load()), limit)
		})
	}
}

func TestRedisForgetsItsScripts(t *testing.T) {
	s := startRedis(t)
	prefix := "test-" + budget.NewID()
	r := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed, Timeout: patient})
	limit := userDay("ann", 1000*dollar)
	var v invoice
	stop := v.load(r, 4, cent, cent/7, limit)
	for range 20 {
		admitted := v.admitted.Load()
		s.do("SCRIPT", "FLUSH")
		eventually(t, 5*time.Second, "traffic", func() bool { return v.admitted.Load() > admitted+10 })
	}
	stop()
	flushed(t, r)
	if v.refused.Load() > 0 {
		t.Errorf("%d requests refused", v.refused.Load())
	}
	wantAudit(t, s, prefix, budget.Nanodollars(v.spent.Load()), limit)
}

func TestRedisRefuses(t *testing.T) {
	for _, c := range []struct {
		name        string
		spoil, mend func(s *redisServer)
	}{
		{"writes, being a replica",
			func(s *redisServer) { s.do("REPLICAOF", "127.0.0.1", "1") },
			func(s *redisServer) { s.do("REPLICAOF", "NO", "ONE") }},
		{"writes, having no memory left",
			func(s *redisServer) { s.do("CONFIG", "SET", "maxmemory", "1") },
			func(s *redisServer) { s.do("CONFIG", "SET", "maxmemory", "0") }},
		{"writes, having too few replicas",
			func(s *redisServer) { s.do("CONFIG", "SET", "min-replicas-to-write", "1") },
			func(s *redisServer) { s.do("CONFIG", "SET", "min-replicas-to-write", "0") }},
		{"scripts, being busy with one", func(s *redisServer) {
			s.do("CONFIG", "SET", "busy-reply-threshold", "10")
			go func() {
				c := redis.NewClient(&redis.Options{Addr: s.addr(), Protocol: 2, ReadTimeout: time.Minute, MaxRetries: -1})
				defer func() { _ = c.Close() }()
				_ = c.Eval(context.Background(), "while true do end", nil).Err()
			}()
		}, func(s *redisServer) {
			s.await(func(ctx context.Context, c *redis.Client) error { return c.ScriptKill(ctx).Err() })
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startRedis(t)
			prefix := "test-" + budget.NewID()
			r := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed})
			limit := userDay("ann", 1000*dollar)
			var v invoice
			stop := v.load(r, 4, cent, cent/7, limit)
			eventually(t, 5*time.Second, "traffic", func() bool { return v.admitted.Load() > 20 })
			c.spoil(s)
			refused := v.refused.Load()
			eventually(t, 5*time.Second, "refusals", func() bool { return v.refused.Load() > refused+20 })
			c.mend(s)
			admitted := v.admitted.Load()
			eventually(t, 5*time.Second, "traffic again", func() bool { return v.admitted.Load() > admitted+20 })
			stop()
			flushed(t, r)
			wantAudit(t, s, prefix, budget.Nanodollars(v.spent.Load()), limit)
		})
	}
}

func TestRedisPasswordIsWrongAndNotLogged(t *testing.T) {
	s := startRedis(t, "--requirepass", "right")
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	r := newReplica(t, Config{URL: "redis://:sEcReT@" + s.addr(), OnLoss: OnLossClosed, Logger: logger})
	_, err := r.Reserve(t.Context(), budget.Hold{Amount: cent, Limits: []budget.Limit{userDay("ann", dollar)}})
	if !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("Reserve = %v, want ErrUnavailable", err)
	}
	_ = r.Close(t.Context())
	_, err2 := New(Config{URL: "redis://:sEcReT@host:port"})
	if err2 == nil {
		t.Error("a bad URL is accepted")
	}
	if all := fmt.Sprint(err, err2, log.String()); strings.Contains(all, "sEcReT") {
		t.Errorf("the password is in %s", all)
	}
	if strings.Count(log.String(), "redis lost") != 1 {
		t.Errorf("the loss is logged so: %s", log.String())
	}
}

func TestRedisCountsThatCannotBeRead(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossOpen, Timeout: patient}
	r := newReplica(t, config)
	for _, c := range []struct {
		name, user string
		spoil      func(v *view)
	}{
		{"another type", "ann", func(v *view) { s.do("DEL", v.counts); s.do("SET", v.counts, "x") }},
		{"not a number", "bob", func(v *view) { s.do("HSET", v.counts, "s", "many") }},
		{"infinite", "eve", func(v *view) { s.do("HSET", v.counts, "s", "-inf") }},
		{"not any number", "fay", func(v *view) { s.do("HSET", v.counts, "s", "nan") }},
		{"leases of another type", "cid", func(v *view) { s.do("DEL", v.leases); s.do("SET", v.leases, "x") }},
	} {
		limit := userDay(c.user, dollar)
		reserve(t, r, cent, limit)
		c.spoil(r.views.get(limit, r.store.now()))
		if _, err := r.Reserve(t.Context(), budget.Hold{Amount: cent, Limits: []budget.Limit{globalDay(dollar), limit}}); !errors.Is(err, budget.ErrUnavailable) {
			t.Errorf("%s: Reserve = %v, want ErrUnavailable even when the policy is open", c.name, err)
		}
		if got, _ := r.Status(t.Context(), []budget.Limit{globalDay(dollar)}); got[0].Reserved != 0 {
			t.Errorf("%s: %d held in the other budget", c.name, got[0].Reserved)
		}
	}
	reserve(t, r, cent, userDay("dan", dollar))
	if !r.Up() || r.Stats().Corrupt == 0 {
		t.Errorf("up %v, corrupt %d", r.Up(), r.Stats().Corrupt)
	}
}

func TestRedisClockJumps(t *testing.T) {
	s := startRedis(t)
	st := redisStage(t, Config{URL: s.url(), OnLoss: OnLossClosed, Timeout: patient})
	limit := userDay("ann", dollar)
	open := reserve(t, st.A, 30*cent, limit)
	st.Advance(24 * time.Hour)
	reserve(t, st.A, 90*cent, limit) // the next day's
	st.Advance(-24 * time.Hour)
	wantCounts(t, st, limit, 0, 30*cent)
	refuse(t, st.B, 71*cent, limit)
	settle(t, open, 10*cent)
	wantCounts(t, st, limit, 10*cent, 0)
}

func TestRedisReapsAFewLeasesAtATime(t *testing.T) {
	s := startRedis(t)
	st := redisStage(t, Config{URL: s.url(), OnLoss: OnLossClosed, Timeout: patient})
	limit := userDay("ann", 1000*dollar)
	for range 100 {
		reserve(t, st.A, cent, limit)
	}
	st.Advance(ledgertest.LeaseTime + time.Second)
	held := reserve(t, st.B, cent, limit)
	if got := held.Budgets[0]; got.Spent != 16*cent || got.Reserved != 85*cent {
		t.Errorf("after one more request: %+v; want 16 leases charged", got)
	}
	settle(t, held, cent)
	st.Flush()
	got, err := st.B.Status(t.Context(), []budget.Limit{limit})
	if err != nil || got[0].Spent != 101*cent || got[0].Reserved != 0 {
		t.Errorf("after one look: %+v, %v; want all charged", got, err)
	}
}

func TestRedisScriptsMeetInAnyOrder(t *testing.T) {
	s := startRedis(t)
	st := redisStage(t, Config{URL: s.url(), OnLoss: OnLossClosed, Timeout: patient})
	r := st.A.(*Ledger)
	limit := userDay("ann", dollar)
	// A reservation that its caller has given up reaches Redis after its undoing.
	late := r.newLease(budget.Hold{ID: budget.NewID(), Limits: []budget.Limit{limit}})
	late.bind(r.store.now())
	calls := late.holds(cent, &modeReserve)
	if err := r.queue.add(&settlement{lease: late, parts: late.parts, tombstone: "D"}); err != nil {
		t.Fatal(err)
	}
	st.Flush()
	if err := r.store.exec(t.Context(), calls); err != nil {
		t.Fatal(err)
	}
	wantCounts(t, st, limit, 0, 0)
	// One that reaches Redis long after it was sent is refused.
	stale := r.newLease(budget.Hold{ID: budget.NewID(), Limits: []budget.Limit{limit}})
	stale.bind(r.store.now())
	calls = stale.holds(cent, &modeReserve)
	st.Advance(time.Minute)
	calls[0].args[8] = r.store.now() // the clock's place: keys come before it, and the epoch
	if err := r.store.exec(t.Context(), calls); err != nil || !strings.HasPrefix(calls[0].reply, "W") {
		t.Errorf("a late reservation: %v, %v; want it refused", calls[0].reply, err)
	}
	wantCounts(t, st, limit, 0, 0)
}

func TestRedisBoundedAdmitsOnlyWhatWasSetAside(t *testing.T) {
	s := startRedis(t, "--appendonly", "yes")
	prefix := "test-" + budget.NewID()
	config := Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossBounded}
	a, b := newReplica(t, config), newReplica(t, config)
	limit := userDay("ann", dollar)
	soft := budget.Limit{Scope: budget.ScopeKey, Subject: "k", Amount: dollar}
	settle(t, reserve(t, a, 5*cent, limit, soft), 5*cent)
	settle(t, reserve(t, b, 5*cent, limit, soft), 5*cent)
	eventually(t, 5*time.Second, "slices", func() bool {
		return len(a.allotments.list()) == 1 && len(b.allotments.list()) == 1
	})
	flushed(t, a, b)
	wantUnavailableAtFirst := func(r *Ledger) (admitted []*budget.Reservation) {
		for range 20 {
			held, err := r.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: 5 * cent, Limits: []budget.Limit{limit, soft}})
			if err == nil {
				admitted = append(admitted, held)
			} else if !errors.Is(err, budget.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		return admitted
	}
	s.kill()
	var spent budget.Nanodollars
	for _, r := range []*Ledger{a, b} {
		admitted := wantUnavailableAtFirst(r)
		if len(admitted) != 2 || r.Stats().Allotted != 2 {
			t.Errorf("%d admitted without Redis, counted %d; want the two that a slice holds", len(admitted), r.Stats().Allotted)
		}
		wantUnavailable(t, r, userDay("bob", dollar))
		for _, held := range admitted {
			settle(t, held, 3*cent)
			spent += 3 * cent
		}
		if more := wantUnavailableAtFirst(r); len(more) != 0 {
			t.Errorf("%d more admitted; 4 cents are left of the slice", len(more))
		}
	}
	s.start()
	eventually(t, 5*time.Second, "found", func() bool { return a.Up() && b.Up() })
	eventually(t, 5*time.Second, "slices given back", func() bool {
		flushed(t, a, b)
		got, err := a.Status(t.Context(), []budget.Limit{limit, soft})
		return err == nil && got[0].Spent == 10*cent+spent && got[1].Spent == 10*cent+spent
	})
}

// A slice whose lease runs out while Redis is away is charged in full. Once
// Redis is back its replica takes that back, though the slice is in use.
func TestRedisIsAwayForLongerThanALease(t *testing.T) {
	s := startRedis(t, "--appendonly", "yes")
	r := newReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossBounded, Lease: time.Second})
	limit := userDay("ann", dollar)
	settle(t, reserve(t, r, 5*cent, limit), 5*cent)
	eventually(t, 5*time.Second, "slice", func() bool { return len(r.allotments.list()) == 1 })
	flushed(t, r)
	s.kill()
	time.Sleep(1100 * time.Millisecond)
	s.start()
	eventually(t, 5*time.Second, "the charge taken back", func() bool {
		if held, err := r.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: cent, Limits: []budget.Limit{limit}}); err == nil {
			settle(t, held, 0)
		}
		got, err := r.Status(t.Context(), []budget.Limit{limit})
		return err == nil && r.Up() && len(r.allotments.list()) == 1 && got[0].Spent == 5*cent
	})
}

func TestRedisGivesSlicesBack(t *testing.T) {
	s := startRedis(t)
	config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossBounded, Timeout: patient}
	a, b := newReplica(t, config), newReplica(t, config)
	limit := userDay("ann", dollar)
	settle(t, reserve(t, a, 10*cent, limit), 0)
	settle(t, reserve(t, b, 10*cent, limit), 0)
	eventually(t, 5*time.Second, "slices", func() bool {
		return len(a.allotments.list()) == 1 && len(b.allotments.list()) == 1
	})
	for range 10 { // though 40 cents are set aside, all of the dollar can be had
		settle(t, reserve(t, a, 10*cent, limit), 10*cent)
	}
	refuse(t, b, 1, limit)
	settle(t, reserve(t, b, cent, userDay("bob", dollar)), 0)
	eventually(t, 5*time.Second, "slice", func() bool { return len(b.allotments.list()) == 1 })
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	reserve(t, a, dollar, userDay("bob", dollar))
}

func TestRedisSettlesBeforeItCloses(t *testing.T) {
	s := startRedis(t)
	prefix := "test-" + budget.NewID()
	r := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed, Timeout: patient})
	limit := userDay("ann", 1000*dollar)
	for range 500 {
		settle(t, reserve(t, r, cent, limit), cent)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantAudit(t, s, prefix, 5*dollar, limit)
	_, err := r.Reserve(t.Context(), budget.Hold{Amount: cent, Limits: []budget.Limit{limit}})
	if !errors.Is(err, budget.ErrUnavailable) {
		t.Errorf("Reserve after Close = %v", err)
	}

	lost := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossClosed})
	held := reserve(t, lost, cent, limit)
	s.signal(syscall.SIGSTOP)
	settle(t, held, cent)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := lost.Close(ctx); err == nil || !strings.Contains(err.Error(), "1 settlements are unsent") {
		t.Errorf("Close with a settlement unsent = %v", err)
	}
	s.signal(syscall.SIGCONT)
}

func TestNobodyWaitsLongForWhatCannotBeSettled(t *testing.T) {
	s := startRedis(t)
	r := newReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossClosed})
	held := reserve(t, r, cent, userDay("ann", dollar))
	s.kill()
	settle(t, held, cent)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	for range 50 {
		r.store.breaker.probed(true)
		if r.queue.progress(done) == nil {
			t.Fatal("one who has waited long enough is to wait on")
		}
	}
}

func TestRedisURLs(t *testing.T) {
	socket := socketPath(t)
	s := startRedis(t, "--unixsocket", socket)
	r := newReplica(t, Config{URL: "unix://" + socket, OnLoss: OnLossClosed, Timeout: patient})
	reserve(t, r, cent, userDay("ann", dollar))
	plain := newReplica(t, Config{URL: "rediss://" + s.addr(), OnLoss: OnLossClosed})
	wantUnavailable(t, plain, userDay("ann", dollar)) // TLS is asked for and not to be had
	for _, url := range []string{"", "http://h", "redis://h:x", "redis://h/notadb", "unix:", "redis://h?nosuch=1"} {
		if _, err := New(Config{URL: url}); err == nil {
			t.Errorf("New(%q) is fine", url)
		}
	}
	if _, err := New(Config{URL: "redis://h", OnLoss: "maybe"}); err == nil {
		t.Error("on_loss: maybe is fine")
	}
}

func TestRedisLeavesNothingBehind(t *testing.T) {
	s := startRedis(t)
	before := goleak.IgnoreCurrent()
	r, err := New(Config{URL: s.url(), Prefix: "test-" + budget.NewID(), Logger: slog.New(slog.DiscardHandler), Timeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		settle(t, reserve(t, r, cent, userDay("ann", 100*dollar), globalDay(100*dollar)), cent)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}

func TestRedisExtendsWithoutIt(t *testing.T) {
	s := startRedis(t, "--appendonly", "yes")
	for _, c := range []struct {
		policy   OnLoss
		admitted bool
	}{{OnLossClosed, false}, {OnLossBounded, true}, {OnLossOpen, true}} {
		r := newReplica(t, Config{URL: s.url(), Prefix: string(c.policy), OnLoss: c.policy})
		limit := userDay("ann", dollar)
		held := reserve(t, r, 2*cent, limit)
		if c.policy == OnLossBounded {
			eventually(t, 5*time.Second, "slice", func() bool { return len(r.allotments.list()) == 1 })
		}
		s.kill()
		if err := held.Extend(t.Context(), 3*cent); (err == nil) != c.admitted || err != nil && !errors.Is(err, budget.ErrUnavailable) {
			t.Errorf("%s: Extend without Redis = %v, want it admitted: %v", c.policy, err, c.admitted)
		}
		settle(t, held, 4*cent)
		s.start()
		eventually(t, 5*time.Second, string(c.policy)+": the charge", func() bool {
			got, err := r.Status(t.Context(), []budget.Limit{limit})
			return err == nil && r.Stats().Unsent == 0 && got[0].Spent == 4*cent && got[0].Reserved == 0
		})
	}
}

func TestRedisFreezesAndThePolicyIsOpen(t *testing.T) {
	s := startRedis(t)
	prefix := "test-" + budget.NewID()
	r := newReplica(t, Config{URL: s.url(), Prefix: prefix, OnLoss: OnLossOpen})
	limit := userDay("ann", dollar)
	settle(t, reserve(t, r, cent, limit), cent)
	s.signal(syscall.SIGSTOP)
	// Redis gets the reservation, and carries it out when it thaws, but nobody
	// hears of it.
	held := reserve(t, r, 10*cent, limit)
	if !held.Unenforced {
		t.Error("let in without Redis, and not marked so")
	}
	settle(t, held, 3*cent)
	s.signal(syscall.SIGCONT)
	eventually(t, 2*time.Second, "found", r.Up)
	flushed(t, r)
	wantAudit(t, s, prefix, 4*cent, limit)
	if got := r.Stats(); got.Unenforced != 1 || got.UnenforcedSpent != 3*cent {
		t.Errorf("counted %d unenforced, %d nano-dollars", got.Unenforced, got.UnenforcedSpent)
	}
}

// A Redis that starts may answer the first calls of a pipeline with LOADING and
// the next ones with NOSCRIPT: none of them may count as carried out.
func TestRedisThatHasJustStarted(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go answerAsAStarter(c)
		}
	}()
	s, err := openStore(Config{URL: "redis://" + l.Addr().String(), Timeout: patient})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.client.Close() }()
	calls := []*call{newCall(settleScript, 0, 0), newCall(holdScript, 0, 0)}
	if err := s.exec(t.Context(), calls); err == nil || !strings.Contains(err.Error(), "LOADING") {
		t.Errorf("exec = %v, want the first call's", err)
	}
	if lost(calls[:1]) == nil {
		t.Error("a call that met LOADING counts as answered")
	}
	if calls[1].err != nil || calls[1].reply != "A" {
		t.Errorf("the call that met NOSCRIPT was not sent in full: %q, %v", calls[1].reply, calls[1].err)
	}
}

// answerAsAStarter answers one EVALSHA with LOADING, any other with NOSCRIPT,
// EVAL with A, and knows no other command.
func answerAsAStarter(c net.Conn) {
	defer func() { _ = c.Close() }()
	in, loading := bufio.NewReader(c), true
	for {
		var words int
		if _, err := fmt.Fscanf(in, "*%d\r\n", &words); err != nil {
			return
		}
		command := ""
		for i := range words {
			var size int
			if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
				return
			}
			word := make([]byte, size+2)
			if _, err := io.ReadFull(in, word); err != nil {
				return
			}
			if i == 0 {
				command = strings.ToUpper(string(word[:size]))
			}
		}
		answer := "-ERR unknown command\r\n" // HELLO, too: then RESP2 is spoken
		switch {
		case command == "EVALSHA" && loading:
			answer, loading = "-LOADING Redis is loading the dataset in memory\r\n", false
		case command == "EVALSHA":
			answer = "-NOSCRIPT No matching script.\r\n"
		case command == "EVAL":
			answer = "$1\r\nA\r\n"
		}
		if _, err := io.WriteString(c, answer); err != nil {
			return
		}
	}
}

// Redis pauses for 300 ms once a second, and many requests of one new user come
// at once through three replicas: none is refused for it.
func TestRedisPausesAndNobodyIsRefusedForIt(t *testing.T) {
	for _, policy := range []OnLoss{OnLossClosed, OnLossBounded} {
		t.Run(string(policy), func(t *testing.T) {
			s := startRedis(t)
			config := Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: policy}
			replicas := []*Ledger{newReplica(t, config), newReplica(t, config), newReplica(t, config)}
			done := make(chan struct{})
			var pausing, asking sync.WaitGroup
			pausing.Go(func() {
				for {
					s.signal(syscall.SIGSTOP)
					time.Sleep(300 * time.Millisecond)
					s.signal(syscall.SIGCONT)
					select {
					case <-done:
						return
					case <-time.After(700 * time.Millisecond):
					}
				}
			})
			var spent, denied atomic.Int64
			for wave := range 4 {
				for i := range 200 {
					asking.Go(func() {
						limit := userDay("ann-"+strconv.Itoa(wave), dollar)
						r, err := replicas[i%3].Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: cent, Limits: []budget.Limit{limit}})
						var exceeded *budget.ExceededError
						switch {
						case errors.As(err, &exceeded):
							denied.Add(1)
						case err != nil:
							t.Errorf("wave %d: %v", wave, err)
						default:
							spent.Add(1)
							settle(t, r, cent)
						}
					})
				}
				asking.Wait()
			}
			close(done)
			pausing.Wait()
			if spent.Load() != 400 || denied.Load() != 400 {
				t.Errorf("%d admitted and %d denied, want 100 of each 200", spent.Load(), denied.Load())
			}
		})
	}
}

// Nothing is set aside in a budget that is in no danger before Redis has shown a
// sign of trouble.
func TestAllotmentsAreTakenOnlyOnTrouble(t *testing.T) {
	s := startRedis(t)
	r := newReplica(t, Config{URL: s.url(), Prefix: "test-" + budget.NewID(), OnLoss: OnLossBounded, Timeout: patient})
	r.store.trouble.Store(0)
	limit := userDay("ann", dollar)
	look := func() int {
		settle(t, reserve(t, r, cent, limit), cent)
		l := r.newLease(budget.Hold{Limits: []budget.Limit{limit}})
		l.bind(r.store.now())
		r.allotments.look(r, l.shares[0])
		return len(r.allotments.list())
	}
	if n := look(); n != 0 {
		t.Errorf("%d allotments of a budget in no danger", n)
	}
	r.store.trouble.Store(time.Now().UnixNano())
	if n := look(); n != 1 {
		t.Errorf("%d allotments after a sign of trouble, want one", n)
	}
}
