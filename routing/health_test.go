package routing

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func pair() []Tier {
	return []Tier{
		{Name: "fast", Deployments: []Deployment{{Name: "a"}, {Name: "b"}}},
		{Name: "powerful", Deployments: []Deployment{{Name: "c"}}},
	}
}

func (rt *Router) stateOf(name string) string {
	state, _ := rt.deployments[name].live.breaker.state(rt.state.now())
	return state
}

func observe(rt *Router, deployment string, result Result, times int) {
	for range times {
		rt.Observe(Outcome{Deployment: deployment, Result: result})
	}
}

func TestBreakerOpensAfterFiveFailuresInARow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: pair()})
		observe(rt, "a", ResultFailed, 4)
		observe(rt, "a", ResultOK, 1)
		observe(rt, "a", ResultFailed, 4)
		if got := rt.stateOf("a"); got != StateClosed {
			t.Fatalf("after 4 failures, a success and 4 failures: %s", got)
		}
		observe(rt, "a", ResultSlow, 1)
		if got := rt.stateOf("a"); got != StateOpen {
			t.Fatalf("after the fifth in a row: %s", got)
		}
		if got := plan(rt.Decide(&Request{Prompt: "hi"})); !slices.Equal(got, []string{"b", "c"}) {
			t.Errorf("plan %v, want a left out", got)
		}
		if rt.Acquire("a", false) {
			t.Error("an open breaker let an attempt through")
		}
		if !rt.Acquire("a", true) {
			t.Error("the last choice was taken away")
		}
	})
}

func TestBreakerOpensWhenHalfOfManyFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: pair()})
		for range 9 {
			observe(rt, "a", ResultOK, 1)
			observe(rt, "a", ResultFailed, 1)
		}
		observe(rt, "a", ResultOK, 1)
		if got := rt.stateOf("a"); got != StateClosed {
			t.Fatalf("after 19 answers: %s", got)
		}
		observe(rt, "a", ResultFailed, 1)
		if got := rt.stateOf("a"); got != StateOpen {
			t.Fatalf("after 10 failures of 20: %s", got)
		}
		for range 9 {
			observe(rt, "b", ResultOK, 1)
			observe(rt, "b", ResultFailed, 1)
		}
		time.Sleep(11 * time.Second)
		observe(rt, "b", ResultOK, 1)
		observe(rt, "b", ResultFailed, 1)
		if got := rt.stateOf("b"); got != StateClosed {
			t.Errorf("failures of 11 seconds ago still count: %s", got)
		}
	})
}

func TestBreakerHalfOpenLetsExactlyOneProbeThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: pair()})
		observe(rt, "a", ResultFailed, 5)
		time.Sleep(openFirst)
		if got := rt.stateOf("a"); got != StateHalfOpen {
			t.Fatalf("after %v: %s", openFirst, got)
		}
		if got := plan(rt.Decide(&Request{Prompt: "hi"})); got[0] != "a" {
			t.Fatalf("plan %v, want the probe to come first", got)
		}
		var through atomic.Int64
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if rt.Acquire("a", false) {
					through.Add(1)
				}
			})
		}
		wg.Wait()
		if through.Load() != 1 {
			t.Fatalf("%d probes, want 1", through.Load())
		}
		if got := plan(rt.Decide(&Request{Prompt: "hi"})); got[0] != "b" {
			t.Errorf("plan %v while the probe is on its way", got)
		}
		observe(rt, "a", ResultNeutral, 1)
		if got := rt.stateOf("a"); got != StateHalfOpen || !rt.Acquire("a", false) {
			t.Fatalf("a neutral end must free the probe without a verdict; state %s", got)
		}
		observe(rt, "a", ResultOK, 1)
		if got := rt.stateOf("a"); got != StateClosed {
			t.Errorf("after a good probe: %s", got)
		}
	})
}

func TestBreakerStaysOpenLongerEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: pair()})
		observe(rt, "a", ResultFailed, 5)
		for i, most := range []time.Duration{5, 10, 20, 40, 60, 60} {
			most *= time.Second
			_, until := rt.deployments["a"].live.breaker.state(rt.state.now())
			wait := until - rt.state.now()
			if wait > most || wait < most*4/5 {
				t.Fatalf("trip %d: out for %v, want %v to %v", i+1, wait, most*4/5, most)
			}
			time.Sleep(wait)
			if !rt.Acquire("a", false) {
				t.Fatalf("trip %d: no probe after %v", i+1, wait)
			}
			observe(rt, "a", ResultFailed, 1)
		}
	})
}

func TestStaleAnswersDoNotCloseABreaker(t *testing.T) {
	rt := mustNew(t, Config{Tiers: pair()})
	observe(rt, "a", ResultFailed, 5)
	observe(rt, "a", ResultOK, 1)
	if got := rt.stateOf("a"); got != StateOpen {
		t.Errorf("an answer begun before the trip closed the breaker: %s", got)
	}
}

func TestLimitsCoolDown(t *testing.T) {
	rows := []struct {
		name   string
		o      Outcome
		state  string
		out    time.Duration
		serves bool // takes part at once afterwards
	}{
		{"a limit without a time", Outcome{Result: ResultLimited}, StateLimited, time.Second, true},
		{"a limit with a time", Outcome{Result: ResultLimited, RetryAfter: 7 * time.Second}, StateLimited, 7 * time.Second, true},
		{"a limit with an absurd time", Outcome{Result: ResultLimited, RetryAfter: time.Hour}, StateLimited, time.Minute, true},
		{"a refused credential", Outcome{Result: ResultMisconfigured}, StateMisconfigured, 30 * time.Second, false},
		{"a used up quota", Outcome{Result: ResultMisconfigured, RetryAfter: 5 * time.Minute}, StateMisconfigured, 5 * time.Minute, false},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rt := mustNew(t, Config{Tiers: pair()})
				row.o.Deployment = "a"
				for range 30 {
					rt.Observe(row.o)
				}
				if got := rt.stateOf("a"); got != row.state {
					t.Fatalf("state %s, want %s", got, row.state)
				}
				time.Sleep(row.out - time.Millisecond)
				if rt.Acquire("a", false) {
					t.Error("back too early")
				}
				time.Sleep(time.Millisecond)
				if !rt.Acquire("a", false) {
					t.Error("not back in time")
				}
				if got := rt.Acquire("a", false); got != row.serves {
					t.Errorf("a second attempt: %v, want %v", got, row.serves)
				}
			})
		})
	}
}

func TestClientErrorsAreNeutral(t *testing.T) {
	rt := mustNew(t, Config{Tiers: pair()})
	observe(rt, "a", ResultNeutral, 1000)
	if got := rt.stateOf("a"); got != StateClosed {
		t.Error(got)
	}
}

func TestOneIsTriedWhenAllAreOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: pair()})
		want := func(name string) {
			t.Helper()
			d := rt.Decide(&Request{Prompt: "hi"})
			if got := plan(d); !slices.Equal(got, []string{name}) || d.Upstream != name {
				t.Errorf("plan %v, want %s alone", got, name)
			}
			if !rt.Acquire(name, true) {
				t.Errorf("%s is the last choice and was refused", name)
			}
		}
		observe(rt, "a", ResultMisconfigured, 1)
		observe(rt, "b", ResultMisconfigured, 1)
		rt.Observe(Outcome{Deployment: "c", Result: ResultLimited, RetryAfter: time.Minute})
		want("c")
		time.Sleep(31 * time.Second)
		rt.Observe(Outcome{Deployment: "a", Result: ResultLimited, RetryAfter: 50 * time.Second})
		rt.Observe(Outcome{Deployment: "b", Result: ResultLimited, RetryAfter: 40 * time.Second})
		want("b")
	})
}

func TestAnotherTierStandsInWhenAllOfOneAreOut(t *testing.T) {
	rt := mustNew(t, Config{Tiers: pair()})
	observe(rt, "a", ResultFailed, 5)
	observe(rt, "b", ResultFailed, 5)
	d := rt.Decide(&Request{Prompt: "hi"})
	want := "complexity 0.0 wants fast; no upstream of fast is in use, powerful stands in"
	if d.Tier != "fast" || d.Upstream != "c" || !d.Plan[0].Fallback || d.Reason != want {
		t.Errorf("got %s, %s, %+v, %q", d.Tier, d.Upstream, d.Plan, d.Reason)
	}
	for _, s := range rt.Tiers() {
		if s.Healthy != (s.Name == "powerful") {
			t.Errorf("tier %s: healthy %v", s.Name, s.Healthy)
		}
	}
}

func TestHealthOutlivesAReload(t *testing.T) {
	state := NewState()
	observe(mustNew(t, Config{Tiers: pair(), State: state}), "a", ResultFailed, 5)
	rt := mustNew(t, Config{Tiers: pair(), State: state})
	if got := rt.stateOf("a"); got != StateOpen {
		t.Errorf("after a reload: %s", got)
	}
}

func TestBreakerIsSafeForConcurrentUse(t *testing.T) {
	rt := mustNew(t, Config{Tiers: pair(), Strategies: usualChain()})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for n := range 500 {
				d := rt.Decide(&Request{Prompt: "hi", Stream: n%2 == 0, Session: "s"})
				rt.Acquire(d.Upstream, n%3 == 0)
				rt.Observe(Outcome{Deployment: d.Upstream, Result: Result((i + n) % 6), Latency: time.Duration(n) * time.Millisecond, TTFT: 1, Stream: n%2 == 0, Session: "s"})
				if n%100 == 0 {
					rt.Reset()
					rt.Tiers()
				}
			}
		})
	}
	wg.Wait()
}
