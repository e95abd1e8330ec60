package budget

import (
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

// Rates as price lists state them, in nano-dollars per million tokens.
const perDollar = 1_000_000_000

// sonnet has a price for each kind of token and a step at 200,000 tokens.
var sonnet = Price{
	Input: 3 * perDollar, Output: 15 * perDollar, CachedInput: 3 * perDollar / 10, CacheWrite: 375 * perDollar / 100,
	LongAbove: 200_000,
	Long:      Rates{Input: 6 * perDollar, Output: 225 * perDollar / 10, CachedInput: 6 * perDollar / 10, CacheWrite: 75 * perDollar / 10},
}

// sonnetByHour is sonnet with a price for caches that last an hour.
var sonnetByHour = func() Price {
	p := sonnet
	p.CacheWriteHour, p.Long.CacheWriteHour = 6*perDollar, 12*perDollar
	return p
}()

// audio is a price with audio apart, byTier one with a priority tier, and
// twoSteps one that rises twice.
var (
	audio = Price{Input: 25 * perDollar / 10, CachedInput: 125 * perDollar / 100, CacheWrite: 25 * perDollar / 10, Output: 10 * perDollar,
		AudioInput: 40 * perDollar, CachedAudio: 25 * perDollar / 10, AudioOutput: 80 * perDollar}
	byTier   = Price{Input: 3 * perDollar, Tiers: NewTiers(map[string]Price{"priority": {Input: 6 * perDollar}, "flex": {Input: perDollar}})}
	twoSteps = Price{Input: perDollar, LongAbove: 100_000, Long: Rates{Input: 2 * perDollar}, LongerAbove: 250_000, Longer: Rates{Input: 4 * perDollar}}
)

// Whatever the tier, kinds and number of tokens, a request's worst case at the
// highest price covers its cost.
func TestHighestCoversEveryTier(t *testing.T) {
	rate := rapid.Int64Range(0, 20*perDollar)
	tokens := rapid.Int64Range(0, 400_000)
	rates := rapid.Custom(func(t *rapid.T) Rates {
		return Rates{Input: rate.Draw(t, "in"), Output: rate.Draw(t, "out"), CachedInput: rate.Draw(t, "cached"), CacheWrite: rate.Draw(t, "write"),
			CacheWriteHour: rate.Draw(t, "hour"), AudioInput: rate.Draw(t, "audio in"), AudioOutput: rate.Draw(t, "audio out"), CachedAudio: rate.Draw(t, "cached audio")}
	})
	price := rapid.Custom(func(t *rapid.T) (p Price) {
		p.set(rates.Draw(t, "short"))
		if steps := rapid.IntRange(0, 2).Draw(t, "steps"); steps > 0 {
			p.LongAbove, p.Long = rapid.Int64Range(1, 200_000).Draw(t, "above"), rates.Draw(t, "long")
			if steps > 1 {
				p.LongerAbove, p.Longer = p.LongAbove+tokens.Draw(t, "further"), rates.Draw(t, "longer")
			}
		}
		p.PerRequest = rate.Draw(t, "request")
		return p
	})
	rapid.Check(t, func(t *rapid.T) {
		p := price.Draw(t, "price")
		p.Tiers = NewTiers(map[string]Price{"flex": price.Draw(t, "flex"), "priority": price.Draw(t, "priority")})
		u := Usage{Input: tokens.Draw(t, "input"), Output: tokens.Draw(t, "output"), Tier: rapid.SampledFrom([]string{"", "flex", "priority", "fast"}).Draw(t, "tier")}
		rest := u.Input
		for _, part := range []*int64{&u.CachedInput, &u.CacheWrite, &u.AudioInput} {
			*part = rapid.Int64Range(0, rest).Draw(t, "part")
			rest -= *part
		}
		u.CacheWriteHour = rapid.Int64Range(0, u.CacheWrite).Draw(t, "hour")
		u.CachedAudio = rapid.Int64Range(0, u.CachedInput).Draw(t, "cached audio")
		u.AudioOutput = rapid.Int64Range(0, u.Output).Draw(t, "audio out")
		if cost, most := p.Cost(u), p.Highest().WorstCase(u.Input, u.Output); cost > most {
			t.Fatalf("%+v costs %s, more than the worst case %s", u, cost, most)
		}
	})
}

func TestCost(t *testing.T) {
	for _, tt := range []struct {
		name   string
		price  Price
		tokens Usage
		want   Nanodollars
	}{
		{"nothing", sonnet, Usage{}, 0},
		// 1,000 × $3 + 500 × $15 per million = $0.003 + $0.0075
		{"input and output", sonnet, Usage{Input: 1000, Output: 500}, 10_500_000},
		// 2,000 plain × $3 + 8,000 cached × $0.30 + 100 × $15 = $0.006 + $0.0024 + $0.0015
		{"a cached read is part of the input", sonnet, Usage{Input: 10_000, CachedInput: 8000, Output: 100}, 9_900_000},
		// 1,000 plain × $3 + 4,000 written × $3.75 + 5,000 cached × $0.30 = $0.003 + $0.015 + $0.0015
		{"a cache write is part of the input", sonnet, Usage{Input: 10_000, CachedInput: 5000, CacheWrite: 4000}, 19_500_000},
		// 200,000 × $3 + 1,000 × $15 = $0.6 + $0.015
		{"at the step the lower price holds", sonnet, Usage{Input: 200_000, Output: 1000}, 615_000_000},
		// 200,001 × $6 + 1,000 × $22.50 = $1.200006 + $0.0225
		{"above the step all tokens cost more", sonnet, Usage{Input: 200_001, Output: 1000}, 1_222_506_000},
		// 250,000 cached × $0.60 + 1,000 plain × $6 = $0.15 + $0.006
		{"cached tokens count towards the step", sonnet, Usage{Input: 251_000, CachedInput: 250_000}, 156_000_000},
		// 3 × 0.0375 nano-dollars = 0.1125
		{"a part of a nano-perDollar is a whole one", FlatPrice(37_500, 0), Usage{Input: 3}, 1},
		// 1 × 0.5 + 1 × 0.5 nano-dollars: each rounded alone would be 2
		{"rounded once, not per kind of token", Price{Input: 500_000, Output: 500_000}, Usage{Input: 1, Output: 1}, 1},
		{"a flat price knows no caches", FlatPrice(2*perDollar, 8*perDollar), Usage{Input: 1000, CachedInput: 600, CacheWrite: 400}, 2_000_000},
		// 1,000 plain × $3 + 3,000 for minutes × $3.75 + 6,000 for an hour × $6 = $0.003 + $0.01125 + $0.036
		{"a cache that lasts an hour costs more", sonnetByHour, Usage{Input: 10_000, CacheWrite: 9000, CacheWriteHour: 6000}, 50_250_000},
		{"as much as any, where no more is known", sonnet, Usage{Input: 4000, CacheWrite: 4000, CacheWriteHour: 4000}, 15_000_000},
		// 400,000 for an hour × $12
		{"above the step, too", sonnetByHour, Usage{Input: 400_000, CacheWrite: 400_000, CacheWriteHour: 500_000}, 4_800_000_000},
		{"negative counts are none", sonnet, Usage{Input: -5, Output: -5, CachedInput: -5, CacheWrite: -5, CacheWriteHour: -5}, 0},
		// 300 cached × $0.30 + 200 written × $3.75 = $0.00009 + $0.00075
		{"parts above the whole are charged", sonnet, Usage{Input: 100, CachedInput: 300, CacheWrite: 200}, 840_000},
		{"no overflow", Price{Input: math.MaxInt64, Output: math.MaxInt64, CachedInput: math.MaxInt64, CacheWrite: math.MaxInt64},
			Usage{Input: math.MaxInt64, Output: math.MaxInt64, CachedInput: math.MaxInt64, CacheWrite: math.MaxInt64, CacheWriteHour: math.MaxInt64, Searches: math.MaxInt64}, math.MaxInt64},
		// 1,000 text × $2.50 + 600 audio × $40 + 400 of it from the cache × $2.50 + 200 text × $10 + 300 audio × $80
		{"audio has rates of its own", audio, Usage{Input: 2000, CachedInput: 400, AudioInput: 1000, CachedAudio: 400, Output: 500, AudioOutput: 300}, 2_500_000 + 24_000_000 + 1_000_000 + 2_000_000 + 24_000_000},
		// 3 searches × $0.01 + one request × $0.005
		{"searches and requests are charged each", Price{PerSearch: perDollar / 100, PerRequest: perDollar / 200}, Usage{Searches: 3}, 35_000_000},
		{"a service tier by its name", byTier, Usage{Input: 1000, Tier: "Priority"}, 6_000_000},
		{"the standard tier has many names", byTier, Usage{Input: 1000, Tier: "on_demand"}, 3_000_000},
		{"a tier without a price costs what the dearest does", byTier, Usage{Input: 1000, Tier: "warp"}, 6_000_000},
		{"a second step", twoSteps, Usage{Input: 300_000}, 300_000 * 4000},
		{"below the second step", twoSteps, Usage{Input: 200_000}, 200_000 * 2000},
		{"just below the largest", FlatPrice(1_000_000, 0), Usage{Input: 1 << 59}, 1 << 59},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.price.Cost(tt.tokens); got != tt.want {
				t.Errorf("Cost(%+v) = %d, want %d", tt.tokens, int64(got), int64(tt.want))
			}
		})
	}
}

func TestWorstCase(t *testing.T) {
	for _, tt := range []struct {
		name          string
		price         Price
		input, output int64
		want          Nanodollars
	}{
		// 1,000 × $3.75 + 500 × $15
		{"all input might be written to the cache", sonnet, 1000, 500, 11_250_000},
		// 200,001 × $7.50 + 1,000 × $22.50
		{"a long request", sonnet, 200_001, 1000, 1_522_507_500},
		{"a price that falls with length is not counted on", Price{Input: 2 * perDollar, LongAbove: 10, Long: Rates{Input: perDollar}}, 20, 0, 40_000},
		{"nothing", sonnet, 0, 0, 0},
		{"negative bounds are none", sonnet, -1, -1, 0},
		{"no overflow", FlatPrice(math.MaxInt64, math.MaxInt64), math.MaxInt64, math.MaxInt64, math.MaxInt64},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.price.WorstCase(tt.input, tt.output); got != tt.want {
				t.Errorf("WorstCase(%d, %d) = %d, want %d", tt.input, tt.output, int64(got), int64(tt.want))
			}
		})
	}
}

// anyPrice draws prices of every order of magnitude, long ones included.
func anyPrice(t *rapid.T) Price {
	rate := rapid.OneOf(rapid.Int64Range(0, 100*perDollar), rapid.Int64Range(0, 10), rapid.Int64Range(0, math.MaxInt64))
	draw := func(name string) Rates {
		return Rates{Input: rate.Draw(t, name+" input"), Output: rate.Draw(t, name+" output"),
			CachedInput: rate.Draw(t, name+" cached"), CacheWrite: rate.Draw(t, name+" write"), CacheWriteHour: rate.Draw(t, name+" write for an hour")}
	}
	r := draw("short")
	p := Price{Input: r.Input, Output: r.Output, CachedInput: r.CachedInput, CacheWrite: r.CacheWrite, CacheWriteHour: r.CacheWriteHour}
	if rapid.Bool().Draw(t, "has a step") {
		p.LongAbove, p.Long = rapid.Int64Range(1, 300_000).Draw(t, "above"), draw("long")
	}
	return p
}

var anyCount = rapid.OneOf(rapid.Int64Range(0, 400_000), rapid.Int64Range(0, 3), rapid.Int64Range(0, 1<<60))

func TestWorstCaseBoundsEveryCost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrice(t)
		input, output := anyCount.Draw(t, "most input"), anyCount.Draw(t, "most output")
		used := Usage{Input: rapid.Int64Range(0, input).Draw(t, "input"), Output: rapid.Int64Range(0, output).Draw(t, "output")}
		used.CachedInput = rapid.Int64Range(0, used.Input).Draw(t, "cached")
		used.CacheWrite = rapid.Int64Range(0, used.Input-used.CachedInput).Draw(t, "written")
		if rapid.Bool().Draw(t, "for an hour") {
			used.CacheWriteHour = rapid.Int64Range(0, used.CacheWrite).Draw(t, "written for an hour")
		} else {
			p = p.WithoutHour()
		}
		if cost, worst := p.Cost(used), p.WorstCase(input, output); cost > worst {
			t.Fatalf("Cost(%+v) = %d > WorstCase(%d, %d) = %d for %+v", used, int64(cost), input, output, int64(worst), p)
		}
	})
}

func TestCostIsTheExactSumRoundedUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrice(t)
		used := Usage{CachedInput: rapid.Int64Range(0, 1<<50).Draw(t, "cached"), CacheWrite: rapid.Int64Range(0, 1<<50).Draw(t, "written"), Output: anyCount.Draw(t, "output")}
		plain := rapid.Int64Range(0, 1<<50).Draw(t, "plain")
		used.CacheWriteHour = rapid.Int64Range(0, used.CacheWrite).Draw(t, "written for an hour")
		used.Input = plain + used.CachedInput + used.CacheWrite
		r := p.short()
		if p.LongAbove > 0 && used.Input > p.LongAbove {
			r = p.Long
		}
		want := new(big.Int)
		for _, part := range [][2]int64{{r.Input, plain}, {r.CachedInput, used.CachedInput}, {r.CacheWrite, used.CacheWrite - used.CacheWriteHour},
			{max(r.CacheWrite, r.CacheWriteHour), used.CacheWriteHour}, {r.Output, used.Output}} {
			want.Add(want, new(big.Int).Mul(big.NewInt(part[0]), big.NewInt(part[1])))
		}
		want.Add(want, big.NewInt(999_999)).Div(want, big.NewInt(1_000_000))
		if !want.IsInt64() {
			want.SetInt64(math.MaxInt64)
		}
		if got := p.Cost(used); int64(got) != want.Int64() {
			t.Fatalf("Cost(%+v) = %d, want %s for %+v", used, int64(got), want, p)
		}
	})
}

func TestAffordableOutputIsTheMostThatFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := anyPrice(t)
		input := anyCount.Draw(t, "input")
		limit := Nanodollars(rapid.Int64Range(0, math.MaxInt64-1).Draw(t, "limit"))
		switch got := p.AffordableOutput(input, limit); {
		case got < 0:
			if p.WorstCase(input, 0) <= limit {
				t.Fatalf("AffordableOutput(%d, %d) = %d, but the input costs %d", input, limit, got, p.WorstCase(input, 0))
			}
		case p.WorstCase(input, got) > limit:
			t.Fatalf("AffordableOutput(%d, %d) = %d, which costs %d", input, limit, got, p.WorstCase(input, got))
		case got < math.MaxInt64 && p.WorstCase(input, got+1) <= limit:
			t.Fatalf("AffordableOutput(%d, %d) = %d, but %d fit", input, limit, got, got+1)
		}
	})
}

func TestBlended(t *testing.T) {
	// (3 × $1 + $5) / 4
	if got := FlatPrice(perDollar, 5*perDollar).Blended(); got != 2 {
		t.Errorf("Blended() = %v, want 2", got)
	}
}

func BenchmarkCost(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sonnet.Cost(Usage{Input: 12_345, Output: 678, CachedInput: 9000, CacheWrite: 100})
	}
}

func BenchmarkWorstCase(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		sonnet.WorstCase(12_345, 4096)
	}
}
