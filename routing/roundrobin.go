package routing

import "sync/atomic"

// RoundRobin sends each request to the next of the allowed tiers in turn. It is
// also the template for a strategy of your own: look at the request's facts,
// return the tiers you allow, best first, and say why.
type RoundRobin struct{ next atomic.Uint64 }

func (*RoundRobin) String() string { return "RoundRobinStrategy" }

// Narrow puts the tier whose turn it is first; the others follow for failover.
func (s *RoundRobin) Narrow(_ *Request, tiers []*Tier) Verdict {
	turn := int((s.next.Add(1) - 1) % uint64(len(tiers)))
	ordered := append(append([]*Tier{}, tiers[turn:]...), tiers[:turn]...)
	return Verdict{Tiers: ordered, Reason: "it is the turn of " + ordered[0].Name}
}
