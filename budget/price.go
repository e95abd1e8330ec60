package budget

import (
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
	// LongAbove is the number of input tokens, cached ones included, above
	// which the whole request is charged at Long: every token of it, the
	// output too, not only those beyond. 0 means that there is no such step.
	LongAbove int64
	Long      Rates
	// Source says where the price comes from: "config", or the table's name
	// with its date and the entry that matched.
	Source string
}

// Rates are the prices of a request above Price.LongAbove, in the same unit.
type Rates struct {
	Input          int64
	Output         int64
	CachedInput    int64
	CacheWrite     int64
	CacheWriteHour int64
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

// Tokens are the tokens of one upstream call. Input includes CachedInput and
// CacheWrite, which includes CacheWriteHour.
type Tokens struct {
	Input          int64
	Output         int64
	CachedInput    int64
	CacheWrite     int64
	CacheWriteHour int64
}

// Cost is the price of t, rounded up once, to a nano-dollar. Negative counts
// are taken as 0. Where the parts of the input exceed the whole, as in a broken
// usage report, the parts are charged. A cost too large for Nanodollars is the
// largest there is.
func (p Price) Cost(t Tokens) Nanodollars {
	cached, write := count(t.CachedInput), count(t.CacheWrite)
	hour := min(count(t.CacheWriteHour), write)
	plain := max(0, count(t.Input)-cached-write)
	rates := p.short()
	if p.LongAbove > 0 && plain+cached+write > p.LongAbove {
		rates = p.Long
	}
	var sum wide
	sum.add(rates.Input, plain)
	sum.add(rates.CachedInput, cached)
	sum.add(rates.CacheWrite, write-hour)
	sum.add(max(rates.CacheWrite, rates.CacheWriteHour), hour)
	sum.add(rates.Output, count(t.Output))
	return sum.perMillion()
}

// WithoutHour is the price of requests that write to no cache that lasts an
// hour, whose worst case is lower.
func (p Price) WithoutHour() Price {
	p.CacheWriteHour, p.Long.CacheWriteHour = 0, 0
	return p
}

// WorstCase is the most that a call with at most so many input and output
// tokens can cost, whatever part of its input is read from or written to a
// cache: no less than Cost of any Tokens within these bounds.
func (p Price) WorstCase(inputTokens, outputTokens int64) Nanodollars {
	input, output := p.dearest(inputTokens)
	var sum wide
	sum.add(input, inputTokens)
	sum.add(output, outputTokens)
	return sum.perMillion()
}

// AffordableOutput is the largest number of output tokens whose WorstCase,
// with so many input tokens, is at most limit; -1 when the input alone exceeds
// it. math.MaxInt64 means that no number would.
func (p Price) AffordableOutput(inputTokens int64, limit Nanodollars) int64 {
	input, output := p.dearest(inputTokens)
	var spent wide
	spent.add(input, inputTokens)
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

// Blended is a single figure to order models by: US dollars per million
// tokens, with three tokens of input to one of output.
func (p Price) Blended() float64 {
	return (3*float64(p.Input) + float64(p.Output)) / 4 / nanosPerDollar
}

func (p Price) short() Rates {
	return Rates{Input: p.Input, Output: p.Output, CachedInput: p.CachedInput, CacheWrite: p.CacheWrite, CacheWriteHour: p.CacheWriteHour}
}

// dearest is the dearest rate of input and of output that a request with at
// most so many input tokens can meet.
func (p Price) dearest(inputTokens int64) (input, output int64) {
	input, output = max(p.Input, p.CachedInput, p.CacheWrite, p.CacheWriteHour), p.Output
	if p.LongAbove > 0 && inputTokens > p.LongAbove {
		input = max(input, p.Long.Input, p.Long.CachedInput, p.Long.CacheWrite, p.Long.CacheWriteHour)
		output = max(output, p.Long.Output)
	}
	return input, output
}

const perMillion = 1_000_000

// count keeps a number of tokens, as reported by an upstream, where sums of a
// few cannot overflow. No call has 2^60 tokens.
func count(tokens int64) int64 { return min(max(0, tokens), 1<<60) }

// wide is a sum of rates times tokens, in millionths of a nano-dollar. The five
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
