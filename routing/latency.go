package routing

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultWindow  = 50
	defaultSamples = 5
	defaultSLA     = 3 * time.Second
	mostWindow     = 1000
)

// LatencyConfig sets up a Latency strategy.
type LatencyConfig struct {
	SLA time.Duration // for whole answers; 0 means 3 s
	// TTFTSLA is for streams, judged by the time to their first token; 0 means
	// that they are judged by SLA on the whole.
	TTFTSLA    time.Duration
	TierSLAs   map[string]time.Duration // by tier name, instead of SLA
	Preferred  string                   // the tier to use while it is healthy; "" means none
	Fallback   string                   // the tier to use when the preferred one is not; "" means none
	WindowSize int                      // answers that count; 0 means 50
	MinSamples int                      // fewer are no verdict; 0 means 5
}

// Latency removes tiers whose 90th percentile is over their SLA. As the first
// strategy, or with a preferred tier, it also orders what is left: the preferred
// tier, then the fallback, then the others from cheap to dear.
type Latency struct {
	config    LatencyConfig
	first     bool
	preferred *Tier
	fallback  *Tier
	slas      []time.Duration // by rank
	probers   []prober        // by rank
}

// NewLatency returns a Latency strategy. Its configuration is checked by New.
func NewLatency(c LatencyConfig) *Latency { return &Latency{config: c} }

func (*Latency) String() string { return "LatencyStrategy" }

func (l *Latency) bind(rt *Router, first bool) (Strategy, error) {
	c := l.config
	c.SLA = cmp.Or(c.SLA, defaultSLA)
	c.WindowSize = cmp.Or(c.WindowSize, defaultWindow)
	c.MinSamples = cmp.Or(c.MinSamples, defaultSamples)
	switch {
	case c.SLA < 0 || c.TTFTSLA < 0:
		return nil, errors.New("an SLA is below 0")
	case c.WindowSize < 1 || c.WindowSize > mostWindow:
		return nil, fmt.Errorf("window_size is not between 1 and %d", mostWindow)
	case c.MinSamples < 1 || c.MinSamples > c.WindowSize:
		return nil, errors.New("min_samples is not between 1 and window_size")
	}
	b := &Latency{config: c, first: first, probers: make([]prober, len(rt.tiers))}
	for name, sla := range c.TierSLAs {
		if rt.byName[name] == nil {
			return nil, fmt.Errorf("tier_slas: %w", rt.unknown(name))
		}
		if sla <= 0 {
			return nil, fmt.Errorf("tier_slas: the SLA of %q is not above 0", name)
		}
	}
	for _, t := range rt.tiers {
		b.slas = append(b.slas, cmp.Or(c.TierSLAs[t.Name], c.SLA))
	}
	if b.preferred = rt.byName[c.Preferred]; c.Preferred != "" && b.preferred == nil {
		return nil, fmt.Errorf("preferred_tier: %w", rt.unknown(c.Preferred))
	}
	if b.fallback = rt.byName[c.Fallback]; c.Fallback != "" && b.fallback == nil {
		return nil, fmt.Errorf("fallback_tier: %w", rt.unknown(c.Fallback))
	}
	rt.latency = b
	return b, nil
}

// rules are how a tier's whole answers and its streams' first tokens are judged.
func (l *Latency) rules(t *Tier) (whole, ttft rule) {
	whole = rule{size: l.config.WindowSize, min: l.config.MinSamples, sla: l.slas[t.rank]}
	ttft = whole
	ttft.sla = l.config.TTFTSLA
	return whole, ttft
}

// judged is the window a request's tier is judged by, and its rule.
func (l *Latency) judged(r *Request, t *Tier) (*window, rule) {
	whole, ttft := l.rules(t)
	if r.Stream && ttft.sla > 0 {
		return t.ttft, ttft
	}
	return t.whole, whole
}

// Narrow implements Strategy.
func (l *Latency) Narrow(r *Request, tiers []*Tier) Verdict {
	if l.probers == nil {
		return Verdict{Tiers: tiers, Reason: "latency is not set up"}
	}
	v := Verdict{Tiers: make([]*Tier, 0, len(tiers))}
	slow := (*Tier)(nil)
	for _, t := range tiers {
		w, rule := l.judged(r, t)
		switch {
		case !w.over(rule.sla):
			v.Tiers = append(v.Tiers, t)
		case l.probers[t.rank].due():
			v.Tiers = append(v.Tiers, t)
			v.probes |= 1 << t.rank
			slow = cmp.Or(slow, t)
		default:
			slow = cmp.Or(slow, t)
		}
	}
	if len(v.Tiers) == 0 {
		left := l.leastSlow(r, tiers)
		return Verdict{Tiers: []*Tier{left}, Reason: "latency is over the SLA everywhere, leaves " + left.Name}
	}
	l.order(v.Tiers)
	v.Reason = l.reason(r, slow, v.Tiers)
	return v
}

// order puts the preferred tier first, and without an order from an earlier
// strategy the fallback tier next and the others from cheap to dear.
func (l *Latency) order(tiers []*Tier) {
	if !l.first && l.preferred == nil {
		return
	}
	place := func(t *Tier) int {
		switch t {
		case l.preferred:
			return 0
		case l.fallback:
			return 1
		}
		return 2
	}
	slices.SortStableFunc(tiers, func(a, b *Tier) int {
		if by := place(a) - place(b); by != 0 || !l.first {
			return by
		}
		return cmp.Or(cmp.Compare(a.Price, b.Price), a.rank-b.rank)
	})
}

// leastSlow is what is left when every tier is over its SLA: the fallback tier,
// or the fastest.
func (l *Latency) leastSlow(r *Request, tiers []*Tier) *Tier {
	if slices.Contains(tiers, l.fallback) {
		return l.fallback
	}
	return slices.MinFunc(tiers, func(a, b *Tier) int {
		wa, _ := l.judged(r, a)
		wb, _ := l.judged(r, b)
		return cmp.Compare(wa.p90.Load(), wb.p90.Load())
	})
}

func (l *Latency) reason(r *Request, slow *Tier, left []*Tier) string {
	if slow == nil {
		if left[0] == l.preferred {
			return "latency prefers " + left[0].Name
		}
		return "latency within SLA"
	}
	w, rule := l.judged(r, slow)
	b := append(make([]byte, 0, 80), "latency p90 "...)
	b = strconv.AppendInt(b, time.Duration(w.p90.Load()).Milliseconds(), 10)
	b = append(b, " ms of "...)
	b = append(b, slow.Name...)
	b = append(b, " is over "...)
	b = strconv.AppendInt(b, rule.sla.Milliseconds(), 10)
	return string(append(b, " ms"...))
}

// probe takes a removed tier's turn to be probed.
func (l *Latency) probe(t *Tier, now time.Duration) bool { return l.probers[t.rank].take(now) }

// probed reports whether an answer of t may be that of a probe.
func (l *Latency) probed(t *Tier) bool { return l.probers[t.rank].ended() }

const (
	probeShare = 20 // one request in so many
	probePause = time.Second
)

// prober lets a small share of requests through to a removed tier: one of each
// twenty, at random among them so that no rhythm of the traffic hides the tier,
// and not more than one a second.
type prober struct {
	away atomic.Int64 // probes that were not answered yet

	mu    sync.Mutex
	asked int
	turn  int
	last  time.Duration // on the State's clock, which never reads 0
}

// ended takes one of the probes as answered, if there are any.
func (p *prober) ended() bool {
	for {
		n := p.away.Load()
		if n == 0 {
			return false
		}
		if p.away.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// due reports whether this request may be the probe.
func (p *prober) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked%probeShare == 0 {
		p.turn = rand.IntN(probeShare)
	}
	p.asked++
	return (p.asked-1)%probeShare == p.turn
}

// take makes this request the probe, unless there was one within the second.
func (p *prober) take(now time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last != 0 && now-p.last < probePause {
		return false
	}
	p.last = now
	p.away.Add(1)
	return true
}
