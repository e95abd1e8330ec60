// Command strategy routes by a rule of one's own: nights is all there is to a
// strategy.
package main

import (
	"fmt"
	"log"
	"time"

	"github.com/inference-router/inference-router/routing"
)

// nights allows the dearest tiers only while it is night, when nobody waits.
func nights(clock func() time.Time) routing.Strategy {
	return routing.Named("NightStrategy", routing.StrategyFunc(func(_ *routing.Request, tiers []*routing.Tier) routing.Verdict {
		if hour := clock().Hour(); hour >= 22 || hour < 6 {
			return routing.Verdict{Tiers: tiers, Reason: "night allows every tier"}
		}
		return routing.Verdict{Tiers: tiers[:min(2, len(tiers))], Reason: "day allows up to balanced"}
	}))
}

// newRouter asks the strategy first; complexity picks from what it leaves.
func newRouter(clock func() time.Time) (*routing.Router, error) {
	config := routing.Config{Strategies: []routing.Strategy{nights(clock), routing.NewComplexity(routing.ComplexityConfig{})}}
	for _, name := range []string{"fast", "balanced", "powerful"} {
		config.Tiers = append(config.Tiers, routing.Tier{Name: name, Deployments: []routing.Deployment{{Name: "own/" + name}}})
	}
	return routing.New(config)
}

func main() {
	router, err := newRouter(time.Now)
	if err != nil {
		log.Fatal(err)
	}
	decision := router.Decide(&routing.Request{Prompt: "compare B-trees vs LSM trees"})
	fmt.Println(decision.Tier, "because", decision.Reason)
}
