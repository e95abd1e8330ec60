package routing

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever the configuration, the request and what has happened before: a
// decision stays within what is allowed, and its plan can be followed.
func TestDecisionsHoldTheirPromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rt := drawRouter(t)
		var deployments []string
		for name := range rt.deployments {
			deployments = append(deployments, name)
		}
		slices.Sort(deployments)
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			for range rapid.IntRange(0, 8).Draw(t, "outcomes") {
				rt.Observe(Outcome{
					Deployment: rapid.SampledFrom(deployments).Draw(t, "deployment"),
					Result:     Result(rapid.IntRange(0, 5).Draw(t, "result")),
					Latency:    time.Duration(rapid.IntRange(0, 10_000).Draw(t, "latency")) * time.Millisecond,
					Session:    "s",
				})
			}
			r := drawRequest(t, rt)
			checkDecision(t, rt, r, rt.Decide(r))
		}
	})
}

func drawRouter(t *rapid.T) *Router {
	c := Config{MaxAttempts: rapid.IntRange(0, 6).Draw(t, "attempts")}
	for i := range rapid.IntRange(1, 5).Draw(t, "tiers") {
		tier := Tier{Name: fmt.Sprint("t", i), Price: float64(rapid.IntRange(0, 3).Draw(t, "price"))}
		tier.Balance = rapid.SampledFrom([]Balance{"", BalanceOrdered, BalanceWeighted, BalanceFastest}).Draw(t, "balance")
		for n := range rapid.IntRange(1, 6).Draw(t, "deployments") {
			tier.Deployments = append(tier.Deployments, Deployment{
				Name:    fmt.Sprint("d", i, n),
				Images:  rapid.Bool().Draw(t, "images"),
				Context: int64(rapid.SampledFrom([]int{0, 1000, 100_000}).Draw(t, "context")),
			})
		}
		c.Tiers = append(c.Tiers, tier)
	}
	c.Fallback = rapid.SampledFrom(c.Tiers).Draw(t, "fallback").Name
	for range rapid.IntRange(0, 4).Draw(t, "strategies") {
		c.Strategies = append(c.Strategies, rapid.SampledFrom([]Strategy{
			NewCost(CostConfig{}), NewLatency(LatencyConfig{Preferred: c.Fallback}), NewComplexity(ComplexityConfig{}), &RoundRobin{},
		}).Draw(t, "strategy"))
	}
	rt, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

func drawRequest(t *rapid.T, rt *Router) *Request {
	r := &Request{
		Prompt:  rapid.SampledFrom([]string{"hi", "explain how transformers work", "compare B-trees vs LSM trees", "continue"}).Draw(t, "prompt"),
		Tokens:  int64(rapid.IntRange(0, 200_000).Draw(t, "tokens")),
		Images:  rapid.Bool().Draw(t, "images"),
		Tools:   rapid.Bool().Draw(t, "tools"),
		Stream:  rapid.Bool().Draw(t, "stream"),
		Turns:   rapid.IntRange(1, 3).Draw(t, "turns"),
		Used:    rapid.Float64Range(0, 2).Draw(t, "used"),
		Session: rapid.SampledFrom([]string{"", "s"}).Draw(t, "session"),
	}
	if rapid.Bool().Draw(t, "limited") {
		r.Allowed = []string{rapid.SampledFrom(rt.tiers).Draw(t, "allowed").Name, "unknown"}
	}
	if rapid.IntRange(0, 4).Draw(t, "forced") == 0 {
		r.Tier = rapid.SampledFrom(rt.tiers).Draw(t, "tier").Name
	}
	r.Exhausted = rapid.IntRange(0, 9).Draw(t, "exhausted") == 0
	return r
}

func checkDecision(t *rapid.T, rt *Router, r *Request, d *Decision) {
	if r.Exhausted || r.Tier != "" && r.Allowed != nil && !slices.Contains(r.Allowed, r.Tier) {
		if d.Tier != "" || len(d.Plan) != 0 || d.Reason == "" {
			t.Fatalf("a request that is refused got %+v", d)
		}
		return
	}
	if d.Tier == "" || d.Reason == "" || len(d.Plan) == 0 || d.Upstream != d.Plan[0].Deployment || d.Tiers[0] != d.Tier {
		t.Fatalf("%+v for %+v", d, r)
	}
	if r.Tier != "" && d.Tier != r.Tier {
		t.Fatalf("forced to %s, got %s", r.Tier, d.Tier)
	}
	fallbackAt := -1
	for i, p := range d.Plan {
		if rt.deployments[p.Deployment].tier.Name != p.Tier || p.Fallback != (p.Tier != d.Tier) {
			t.Fatalf("target %+v of %+v", p, d)
		}
		if r.Allowed != nil && !slices.Contains(r.Allowed, p.Tier) {
			t.Fatalf("target %+v is outside of %v", p, r.Allowed)
		}
		if p.Tier != rt.fallback.Name && !slices.Contains(d.Tiers, p.Tier) {
			t.Fatalf("target %+v is outside of %v", p, d.Tiers)
		}
		if slices.Contains(d.Plan[:i], p) {
			t.Fatalf("%+v is planned twice", p)
		}
		if p.Tier == rt.fallback.Name && fallbackAt < 0 {
			fallbackAt = i
		}
	}
	if fallbackAt >= rt.attempts && rt.attempts > 1 {
		t.Fatalf("the fallback tier comes at %d of %d attempts", fallbackAt, rt.attempts)
	}
	offered := len(rt.tiers)
	for _, s := range d.Strategies {
		if len(s.Allowed) > offered || len(s.Allowed) == 0 {
			t.Fatalf("a step widened or emptied: %+v", d.Strategies)
		}
		offered = len(s.Allowed)
	}
}
