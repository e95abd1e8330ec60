package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/routing"
)

func setupCheck(flags *flag.FlagSet) func(context.Context, console, []string) error {
	file := configFlag(flags)
	return func(_ context.Context, c console, rest []string) error {
		if err := noWords(rest); err != nil {
			return err
		}
		config, err := loadFromFiles(*file, new(dotenv))
		if err != nil {
			return err
		}
		// Building touches no network: neither providers nor Redis are asked.
		b := &builder{log: slog.New(slog.DiscardHandler), state: routing.NewState()}
		if _, err := b.build(config); err != nil {
			return err
		}
		return config.report(c.out)
	}
}

// report shows what the configuration comes to: upstreams with the prices that
// will be billed, budgets, strategies, and what is missing.
func (c *Config) report(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "TIER\tUPSTREAM\tINPUT\tOUTPUT\tCACHED\tWRITE\tPRICE FROM")
	row := func(tier string, u *Upstream) {
		p, from := u.billed, u.billed.Source
		if u.guessed != "" {
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
	fmt.Fprintf(out, "\nlisten      %s, identity %s\nfallback    %s\nstrategy    %s\nbudgets     %s\ncounters    %s\n",
		c.Server.Listen, c.Identity.Mode, c.Fallback, c.strategyLine(), c.budgetLine(), c.countersLine())
	for _, p := range append(c.guesses(), c.idle()...) {
		fmt.Fprintf(out, "\nwarning: %s\n", p)
	}
	_, err := fmt.Fprintf(out, "\n%s is valid\n", c.file)
	return err
}

// guesses are the prices that nobody knows.
func (c *Config) guesses() Problems {
	var all Problems
	for _, upstreams := range append(c.upstreamLists(), c.Embeddings) {
		for _, u := range upstreams {
			if u.guessed != "" {
				all = append(all, c.problem(join(u.key, "price"), "%s", u.guessed))
			}
		}
	}
	return all
}

// idle is what is said of identities that the mode does not heed. Whoever wrote
// it may rely on it.
func (c *Config) idle() (all Problems) {
	id := c.Identity
	note := func(there bool, key, mode string) {
		if there && id.Mode != mode {
			all = append(all, c.problem(key, "has no effect in identity.mode %s, only in mode %s", id.Mode, mode))
		}
	}
	note(len(id.TrustedCIDRs) > 0, "identity.trusted_cidrs", "trusted_proxy")
	note(len(id.SigningKeys) > 0, "identity.signing_keys", "signed")
	for i, k := range id.Keys {
		key := index("identity.keys", i)
		if !k.Admin {
			note(true, key, "keys")
			continue
		}
		note(k.User != "", join(key, "user"), "keys")
		note(k.Tiers != nil, join(key, "tiers"), "keys")
		note(k.Budget != nil, join(key, "budget_usd_per_day"), "keys")
	}
	return all
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

func (c *Config) strategyLine() string {
	if len(c.Strategy) == 0 {
		return "complexity"
	}
	names := make([]string, len(c.Strategy))
	for i := range c.Strategy {
		names[i] = c.Strategy[i].Name()
	}
	return strings.Join(names, ", then ")
}

func (c *Config) budgetLine() string {
	var lines []string
	for _, b := range c.allBudgets() {
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

func (c *Config) countersLine() string {
	if c.Redis.URL == "" {
		return "in this process"
	}
	return "in Redis, " + c.Redis.OnLoss + " when it is lost"
}

// allBudgets are the budgets with the one that the cost strategy is short for.
func (c *Config) allBudgets() []Budget {
	all := c.Budgets
	for _, s := range c.Strategy {
		if s.Cost == nil || s.Cost.BudgetPerDay == nil || c.dailyBudget() {
			continue
		}
		all = append(all[:len(all):len(all)], Budget{Scope: "global", USD: s.Cost.BudgetPerDay, Per: "day", OnExhausted: "downgrade", Timezone: time.UTC.String()})
	}
	return all
}

// dailyBudget reports whether `budgets` has the global one per day in UTC.
func (c *Config) dailyBudget() bool {
	for _, b := range c.Budgets {
		if b.isDaily() {
			return true
		}
	}
	return false
}

func (b *Budget) isDaily() bool {
	return b.Scope == "global" && b.Per == "day" && b.Timezone == "UTC"
}
