// Package live keeps the figures of the dashboard: requests, money and
// latencies over the last minutes, hour and day, in memory whose size does not
// depend on the traffic. It knows nothing of HTTP.
package live

import (
	"slices"
	"sync"
	"time"

	"github.com/inference-router/inference-router/budget"
)

// Points is the number of points of every series.
const Points = 60

// Range is a span of time that the dashboard shows.
type Range struct {
	Name string
	Step time.Duration // between two of its Points
}

// Ranges are the spans that are kept, the shortest first.
var Ranges = []Range{{"5m", 5 * time.Second}, {"1h", time.Minute}, {"24h", 24 * time.Minute}}

// Tier is a tier as far as the figures go. Price is that of the upstream that
// usually answers; what every tier would have cost is reckoned by it.
type Tier struct {
	Name  string
	Price budget.Price
}

// Request is what the figures take of a finished request.
type Request struct {
	At      time.Time
	Tier    string // that answered; "" when none did
	Failed  bool
	Usage   budget.Usage // of all its calls
	Cost    budget.Nanodollars
	Latency time.Duration
	TTFT    time.Duration // 0 when no event came
	Stream  bool
}

// Stats keeps the figures. Safe for concurrent use.
type Stats struct {
	mu     sync.Mutex
	tiers  []Tier // from least to most capable
	index  map[string]int
	cheap  int // index of the cheapest tier
	rings  []ring
	recent []latencies          // by tier
	prices []budget.Nanodollars // scratch space of Add, by tier
}

// ring holds the points of one range.
type ring struct {
	step   int64 // nanoseconds
	points [Points]point
}

// point is what happened within one step.
type point struct {
	number  int64                // of the step since 1970
	counts  []int64              // answered, by tier
	wouldBe []budget.Nanodollars // all answers of the step, were they that tier's
	failed  int64
	cost    budget.Nanodollars
}

// New returns Stats of no tiers.
func New() *Stats {
	s := &Stats{index: map[string]int{}}
	for _, r := range Ranges {
		s.rings = append(s.rings, ring{step: int64(r.Step)})
	}
	return s
}

// SetTiers names the tiers, from least to most capable. Tiers that stay keep
// their figures; a tier that is gone is counted no more.
func (s *Stats) SetTiers(tiers []Tier) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := make([]int, len(tiers))
	recent := make([]latencies, len(tiers))
	index := make(map[string]int, len(tiers))
	for i, t := range tiers {
		old, kept := s.index[t.Name]
		if from[i] = -1; kept {
			from[i], recent[i] = old, s.recent[old]
		}
		index[t.Name] = i
	}
	for r := range s.rings {
		for p := range s.rings[r].points {
			s.rings[r].points[p].rearrange(from)
		}
	}
	s.tiers, s.index, s.recent, s.cheap = slices.Clone(tiers), index, recent, 0
	s.prices = make([]budget.Nanodollars, len(tiers))
	for i, t := range tiers {
		if t.Price.Blended() < tiers[s.cheap].Price.Blended() {
			s.cheap = i
		}
	}
}

// rearrange puts the figures of tier from[i] at i, and none where it is -1.
func (p *point) rearrange(from []int) {
	counts, wouldBe := make([]int64, len(from)), make([]budget.Nanodollars, len(from))
	for i, old := range from {
		if old >= 0 && old < len(p.counts) {
			counts[i], wouldBe[i] = p.counts[old], p.wouldBe[old]
		}
	}
	p.counts, p.wouldBe = counts, wouldBe
}

// Add counts one finished request.
func (s *Stats) Add(r *Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	tier, answered := s.index[r.Tier]
	answered = answered && !r.Failed
	if answered {
		s.recent[tier].add(r)
		for t := range s.tiers {
			s.prices[t] = s.tiers[t].Price.Cost(r.Usage)
		}
	}
	for i := range s.rings {
		p := s.rings[i].at(r.At, len(s.tiers))
		p.cost += r.Cost
		if !answered {
			p.failed++
			continue
		}
		p.counts[tier]++
		for t, cost := range s.prices {
			p.wouldBe[t] += cost
		}
	}
}

// at is the point of a time, emptied when its step has just begun.
func (r *ring) at(t time.Time, tiers int) *point {
	number := t.UnixNano() / r.step
	p := &r.points[uint64(number)%Points]
	if p.number != number {
		if p.counts == nil {
			p.counts, p.wouldBe = make([]int64, tiers), make([]budget.Nanodollars, tiers)
		}
		clear(p.counts)
		clear(p.wouldBe)
		p.number, p.failed, p.cost = number, 0, 0
	}
	return p
}

// Series is what happened within a range, point by point, the oldest first.
// The last point is the running step.
type Series struct {
	Range  string             `json:"range"`
	Start  time.Time          `json:"start"` // of the first point
	StepMS int64              `json:"step_ms"`
	Tiers  map[string][]int64 `json:"tiers"` // requests answered
	Failed []int64            `json:"failed"`
	// Costs in US dollars: what was charged, and what the same answers would
	// have cost by the most capable tier, by the cheapest one, and by tiers
	// drawn at random in the same shares.
	Cost      []float64 `json:"cost"`
	Strongest []float64 `json:"strongest"`
	Cheapest  []float64 `json:"cheapest"`
	Random    []float64 `json:"random"`
	Total     Total     `json:"total"`
}

// Total sums a Series up.
type Total struct {
	Requests  int64   `json:"requests"`
	Failed    int64   `json:"failed"`
	Cost      float64 `json:"cost"`
	Strongest float64 `json:"strongest"`
	Cheapest  float64 `json:"cheapest"`
	Random    float64 `json:"random"`
}

// Series returns the named range up to now; the first of Ranges when there is
// none of that name.
func (s *Stats) Series(name string, now time.Time) Series {
	which := max(0, slices.IndexFunc(Ranges, func(r Range) bool { return r.Name == name }))
	s.mu.Lock()
	defer s.mu.Unlock()
	ring := &s.rings[which]
	last := now.UnixNano() / ring.step
	first := last - Points + 1
	out := Series{Range: Ranges[which].Name, Start: time.Unix(0, first*ring.step).UTC(), StepMS: ring.step / int64(time.Millisecond),
		Tiers: map[string][]int64{}, Failed: make([]int64, Points), Cost: make([]float64, Points),
		Strongest: make([]float64, Points), Cheapest: make([]float64, Points), Random: make([]float64, Points)}
	for t := range s.tiers {
		out.Tiers[s.tiers[t].Name] = make([]int64, Points)
	}
	shares := s.shares(ring, first, last)
	for i := range out.Cost {
		p := &ring.points[uint64(first+int64(i))%Points]
		if p.number == first+int64(i) {
			s.fill(&out, i, p, shares)
		}
	}
	return out
}

// shares are the tiers' parts of all answers from step first to last.
func (s *Stats) shares(r *ring, first, last int64) []float64 {
	shares, all := make([]float64, len(s.tiers)), 0.0
	for i := range r.points {
		if p := &r.points[i]; p.number >= first && p.number <= last {
			for t, n := range p.counts {
				shares[t] += float64(n)
				all += float64(n)
			}
		}
	}
	for t := range shares {
		shares[t] /= max(1, all)
	}
	return shares
}

func (s *Stats) fill(out *Series, i int, p *point, shares []float64) {
	out.Failed[i], out.Cost[i] = p.failed, dollars(p.cost)
	out.Total.Failed += p.failed
	for t, n := range p.counts {
		out.Tiers[s.tiers[t].Name][i] = n
		out.Total.Requests += n
		out.Random[i] += shares[t] * dollars(p.wouldBe[t])
	}
	if len(s.tiers) > 0 {
		out.Strongest[i] = dollars(p.wouldBe[len(s.tiers)-1])
		out.Cheapest[i] = dollars(p.wouldBe[s.cheap])
	}
	out.Total.Cost += out.Cost[i]
	out.Total.Strongest += out.Strongest[i]
	out.Total.Cheapest += out.Cheapest[i]
	out.Total.Random += out.Random[i]
}

func dollars(n budget.Nanodollars) float64 { return float64(n) / 1e9 }
