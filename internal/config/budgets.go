package config

import "time"

// AllBudgets are the budgets with the one that the cost strategy is short for.
func (c *Config) AllBudgets() []Budget {
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
