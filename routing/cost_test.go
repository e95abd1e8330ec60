package routing

import (
	"math"
	"strings"
	"testing"
)

func TestCostThresholds(t *testing.T) {
	rows := []struct {
		name   string
		config CostConfig
		used   float64
		want   string
		reason string
	}{
		{"nothing used: the dearest first", CostConfig{}, 0, "powerful balanced fast", "cost 0% of user budget allows all tiers"},
		{"just below downgrade_at", CostConfig{}, 0.799999, "powerful balanced fast", "cost 79% of user budget allows all tiers"},
		{"exactly at downgrade_at", CostConfig{}, 0.8, "balanced fast", "cost 80% of user budget allows up to balanced"},
		{"just below floor_at", CostConfig{}, 0.949999, "balanced fast", "cost 94% of user budget allows up to balanced"},
		{"exactly at floor_at", CostConfig{}, 0.95, "fast", "cost 95% of user budget allows only fast"},
		{"used up, but not refused", CostConfig{}, 1.5, "fast", "cost 150% of user budget allows only fast"},
		{"far over", CostConfig{}, math.Inf(1), "fast", "cost 999% of user budget allows only fast"},
		{"own order and thresholds", CostConfig{TiersByCost: []string{"fast", "powerful", "balanced"}, DowngradeAt: .5, FloorAt: .6}, .5, "powerful balanced", "cost 50% of user budget allows up to powerful"},
		{"own order, floor", CostConfig{TiersByCost: []string{"fast", "powerful", "balanced"}, DowngradeAt: .5, FloorAt: .6}, .6, "balanced", "cost 60% of user budget allows only balanced"},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewCost(row.config)}})
			d := rt.Decide(&Request{Used: row.used, UsedBudget: "user"})
			if got := strings.Join(d.Tiers, " "); got != row.want || d.Reason != row.reason || d.Strategy != "CostStrategy" {
				t.Errorf("got %s because %q (%s), want %s because %q", got, d.Reason, d.Strategy, row.want, row.reason)
			}
		})
	}
}

func TestCostMiddleIsHalfOfTheLength(t *testing.T) {
	for n, want := range map[int]string{1: "t0", 2: "t0", 3: "t1 t0", 4: "t1 t0", 5: "t2 t1 t0"} {
		var tiers []Tier
		for i := range n {
			name := "t" + string(rune('0'+i))
			tiers = append(tiers, Tier{Name: name, Price: float64(i), Deployments: []Deployment{{Name: name}}})
		}
		rt := mustNew(t, Config{Tiers: tiers, Strategies: []Strategy{NewCost(CostConfig{})}})
		if got := strings.Join(rt.Decide(&Request{Used: .85}).Tiers, " "); got != want {
			t.Errorf("%d tiers: %s, want %s", n, got, want)
		}
	}
}

func TestCostNeverTakesTheLastTierAway(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: usualChain()})
	for _, used := range []float64{.85, .99, 2} {
		if d := rt.Decide(&Request{Prompt: "hi", Used: used, Allowed: []string{"powerful"}}); d.Tier != "powerful" {
			t.Errorf("at %v: %q, %s", used, d.Tier, d.Reason)
		}
	}
}

func TestCostLaterInAChainOnlyNarrows(t *testing.T) {
	rt := mustNew(t, Config{Tiers: threeTiers(), Strategies: []Strategy{NewComplexity(ComplexityConfig{}), NewCost(CostConfig{})}})
	d := rt.Decide(&Request{Prompt: "hi", Used: .1})
	if d.Tier != "fast" || d.Reason != "complexity 0.0 wants fast" {
		t.Errorf("%s, %s", d.Tier, d.Reason)
	}
}

func TestCostConfigErrors(t *testing.T) {
	for _, c := range []CostConfig{{TiersByCost: []string{"huge"}}, {TiersByCost: []string{"fast", "fast"}}, {DowngradeAt: .99}, {DowngradeAt: -1}, {FloorAt: .5}, {DowngradeAt: math.NaN()}} {
		if _, err := New(Config{Tiers: threeTiers(), Strategies: []Strategy{NewCost(c)}}); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}
