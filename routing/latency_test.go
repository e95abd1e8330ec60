package routing

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func answers(rt *Router, deployment string, latency time.Duration, times int) {
	for range times {
		rt.Observe(Outcome{Deployment: deployment, Latency: latency, TTFT: latency / 10})
	}
}

func TestWindowIsTheNinetiethPercentileOfTheLatest(t *testing.T) {
	var w window
	w.setRule(rule{size: 10, min: 1})
	for i := range 20 {
		w.add(time.Duration(20-i)*time.Second, false)
	}
	if got := time.Duration(w.p90.Load()); got != 9*time.Second || w.count.Load() != 10 {
		t.Errorf("p90 %v of %d, want 9s of 10", got, w.count.Load())
	}
	for _, absurd := range []time.Duration{-1, 0, 31 * time.Minute} {
		w.add(absurd, false)
	}
	if got := time.Duration(w.p90.Load()); got != 9*time.Second || w.count.Load() != 10 {
		t.Errorf("after absurd samples: p90 %v of %d", got, w.count.Load())
	}
	w.setRule(rule{size: 3, min: 1})
	if got := time.Duration(w.p90.Load()); got != 3*time.Second || w.count.Load() != 3 {
		t.Errorf("a smaller window: p90 %v of %d, want 3s of 3", got, w.count.Load())
	}
}

func TestLatencyRemovesSlowTiers(t *testing.T) {
	config := LatencyConfig{TierSLAs: map[string]time.Duration{"fast": 800 * time.Millisecond}, Preferred: "balanced", Fallback: "fast"}
	slow := 4 * time.Second
	rows := []struct {
		name  string
		slow  []string // tiers
		times int
		want  string // the allowed tiers, best first
	}{
		{"all healthy: preferred, fallback, the others", nil, 0, "balanced fast powerful"},
		{"too few samples are no verdict", []string{"balanced"}, 4, "balanced fast powerful"},
		{"a slow preferred tier gives way to the fallback", []string{"balanced"}, 5, "fast powerful"},
		{"a slow fallback, too", []string{"balanced", "fast"}, 5, "powerful"},
		{"the only one left is kept: the fallback", []string{"fast", "balanced", "powerful"}, 5, "fast"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(config)}})
			rt.latency.neverProbe()
			for _, tier := range row.slow {
				answers(rt, rt.byName[tier].Deployments[0].Name, slow, row.times)
			}
			d := rt.Decide(&Request{})
			if got := strings.Join(d.Tiers, " "); got != row.want {
				t.Errorf("got %s (%s), want %s", got, d.Reason, row.want)
			}
			if d.Strategy != "LatencyStrategy" {
				t.Errorf("strategy %s", d.Strategy)
			}
		})
	}
}

// neverProbe keeps the share of probes out of a test that is not about it.
func (l *Latency) neverProbe() {
	for i := range l.probers {
		l.probers[i].asked, l.probers[i].turn = 1, -1
		l.probers[i].last = 1 << 60
	}
}

func TestATierSLAIsItsOwn(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{TierSLAs: map[string]time.Duration{"fast": 800 * time.Millisecond}})}})
	answers(rt, "a/small", 900*time.Millisecond, 5)
	answers(rt, "a/medium", 900*time.Millisecond, 5)
	for _, s := range rt.Tiers() {
		if s.Healthy != (s.Name != "fast") {
			t.Errorf("%+v", s)
		}
	}
	if s := rt.Tiers()[0]; s.P90 != 900*time.Millisecond || s.Samples != 5 || s.SLA != 800*time.Millisecond {
		t.Errorf("%+v", s)
	}
}

func TestStreamsAreJudgedByTheirFirstToken(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{TTFTSLA: time.Second, Preferred: "fast"})}})
	rt.latency.neverProbe()
	for range 5 {
		rt.Observe(Outcome{Deployment: "a/small", Stream: true, TTFT: 100 * time.Millisecond, Latency: time.Minute})
		rt.Observe(Outcome{Deployment: "a/small", TTFT: 2 * time.Second, Latency: 2 * time.Second})
	}
	if d := rt.Decide(&Request{Stream: true}); d.Tier != "fast" {
		t.Errorf("a stream: %s, %s", d.Tier, d.Reason)
	}
	if d := rt.Decide(&Request{}); d.Tier != "fast" {
		t.Errorf("a whole answer: %s, %s", d.Tier, d.Reason)
	}
	for range 5 {
		rt.Observe(Outcome{Deployment: "a/small", Stream: true, TTFT: 2 * time.Second, Latency: 2 * time.Second})
	}
	if d := rt.Decide(&Request{Stream: true}); d.Tier == "fast" {
		t.Errorf("a stream of a slow tier: %s, %s", d.Tier, d.Reason)
	}
	if d := rt.Decide(&Request{}); d.Tier != "fast" {
		t.Errorf("a whole answer: %s, %s", d.Tier, d.Reason)
	}
}

func TestTimeoutsAreSlowSamples(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{})}})
	for range 5 {
		rt.Observe(Outcome{Deployment: "a/small", Result: ResultSlow})
		rt.Observe(Outcome{Deployment: "a/medium", Result: ResultFailed, Latency: time.Hour})
	}
	if s := rt.Tiers()[0]; s.P90 != 2*defaultSLA || s.Samples != 5 {
		t.Errorf("after timeouts: %+v", s)
	}
	if s := rt.Tiers()[1]; s.Samples != 0 {
		t.Errorf("failures are no latency: %+v", s)
	}
}

func TestARemovedTierIsProbedAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{}), NewComplexity(ComplexityConfig{})}})
		answers(rt, "a/small", 10*time.Second, 50)
		probes, requests, last := 0, 0, time.Time{}
		for !rt.Tiers()[0].Healthy {
			requests++
			if d := rt.Decide(&Request{Prompt: "hi"}); d.Tier == "fast" {
				if !last.IsZero() && time.Since(last) < time.Second {
					t.Fatalf("two probes within %v", time.Since(last))
				}
				probes++
				last = time.Now()
				answers(rt, d.Upstream, 100*time.Millisecond, 1)
			}
			if requests > 5000 {
				t.Fatalf("not back after %d requests, %d probes", requests, probes)
			}
			time.Sleep(50 * time.Millisecond)
		}
		if probes != defaultSamples || probes*20 > requests+20 {
			t.Errorf("back after %d probes in %d requests", probes, requests)
		}
		if s := rt.Tiers()[0]; s.P90 != 10*time.Second || s.Samples != 50 {
			t.Errorf("the window is that of the latest answers, whatever was judged: %+v", s)
		}
		for range 100 {
			d := rt.Decide(&Request{Prompt: "hi"})
			if d.Tier != "fast" {
				t.Fatalf("after recovery: %s, %s", d.Tier, d.Reason)
			}
			answers(rt, d.Upstream, 100*time.Millisecond, 1)
		}
		if s := rt.Tiers()[0]; s.P90 != 100*time.Millisecond {
			t.Errorf("%+v", s)
		}
	})
}

func TestATierOnTrialIsRemovedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{}), NewComplexity(ComplexityConfig{})}})
		answers(rt, "a/small", 10*time.Second, 50)
		for !rt.Tiers()[0].Healthy {
			if rt.Decide(&Request{Prompt: "hi"}).Tier == "fast" {
				answers(rt, "a/small", 100*time.Millisecond, 1)
			}
			time.Sleep(100 * time.Millisecond)
		}
		answers(rt, "a/small", 10*time.Second, 1)
		if rt.Tiers()[0].Healthy {
			t.Error("a slow answer right after five good probes is one of six")
		}
	})
}

func TestFastAnswersThatAreNoProbesDoNotHideSlowOnes(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{})}})
	answers(rt, "a/small", 10*time.Second, 10)
	answers(rt, "a/small", 100*time.Millisecond, 40)
	if s := rt.Tiers()[0]; s.Healthy || s.P90 != 10*time.Second {
		t.Errorf("%+v", s)
	}
}

func TestAtMostOneProbeASecondAtHighRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(LatencyConfig{}), NewComplexity(ComplexityConfig{})}})
		answers(rt, "a/small", 10*time.Second, 50)
		probes := 0
		for range 10_000 {
			if rt.Decide(&Request{Prompt: "hi"}).Tier == "fast" {
				probes++
			}
			time.Sleep(time.Millisecond)
		}
		if probes < 8 || probes > 10 {
			t.Errorf("%d probes in 10 s, want about one a second", probes)
		}
	})
}

func TestResetForgetsLatencies(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: usualChain()})
	answers(rt, "a/small", time.Minute, 50)
	rt.Reset()
	if s := rt.Tiers()[0]; s.Samples != 0 || s.P90 != 0 || !s.Healthy {
		t.Errorf("%+v", s)
	}
}

func TestLatencyAfterAnotherStrategyKeepsItsOrder(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{}), NewLatency(LatencyConfig{Fallback: "fast"})}})
	d := rt.Decide(&Request{Prompt: "compare B-trees vs LSM trees"})
	if want := []string{"powerful", "balanced", "fast"}; !slices.Equal(d.Tiers, want) {
		t.Errorf("got %v, want %v", d.Tiers, want)
	}
}

func TestLatencyConfigErrors(t *testing.T) {
	for _, c := range []LatencyConfig{{SLA: -1}, {TTFTSLA: -1}, {WindowSize: -1}, {WindowSize: 5, MinSamples: 6}, {MinSamples: -1},
		{Preferred: "x"}, {Fallback: "x"}, {TierSLAs: map[string]time.Duration{"x": 1}}, {TierSLAs: map[string]time.Duration{"fast": 0}}} {
		if _, err := New(Config{Tiers: threeTiers(), Strategies: []Strategy{NewLatency(c)}}); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func BenchmarkObserve(b *testing.B) {
	rt := mustNew(b, Config{Tiers: threeTiers(), Strategies: usualChain()})
	b.ReportAllocs()
	n := time.Duration(0)
	for b.Loop() {
		n++
		rt.Observe(Outcome{Deployment: "a/small", Latency: time.Millisecond * (n * 7919 % 997), TTFT: time.Millisecond})
	}
}
