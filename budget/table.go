package budget

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// The built-in prices are those of github.com/pydantic/genai-prices, under the
// MIT licence, copyright Pydantic Services Inc. (prices/LICENSE), made by
// prices/gen.
const (
	// PriceSource names where the built-in prices come from.
	PriceSource = "pydantic/genai-prices"
	// PriceDate is the day of their state.
	PriceDate = "2026-08-21"
)

//go:embed prices/prices.json
var priceTable []byte

// LookupPrice returns what a provider charges for a model today, from the
// built-in table. provider is a name of the configuration, such as bedrock;
// model is what the provider is sent, letter case aside. It returns false when
// the table does not know the provider or the model: the price is then
// unknown, never zero.
//
// Bedrock's regional inference profiles (us., eu., ...) have prices of their
// own, 10 % above the global one for the newer Claude models; a bare model id
// has the regional price. ARNs of foundation models and of AWS' own inference
// profiles are understood; that of an application inference profile hides the
// model.
//
// The table has one price per model and not, for instance, that of a priority
// tier, of audio, or of a region with a surcharge.
func LookupPrice(provider, model string) (Price, bool) {
	return LookupPriceAt(provider, model, time.Now())
}

// LookupPriceAt is LookupPrice for another day. For days before PriceDate it
// gives the price of that date; changes announced by then for later are known.
func LookupPriceAt(provider, model string, at time.Time) (Price, bool) {
	e, id := find(provider, model)
	if e == nil {
		return Price{}, false
	}
	return e.at(at, provider, id+"/"+e.ID), true
}

// DearestPrice is for a model that LookupPrice does not know: no model of the
// provider in the table costs more, whatever the kind of token. It returns
// false when the table does not know the provider.
func DearestPrice(provider string) (Price, bool) {
	id := tableID(provider)
	c := loadCatalogue(id)
	if c == nil {
		return Price{}, false
	}
	var dearest Rates
	now := time.Now()
	for i := range c.Models {
		p := c.Models[i].at(now, provider, "")
		for _, r := range []Rates{p.short(), p.Long} {
			dearest.Input = max(dearest.Input, r.Input)
			dearest.Output = max(dearest.Output, r.Output)
			dearest.CachedInput = max(dearest.CachedInput, r.CachedInput)
			dearest.CacheWrite = max(dearest.CacheWrite, r.CacheWrite)
			dearest.CacheWriteHour = max(dearest.CacheWriteHour, r.CacheWriteHour)
		}
	}
	return Price{
		Input: dearest.Input, Output: dearest.Output, CachedInput: dearest.CachedInput,
		CacheWrite: dearest.CacheWrite, CacheWriteHour: dearest.CacheWriteHour,
		Source: fmt.Sprintf("%s %s: model unknown, dearest of %s", PriceSource, PriceDate, id),
	}, true
}

// ContextWindow is the most tokens a model takes, by the same table; 0 when
// it does not say.
func ContextWindow(provider, model string) int64 {
	if e, _ := find(provider, model); e != nil {
		return e.Context
	}
	return 0
}

// tableID is the table's name for a provider of the configuration, "" when it
// has none: deepinfra, ollama, vllm and simulated are such.
func tableID(provider string) string {
	switch provider {
	case "bedrock":
		return "aws"
	case "gemini":
		return "google"
	case "xai":
		return "x-ai"
	case "anthropic", "azure", "deepseek", "fireworks", "groq", "mistral", "openai", "openrouter", "together":
		return provider
	}
	return ""
}

// find returns the entry of a model and the id of the catalogue it is in, nil
// when there is none.
func find(provider, model string) (e *entry, id string) {
	id = tableID(provider)
	c := loadCatalogue(id)
	if c == nil {
		return nil, ""
	}
	names := []string{model}
	if provider == "bedrock" {
		names = bedrockNames(model)
	}
	for _, name := range names {
		name = strings.ToLower(name)
		if e := c.find(name); e != nil {
			return e, id
		}
		for _, other := range c.Fallback {
			if e := loadCatalogue(other).find(name); e != nil {
				return e, other
			}
		}
	}
	return nil, ""
}

// geographies are the prefixes of Bedrock's cross-region inference profiles.
var geographies = []string{"us.", "eu.", "apac.", "jp.", "au.", "us-gov.", "ca.", "global."}

// bedrockNames lists what a Bedrock model may be called in the table, the best
// first: as it is given, without its geography, and as a regional profile,
// whose price is never below the global one.
func bedrockNames(model string) []string {
	if strings.HasPrefix(model, "arn:") {
		// arn:PARTITION:bedrock:REGION:ACCOUNT:TYPE/ID
		parts := strings.SplitN(model, ":", 6)
		if len(parts) < 6 || parts[2] != "bedrock" {
			return nil
		}
		kind, id, _ := strings.Cut(parts[5], "/")
		if kind != "foundation-model" && kind != "inference-profile" {
			return nil
		}
		model = id
	}
	bare := model
	for _, g := range geographies {
		if rest, ok := strings.CutPrefix(model, g); ok {
			bare = rest
			break
		}
	}
	return []string{model, bare, "us." + bare}
}

// catalogue is a provider in the table.
type catalogue struct {
	Fallback []string `json:"fallback"` // other catalogues that apply where this has no entry
	Models   []entry  `json:"models"`

	byName   map[string]int // index into Models, by an id or another whole name in lower case
	patterns []int          // indices of the models that have rules
}

// entry is a model in the table.
type entry struct {
	ID      string   `json:"id"`
	Equals  []string `json:"equals"`
	Match   []rule   `json:"match"`
	Context int64    `json:"context"`
	listed
	Then []struct { // in the order of their dates
		From string `json:"from"` // YYYY-MM-DD, UTC
		listed
	} `json:"then"`
}

// listed is a price as the table has it, in US dollars per million tokens.
type listed struct {
	listedRates
	Above int64        `json:"above"`
	Long  *listedRates `json:"long"`
}

type listedRates struct {
	Input       *usd `json:"input"`
	Output      *usd `json:"output"`
	CachedInput *usd `json:"cached_input"`
	CacheWrite  *usd `json:"cache_write"`
}

// usd is a decimal of US dollars, held in nano-dollars.
type usd int64

// UnmarshalJSON reads the decimal exactly.
func (u *usd) UnmarshalJSON(data []byte) error {
	n, err := ParsePrice(string(data))
	*u = usd(n)
	return err
}

// rule says which names mean a model: the one field that is set does.
type rule struct {
	Equals     string   `json:"equals"`
	StartsWith string   `json:"starts_with"`
	EndsWith   string   `json:"ends_with"`
	Contains   string   `json:"contains"`
	Regex      *pattern `json:"regex"`
	Or         []rule   `json:"or"`
	And        []rule   `json:"and"`
}

type pattern struct{ *regexp.Regexp }

// UnmarshalText compiles the pattern.
func (p *pattern) UnmarshalText(text []byte) (err error) {
	p.Regexp, err = regexp.Compile(string(text))
	return err
}

// catalogues holds the table's catalogues as they stand in it. Each is read
// when it is first asked for: nobody uses them all, and start-up is to be quick.
var catalogues = sync.OnceValue(func() map[string]func() *catalogue {
	var table struct {
		Providers map[string]json.RawMessage `json:"providers"`
	}
	if err := json.Unmarshal(priceTable, &table); err != nil {
		panic("embedded price table: " + err.Error()) // a test reads all of it
	}
	all := make(map[string]func() *catalogue, len(table.Providers))
	for id, text := range table.Providers {
		all[id] = sync.OnceValue(func() *catalogue {
			c, err := readCatalogue(text)
			if err != nil {
				panic("embedded price table: " + id + ": " + err.Error())
			}
			return c
		})
	}
	return all
})

// loadCatalogue returns nil when the table has no such catalogue.
func loadCatalogue(id string) *catalogue {
	if load, ok := catalogues()[id]; ok {
		return load()
	}
	return nil
}

func readCatalogue(text []byte) (*catalogue, error) {
	c := &catalogue{}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, err
	}
	c.byName = make(map[string]int, 2*len(c.Models))
	for i, e := range c.Models {
		c.byName[strings.ToLower(e.ID)] = i
		if len(e.Match) > 0 {
			c.patterns = append(c.patterns, i)
		}
	}
	for i, e := range c.Models {
		for _, name := range e.Equals {
			if _, ok := c.byName[name]; !ok {
				c.byName[name] = i
			}
		}
	}
	return c, nil
}

// find returns the entry that name, in lower case, means, or nil. An id means
// its own entry; apart from that the first entry that matches counts.
func (c *catalogue) find(name string) *entry {
	if c == nil {
		return nil
	}
	first, ok := c.byName[name]
	if ok && strings.ToLower(c.Models[first].ID) == name {
		return &c.Models[first]
	}
	if !ok {
		first = len(c.Models)
	}
	for _, i := range c.patterns {
		if i >= first {
			break
		}
		if matchesAny(c.Models[i].Match, name) {
			return &c.Models[i]
		}
	}
	if ok {
		return &c.Models[first]
	}
	return nil
}

func matchesAny(rules []rule, name string) bool {
	for i := range rules {
		if rules[i].matches(name) {
			return true
		}
	}
	return false
}

func (r *rule) matches(name string) bool {
	switch {
	case r.Equals != "":
		return name == r.Equals
	case r.StartsWith != "":
		return strings.HasPrefix(name, r.StartsWith)
	case r.EndsWith != "":
		return strings.HasSuffix(name, r.EndsWith)
	case r.Contains != "":
		return strings.Contains(name, r.Contains)
	case r.Regex != nil:
		return r.Regex.MatchString(name)
	case len(r.Or) > 0:
		return matchesAny(r.Or, name)
	}
	for i := range r.And {
		if !r.And[i].matches(name) {
			return false
		}
	}
	return len(r.And) > 0
}

// at is the entry's price on the day of t, in UTC.
func (e *entry) at(t time.Time, provider, name string) Price {
	l := e.listed
	day := t.UTC().Format(time.DateOnly)
	for _, next := range e.Then {
		if next.From <= day {
			l = next.listed
		}
	}
	rates := l.rates()
	p := Price{
		Input: rates.Input, Output: rates.Output, CachedInput: rates.CachedInput,
		CacheWrite: rates.CacheWrite, CacheWriteHour: HourWrite(provider, e.ID, rates.Input),
		Source: PriceSource + " " + PriceDate + ": " + name,
	}
	if l.Long != nil {
		p.LongAbove, p.Long = l.Above, l.Long.rates()
		p.Long.CacheWriteHour = HourWrite(provider, e.ID, p.Long.Input)
	}
	return p
}

// rates fills in what is not listed: caches cost what other input does.
func (l *listedRates) rates() Rates {
	input := int64(*l.Input)
	r := Rates{Input: input, Output: int64(*l.Output), CachedInput: input, CacheWrite: input}
	if l.CachedInput != nil {
		r.CachedInput = int64(*l.CachedInput)
	}
	if l.CacheWrite != nil {
		r.CacheWrite = int64(*l.CacheWrite)
	}
	return r
}
