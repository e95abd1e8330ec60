package routing_test

import (
	"fmt"
	"time"

	"github.com/inference-router/inference-router/routing"
)

// A strategy of your own is a function: here, nights are for the cheap tier.
func ExampleStrategyFunc() {
	night := routing.StrategyFunc(func(_ *routing.Request, tiers []*routing.Tier) routing.Verdict {
		if hour := time.Date(2026, 1, 1, 23, 0, 0, 0, time.UTC).Hour(); hour < 22 {
			return routing.Verdict{Tiers: tiers, Reason: "it is day"}
		}
		return routing.Verdict{Tiers: tiers[:1], Reason: "it is night"}
	})
	router, err := routing.New(routing.Config{
		Tiers: []routing.Tier{
			{Name: "fast", Deployments: []routing.Deployment{{Name: "groq/llama"}}},
			{Name: "powerful", Deployments: []routing.Deployment{{Name: "openai/gpt"}}},
		},
		Strategies: []routing.Strategy{
			routing.Named("night", night),
			routing.NewComplexity(routing.ComplexityConfig{}),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	decision := router.Decide(&routing.Request{Prompt: "compare B-trees vs LSM trees"})
	fmt.Println(decision.Tier, decision.Strategy)
	fmt.Println(decision.Reason)
	// Output:
	// fast ChainStrategy
	// complexity 7.5 wants powerful; it is night
}

func ExampleScorePrompt() {
	score := routing.ScorePrompt("explain how transformers work")
	fmt.Printf("%.1f %+v\n", score.Value, score.Breakdown)
	// Output:
	// 3.5 {Length:0.5 Questions:0 Reasoning:3 Code:0 Simple:0}
}
