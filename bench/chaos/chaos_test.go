package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// TestMain keeps the router's binary for all tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "router-chaos-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	builtRouter = sync.OnceValues(func() (string, error) { return buildRouter(context.Background(), dir, os.Getenv("ROUTER_BINARY")) })
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

var builtRouter func() (string, error)

// routerBinary builds the router, and skips a test on a machine without
// redis-server, unless REQUIRE_ALL=1.
func routerBinary(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("REQUIRE_ALL") == "1" {
			t.Fatal(errNoRedis)
		}
		t.Skip(errNoRedis)
	}
	binary, err := builtRouter()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// small is a run of a few seconds.
func small(t *testing.T) settings {
	return settings{
		seed: 3, replicas: 3, users: 100, requests: 5000, kills: 4, faults: 3, workers: 32,
		onLoss: "closed", lease: 5 * time.Second, fsync: "everysec", router: routerBinary(t),
	}
}

func TestEveryInvariantHoldsThroughChaos(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*settings)
	}{
		{"closed", func(*settings) {}},
		{"bounded", func(s *settings) { s.onLoss, s.requests, s.kills, s.seed = "bounded", 2500, 2, 4 }},
		{"writes lost", func(s *settings) {
			s.requests, s.kills, s.losses, s.seed, s.only = 2500, 0, true, 6, regexp.MustCompile("writes lost")
		}},
		{"Redis killed and restarted, and no replica", func(s *settings) {
			s.requests, s.kills, s.only = 2500, 0, regexp.MustCompile("killed and restarted")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.name == "bounded" && os.Getenv("CHAOS") == "" {
				t.Skip("an open fault, see README.md: set CHAOS=1 to look for it")
			}
			t.Parallel() // they wait for leases most of the time
			s := small(t)
			c.change(&s)
			r, err := run(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("\n%v", r)
			v := r.verdict
			if len(v.errors) > 0 {
				t.Errorf("%d invariants are broken", len(v.errors))
			}
			if v.invoice == 0 || v.spent < v.invoice || v.asOwed+v.inBounds != int64(s.users) {
				t.Errorf("%d billed, %d counted, %d and %d users of %d accounted for", v.invoice, v.spent, v.asOwed, v.inBounds, s.users)
			}
			if s.kills == 0 && v.asOwed != int64(s.users) {
				t.Errorf("%d of %d users were charged what they owe; nothing was lost", v.asOwed, s.users)
			}
		})
	}
}

func TestAnAuditFindsWhatIsWrong(t *testing.T) {
	bill := func(invoice, charged, limit int64) *user {
		u := &user{name: "ann", limit: budget.Nanodollars(limit)}
		u.invoice.Store(invoice)
		u.charged.Store(charged)
		return u
	}
	uncertain := bill(100, 150, 1000)
	uncertain.uncertain.Add(1)
	for _, c := range []struct {
		name   string
		user   *user
		found  account
		kills  bool
		wrong  bool
		losses int64
	}{
		{"all is counted", bill(100, 100, 1000), account{gross: 120, corrected: 20}, false, false, 0},
		{"a settlement is lost", bill(100, 100, 1000), account{gross: 90}, false, true, 0},
		{"a settlement counts twice", bill(100, 100, 1000), account{gross: 110}, false, true, 0},
		{"an outcome that nobody knows", uncertain, account{gross: 150}, false, false, 0},
		{"one that was charged too low", uncertain, account{gross: 149}, false, true, 0},
		{"more was billed than the limit allows", bill(1001, 1001, 1000), account{gross: 1001}, false, true, 0},
		{"the lease of a dead replica", bill(100, 100, 1000), account{gross: 180, expired: 90, leases: 1}, true, false, 0},
		{"a lease that ran out though nobody died", bill(100, 100, 1000), account{gross: 180, expired: 90, leases: 1}, false, true, 0},
		{"more than such leases explain", bill(100, 100, 1000), account{gross: 191, expired: 90, leases: 1}, true, true, 0},
		{"less than was owed beside such a lease", bill(100, 100, 1000), account{gross: 99, expired: 90, leases: 1}, true, true, 0},
		{"such a lease, charged again after a loss of writes", bill(100, 100, 1000), account{gross: 280, expired: 90, leases: 1}, true, false, 1},
		{"more often than writes were lost", bill(100, 100, 1000), account{gross: 281, expired: 90, leases: 1}, true, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := &verdict{}
			v.user(c.user, c.found, c.kills, c.losses)
			if got := len(v.errors) > 0; got != c.wrong {
				t.Errorf("errors %v, want some: %v", v.errors, c.wrong)
			}
		})
	}
}

func TestASamplerSeesWhatExceedsALimit(t *testing.T) {
	key := keyOf(budget.ScopeUser, "ann")
	a := &sampler{limits: map[string]*user{key: {limit: 100}}, forgetful: new(atomic.Bool), last: map[string]account{}}
	a.judge(key+"d20300101:a", account{gross: 90, corrected: 10, reserved: 20})
	if a.over != 0 || a.fell != 0 {
		t.Errorf("a budget that is just used up: over by %d, fell %d times", a.over, a.fell)
	}
	a.judge(key+"d20300101:a", account{gross: 90, corrected: 10, reserved: 21})
	a.judge(key+"d20300101:a", account{gross: 89, corrected: 10})
	if a.over != 1 || a.fell != 1 {
		t.Errorf("over by %d, want 1; fell %d times, want once", a.over, a.fell)
	}
}

func TestOnlyDenialsThatNothingExplainsAreFalse(t *testing.T) {
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	worst := (&request{input: 100}).worstCase()
	for _, c := range []struct {
		name  string
		limit budget.Nanodollars
		past  *request
		down  bool
		want  int64
	}{
		{"no budget is too small for a first request", worst, nil, false, 1},
		{"the first request does not fit", worst - 1, nil, false, 0},
		{"another is running", 2*worst - 1, &request{began: ago(time.Second)}, false, 0},
		{"another is running, and there is room", 2 * worst, &request{began: ago(time.Second)}, false, 1},
		{"another was settled long ago", worst + 10, &request{began: ago(time.Minute), ended: ago(50 * time.Second), answered: true}, false, 1},
		{"another was settled just now", worst + 10, &request{began: ago(time.Minute), ended: ago(time.Millisecond), answered: true}, false, 0},
		{"another died with its replica", worst + 10, &request{began: ago(time.Minute), ended: ago(50 * time.Second)}, true, 0},
		{"another was denied itself", worst, &request{began: ago(time.Second), denied: true}, false, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &replica{}
			if c.down {
				r.downs = []span{{from: ago(51 * time.Second), to: ago(49 * time.Second)}}
			}
			u := &user{name: "ann"}
			u.poor(0)
			u.limit = c.limit
			if c.past != nil {
				c.past.user, c.past.by, c.past.input = u, r, 100
				c.past.charged.Store(10)
				c.past.held.Store(int64(worst))
				u.past = append(u.past, c.past)
			}
			s := &stage{plan: &plan{}, tally: newTally()}
			q := &request{user: u, input: 100}
			q.begin(r)
			s.judgeDenial(q)
			if got := s.tally.falseDeny.Load(); got != c.want {
				t.Errorf("false denials: %d, want %d", got, c.want)
			}
		})
	}
}

func TestASeedDecidesThePlan(t *testing.T) {
	s := settings{seed: 5, users: 50, requests: 1000, kills: 7, faults: 3}
	a, b := newPlan(s), newPlan(s)
	for n := range int64(50) {
		if x, y := a.request(n), b.request(n); string(x.body) != string(y.body) || x.outcomes != y.outcomes || x.user.name != y.user.name {
			t.Fatalf("request %d: %s and %s", n, x.body, y.body)
		}
	}
	x, y := a.events(1), b.events(1)
	if len(x) != 10 {
		t.Fatalf("%d events, want 10", len(x))
	}
	for i := range x {
		if x[i] != y[i] || x[i].at < 1000 || x[i].at >= 2000 {
			t.Errorf("event %d of the second chapter: %+v and %+v", i, x[i], y[i])
		}
	}
	if _, err := run(t.Context(), settings{onLoss: "maybe"}); err == nil || errors.Is(err, errNoRedis) {
		t.Errorf("a policy that does not exist: %v", err)
	}
}
