package config

import (
	"math"
	"strings"
	"testing"

	"github.com/inference-router/inference-router/budget"
)

// parse reads a configuration of one upstream, given as a flow mapping's
// inside, and of what else there is.
func parse(upstream, rest string) (*Config, error) {
	return Parse("config.yaml", []byte("tiers: {fast: [{"+upstream+"}]}\n"+rest), func(string) (string, bool) { return "", false })
}

const rejecting = "budgets: [{scope: user, usd: 1, on_exhausted: reject}]\n"

func TestPriceOfASimilarNameIsAGuess(t *testing.T) {
	for _, tt := range []struct{ upstream, confirm string }{
		{"provider: anthropic, model: claude-3-5-haiku-turbo, api_key: k", "anthropic/claude-3-5-haiku-latest"},
		{"provider: mistral, model: magistral-medium-ultra, api_key: k", "mistral/magistral-medium"},
	} {
		c, err := parse(tt.upstream, "")
		if err != nil {
			t.Errorf("%s: %v", tt.upstream, err)
			continue
		}
		u := c.Tiers[0].Upstreams[0]
		guesses := c.Guesses()
		if len(guesses) != 1 || !u.Billed.Guess || !strings.Contains(guesses[0].String(), tt.confirm) {
			t.Errorf("%s: billed %+v, guesses %q, want one by %s", tt.upstream, u.Billed, guesses, tt.confirm)
			continue
		}
		_, err = parse(tt.upstream, rejecting)
		if err == nil || !strings.Contains(err.Error(), "tiers.fast[0].price: ") {
			t.Errorf("%s, with a budget that rejects: %v, want an error", tt.upstream, err)
			continue
		}
		// What the message shows is accepted, and bills the same.
		_, confirm, _ := strings.Cut(err.Error(), "price: {")
		confirm, _, _ = strings.Cut(confirm, "}")
		c, err = parse(tt.upstream+", price: {"+confirm+"}", rejecting)
		if err != nil {
			t.Errorf("%s with %q: %v", tt.upstream, confirm, err)
			continue
		}
		got := c.Tiers[0].Upstreams[0].Billed
		if got.Input != u.Billed.Input || got.Output != u.Billed.Output || got.CachedInput != u.Billed.CachedInput || got.CacheWrite != u.Billed.CacheWrite {
			t.Errorf("%s: confirmed with %q, bills %+v, want %+v", tt.upstream, confirm, got, u.Billed)
		}
	}
}

func TestPricesOfTheTableAreNoGuesses(t *testing.T) {
	for _, upstream := range []string{
		"provider: openai, model: gpt-5, api_key: k",
		"provider: openai, model: gpt-4o-2024-08-06, api_key: k",
		"provider: anthropic, model: claude-sonnet-4-5-20250929, api_key: k",
		"provider: bedrock, model: 'us.anthropic.claude-haiku-4-5-20251001-v1:0', region: us-east-1",
		"provider: openai, model: 'ft:gpt-4o-mini-2024-07-18:our-company::A1b2', api_key: k",
		"provider: groq, model: llama-3.3-70b-versatile, api_key: k",
	} {
		if c, err := parse(upstream, rejecting); err != nil || len(c.Guesses()) > 0 {
			t.Errorf("%s: %v, guesses %q, want a price that is certain", upstream, err, c.Guesses())
		}
	}
}

func TestConfiguredPrices(t *testing.T) {
	const upstream = "provider: openai, model: my-model, api_key: k, price: "
	million := budget.Usage{Input: 1e6, Output: 1e6}
	at := func(tier string, u budget.Usage) budget.Usage { u.Tier = tier; return u }
	for name, tt := range map[string]struct {
		price string
		usage budget.Usage
		want  float64 // US dollars
	}{
		"text":                                {"{input: 1, output: 10}", million, 11},
		"audio in":                            {"{input: 1, output: 10, audio_input: 7}", budget.Usage{Input: 2e6, AudioInput: 1e6}, 8},
		"cached audio costs what audio does":  {"{input: 1, output: 10, audio_input: 7}", budget.Usage{Input: 1e6, CachedInput: 1e6, CachedAudio: 1e6}, 7},
		"audio out":                           {"{input: 1, output: 10, audio_output: 70}", budget.Usage{Output: 2e6, AudioOutput: 1e6}, 80},
		"a cache of an hour":                  {"{input: 1, output: 10, cache_write_1h: 3}", budget.Usage{Input: 1e6, CacheWrite: 1e6, CacheWriteHour: 1e6}, 3},
		"searches":                            {"{input: 1, output: 10, per_search: 0.01}", budget.Usage{Searches: 3}, 0.03},
		"requests":                            {"{input: 1, output: 10, per_request: 0.005}", budget.Usage{}, 0.005},
		"a factor":                            {"{input: 1, output: 10, tiers: {ultrafast: 2.5}}", at("ultrafast", million), 27.5},
		"a factor leaves fees":                {"{input: 1, output: 10, per_request: 0.5, tiers: {ultrafast: 2.5}}", at("ultrafast", million), 28},
		"a factor counts for audio":           {"{input: 1, output: 10, audio_input: 7, tiers: {ultrafast: 3}}", at("ultrafast", budget.Usage{Input: 1e6, AudioInput: 1e6}), 21},
		"case makes no difference":            {"{input: 1, output: 10, tiers: {Ultrafast: 2}}", at("ULTRAFAST", million), 22},
		"a price":                             {"{input: 1, output: 10, tiers: {flex: {input: 0.25, output: 4}}}", at("flex", million), 4.25},
		"a price leaves fees":                 {"{input: 1, output: 10, per_search: 0.5, tiers: {flex: {input: 0.25, output: 4}}}", at("flex", budget.Usage{Input: 1e6, Output: 1e6, Searches: 1}), 4.75},
		"a price of cached input":             {"{input: 1, output: 10, tiers: {flex: {input: 0.25, output: 4, cached_input: 0.05}}}", at("flex", budget.Usage{Input: 1e6, CachedInput: 1e6}), 0.05},
		"one tier leaves the plain price":     {"{input: 1, output: 10, tiers: {flex: 0.5, priority: 3}}", million, 11},
		"one tier leaves the provider's own":  {"{input: 1, output: 10, tiers: {flex: 0.25}}", at("priority", million), 22},
		"an unknown tier costs the dearest":   {"{input: 1, output: 10, tiers: {flex: 0.25, dear: 4}}", at("other", million), 44},
		"a rate of an odd number is exact up": {"{input: 0.000000003, output: 1, tiers: {flex: 0.5}}", at("flex", budget.Usage{Input: 1e6}), 2e-9},
	} {
		c, err := parse(upstream+tt.price, rejecting)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p := c.Tiers[0].Upstreams[0].Billed
		if got, want := p.Cost(tt.usage), budget.Nanodollars(math.Round(tt.want*1e9)); got != want || p.Source != "config" {
			t.Errorf("%s: cost %s from %q, want %s", name, got, p.Source, want)
		}
	}
}

// A price of one's own is usually a discount: what it leaves out the provider
// charges all the same.
func TestAConfiguredPriceLeavesTheTablesFees(t *testing.T) {
	c, err := parse("provider: anthropic, model: claude-sonnet-4-5, api_key: k, price: {input: 2, output: 10}", "")
	if err != nil {
		t.Fatal(err)
	}
	p := c.Tiers[0].Upstreams[0].Billed
	if p.PerSearch != 10_000_000 || p.Input != 2e9 || p.CacheWrite != 3_750_000_000 || p.CacheWriteHour != 4e9 {
		t.Errorf("billed %+v, want the table's $0.01 a search and 3.75 for cache writes, and 4 for those of an hour", p)
	}
}

func TestPriceProblems(t *testing.T) {
	for price, want := range map[string]string{
		"{input: 1, output: 2, audio_input: 0}":                                      "price.audio_input: want more than 0",
		"{input: 1, output: 2, audio_output: 0}":                                     "price.audio_output: want more than 0",
		"{input: 1, output: 2, per_search: 0}":                                       "price.per_search: want more than 0",
		"{input: 1, output: 2, per_request: -1}":                                     "price.per_request: want an amount of US dollars",
		"{input: 1, output: 2, per_serach: 1}":                                       `price.per_serach: unknown key; did you mean "per_search"?`,
		"{input: 1, output: 2, tiers: {priority: 0}}":                                "price.tiers.priority: want a factor",
		"{input: 1, output: 2, tiers: {priority: 101}}":                              "price.tiers.priority: want a factor",
		"{input: 1, output: 2, tiers: {priority: dear}}":                             "price.tiers.priority: want a number",
		"{input: 1, output: 2, tiers: {default: 2}}":                                 "price.tiers.default: not another tier",
		"{input: 1, output: 2, tiers: {auto: 2}}":                                    "price.tiers.auto: not another tier",
		"{input: 1, output: 2, tiers: {flex: 1, Flex: 2}}":                           "price.tiers.flex: stands twice",
		"{input: 1, output: 2, tiers: {flex: {input: 1}}}":                           "price.tiers.flex: output is missing",
		"{input: 1, output: 2, tiers: {flex: {output: 1}}}":                          "price.tiers.flex: input is missing",
		"{input: 1, output: 2, tiers: {flex: {input: 1, output: 1, tiers: {a: 2}}}}": "price.tiers.flex.tiers: a tier has no tiers",
		"{tiers: {flex: 2}}":                                                         "price: input is missing",
	} {
		if _, err := parse("provider: openai, model: my-model, api_key: k, price: "+price, ""); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", price, err, want)
		}
	}
}
