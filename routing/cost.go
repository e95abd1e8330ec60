package routing

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// CostConfig sets up a Cost strategy.
type CostConfig struct {
	// TiersByCost lists the tiers from dear to cheap; empty means by
	// Tier.Price. Tiers it leaves out count as dearer than the rest.
	TiersByCost []string
	DowngradeAt float64 // fraction of the budget from which the dearer half is out; 0 means 0.8
	FloorAt     float64 // fraction from which only the cheapest is left; 0 means 0.95
}

// Cost allows cheaper tiers as a budget is used up. As the first strategy it
// prefers the dearest tier that is allowed; later in a chain it only narrows.
type Cost struct {
	config CostConfig
	first  bool
	place  []int // by rank: 0 for the dearest
	middle *Tier
}

// NewCost returns a Cost strategy. Its configuration is checked by New.
func NewCost(c CostConfig) *Cost { return &Cost{config: c} }

func (*Cost) String() string { return "CostStrategy" }

func (c *Cost) bind(rt *Router, first bool) (Strategy, error) {
	b := &Cost{config: c.config, first: first, place: make([]int, len(rt.tiers))}
	b.config.DowngradeAt = cmp.Or(c.config.DowngradeAt, 0.8)
	b.config.FloorAt = cmp.Or(c.config.FloorAt, 0.95)
	if !(b.config.DowngradeAt > 0 && b.config.DowngradeAt <= b.config.FloorAt) {
		return nil, errors.New("downgrade_at must be above 0 and not above floor_at")
	}
	order := slices.Clone(rt.tiers)
	if len(c.config.TiersByCost) == 0 {
		// Of equal prices the more capable tier counts as the dearer.
		slices.Reverse(order)
		slices.SortStableFunc(order, func(x, y *Tier) int { return cmp.Compare(y.Price, x.Price) })
	} else {
		order = order[:0]
		for _, name := range c.config.TiersByCost {
			t := rt.byName[name]
			if t == nil {
				return nil, fmt.Errorf("tiers_by_cost: %w", rt.unknown(name))
			}
			if slices.Contains(order, t) {
				return nil, fmt.Errorf("tiers_by_cost: %q is listed twice", name)
			}
			order = append(order, t)
		}
	}
	for i := range b.place {
		b.place[i] = -1 // not listed
	}
	for i, t := range order {
		b.place[t.rank] = i
	}
	b.middle = order[len(order)/2]
	return b, nil
}

// Narrow implements Strategy. It never takes the last tier away: a budget that
// is to refuse is Request.Exhausted.
func (c *Cost) Narrow(r *Request, tiers []*Tier) Verdict {
	if c.place == nil {
		return Verdict{Tiers: tiers, Reason: "cost is not set up"}
	}
	out := slices.Clone(tiers)
	if c.first {
		slices.SortStableFunc(out, func(a, b *Tier) int { return c.place[a.rank] - c.place[b.rank] })
	}
	if r.Used <= 0 && r.UsedBudget == "" {
		return Verdict{Tiers: out, Reason: "cost has no budget to keep"}
	}
	reason := "cost " + strconv.Itoa(percent(r.Used)) + "% of " + cmp.Or(r.UsedBudget, "the") + " budget allows "
	switch {
	case r.Used >= c.config.FloorAt:
		out = append(out[:0], c.cheapest(tiers))
		return Verdict{Tiers: out, Reason: reason + "only " + out[0].Name}
	case r.Used >= c.config.DowngradeAt:
		limit := c.place[c.middle.rank]
		out = slices.DeleteFunc(out, func(t *Tier) bool { return c.place[t.rank] < limit })
		if len(out) == 0 {
			out = append(out, c.cheapest(tiers))
		}
		return Verdict{Tiers: out, Reason: reason + "up to " + c.dearest(out).Name}
	}
	return Verdict{Tiers: out, Reason: reason + "all tiers"}
}

func (c *Cost) cheapest(tiers []*Tier) *Tier {
	return slices.MaxFunc(tiers, func(a, b *Tier) int { return c.place[a.rank] - c.place[b.rank] })
}

func (c *Cost) dearest(tiers []*Tier) *Tier {
	return slices.MinFunc(tiers, func(a, b *Tier) int { return c.place[a.rank] - c.place[b.rank] })
}

// percent rounds down, so that 94.9 % does not read as if it were over 95 %.
func percent(used float64) int {
	if !(used > 0) {
		return 0
	}
	return int(min(used*100+1e-9, 999))
}
