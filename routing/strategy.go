package routing

// Strategy narrows and orders the tiers a request may use. Router calls it
// concurrently; it must not keep or change r or tiers.
type Strategy interface {
	// Narrow is given the tiers still allowed, from least to most capable or as
	// the strategy before ordered them, never empty, and returns those it
	// allows, best first, with the reason. Tiers that were not offered are
	// ignored: a strategy cannot widen what came before it.
	Narrow(r *Request, tiers []*Tier) Verdict
}

// Verdict is a strategy's answer.
type Verdict struct {
	Tiers  []*Tier // best first; empty means none is allowed
	Reason string  // plain ASCII, a clause: "cost 83% of user budget allows up to balanced"
	Score  *Score  // set by strategies that score the prompt
}

// Score is a prompt's complexity, 0 to 10, with its parts.
type Score struct {
	Value     float64
	Breakdown Breakdown
}

// StrategyFunc is a Strategy that needs no state.
type StrategyFunc func(r *Request, tiers []*Tier) Verdict

// Narrow calls f.
func (f StrategyFunc) Narrow(r *Request, tiers []*Tier) Verdict { return f(r, tiers) }
