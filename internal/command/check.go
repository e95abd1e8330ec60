package command

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/inference-router/inference-router/internal/config"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
)

func setupCheck(flags *flag.FlagSet) func(context.Context, console, []string) error {
	file := configFlag(flags)
	return func(_ context.Context, c console, rest []string) error {
		if err := noWords(rest); err != nil {
			return err
		}
		conf, err := loadFromFiles(*file, new(config.Dotenv))
		if err != nil {
			return err
		}
		// Building touches no network: neither providers nor Redis are asked.
		b := &builder{log: slog.New(slog.DiscardHandler), state: routing.NewState()}
		if _, err := b.build(conf); err != nil {
			return err
		}
		return report(c.out, conf)
	}
}

// report shows what the configuration comes to: upstreams with the prices that
// will be billed, budgets, strategies, and what is missing.
func report(out io.Writer, c *config.Config) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TIER\tUPSTREAM\tINPUT\tOUTPUT\tCACHED\tWRITE\tPRICE FROM")
	row := func(tier string, u *config.Upstream) {
		p, from := u.Billed, u.Billed.Source
		if u.Guessed != "" {
			from += " (a guess)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", tier, u.Name, perMillion(p.Input), perMillion(p.Output), perMillion(p.CachedInput), perMillion(p.CacheWrite), from)
	}
	for _, tier := range c.Tiers {
		name := tier.Name
		for i := range tier.Upstreams {
			row(name, &tier.Upstreams[i])
			name = ""
		}
	}
	for i := range c.Embeddings {
		row("embeddings", &c.Embeddings[i])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(out, "in US dollars per million tokens")
	if made, err := time.Parse(time.DateOnly, budget.PriceDate); err == nil {
		fmt.Fprintf(out, "price table: %s of %s, %d days old\n", budget.PriceSource, budget.PriceDate, int(time.Since(made).Hours()/24))
	}
	fmt.Fprintf(out, "\nlisten      %s, identity %s\nfallback    %s\nstrategy    %s\nbudgets     %s\ncounters    %s\n",
		c.Server.Listen, c.Identity.Mode, c.Fallback, strategyLine(c), budgetLine(c), countersLine(c))
	for _, p := range slices.Concat(c.Guesses(), c.Strangers(), c.Idle(), c.Exposed()) {
		fmt.Fprintf(out, "\nwarning: %s\n", p)
	}
	_, err := fmt.Fprintf(out, "\n%s is valid\n", c.File)
	return err
}

// perMillion is a price with at least two decimal places.
func perMillion(rate int64) string {
	text := budget.Nanodollars(rate).USD()
	whole, fraction, _ := strings.Cut(text, ".")
	for len(fraction) < 2 {
		fraction += "0"
	}
	return whole + "." + fraction
}

func strategyLine(c *config.Config) string {
	if len(c.Strategy) == 0 {
		return "complexity"
	}
	names := make([]string, len(c.Strategy))
	for i := range c.Strategy {
		names[i] = c.Strategy[i].Name()
	}
	return strings.Join(names, ", then ")
}

func budgetLine(c *config.Config) string {
	var lines []string
	for _, b := range c.AllBudgets() {
		lines = append(lines, fmt.Sprintf("%s $%s per %s, then %s", b.Scope, budget.Nanodollars(*b.USD), b.Per, b.OnExhausted))
	}
	for _, k := range c.Identity.Keys {
		if k.Budget != nil && c.Identity.Mode == "keys" {
			lines = append(lines, fmt.Sprintf("key %s $%s per day, then reject", k.Name, budget.Nanodollars(*k.Budget)))
		}
	}
	if len(lines) == 0 {
		return "none"
	}
	return strings.Join(lines, "; ")
}

func countersLine(c *config.Config) string {
	if c.Redis.URL == "" {
		return "in this process"
	}
	return "in Redis, " + c.Redis.OnLoss + " when it is lost"
}
