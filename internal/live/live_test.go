package live

import (
	"math"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
)

var start = time.Unix(1_800_000_000, 0)

func threeTiers() []Tier {
	return []Tier{
		{"fast", budget.FlatPrice(1e9, 1e9)},
		{"balanced", budget.FlatPrice(10e9, 10e9)},
		{"powerful", budget.FlatPrice(100e9, 100e9)},
	}
}

func answer(tier string, at time.Time) *Request {
	prices := map[string]budget.Nanodollars{"fast": 1e9, "balanced": 10e9, "powerful": 100e9}
	return &Request{At: at, Tier: tier, Usage: budget.Usage{Input: 1e6}, Cost: prices[tier], Latency: 100 * time.Millisecond}
}

func near(a, b float64) bool { return math.Abs(a-b) < 1e-6 }

func TestASeriesComparesTheChargeWithItsBaselines(t *testing.T) {
	s := New()
	s.SetTiers(threeTiers())
	for i, tier := range []string{"fast", "fast", "balanced", "powerful"} {
		s.Add(answer(tier, start.Add(time.Duration(i)*10*time.Second)))
	}
	s.Add(&Request{At: start, Failed: true})
	for _, r := range Ranges {
		total := s.Series(r.Name, start.Add(40*time.Second)).Total
		// At random in the same shares: half of 4 at 1, a quarter at 10, a quarter at 100.
		if total.Requests != 4 || total.Failed != 1 || !near(total.Cost, 112) || !near(total.Strongest, 400) || !near(total.Cheapest, 4) || !near(total.Random, 4*(.5*1+.25*10+.25*100)) {
			t.Errorf("%s: %+v", r.Name, total)
		}
	}
	if later := s.Series("5m", start.Add(6*time.Minute)).Total; later.Requests != 0 {
		t.Errorf("after six minutes the last five show %+v", later)
	}
	if hour := s.Series("1h", start.Add(6*time.Minute)).Total; hour.Requests != 4 {
		t.Errorf("after six minutes the last hour shows %+v", hour)
	}
}

func TestTiersThatStayKeepTheirFigures(t *testing.T) {
	s := New()
	s.SetTiers(threeTiers())
	s.Add(answer("fast", start))
	s.Add(answer("powerful", start))
	s.SetTiers([]Tier{threeTiers()[2], {"new", budget.FlatPrice(1, 1)}})
	got := s.Series("5m", start)
	if got.Tiers["powerful"][Points-1] != 1 || got.Tiers["new"][Points-1] != 0 || got.Tiers["fast"] != nil {
		t.Errorf("%v", got.Tiers)
	}
	if s.Latency("powerful", start).Samples != 1 || s.Latency("new", start).Samples != 0 {
		t.Error("the latencies did not move with their tiers")
	}
}

func TestPercentilesAreWithinABucket(t *testing.T) {
	s := New()
	s.SetTiers(threeTiers())
	for i := 1; i <= 1000; i++ {
		s.Add(&Request{At: start, Tier: "fast", Latency: time.Duration(i) * time.Millisecond, TTFT: 50 * time.Millisecond, Stream: i%2 == 0})
	}
	l := s.Latency("fast", start)
	for _, c := range []struct{ got, want float64 }{{l.P50, 500}, {l.P90, 900}, {l.P99, 990}, {l.TTFT90, 50}} {
		if c.got < c.want/bucketGrowth || c.got > c.want*bucketGrowth {
			t.Errorf("%v is not near %v", c.got, c.want)
		}
	}
	if l.Samples != 1000 || l.TTFTSamples != 500 {
		t.Errorf("%+v", l)
	}
	if old := s.Latency("fast", start.Add(6*time.Minute)); old.Samples != 0 {
		t.Errorf("six minutes later: %+v", old)
	}
}

func BenchmarkAdd(b *testing.B) {
	s := New()
	s.SetTiers(threeTiers())
	r := answer("balanced", start)
	for b.Loop() {
		s.Add(r)
	}
}
