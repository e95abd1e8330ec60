package routing

import (
	"fmt"
	"strings"
)

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

	floor       string // a step of its own that lifted the first tier, and why
	floorReason string
	probes      uint64 // tiers, by rank, that are offered only to be probed
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

// Named gives a strategy the name it goes by in decisions and headers. A
// strategy with a String method has one already.
func Named(name string, s Strategy) Strategy { return named{s, name} }

type named struct {
	Strategy
	name string
}

func (n named) String() string { return n.name }

// names are what a strategy is called in a trace, and in X-Router-Strategy when
// it is the only one.
func names(s Strategy) (step, single string) {
	if named, ok := s.(fmt.Stringer); ok {
		single = named.String()
	} else {
		single = strings.TrimPrefix(fmt.Sprintf("%T", s), "*")
		single = single[strings.LastIndexByte(single, '.')+1:]
	}
	switch s.(type) {
	case *Complexity, *Cost, *Latency:
		return strings.ToLower(strings.TrimSuffix(single, "Strategy")), single
	}
	return single, single
}
