package main

import (
	"context"
	"flag"
	"fmt"
	"text/tabwriter"
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
		table := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
		for _, tier := range config.Tiers {
			fmt.Fprintln(table, tier.Name)
			for _, u := range tier.Upstreams {
				fmt.Fprintf(table, "  %s\n", u.Name)
			}
		}
		return table.Flush()
	}
}
