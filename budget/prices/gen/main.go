// Command gen makes the embedded price table from the data file of
// github.com/pydantic/genai-prices (prices/data.json there). To refresh it:
//
//	go run ./budget/prices/gen -in data.json -date 2026-11-10 -out budget/prices/prices.json
//
// where -date is the day of the file's state. The table holds the prices valid
// on that day and the changes announced for later days; what went before is
// left out, as are providers the router has no name for and fields it does not
// use, such as prices of batch jobs. Where a price depends on the time of day the dearest is taken. Models
// are left out, with a note on standard error, when their price is not one of
// tokens or lacks a part that a chat would be charged for.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// providers are the ids, in the data file, of those the router has a name for.
var providers = []string{"anthropic", "aws", "azure", "deepseek", "fireworks", "google", "groq", "mistral", "moonshotai",
	"openai", "openrouter", "together", "x-ai"}

func main() {
	in := flag.String("in", "", "genai-prices' data `file`")
	out := flag.String("out", "budget/prices/prices.json", "the table to write")
	date := flag.String("date", "", "the day of the data's state, `YYYY-MM-DD`")
	flag.Parse()
	if err := run(*in, *out, *date); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(in, out, date string) error {
	if _, err := time.Parse(time.DateOnly, date); err != nil {
		return fmt.Errorf("-date: %w", err)
	}
	data, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var all []source
	if err := json.Unmarshal(data, &all); err != nil {
		return fmt.Errorf("%s: %w", in, err)
	}
	table := map[string]provider{}
	for _, s := range all {
		if slices.Contains(providers, s.ID) {
			if table[s.ID], err = compile(s, date); err != nil {
				return err
			}
		}
	}
	for _, id := range providers {
		if _, ok := table[id]; !ok {
			return fmt.Errorf("%s: no provider %s", in, id)
		}
	}
	text, err := write(table, date)
	if err != nil {
		return err
	}
	return os.WriteFile(out, text, 0o644)
}

// source is a provider in the data file.
type source struct {
	ID       string   `json:"id"`
	Fallback []string `json:"fallback_model_providers"`
	Models   []struct {
		ID       string          `json:"id"`
		Match    rule            `json:"match"`
		Context  int64           `json:"context_window"`
		Prices   json.RawMessage `json:"prices"`
		Variants []variant       `json:"price_variants"`
	} `json:"models"`
}

// provider, model, price and rule are the table's shape; package budget reads it.
type provider struct {
	Fallback []string `json:"fallback,omitempty"`
	Models   []model  `json:"models"`
}

type model struct {
	ID      string   `json:"id"`
	Equals  []string `json:"equals,omitempty"` // lower case
	Match   []rule   `json:"match,omitempty"`
	Context int64    `json:"context,omitempty"`
	price
	Then []change `json:"then,omitempty"`
}

type change struct {
	From string `json:"from"`
	price
}

// price is in US dollars per million tokens.
type price struct {
	rates
	Steps      []step           `json:"steps,omitempty"` // ascending
	PerSearch  json.Number      `json:"per_search,omitempty"`
	PerRequest json.Number      `json:"per_request,omitempty"`
	Tiers      map[string]price `json:"tiers,omitempty"` // by service tier
}

// step holds the rates of requests with more than so many input tokens.
type step struct {
	Above int64 `json:"above"`
	rates
}

type rates struct {
	Input          json.Number `json:"input"`
	Output         json.Number `json:"output"`
	CachedInput    json.Number `json:"cached_input,omitempty"`
	CacheWrite     json.Number `json:"cache_write,omitempty"`
	CacheWriteHour json.Number `json:"cache_write_1h,omitempty"`
	AudioInput     json.Number `json:"audio_input,omitempty"`
	AudioOutput    json.Number `json:"audio_output,omitempty"`
	CachedAudio    json.Number `json:"cached_audio,omitempty"`
}

type rule struct {
	Equals     string `json:"equals,omitempty"`
	StartsWith string `json:"starts_with,omitempty"`
	EndsWith   string `json:"ends_with,omitempty"`
	Contains   string `json:"contains,omitempty"`
	Regex      string `json:"regex,omitempty"`
	Or         []rule `json:"or,omitempty"`
	And        []rule `json:"and,omitempty"`
	Not        *rule  `json:"not,omitempty"`
}

func compile(s source, date string) (provider, error) {
	p := provider{Fallback: s.Fallback}
	for _, m := range s.Models {
		compiled := model{ID: m.ID, Context: m.Context}
		if err := compiled.match(m.Match); err != nil {
			return p, fmt.Errorf("%s/%s: %w", s.ID, m.ID, err)
		}
		reason, err := compiled.prices(m.Prices, m.Variants, date)
		if err != nil {
			return p, fmt.Errorf("%s/%s: %w", s.ID, m.ID, err)
		}
		if reason != "" {
			fmt.Fprintf(os.Stderr, "left out %s/%s: %s\n", s.ID, m.ID, reason)
			continue
		}
		p.Models = append(p.Models, compiled)
	}
	return p, nil
}

// match splits a rule into whole names, which are looked up, and the rest.
func (m *model) match(r rule) error {
	alternatives := []rule{r}
	if len(r.Or) > 0 {
		alternatives = r.Or
	}
	for _, a := range alternatives {
		if a.Equals != "" {
			m.Equals = append(m.Equals, strings.ToLower(a.Equals))
			continue
		}
		lower, err := lowerCase(a)
		if err != nil {
			return err
		}
		m.Match = append(m.Match, lower)
	}
	return nil
}

// escape finds what means something else in lower case, such as \D.
var escape = regexp.MustCompile(`\\[A-Z]`)

// lowerCase prepares a rule for names in lower case.
func lowerCase(r rule) (rule, error) {
	if escape.MatchString(r.Regex) {
		return r, fmt.Errorf("regex %q with an escaped capital letter", r.Regex)
	}
	r.Regex = strings.ToLower(r.Regex)
	if rest, ok := strings.CutPrefix(r.Regex, "^(?!.*"); ok && strings.HasSuffix(rest, ")") {
		// Go has no lookahead. This one, at the start and nothing after it,
		// says that the rest is nowhere in the name.
		inner, err := lowerCase(rule{Regex: strings.TrimSuffix(rest, ")")})
		return rule{Not: &inner}, err
	}
	if _, err := regexp.Compile(r.Regex); err != nil {
		return r, err
	}
	for _, text := range []*string{&r.Equals, &r.StartsWith, &r.EndsWith, &r.Contains} {
		*text = strings.ToLower(*text)
	}
	var err error
	for _, list := range [][]rule{r.Or, r.And} {
		for i := range list {
			if list[i], err = lowerCase(list[i]); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// write puts every model on a line of its own, so that the changes of a
// refresh can be read.
func write(table map[string]provider, date string) ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, `{"source": "pydantic/genai-prices", "licence": "MIT, copyright Pydantic Services Inc.", "date": %q,`+"\n"+`"providers": {`, date)
	for i, id := range slices.Sorted(maps.Keys(table)) {
		if i > 0 {
			b.WriteString(",")
		}
		p := table[id]
		fallback, err := json.Marshal(append([]string{}, p.Fallback...))
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "\n%q: {\"fallback\": %s, \"models\": [", id, fallback)
		for j, m := range p.Models {
			line, err := json.Marshal(m)
			if err != nil {
				return nil, err
			}
			if j > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, "\n%s", line)
		}
		b.WriteString("\n]}")
	}
	b.WriteString("\n}}\n")
	return []byte(b.String()), nil
}
