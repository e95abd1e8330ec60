package routing

import (
	"fmt"
	"slices"
	"testing"
)

func usualChain() []Strategy {
	return []Strategy{NewCost(CostConfig{}), NewLatency(LatencyConfig{}), NewComplexity(ComplexityConfig{})}
}

func TestDocumentedScores(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers()})
	two := mustNew(t, Config{Tiers: threeTiers()[:2]})
	rows := []struct {
		prompt string
		rt     *Router
		score  float64 // -1: not documented
		tier   string
	}{
		{"what is the capital of France?", rt, 0, "fast"},
		{"explain how transformers work", rt, 3.5, "balanced"},
		{"compare B-trees vs LSM trees, explain tradeoffs", rt, 7.5, "powerful"},
		{"compare B-trees vs LSM trees", rt, 7.5, "powerful"},
		{"explain recursion in one sentence", rt, -1, "fast"},
		{"explain the tradeoffs between SQL and NoSQL in detail", two, -1, "balanced"},
	}
	for _, row := range rows {
		d := row.rt.Decide(&Request{Prompt: row.prompt})
		if d.Tier != row.tier || row.score >= 0 && d.Score != row.score {
			t.Errorf("%q: got %v, %s; want %v, %s", row.prompt, d.Score, d.Tier, row.score, row.tier)
		}
		if got := ScorePrompt(row.prompt); got.Value != d.Score || got.Breakdown != d.Breakdown {
			t.Errorf("%q: ScorePrompt says %+v, the decision %v %+v", row.prompt, got, d.Score, d.Breakdown)
		}
	}
}

func TestDecisionReasons(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: usualChain()})
	rows := []struct {
		name   string
		r      Request
		tier   string
		reason string
	}{
		{"a budget narrows what complexity wants", Request{Prompt: "compare B-trees vs LSM trees", Used: .83, UsedBudget: "user"},
			"balanced", "complexity 7.5 wants powerful; cost 83% of user budget allows up to balanced"},
		{"what did not narrow is not named", Request{Prompt: "compare B-trees vs LSM trees", Used: .2, UsedBudget: "user"},
			"powerful", "complexity 7.5 wants powerful"},
		{"tools lift an easy prompt", Request{Prompt: "what's the weather in Oslo?", Tools: true},
			"balanced", "complexity 0.0 wants fast; tools want at least balanced"},
		{"a key has fewer tiers", Request{Prompt: "hi", Allowed: []string{"powerful"}},
			"powerful", "complexity 0.0 wants fast; the key may use powerful"},
		{"a hard budget is used up", Request{Prompt: "hi", Exhausted: true, UsedBudget: "user"},
			"", "the hard budget of user is used up"},
		{"a hard budget binds a forced tier", Request{Tier: "fast", Exhausted: true, UsedBudget: "global"},
			"", "the hard budget of global is used up"},
		{"a forced tier", Request{Tier: "powerful"}, "powerful", "tier powerful was asked for"},
		{"a forced tier that is unknown", Request{Tier: "huge"}, "", "there is no tier huge"},
		{"a forced tier the key may not use", Request{Tier: "powerful", Allowed: []string{"fast"}}, "", "the key may not use tier powerful"},
		{"a forced upstream", Request{Upstream: "a/large"}, "powerful", "upstream a/large was asked for"},
		{"a reason is one line of ASCII", Request{Tier: "größe\n"}, "", "there is no tier gr??e?"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d := rt.Decide(&row.r)
			if d.Tier != row.tier || d.Reason != row.reason {
				t.Errorf("got %q because %q, want %q because %q", d.Tier, d.Reason, row.tier, row.reason)
			}
		})
	}
}

func plan(d *Decision) []string {
	var names []string
	for _, p := range d.Plan {
		names = append(names, p.Deployment)
	}
	return names
}

func TestPlan(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: usualChain()})
	rows := []struct {
		name string
		r    Request
		want []string
	}{
		{"failover goes down, then up", Request{Prompt: "explain how transformers work"}, []string{"a/medium", "a/small", "a/large"}},
		{"failover of the first tier goes up", Request{Prompt: "hi"}, []string{"a/small", "a/medium", "a/large"}},
		{"a forced tier fails over to the fallback only", Request{Tier: "powerful"}, []string{"a/large", "a/small"}},
		{"the fallback is no way around a key", Request{Tier: "powerful", Allowed: []string{"powerful"}}, []string{"a/large"}},
		{"a forced upstream does not fail over", Request{Upstream: "a/medium"}, []string{"a/medium"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			d := rt.Decide(&row.r)
			if got := plan(d); !slices.Equal(got, row.want) {
				t.Errorf("plan %v, want %v", got, row.want)
			}
			for _, p := range d.Plan {
				if p.Fallback != (p.Tier != d.Tier) {
					t.Errorf("target %+v of a decision for %s", p, d.Tier)
				}
			}
		})
	}
}

func BenchmarkDecide(b *testing.B) {
	for _, each := range []int{1, 33} {
		b.Run(fmt.Sprintf("%d deployments", 3*each), func(b *testing.B) {
			tiers := threeTiers()
			for i := range tiers {
				for n := range each - 1 {
					tiers[i].Deployments = append(tiers[i].Deployments, Deployment{Name: fmt.Sprint(tiers[i].Name, n)})
				}
			}
			rt := mustNew(b, Config{Tiers: tiers, Strategies: usualChain()})
			r := &Request{Prompt: "compare B-trees vs LSM trees", Used: .83, UsedBudget: "user"}
			b.ReportAllocs()
			for b.Loop() {
				rt.Decide(r)
			}
		})
	}
}

func TestDecisionsAllocateLittle(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: usualChain()})
	r := &Request{Prompt: "compare B-trees vs LSM trees", Used: .83, UsedBudget: "user"}
	if n := testing.AllocsPerRun(100, func() { rt.Decide(r) }); n > 14 {
		t.Errorf("%v allocations a decision, want at most 14", n)
	}
}
