package config

import (
	"strings"
	"testing"
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
