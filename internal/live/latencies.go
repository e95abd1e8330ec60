package live

import (
	"math"
	"time"
)

// Latencies are counted in buckets that grow by bucketGrowth: a percentile is
// off by at most half of that. The window is latencySlots slots long.
const (
	bucketGrowth = 1.08
	buckets      = 180 // from 1 ms to about 17 minutes
	latencySlots = 10
	slotLength   = 30 * time.Second
)

var logGrowth = math.Log(bucketGrowth)

// latencies are a tier's answers of the last five minutes.
type latencies struct {
	slots [latencySlots]slot
}

type slot struct {
	number      int64
	whole, ttft histogram
}

type histogram struct {
	n      int64
	counts [buckets]uint32
}

func (l *latencies) add(r *Request) {
	number := r.At.UnixNano() / int64(slotLength)
	s := &l.slots[uint64(number)%latencySlots]
	if s.number != number {
		*s = slot{number: number}
	}
	s.whole.add(r.Latency)
	if r.Stream && r.TTFT > 0 {
		s.ttft.add(r.TTFT)
	}
}

func (h *histogram) add(d time.Duration) {
	h.n++
	h.counts[bucketOf(d)]++
}

func bucketOf(d time.Duration) int {
	if d <= time.Millisecond {
		return 0
	}
	return min(int(math.Log(float64(d)/float64(time.Millisecond))/logGrowth)+1, buckets-1)
}

// Latency are a tier's latest percentiles in milliseconds, of whole answers
// and of the time to the first token of streams. 0 where there are none.
type Latency struct {
	Samples     int64   `json:"samples"`
	P50         float64 `json:"p50_ms"`
	P90         float64 `json:"p90_ms"`
	P99         float64 `json:"p99_ms"`
	TTFTSamples int64   `json:"ttft_samples"`
	TTFT50      float64 `json:"ttft_p50_ms"`
	TTFT90      float64 `json:"ttft_p90_ms"`
	TTFT99      float64 `json:"ttft_p99_ms"`
}

// Latency returns a tier's percentiles over the last five minutes.
func (s *Stats) Latency(tier string, now time.Time) Latency {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, known := s.index[tier]
	if !known {
		return Latency{}
	}
	oldest := now.UnixNano()/int64(slotLength) - latencySlots + 1
	var whole, ttft histogram
	for k := range s.recent[i].slots {
		if slot := &s.recent[i].slots[k]; slot.number >= oldest {
			whole.merge(&slot.whole)
			ttft.merge(&slot.ttft)
		}
	}
	return Latency{
		Samples: whole.n, P50: whole.percentile(.5), P90: whole.percentile(.9), P99: whole.percentile(.99),
		TTFTSamples: ttft.n, TTFT50: ttft.percentile(.5), TTFT90: ttft.percentile(.9), TTFT99: ttft.percentile(.99),
	}
}

func (h *histogram) merge(other *histogram) {
	h.n += other.n
	for i, n := range other.counts {
		h.counts[i] += n
	}
}

// percentile is the middle of the bucket that the share q of the samples ends
// in, in milliseconds.
func (h *histogram) percentile(q float64) float64 {
	if h.n == 0 {
		return 0
	}
	rank, seen := int64(math.Ceil(q*float64(h.n))), int64(0)
	for i, n := range h.counts {
		if seen += int64(n); seen >= rank {
			return math.Round(10*math.Pow(bucketGrowth, float64(i)-0.5)) / 10
		}
	}
	return 0
}
