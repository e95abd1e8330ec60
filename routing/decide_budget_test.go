package routing

import (
	"strings"
	"testing"
)

func TestAUsedUpBudgetLeavesTheCheapestTierWithoutACostStrategy(t *testing.T) {
	rt, err := New(Config{Tiers: []Tier{
		{Name: "fast", Price: 1, Deployments: []Deployment{{Name: "a"}}},
		{Name: "powerful", Price: 9, Deployments: []Deployment{{Name: "b"}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for used, want := range map[float64]string{0.99: "powerful", 1: "fast", 3: "fast"} {
		d := rt.Decide(&Request{Prompt: "compare B-trees vs LSM trees", Used: used, UsedBudget: "user"})
		if d.Tier != want || want == "fast" && !strings.Contains(d.Reason, "the user budget is used up") {
			t.Errorf("used %v: tier %s (%s), want %s", used, d.Tier, d.Reason, want)
		}
	}
	if d := rt.Decide(&Request{Prompt: "hi", Tier: "powerful", Used: 3}); d.Tier != "powerful" {
		t.Errorf("a forced tier: %s", d.Tier)
	}
}
