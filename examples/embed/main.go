// Command embed uses the router as a library, without a server in between:
// three tiers, a strategy, a fallback, and a prompt that is routed by them.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/routing"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// model is a simulated model with its price in nano-dollars per million
// tokens: exchange Upstream for upstream.NewOpenAI, NewBedrock or NewAnthropic.
func model(name string, input, output int64) proxy.Deployment {
	return proxy.Deployment{
		Name: "simulated/" + name, Provider: "simulated", Model: name,
		Upstream: upstream.NewSimulated(upstream.SimulatedConfig{Name: name, Model: name, Tier: name, Seed: 1}),
		Price:    budget.FlatPrice(input, output),
	}
}

// newRouter builds the router from its parts.
func newRouter() (*proxy.Server, error) {
	tiers := []proxy.Tier{ // from least to most capable
		{Name: "fast", Deployments: []proxy.Deployment{model("small", 0.15e9, 0.6e9)}},
		{Name: "balanced", Deployments: []proxy.Deployment{model("medium", 1e9, 5e9)}},
		{Name: "powerful", Deployments: []proxy.Deployment{model("large", 3e9, 15e9)}},
	}
	config := routing.Config{Fallback: "fast", Strategies: []routing.Strategy{routing.NewComplexity(routing.ComplexityConfig{})}}
	for _, t := range tiers {
		config.Tiers = append(config.Tiers, routing.Tier{Name: t.Name, Deployments: []routing.Deployment{{Name: t.Deployments[0].Name}}})
	}
	decider, err := routing.New(config)
	if err != nil {
		return nil, err
	}
	ledger := budget.NewMemory(budget.MemoryConfig{})
	return proxy.New(proxy.Config{Tiers: tiers, Fallback: "fast", Router: decider, Ledger: ledger, Books: ledger})
}

func run(ctx context.Context, out io.Writer) error {
	router, err := newRouter()
	if err != nil {
		return err
	}
	answer, err := router.Complete(ctx, proxy.Query{Prompt: "compare B-trees vs LSM trees, explain tradeoffs"})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%s answered for $%s: %s\n", answer.TierUsed, answer.CostUSD.USD(), answer.Text)
	for text, err := range router.Stream(ctx, proxy.Query{Prompt: "what is the capital of France?"}) {
		if err != nil {
			return err
		}
		fmt.Fprint(out, text)
	}
	fmt.Fprintln(out)
	return nil
}
