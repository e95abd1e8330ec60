package translate

import (
	"math/big"
	"strconv"
	"strings"

	"github.com/tidwall/gjson"
)

// What an answer tells of its cost beside counts of tokens.

// tierName is a service tier as an answer names it, fit to be looked up. What
// leaves the choice open tells nothing.
func tierName(s string) string {
	const most = 32
	if s = strings.ToLower(s); s == "auto" || len(s) > most {
		return ""
	}
	return strings.Clone(s)
}

// messagesExtras reads the web searches and the speed from a usage object of
// the Messages API (platform.claude.com/docs, web search and fast mode). Its
// service tiers all have the plain price: priority is paid by commitment.
func messagesExtras(usage gjson.Result) (searches int64, speed string) {
	searches, _ = tokenCount(usage.Get("server_tool_use.web_search_requests"))
	return searches, tierName(usage.Get("speed").Str)
}

// responsesSearches counts the calls of a response that searched the web.
// Opening a page or looking for text in one is not a search.
func responsesSearches(response gjson.Result) (n int64) {
	response.Get("output").ForEach(func(_, item gjson.Result) bool {
		action := item.Get("action.type").Str
		if item.Get("type").Str == "web_search_call" && (action == "" || action == "search") {
			n++
		}
		return true
	})
	return n
}

// reportedCost reads what a usage object says the call cost, in nano-dollars:
// OpenRouter's cost, and with the client's own key what the provider bills
// beside it (openrouter.ai/docs, usage accounting); Perplexity's
// cost.total_cost. False where it says nothing, or what cannot be.
func reportedCost(usage gjson.Result) (int64, bool) {
	cost := usage.Get("cost")
	if cost.IsObject() {
		cost = cost.Get("total_cost")
	}
	if !cost.Exists() || cost.Type != gjson.Number {
		return 0, false
	}
	n, ok := nanoDollars(cost.Raw)
	if own := usage.Get("cost_details.upstream_inference_cost"); ok && usage.Get("is_byok").Bool() && own.Type == gjson.Number {
		more, known := nanoDollars(own.Raw)
		n, ok = n+more, known
	}
	return n, ok
}

// mostDollars is the most that one call is believed to cost.
const mostDollars = 1e6

// nanoDollars reads a JSON number of US dollars, rounding up.
func nanoDollars(text string) (int64, bool) {
	f, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil || len(text) > 64 || f < 0 || f > mostDollars:
		return 0, false
	case f == 0:
		return 0, true
	case f < 1e-9: // big.Rat would work out any power of ten
		return 1, true
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		return 0, false
	}
	n := new(big.Int).Mul(r.Num(), big.NewInt(1e9))
	n.Add(n, new(big.Int).Sub(r.Denom(), big.NewInt(1)))
	return n.Quo(n, r.Denom()).Int64(), true
}
