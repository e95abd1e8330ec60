package main

import (
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
)

// A frozen Redis is the worst kind of lost: it accepts connections and says
// nothing.
func TestAFrozenRedisHoldsNobodyUp(t *testing.T) {
	b := newBench(t, func(string) {})
	for _, policy := range []string{"closed", "bounded"} {
		r := b.router("", policy, "")
		user := "frozen-" + policy
		answered := 0
		var calm []time.Duration
		for range 100 {
			calm = append(calm, r.wantStatus(t, user, http.StatusOK))
			answered++
		}
		usual := median(calm)
		if policy == "bounded" { // money is set aside once Redis has shown a sign of trouble
			answered += b.trouble(t, r, user)
		}

		b.redis.signal(syscall.SIGSTOP)
		frozen := time.Now()
		var took []time.Duration
		for range 100 { // an allotment has room for some dozens of worst cases
			reply := r.ask(t, user, false)
			took = append(took, max(0, reply.took-usual))
			switch {
			case reply.status == http.StatusOK && policy == "bounded":
				answered++
			case reply.status == http.StatusServiceUnavailable && policy == "closed":
				if code := gjson.GetBytes(reply.body, "error.code").String(); code != "budget_store_unavailable" {
					t.Errorf("%s: 503 %s", policy, code)
				}
			default:
				t.Fatalf("%s: status %d while Redis is frozen: %s", policy, reply.status, reply.body)
			}
		}
		// Somebody whose budget was never seen has no allotment.
		r.wantStatus(t, "stranger-"+policy, http.StatusServiceUnavailable)
		first, later := slices.Max(took), median(took[20:])
		time.Sleep(max(0, time.Second-time.Since(frozen)))

		b.redis.signal(syscall.SIGCONT)
		thawed := time.Now()
		for r.ask(t, "stranger-"+policy, false).status != http.StatusOK {
			if time.Since(thawed) > 5*time.Second {
				t.Fatal("not found again in 5 s")
			}
			time.Sleep(time.Millisecond)
		}
		recovery := time.Since(thawed)
		t.Logf("%s: usually %v; frozen: slowest %v more, median with the breaker open %v more; found %v after the thaw",
			policy, usual, first, later, recovery)
		// A closed one waits for redis.timeout, 1 s, a bounded one for 50 ms; the
		// bounds leave room for a scheduler that is busy elsewhere.
		bound := 1500 * time.Millisecond
		if policy == "bounded" {
			bound = 300 * time.Millisecond
		}
		if first > bound || later > 5*time.Millisecond {
			t.Errorf("%s: held up by %v at first, %v with the breaker open", policy, first, later)
		}
		if recovery > time.Second {
			t.Errorf("%s: found %v after the thaw, want within a second", policy, recovery)
		}
		if got, want := b.spent(user), budget.Nanodollars(answered)*testCost(); got != want {
			t.Errorf("%s: %d counted, %d answers cost %d", policy, got, answered, want)
		}
	}
}

// trouble freezes Redis until a request is refused, waits for it to be found
// again, and sends requests until money is set aside. It returns how many were
// answered.
func (b bench) trouble(t *testing.T, r *replica, user string) (answered int) {
	t.Helper()
	b.redis.signal(syscall.SIGSTOP)
	r.wantStatus(t, user, http.StatusServiceUnavailable)
	b.redis.signal(syscall.SIGCONT)
	for start := time.Now(); time.Since(start) < 3*time.Second; time.Sleep(20 * time.Millisecond) {
		if r.ask(t, user, false).status == http.StatusOK {
			answered++
		}
	}
	return answered
}

func (r *replica) wantStatus(t *testing.T, user string, want int) time.Duration {
	t.Helper()
	reply := r.ask(t, user, false)
	if reply.status != want {
		t.Fatalf("status %d, want %d: %s", reply.status, want, reply.body)
	}
	return reply.took
}

func median(d []time.Duration) time.Duration {
	d = slices.Clone(d)
	slices.Sort(d)
	return d[len(d)/2]
}
