package budget

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
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
	PriceDate = "2026-11-10"
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
// A geography the table does not name is priced as a regional profile.
// OpenRouter's ":free" models cost nothing. Prices of batch jobs and of images
// as such are not in the table.
func LookupPrice(provider, model string) (Price, bool) {
	return LookupPriceAt(provider, model, time.Now())
}

// LookupPriceAt is LookupPrice for another day. For days before PriceDate it
// gives the price of that date; changes announced by then for later are known.
func LookupPriceAt(provider, model string, at time.Time) (Price, bool) {
	if provider == "openrouter" && strings.HasSuffix(strings.ToLower(model), ":free") {
		return Price{Source: "free (OpenRouter's :free)"}, true
	}
	e, id, name := find(provider, model)
	if e == nil {
		return Price{}, false
	}
	p := e.at(at, provider, id+"/"+e.ID)
	p.Guess = !e.isNamed(name)
	return p, true
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
	var dearest Price
	now := time.Now()
	for i := range c.Models {
		p := c.Models[i].at(now, provider, "").Highest()
		top := p.short().atLeast(p.Long).atLeast(p.Longer)
		dearest.set(dearest.short().atLeast(top))
		dearest.PerSearch, dearest.PerRequest = max(dearest.PerSearch, p.PerSearch), max(dearest.PerRequest, p.PerRequest)
	}
	dearest.Source = fmt.Sprintf("%s %s: model unknown, dearest of %s", PriceSource, PriceDate, id)
	return dearest, true
}

// ContextWindow is the most tokens a model takes, by the same table; 0 when
// it does not say.
func ContextWindow(provider, model string) int64 {
	if e, _, _ := find(provider, model); e != nil {
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

// find returns the entry of a model, the id of the catalogue it is in and the
// name it was found by, nil when there is none.
func find(provider, model string) (e *entry, id, name string) {
	id = tableID(provider)
	c := loadCatalogue(id)
	if c == nil {
		return nil, "", ""
	}
	names := []string{model}
	if provider == "bedrock" {
		names = bedrockNames(model)
	}
	for _, name := range names {
		name = strings.ToLower(name)
		if e := c.find(name); e != nil {
			return e, id, name
		}
		for _, other := range c.Fallback {
			if e := loadCatalogue(other).find(name); e != nil {
				return e, other, name
			}
		}
	}
	return nil, "", ""
}

// geography is a Bedrock id of a cross-region inference profile, with any
// geography before VENDOR.MODEL: us.anthropic.claude-…, us-gov., global., or one
// that is yet to come. In deepseek.v3.2 there is none.
var geography = regexp.MustCompile(`^[a-z]{2,8}(?:-[a-z]+)?\.([a-z][a-z0-9]{2,}\.)`)

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
	bare := geography.ReplaceAllString(model, "$1")
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
	Steps []struct { // ascending, two at most
		Above int64 `json:"above"`
		listedRates
	} `json:"steps"`
	PerSearch  usd               `json:"per_search"`  // US dollars each
	PerRequest usd               `json:"per_request"` // US dollars each
	Tiers      map[string]listed `json:"tiers"`
}

type listedRates struct {
	Input          *usd `json:"input"`
	Output         *usd `json:"output"`
	CachedInput    *usd `json:"cached_input"`
	CacheWrite     *usd `json:"cache_write"`
	CacheWriteHour *usd `json:"cache_write_1h"`
	AudioInput     usd  `json:"audio_input"`
	AudioOutput    usd  `json:"audio_output"`
	CachedAudio    usd  `json:"cached_audio"`
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
	Not        *rule    `json:"not"`
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
	case r.Not != nil:
		return !r.Not.matches(name)
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
	p := l.price(provider, e.ID)
	p.Source = PriceSource + " " + PriceDate + ": " + name
	if len(l.Tiers) > 0 {
		tiers := make(map[string]Price, len(l.Tiers))
		for tier, t := range l.Tiers {
			q := t.price(provider, e.ID)
			q.Source = p.Source + ", " + tier
			tiers[tier] = q
		}
		p.Tiers = NewTiers(tiers)
	}
	return p
}

// price is the listed price without its tiers.
func (l *listed) price(provider, id string) Price {
	p := Price{PerSearch: int64(l.PerSearch), PerRequest: int64(l.PerRequest)}
	p.set(l.rates(provider, id))
	for i := range l.Steps {
		s := &l.Steps[i]
		if i == 0 {
			p.LongAbove, p.Long = s.Above, s.rates(provider, id)
		} else {
			p.LongerAbove, p.Longer = s.Above, s.rates(provider, id)
		}
	}
	return p
}

// rates fills in what is not listed: caches cost what other input does.
func (l *listedRates) rates(provider, id string) Rates {
	input := int64(*l.Input)
	r := Rates{Input: input, Output: int64(*l.Output), CachedInput: input, CacheWrite: input,
		CacheWriteHour: HourWrite(provider, id, input),
		AudioInput:     int64(l.AudioInput), AudioOutput: int64(l.AudioOutput), CachedAudio: int64(l.CachedAudio)}
	if l.CachedInput != nil {
		r.CachedInput = int64(*l.CachedInput)
	}
	if l.CacheWrite != nil {
		r.CacheWrite = int64(*l.CacheWrite)
	}
	if l.CacheWriteHour != nil {
		r.CacheWriteHour = int64(*l.CacheWriteHour)
	}
	return r
}

// edition is what providers append to a model's name without making it another
// model: a date, a revision, "latest".
var edition = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^(?:[-@](?:latest|preview|default|\d{8}|\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{2}-\d{2}|\d{4}|\d{3}|v\d+)|:\d+k?)*$`)
})

// isNamed reports whether name, in lower case, is one of the entry's own, with
// or without an edition, and not only one that begins like it.
func (e *entry) isNamed(name string) bool {
	is := func(known string) bool {
		rest, ok := strings.CutPrefix(name, strings.ToLower(known))
		return ok && edition().MatchString(rest)
	}
	return is(e.ID) || slices.ContainsFunc(e.Equals, is) || slices.ContainsFunc(e.Match, func(r rule) bool { return r.names(name) })
}

// names reports whether the rule holds name by more than its beginning.
func (r *rule) names(name string) bool {
	switch {
	case strings.HasPrefix(r.StartsWith, "ft:"): // a fine-tuned model's name ends in its owner's words
		return r.matches(name)
	case r.StartsWith != "" || r.Contains != "":
		at := strings.Index(name, r.StartsWith+r.Contains)
		return at >= 0 && edition().MatchString(name[at+len(r.StartsWith+r.Contains):])
	case r.Regex != nil:
		return strings.HasSuffix(r.Regex.String(), "$") && r.matches(name)
	case len(r.Or) > 0:
		return slices.ContainsFunc(r.Or, func(r rule) bool { return r.names(name) })
	case len(r.And) > 0:
		return slices.ContainsFunc(r.And, func(r rule) bool { return r.names(name) })
	case r.Not != nil:
		return false
	}
	return r.matches(name)
}
