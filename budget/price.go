package budget

import (
	"maps"
	"math"
	"math/bits"
	"strings"
)

// Price is what a model costs, in nano-dollars per million tokens. A rate of 0
// is free: what has no price of its own must be set to the input's, as
// FlatPrice does.
type Price struct {
	Input       int64
	Output      int64
	CachedInput int64 // input tokens read from the provider's cache
	CacheWrite  int64 // input tokens written to it
	// CacheWriteHour is for tokens written to a cache that lasts an hour. 0, or
	// anything below CacheWrite, means CacheWrite.
	CacheWriteHour int64
	// Audio tokens, where they have rates of their own; 0 means that they cost
	// what other tokens of their direction do.
	AudioInput  int64
	AudioOutput int64
	CachedAudio int64
	// LongAbove is the number of input tokens, cached ones included, above
	// which the whole request is charged at Long: every token of it, the
	// output too, not only those beyond. 0 means that there is no such step.
	LongAbove int64
	Long      Rates
	// LongerAbove and Longer are a second such step, above the first.
	LongerAbove int64
	Longer      Rates
	PerSearch   int64 // nano-dollars for each web search
	PerRequest  int64 // nano-dollars for each request
	// Tiers are the prices at other service tiers and speeds; nil when none
	// is known.
	Tiers *Tiers
	// Guess says that the table has no entry for this very model but only one
	// whose name it begins with, such as an earlier version's.
	Guess bool
	// Source says where the price comes from: "config", or the table's name
	// with its date and the entry that matched.
	Source string
}

// Tiers are prices by service tier (flex, priority, ...) or speed (fast). They
// are not changed once made, so that prices can be copied.
type Tiers struct{ byName map[string]Price }

// NewTiers makes Tiers of a map, which is the caller's no longer. An empty map
// makes nil.
func NewTiers(byName map[string]Price) *Tiers {
	if len(byName) == 0 {
		return nil
	}
	return &Tiers{byName}
}

// StandardTier reports whether a service tier, as a request or an answer names
// it, is the one of
// the plain price. Anthropic and Groq have their own words.
func StandardTier(name string) bool {
	switch strings.ToLower(name) {
	case "", "default", "standard", "standard_only", "on_demand":
		return true
	}
	return false
}

// At is the price at a service tier or speed, by its name, and whether that is
// known. Where it is not known it is the dearest of the model's prices.
func (p Price) At(tier string) (Price, bool) {
	if StandardTier(tier) {
		return p, true
	}
	if p.Tiers != nil {
		if q, ok := p.Tiers.byName[strings.ToLower(tier)]; ok {
			return q, true
		}
	}
	return p.Highest(), false
}

// Highest is no less than the price at any service tier, rate by rate. A
// request that leaves the tier to the provider is held by it.
func (p Price) Highest() Price {
	if p.Tiers == nil {
		return p
	}
	high := p
	for _, q := range p.Tiers.byName {
		high = high.atLeast(q)
	}
	return high
}

// UpTo is no less than the price at the standard tier and at the one named: what
// a request for that tier can cost, as providers fall back to the standard one.
func (p Price) UpTo(tier string) Price {
	q, _ := p.At(tier)
	return p.atLeast(q)
}

// KnowsTier reports whether At knows the price of a tier.
func (p Price) KnowsTier(tier string) bool {
	_, known := p.At(tier)
	return known
}

// WithTiersOf gives p the tiers that listed has, each as many times as dear as
// it is there: what the provider's list says of a model whose plain price is
// p by other means.
func (p Price) WithTiersOf(listed Price) Price {
	if listed.Tiers == nil {
		return p
	}
	factors := make(map[string]float64, len(listed.Tiers.byName))
	for name, q := range listed.Tiers.byName {
		var factor float64
		for _, rates := range [][2]int64{{q.Input, listed.Input}, {q.Output, listed.Output}} {
			if rates[1] > 0 {
				factor = max(factor, float64(rates[0])/float64(rates[1]))
			}
		}
		factors[name] = factor
	}
	return p.WithTierFactors(factors)
}

// WithTierFactors gives p tiers at which every token costs so many times as
// much as at the standard one; searches and requests cost the same. The factors
// must not be negative.
func (p Price) WithTierFactors(factors map[string]float64) Price {
	tiers := make(map[string]Price, len(factors))
	for name, factor := range factors {
		q := p
		q.Tiers = nil
		q.set(q.short().times(factor))
		q.Long, q.Longer = q.Long.times(factor), q.Longer.times(factor)
		tiers[strings.ToLower(name)] = q
	}
	p.Tiers = NewTiers(tiers)
	return p
}

// times is each rate times factor, rounded up.
func (r Rates) times(factor float64) Rates {
	for _, rate := range []*int64{&r.Input, &r.Output, &r.CachedInput, &r.CacheWrite, &r.CacheWriteHour, &r.AudioInput, &r.AudioOutput, &r.CachedAudio} {
		*rate = int64(min(math.Ceil(float64(*rate)*factor-1e-6), 1<<62))
	}
	return r
}

// OpenAITierFactors are how many times as much OpenAI's service tiers cost as
// the standard one, for a model whose own prices are not known: flex is half of
// it for every listed model, and priority, also called fast, twice for most
// (openai.com/api/pricing; the built-in table has from 1.67 to 2.5).
func OpenAITierFactors() map[string]float64 {
	return map[string]float64{"flex": 0.5, "priority": 2, "fast": 2}
}

// atLeast raises p's rates to q's where those are higher.
func (p Price) atLeast(q Price) Price {
	if q.LongAbove > 0 && (p.LongAbove == 0 || q.LongAbove < p.LongAbove) || q.LongerAbove > 0 && p.LongerAbove != q.LongerAbove {
		// Steps that do not coincide: the dearest of all, from the lowest on.
		above := q.LongAbove
		if p.LongAbove > 0 {
			above = min(p.LongAbove, max(q.LongAbove, 1))
		}
		top := p.short().atLeast(p.Long).atLeast(p.Longer).atLeast(q.Long).atLeast(q.Longer)
		p.LongAbove, p.Long, p.LongerAbove, p.Longer = above, top, 0, Rates{}
	}
	p.set(p.short().atLeast(q.short()))
	if p.LongAbove > 0 {
		p.Long = p.Long.atLeast(q.short()).atLeast(q.Long)
	}
	if p.LongerAbove > 0 {
		p.Longer = p.Longer.atLeast(q.short()).atLeast(q.Long).atLeast(q.Longer)
	}
	p.PerSearch, p.PerRequest = max(p.PerSearch, q.PerSearch), max(p.PerRequest, q.PerRequest)
	return p
}

// Rates are the prices of a request above a step, in the same unit.
type Rates struct {
	Input          int64
	Output         int64
	CachedInput    int64
	CacheWrite     int64
	CacheWriteHour int64
	AudioInput     int64
	AudioOutput    int64
	CachedAudio    int64
}

// atLeast is the higher of each rate.
func (r Rates) atLeast(q Rates) Rates {
	audio := func(a, plainA, b, plainB int64) int64 {
		if a == 0 && b == 0 {
			return 0
		}
		return max(or(a, plainA), or(b, plainB))
	}
	return Rates{
		Input: max(r.Input, q.Input), Output: max(r.Output, q.Output), CachedInput: max(r.CachedInput, q.CachedInput),
		CacheWrite: max(r.CacheWrite, q.CacheWrite), CacheWriteHour: max(r.CacheWriteHour, q.CacheWriteHour),
		AudioInput:  audio(r.AudioInput, r.Input, q.AudioInput, q.Input),
		AudioOutput: audio(r.AudioOutput, r.Output, q.AudioOutput, q.Output),
		CachedAudio: audio(r.CachedAudio, or(r.AudioInput, r.CachedInput), q.CachedAudio, or(q.AudioInput, q.CachedInput)),
	}
}

// HourWrite is the rate of input tokens written to a cache that lasts an hour,
// for a model whose input costs that much; 0 where there is no such rate.
// Claude's is twice the input's (platform.claude.com/docs, prompt caching), and
// nobody else has one. Bedrock's application inference profiles may be Claude's.
func HourWrite(provider, model string, input int64) int64 {
	model = strings.ToLower(model)
	if provider == "anthropic" || strings.Contains(model, "claude") || strings.Contains(model, ":application-inference-profile/") {
		return 2 * input
	}
	return 0
}

// FlatPrice is the price of a model without a price list for caching or long
// requests, where all input costs the same. The rates are in nano-dollars per
// million tokens.
func FlatPrice(input, output int64) Price {
	return Price{Input: input, Output: output, CachedInput: input, CacheWrite: input}
}

// Usage is what one upstream call used. Input includes CachedInput, CacheWrite
// (which includes CacheWriteHour) and AudioInput; CachedInput includes
// CachedAudio, and Output AudioOutput.
type Usage struct {
	Input          int64
	Output         int64
	CachedInput    int64
	CacheWrite     int64
	CacheWriteHour int64
	AudioInput     int64
	AudioOutput    int64
	CachedAudio    int64
	Searches       int64
	Tier           string // the service tier or speed it was served at; "" is the standard one
}

// Cost is the price of u, rounded up once, to a nano-dollar. Negative counts
// are taken as 0. Where the parts of a count exceed the whole, as in a broken
// usage report, the parts are charged. A tier whose price is unknown costs
// what Highest does. A cost too large for Nanodollars is the largest there is.
func (p Price) Cost(u Usage) Nanodollars {
	p, _ = p.At(u.Tier)
	write := count(u.CacheWrite)
	hour := min(count(u.CacheWriteHour), write)
	audioOut := count(u.AudioOutput)
	cachedAudio := count(u.CachedAudio)
	cached := max(count(u.CachedInput), cachedAudio)
	audioIn := max(0, count(u.AudioInput)-cachedAudio)
	plain := max(0, count(u.Input)-cached-write-audioIn)
	rates := p.ratesAt(plain + cached + write + audioIn)
	var sum wide
	sum.add(rates.Input, plain)
	sum.add(or(rates.AudioInput, rates.Input), audioIn)
	sum.add(rates.CachedInput, cached-cachedAudio)
	sum.add(or(rates.CachedAudio, or(rates.AudioInput, rates.CachedInput)), cachedAudio)
	sum.add(rates.CacheWrite, write-hour)
	sum.add(max(rates.CacheWrite, rates.CacheWriteHour), hour)
	sum.add(rates.Output, max(0, count(u.Output)-audioOut))
	sum.add(or(rates.AudioOutput, rates.Output), audioOut)
	sum.add(p.PerSearch, calls(u.Searches))
	sum.add(p.PerRequest, perMillion)
	return sum.perMillion()
}

// or is rate, or other where rate is not set.
func or(rate, other int64) int64 {
	if rate == 0 {
		return other
	}
	return rate
}

// WithoutHour is the price of requests that write to no cache that lasts an
// hour, whose worst case is lower.
func (p Price) WithoutHour() Price {
	p.CacheWriteHour, p.Long.CacheWriteHour, p.Longer.CacheWriteHour = 0, 0, 0
	return p
}

// WithoutAudio is the price of requests with no audio in or out, whose worst
// case is lower.
func (p Price) WithoutAudio() Price {
	for _, r := range []*Rates{&p.Long, &p.Longer} {
		r.AudioInput, r.AudioOutput, r.CachedAudio = 0, 0, 0
	}
	p.AudioInput, p.AudioOutput, p.CachedAudio = 0, 0, 0
	return p
}

// WorstCase is the most that a call at the standard tier with at most so many
// input and output tokens and no searches can cost, whatever kinds its tokens
// are: no less than Cost of any such Usage within these bounds. For another
// tier ask At, or Highest, first.
func (p Price) WorstCase(inputTokens, outputTokens int64) Nanodollars {
	input, output := p.dearest(inputTokens)
	var sum wide
	sum.add(input, inputTokens)
	sum.add(output, outputTokens)
	sum.add(p.PerRequest, perMillion)
	return sum.perMillion()
}

// AffordableOutput is the largest number of output tokens whose WorstCase,
// with so many input tokens, is at most limit; -1 when the input alone exceeds
// it. math.MaxInt64 means that no number would.
func (p Price) AffordableOutput(inputTokens int64, limit Nanodollars) int64 {
	input, output := p.dearest(inputTokens)
	var spent wide
	spent.add(input, inputTokens)
	spent.add(p.PerRequest, perMillion)
	if limit < 0 || spent.perMillion() > limit {
		return -1
	}
	if output <= 0 {
		return math.MaxInt64
	}
	// Rounding up to a nano-dollar keeps within limit exactly when the
	// unrounded sum does.
	var room wide
	room.add(int64(limit), perMillion)
	low, borrow := bits.Sub64(room.low, spent.low, 0)
	high, _ := bits.Sub64(room.high, spent.high, borrow)
	if high >= uint64(output) {
		return math.MaxInt64
	}
	tokens, _ := bits.Div64(high, low, uint64(output))
	return int64(min(tokens, math.MaxInt64))
}

// WithTier gives p the price q at one more service tier, or at that tier instead
// of another.
func (p Price) WithTier(name string, q Price) Price {
	tiers := map[string]Price{}
	if p.Tiers != nil {
		maps.Copy(tiers, p.Tiers.byName)
	}
	q.Tiers = nil
	tiers[strings.ToLower(name)] = q
	p.Tiers = NewTiers(tiers)
	return p
}

// Blended is a single figure to order models by: US dollars per million
// tokens, with three tokens of input to one of output.
func (p Price) Blended() float64 {
	return (3*float64(p.Input) + float64(p.Output)) / 4 / nanosPerDollar
}

func (p Price) short() Rates {
	return Rates{Input: p.Input, Output: p.Output, CachedInput: p.CachedInput, CacheWrite: p.CacheWrite, CacheWriteHour: p.CacheWriteHour,
		AudioInput: p.AudioInput, AudioOutput: p.AudioOutput, CachedAudio: p.CachedAudio}
}

// set makes r the rates below the first step.
func (p *Price) set(r Rates) {
	p.Input, p.Output, p.CachedInput, p.CacheWrite, p.CacheWriteHour = r.Input, r.Output, r.CachedInput, r.CacheWrite, r.CacheWriteHour
	p.AudioInput, p.AudioOutput, p.CachedAudio = r.AudioInput, r.AudioOutput, r.CachedAudio
}

// ratesAt are the rates of a request with so many input tokens.
func (p Price) ratesAt(inputTokens int64) Rates {
	switch {
	case p.LongerAbove > 0 && inputTokens > p.LongerAbove:
		return p.Longer
	case p.LongAbove > 0 && inputTokens > p.LongAbove:
		return p.Long
	}
	return p.short()
}

// dearest is the dearest rate of input and of output that a request with at
// most so many input tokens can meet.
func (p Price) dearest(inputTokens int64) (input, output int64) {
	top := p.short()
	if p.LongAbove > 0 && inputTokens > p.LongAbove {
		top = top.atLeast(p.Long)
	}
	if p.LongerAbove > 0 && inputTokens > p.LongerAbove {
		top = top.atLeast(p.Longer)
	}
	return max(top.Input, top.CachedInput, top.CacheWrite, top.CacheWriteHour, top.AudioInput, top.CachedAudio), max(top.Output, top.AudioOutput)
}

const perMillion = 1_000_000

// count keeps a number of tokens, as reported by an upstream, where sums of a
// few cannot overflow. No call has 2^60 tokens.
func count(tokens int64) int64 { return min(max(0, tokens), 1<<60) }

// calls is a number of calls in the unit of wide's sums.
func calls(n int64) int64 { return min(max(0, n), 1<<40) * perMillion }

// wide is a sum of rates times tokens, in millionths of a nano-dollar. The ten
// products of a cost always fit into its 128 bits, whatever the factors.
type wide struct{ high, low uint64 }

func (w *wide) add(rate, tokens int64) {
	if rate <= 0 || tokens <= 0 {
		return
	}
	high, low := bits.Mul64(uint64(rate), uint64(tokens))
	var carry uint64
	w.low, carry = bits.Add64(w.low, low, 0)
	w.high, _ = bits.Add64(w.high, high, carry)
}

// perMillion divides by a million, rounding up.
func (w wide) perMillion() Nanodollars {
	low, carry := bits.Add64(w.low, perMillion-1, 0)
	high := w.high + carry
	if high >= perMillion {
		return math.MaxInt64
	}
	cost, _ := bits.Div64(high, low, perMillion)
	return Nanodollars(min(cost, math.MaxInt64))
}
