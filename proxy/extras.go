package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/translate"
)

// extras are what a request asks for that is not charged as plain tokens: a
// service tier or speed, spoken answers, searches of the web. They are noted at
// the request's beginning, for its text is let go of. Each value is the member's
// JSON, "" where there is none.
type extras map[string]string

// Request fields that change what a call costs.
const (
	fieldTier       = "service_tier"
	fieldSpeed      = "speed" // Anthropic's fast mode
	fieldModalities = "modalities"
	fieldAudio      = "audio"
	fieldSearch     = "web_search_options"
	fieldPlugins    = "plugins" // OpenRouter's
	fieldTools      = "tools"
)

func extrasOf(r *translate.Request) extras {
	var e extras
	for _, name := range []string{fieldTier, fieldSpeed, fieldModalities, fieldAudio, fieldSearch, fieldPlugins, fieldTools} {
		raw := r.Raw(name)
		if raw == nil || name == fieldTools && !asksSearch(raw) {
			continue
		}
		if e == nil {
			e = extras{}
		}
		e[name] = string(raw)
	}
	return e
}

// asksSearch reports whether some tool of a request is the provider's search of
// the web, which is called web_search with or without a version.
func asksSearch(tools []byte) bool {
	found := false
	gjson.ParseBytes(tools).ForEach(func(_, tool gjson.Result) bool {
		found = isSearchTool(tool)
		return !found
	})
	return found
}

func isSearchTool(tool gjson.Result) bool {
	kind := tool.Get("type").Str
	return strings.HasPrefix(kind, "web_search") || kind == "openrouter:web_search"
}

// at is the member as it reaches d, where the operator replaces, drops or fills
// it in.
func (e extras) at(d *deployment, name string) gjson.Result {
	if v, ok := d.Set[name]; ok {
		return gjson.Parse(v)
	}
	raw := e[name]
	if raw == "" || raw == "null" {
		return gjson.Parse(d.Default[name])
	}
	if slices.Contains(d.Drop, name) {
		return gjson.Result{}
	}
	return gjson.Parse(raw)
}

// tier is the service tier or speed that a call of d asks for, "" for the
// standard one. A tier left to the provider is the standard one, unless the
// price list has another price for that. Anthropic's service tiers all have the
// plain price: priority is paid by commitment.
func (e extras) tier(d *deployment) string {
	if speed := e.at(d, fieldSpeed).Str; !budget.StandardTier(speed) {
		return strings.ToLower(speed)
	}
	tier := strings.ToLower(e.at(d, fieldTier).Str)
	if d.Provider == "anthropic" || budget.StandardTier(tier) || tier == "auto" && !d.Price.KnowsTier(tier) {
		return ""
	}
	return tier
}

// speaks reports whether a call of d asks for a spoken answer.
func (e extras) speaks(d *deployment) bool {
	spoken := e.at(d, fieldAudio).IsObject()
	e.at(d, fieldModalities).ForEach(func(_, m gjson.Result) bool {
		spoken = spoken || m.Str == "audio"
		return !spoken
	})
	return spoken
}

// openSearches is how many searches are reserved for a request that lets the
// model search without a limit of its own.
const openSearches = 10

// mostSearches is how many searches of the web are reserved for a call of d.
func (e extras) mostSearches(d *deployment) (n int64) {
	e.at(d, fieldTools).ForEach(func(_, tool gjson.Result) bool {
		if isSearchTool(tool) {
			n += openSearches
			if uses := tool.Get("max_uses"); uses.Type == gjson.Number {
				n += min(max(0, uses.Int()), 1000) - openSearches
			}
		}
		return true
	})
	if e.at(d, fieldPlugins).Get(`#(id=="web")`).Exists() {
		n++
	}
	return n + e.leastSearches(d)
}

// leastSearches is how many searches a call of d makes whatever the answer tells
// of them: OpenAI's chat completions report none, and search once where asked to
// (developers.openai.com, web search).
func (e extras) leastSearches(d *deployment) int64 {
	if e.at(d, fieldSearch).IsObject() {
		return 1
	}
	return 0
}

// unpriced is the request field that makes a call of d cost what nobody has a
// price for; "" when there is none. What is free is free in every way, and an
// upstream that reports its cost needs no list.
func (p *purse) unpriced(d *deployment) string {
	switch e, free := p.extras, d.Price.WorstCase(1e6, 1e6) == 0; {
	case free || d.CostReported:
		return ""
	case !d.Price.KnowsTier(e.tier(d)):
		if !budget.StandardTier(e.at(d, fieldSpeed).Str) {
			return fieldSpeed
		}
		return fieldTier
	case d.Price.AudioOutput == 0 && e.speaks(d):
		return fieldModalities
	case d.Price.PerSearch == 0 && e.mostSearches(d) > 0:
		for _, name := range []string{fieldSearch, fieldPlugins} {
			if e.at(d, name).Exists() {
				return name
			}
		}
		return fieldTools
	}
	return ""
}

// mustBePriced refuses a request that d would charge for by a price that nobody
// knows, where a budget is exact.
func (p *purse) mustBePriced(d *deployment) error {
	if !p.hard {
		return nil
	}
	field := p.unpriced(d)
	if field == "" {
		return nil
	}
	return &refusal{Status: http.StatusBadRequest, Type: typeInvalid, Code: "price_unknown", Param: field, NoRetry: true,
		Message: "no price is known for what " + field + " asks of " + d.Name + ", and your budget is exact: leave " + field +
			" out, or have the operator configure its price, or params: {drop: [" + field + "]}"}
}
