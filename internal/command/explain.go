package command

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"

	"github.com/inference-router/inference-router/internal/config"

	"github.com/inference-router/inference-router/routing"
)

func setupExplain(flags *flag.FlagSet) func(context.Context, console, []string) error {
	file := configFlag(flags)
	asJSON := flags.Bool("json", false, "print the decision as JSON, as POST /v1/route does")
	return func(_ context.Context, c console, rest []string) error {
		if len(rest) != 1 {
			return &usageError{"want one prompt, in quotes"}
		}
		conf, err := loadFromFiles(*file, new(config.Dotenv))
		if err != nil {
			return err
		}
		d, err := explain(conf, rest[0])
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(c.out).Encode(explained{*d, "auto"})
		}
		return writeExplanation(c.out, d)
	}
}

// explained is the shape that POST /v1/route answers with, too.
type explained struct {
	routing.Decision
	Model string `json:"model"`
}

// explain decides on a prompt as if nothing had been asked before it.
func explain(c *config.Config, prompt string) (*routing.Decision, error) {
	b := &builder{log: slog.New(slog.DiscardHandler), state: routing.NewState()}
	router, err := b.router(c)
	if err != nil {
		return nil, err
	}
	r := &routing.Request{Prompt: prompt, Tokens: int64(len(prompt)) / 4, Turns: 1}
	if budgets := c.AllBudgets(); len(budgets) > 0 {
		r.UsedBudget = budgets[0].Scope // of which nothing is used
	}
	return router.Decide(r), nil
}

func writeExplanation(out io.Writer, d *routing.Decision) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	if d.Scored {
		b := d.Breakdown
		fmt.Fprintf(table, "score\t%g of 10\tlength %+g, questions %+g, reasoning %+g, code %+g, simple %+g\n",
			d.Score, b.Length, b.Questions, b.Reasoning, b.Code, b.Simple)
	}
	for _, step := range d.Strategies {
		allowed := strings.Join(step.Allowed, ", ")
		if allowed == "" {
			allowed = "none"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", step.Name, allowed, step.Reason)
	}
	fmt.Fprintf(table, "tier\t%s\n", d.Tier)
	var plan []string
	for _, t := range d.Plan {
		plan = append(plan, t.Deployment)
	}
	fmt.Fprintf(table, "upstream\t%s\n", strings.Join(plan, ", then "))
	fmt.Fprintf(table, "reason\t%s\n", d.Reason)
	return table.Flush()
}
