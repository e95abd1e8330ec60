package config

import (
	"fmt"
	"strings"

	"github.com/inference-router/inference-router/budget"
)

// priceOf is what the upstream's calls are billed at: the configured price,
// else the built-in table's. A price that neither knows is never taken for
// zero: the dearest one that could be meant is billed, and guessed says so, as
// it does where the table only has a model with a similar name.
func priceOf(u *Upstream) (p budget.Price, guessed string) {
	listed, known := budget.LookupPrice(u.Provider, u.Model)
	switch {
	case u.Price != nil:
		return configuredPrice(u, listed, known), ""
	case known && listed.Guess:
		return listed, fmt.Sprintf("the price table does not have this model, only %s: billed at its price, a guess; confirm it, or set another, with %s", entryOf(listed), confirmation(listed))
	case known:
		return listed, ""
	case providers[u.Provider].local:
		return budget.Price{Source: "free (" + u.Provider + ")"}, ""
	}
	if p, ok := budget.DearestPrice(u.Provider); ok {
		return p, fmt.Sprintf("no price is known for this model: billed at the dearest of %s; set price", u.Provider)
	}
	for _, other := range providerNames() {
		if q, ok := budget.DearestPrice(other); ok && q.Blended() > p.Blended() {
			p = q
		}
	}
	return p, fmt.Sprintf("no price is known for %s: billed at the dearest of all providers; set price, with zeros where it is free", u.Provider)
}

// entryOf names the table's entry that a price was taken from.
func entryOf(p budget.Price) string {
	_, entry, _ := strings.Cut(p.Source, ": ")
	return entry
}

// confirmation is the key `price` with which the configuration would bill what
// p bills for text. Caches are written at the table's rate anyway.
func confirmation(p budget.Price) string {
	text := fmt.Sprintf("price: {input: %s, output: %s", budget.Nanodollars(p.Input).USD(), budget.Nanodollars(p.Output).USD())
	if p.CachedInput != p.Input {
		text += ", cached_input: " + budget.Nanodollars(p.CachedInput).USD()
	}
	return text + "}"
}

// configuredPrice fills in what the configuration left out.
func configuredPrice(u *Upstream, listed budget.Price, known bool) budget.Price {
	base := budget.Price{}
	if known {
		base.CacheWrite, base.PerSearch, base.PerRequest = listed.CacheWrite, listed.PerSearch, listed.PerRequest
		base.AudioInput, base.AudioOutput, base.CachedAudio = listed.AudioInput, listed.AudioOutput, listed.CachedAudio
	}
	p := u.Price.over(base, u)
	p.Source = "config"
	switch {
	case listed.Tiers != nil:
		p = p.WithTiersOf(listed)
	case u.Provider == "openai" || u.Provider == "azure":
		p = p.WithTierFactors(budget.OpenAITierFactors())
	}
	plain := p
	plain.Tiers = nil
	for name, t := range u.Price.Tiers {
		if t.Price != nil {
			p = p.WithTier(name, t.Price.over(plain, u))
			continue
		}
		q, _ := plain.WithTierFactors(map[string]float64{name: t.Factor}).At(name)
		p = p.WithTier(name, q)
	}
	return p
}

// over is the price with what it leaves out of cache writes, audio and fees
// taken from another. What cached input costs follows from input.
func (p *Price) over(base budget.Price, u *Upstream) budget.Price {
	input := int64(*p.Input)
	q := base
	q.Input, q.Output, q.CachedInput = input, 0, input
	q.CacheWriteHour = budget.HourWrite(u.Provider, u.Model, input)
	if q.CacheWrite == 0 {
		q.CacheWrite = input
	}
	for field, configured := range map[*int64]*USD{
		&q.Output: p.Output, &q.CachedInput: p.CachedInput, &q.CacheWrite: p.CacheWrite, &q.CacheWriteHour: p.CacheWriteHour,
		&q.AudioInput: p.AudioInput, &q.AudioOutput: p.AudioOutput, &q.PerSearch: p.PerSearch, &q.PerRequest: p.PerRequest,
	} {
		if configured != nil {
			*field = int64(*configured)
		}
	}
	if p.AudioInput != nil {
		q.CachedAudio = q.AudioInput
	}
	return q
}
