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
	c := u.Price
	input := int64(*c.Input)
	p := budget.FlatPrice(input, 0)
	p.CacheWriteHour = budget.HourWrite(u.Provider, u.Model, input)
	p.Source = "config"
	if known {
		p.CacheWrite = listed.CacheWrite
	}
	for field, configured := range map[*int64]*USD{&p.Output: c.Output, &p.CachedInput: c.CachedInput, &p.CacheWrite: c.CacheWrite} {
		if configured != nil {
			*field = int64(*configured)
		}
	}
	return p
}
