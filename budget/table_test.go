package budget

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// configured maps the names a configuration may use to the table's.
var configured = map[string]string{
	"bedrock": "aws", "gemini": "google", "xai": "x-ai", "anthropic": "anthropic", "azure": "azure", "deepseek": "deepseek",
	"fireworks": "fireworks", "groq": "groq", "mistral": "mistral", "openai": "openai", "openrouter": "openrouter", "together": "together",
}

// The embedded table must be whole: what is not checked here would be found
// by a user.
func TestPriceTable(t *testing.T) {
	var head struct {
		Source, Licence, Date string
		Providers             map[string]json.RawMessage
	}
	if err := json.Unmarshal(priceTable, &head); err != nil {
		t.Fatal(err)
	}
	if head.Source != PriceSource || head.Date != PriceDate || !strings.Contains(head.Licence, "Pydantic Services Inc.") {
		t.Errorf("table is %s of %s, licence %q, want %s of %s with its licence", head.Source, head.Date, head.Licence, PriceSource, PriceDate)
	}
	if len(head.Providers) != len(configured)+1 { // moonshotai is there for azure
		t.Errorf("table has %d providers, want %d", len(head.Providers), len(configured)+1)
	}
	for provider, id := range configured {
		c := loadCatalogue(id)
		if c == nil || len(c.Models) < 7 {
			t.Fatalf("table has no or few models of %s", id)
		}
		for _, other := range c.Fallback {
			if loadCatalogue(other) == nil {
				t.Errorf("%s falls back to %s, which is not in the table", id, other)
			}
		}
		for i := range c.Models {
			checkEntry(t, provider, id, &c.Models[i])
		}
	}
}

func checkEntry(t *testing.T, provider, id string, e *entry) {
	t.Helper()
	for _, at := range []time.Time{{}, time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC), time.Now(), time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)} {
		p, ok := LookupPriceAt(provider, e.ID, at)
		if want := PriceSource + " " + PriceDate + ": " + id + "/" + e.ID; !ok || p.Source != want {
			t.Errorf("%s/%s resolves to %q, %t, want itself", id, e.ID, p.Source, ok)
		}
		if p.Input < 0 || p.Output < 0 || p.CachedInput < 0 || p.CacheWrite < 0 || p.Input+p.Output == 0 {
			t.Errorf("%s/%s: price %+v is negative or nothing", id, e.ID, p)
		}
		if p.Output == 0 && !strings.Contains(e.ID, "embed") {
			t.Errorf("%s/%s: output is free", id, e.ID)
		}
		if most := int64(1000 * nanosPerDollar); max(p.Input, p.Output, p.CacheWrite, p.Long.Output) > most {
			t.Errorf("%s/%s: price %+v is above $1,000 a million", id, e.ID, p)
		}
		if p.LongAbove < 0 || (p.LongAbove > 0) != (p.Long != Rates{}) || p.LongAbove > 0 && p.Long.Input < p.Input {
			t.Errorf("%s/%s: long price %+v above %d tokens", id, e.ID, p.Long, p.LongAbove)
		}
	}
	for i, next := range e.Then {
		if _, err := time.Parse(time.DateOnly, next.From); err != nil || next.From <= PriceDate || i > 0 && next.From <= e.Then[i-1].From {
			t.Errorf("%s/%s: change on %q, want dates after %s in order", id, e.ID, next.From, PriceDate)
		}
	}
	for _, name := range e.Equals {
		if name != strings.ToLower(name) {
			t.Errorf("%s/%s: name %q is not in lower case", id, e.ID, name)
		}
	}
}

func TestLookupPrice(t *testing.T) {
	for _, tt := range []struct {
		name, provider, model   string
		at                      time.Time
		in, out, cached, write  float64 // US dollars per million tokens
		hour                    float64
		above                   int64
		longIn, longOut, longCR float64
		entry                   string
	}{
		{name: "by its id", provider: "groq", model: "llama-3.3-70b-versatile", in: 0.59, out: 0.79, cached: 0.59, write: 0.59, entry: "groq/llama-3.3-70b-versatile"},
		{name: "letter case aside", provider: "together", model: "meta-llama/llama-3.3-70b-instruct-turbo", in: 0.88, out: 0.88, cached: 0.88, write: 0.88, entry: "together/meta-llama/Llama-3.3-70B-Instruct-Turbo"},
		{name: "a cache price of its own", provider: "openai", model: "gpt-5", in: 1.25, out: 10, cached: 0.125, write: 1.25, entry: "openai/gpt-5"},
		{name: "an exact name before the pattern of a later model", provider: "openai", model: "gpt-4o-mini", in: 0.15, out: 0.6, cached: 0.075, write: 0.15, entry: "openai/gpt-4o-mini"},
		{name: "a dated name by its beginning", provider: "anthropic", model: "claude-haiku-4-5-20251001", in: 1, out: 5, cached: 0.1, write: 1.25, hour: 2, entry: "anthropic/claude-haiku-4-5"},
		{name: "a step for long requests", provider: "gemini", model: "gemini-2.5-pro", in: 1.25, out: 10, cached: 0.125, write: 1.25,
			above: 200_000, longIn: 2.5, longOut: 15, longCR: 0.25, entry: "google/gemini-2.5-pro"},
		{name: "by a regular expression", provider: "xai", model: "grok-4.3-20260601", in: 1.25, out: 2.5, cached: 0.2, write: 1.25, above: 199_999, longIn: 2.5, longOut: 5, longCR: 0.4, entry: "x-ai/grok-4.3"},
		{name: "by its end", provider: "gemini", model: "models/gemini-2.0-flash", in: 0.1, out: 0.4, cached: 0.025, write: 0.1, entry: "google/gemini-2.0-flash"},
		{name: "the peak price where it depends on the hour", provider: "deepseek", model: "deepseek-reasoner", in: 0.55, out: 2.19, cached: 0.14, write: 0.55, entry: "deepseek/deepseek-reasoner"},
		{name: "another provider's list where its own has none", provider: "azure", model: "gpt-4o", in: 2.5, out: 10, cached: 1.25, write: 2.5, entry: "openai/gpt-4o"},
		{name: "its own list first", provider: "azure", model: "o3-mini", in: 1.1, out: 4.4, cached: 0.55, write: 1.1, entry: "azure/o3-mini"},
		{name: "a change that has long been made", provider: "openai", model: "o3", at: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), in: 2, out: 8, cached: 0.5, write: 2, entry: "openai/o3"},

		{name: "Bedrock's global profile", provider: "bedrock", model: "global.anthropic.claude-sonnet-4-6", in: 3, out: 15, cached: 0.3, write: 3.75, hour: 6, entry: "aws/global.anthropic.claude-sonnet-4-6-v1:0"},
		{name: "Bedrock's regional profile costs a tenth more", provider: "bedrock", model: "us.anthropic.claude-sonnet-4-6", in: 3.3, out: 16.5, cached: 0.33, write: 4.125, hour: 6.6, entry: "aws/regional.anthropic.claude-sonnet-4-6-v1:0"},
		{name: "Bedrock's regional profile of a dated model", provider: "bedrock", model: "eu.anthropic.claude-haiku-4-5-20251001-v1:0", in: 1.1, out: 5.5, cached: 0.11, write: 1.375, hour: 2.2, entry: "aws/regional.anthropic.claude-haiku-4-5-20251001-v1:0"},
		{name: "Bedrock in one region", provider: "bedrock", model: "anthropic.claude-sonnet-4-6", in: 3.3, out: 16.5, cached: 0.33, write: 4.125, hour: 6.6, entry: "aws/regional.anthropic.claude-sonnet-4-6-v1:0"},
		{name: "a geography the list lacks is regional", provider: "bedrock", model: "apac.anthropic.claude-opus-5", in: 5.5, out: 27.5, cached: 0.55, write: 6.875, hour: 11, entry: "aws/regional.anthropic.claude-opus-5"},
		{name: "a model without its geography in the list", provider: "bedrock", model: "amazon.nova-2-lite-v1:0", in: 0.33, out: 2.75, cached: 0.0825, write: 0.33, entry: "aws/regional.amazon.nova-2-lite-v1:0"},
		{name: "a model with one price everywhere", provider: "bedrock", model: "apac.amazon.nova-lite-v1:0", in: 0.06, out: 0.24, cached: 0.015, write: 0.06, entry: "aws/amazon.nova-lite-v1:0"},
		{name: "a profile of a model listed by its bare name", provider: "bedrock", model: "us-gov.openai.gpt-5.4", in: 2.75, out: 16.5, cached: 0.275, write: 2.75, entry: "aws/openai.gpt-5.4"},
		{name: "the ARN of a regional profile", provider: "bedrock", model: "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-sonnet-4-6", in: 3.3, out: 16.5, cached: 0.33, write: 4.125, hour: 6.6, entry: "aws/regional.anthropic.claude-sonnet-4-6-v1:0"},
		{name: "the ARN of a global profile", provider: "bedrock", model: "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/global.anthropic.claude-opus-4-5-20251101-v1:0", in: 5, out: 25, cached: 0.5, write: 6.25, hour: 10, entry: "aws/global.anthropic.claude-opus-4-5-v1:0"},
		{name: "the ARN of a foundation model", provider: "bedrock", model: "arn:aws:bedrock:us-west-2::foundation-model/meta.llama3-3-70b-instruct-v1:0", in: 0.72, out: 0.72, cached: 0.72, write: 0.72, entry: "aws/meta.llama3-3-70b-instruct-v1:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			nano := func(usd float64) int64 { return int64(usd*1e9 + 0.5) }
			want := Price{
				Input: nano(tt.in), Output: nano(tt.out), CachedInput: nano(tt.cached), CacheWrite: nano(tt.write), CacheWriteHour: nano(tt.hour),
				LongAbove: tt.above, Long: Rates{Input: nano(tt.longIn), Output: nano(tt.longOut), CachedInput: nano(tt.longCR)},
				Source: PriceSource + " " + PriceDate + ": " + tt.entry,
			}
			if tt.above > 0 {
				want.Long.CacheWrite = want.Long.Input
			}
			at := tt.at
			if at.IsZero() {
				at = time.Now()
			}
			got, ok := LookupPriceAt(tt.provider, tt.model, at)
			// The other dimensions have a test of their own.
			got = got.WithoutAudio()
			got.PerSearch, got.Tiers = 0, nil
			if !ok || got != want {
				t.Errorf("LookupPriceAt(%s, %s) =\n%+v, %t, want\n%+v", tt.provider, tt.model, got, ok, want)
			}
		})
	}
}

// Prices by service tier, of audio, searches and an hour's cache, as the
// providers' price lists have them.
func TestLookupPriceKnowsEveryDimension(t *testing.T) {
	at := time.Date(2026, 11, 10, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		name, provider, model string
		usage                 Usage
		want                  Nanodollars
	}{
		{"flex", "openai", "gpt-5", Usage{Input: 1e6, Output: 1e6, Tier: "flex"}, 5_625_000_000},
		{"priority", "openai", "gpt-5.5-2026-04-23", Usage{Input: 1e5, Output: 1e6, Tier: "priority"}, 76_250_000_000},
		{"fast by another name", "azure", "gpt-5", Usage{Output: 1e6, Tier: "fast"}, 20_000_000_000},
		{"a step at a tier", "openai", "gpt-5.4", Usage{Input: 300_000, Output: 1e6, Tier: "flex"}, 12_000_000_000},
		{"no step at another", "openai", "gpt-5.4", Usage{Input: 300_000, Output: 1e6, Tier: "priority"}, 31_500_000_000},
		{"a web search", "openai", "gpt-5", Usage{Searches: 1}, 10_000_000},
		{"audio in", "gemini", "gemini-2.0-flash", Usage{Input: 1e6, AudioInput: 1e6}, 700_000_000},
		{"two steps", "openrouter", "qwen/qwen3-coder-flash", Usage{Input: 200_000}, 104_000_000},
		{"one step of two", "openrouter", "qwen/qwen3-coder-flash", Usage{Input: 100_000}, 32_500_000},
		{"OpenRouter's free models", "openrouter", "acme/new:free", Usage{Input: 1e6, Output: 1e6}, 0},
		{"a geography nobody knew", "bedrock", "sa.anthropic.claude-haiku-4-5-20251001-v1:0", Usage{Input: 1e6, Output: 1e6}, 6_600_000_000},
		{"and the next", "bedrock", "mars.anthropic.claude-haiku-4-5-20251001-v1:0", Usage{Input: 1e6, Output: 1e6}, 6_600_000_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ok := LookupPriceAt(tt.provider, tt.model, at)
			if got := p.Cost(tt.usage); !ok || got != tt.want {
				t.Errorf("%s/%s: %+v costs %s (known: %t), want %s", tt.provider, tt.model, tt.usage, got, ok, tt.want)
			}
		})
	}
}

// A name that only begins like one of the table's may be another model's.
func TestLookupPriceSaysWhatIsAGuess(t *testing.T) {
	for model, want := range map[string]bool{
		"anthropic/claude-haiku-4-5-20251001": false, "anthropic/claude-haiku-4-5": false, "anthropic/claude-haiku-4-5-latest": false,
		"anthropic/claude-haiku-4-50": true, "anthropic/claude-haiku-4-5-turbo": true,
		"xai/grok-4.3-20260601": false, "gemini/models/gemini-2.0-flash": false, "openai/gpt-5-2025-08-07": false,
		"bedrock/us.anthropic.claude-haiku-4-5-20251001-v1:0": false, "bedrock/us.anthropic.claude-sonnet-4-6": false,
		"bedrock/anthropic.claude-opus-5": false, "bedrock/amazon.nova-lite-v1:0": false, "bedrock/amazon.nova-lite-v1:0:300k": false,
		"groq/llama-3.3-70b-versatile": false,
	} {
		provider, id, _ := strings.Cut(model, "/")
		if p, ok := LookupPrice(provider, id); !ok || p.Guess != want {
			t.Errorf("LookupPrice(%s): guess %t (%s, known: %t), want %t", model, p.Guess, p.Source, ok, want)
		}
	}
}

func TestLookupPriceKnowsWhatItDoesNotKnow(t *testing.T) {
	for _, tt := range []struct{ name, provider, model string }{
		{"an unknown provider", "acme", "gpt-5"},
		{"no provider", "", "gpt-5"},
		{"the table's own name of a provider is not ours", "aws", "amazon.nova-lite-v1:0"},
		{"a provider the table lacks", "deepinfra", "meta-llama/Llama-3.3-70B-Instruct"},
		{"a local model", "ollama", "llama3.2"},
		{"a server of one's own", "vllm", "meta-llama/Llama-3.3-70B-Instruct"},
		{"a simulated model", "simulated", "gpt-5"},
		{"an unknown model", "openai", "gpt-99"},
		{"no model", "openai", ""},
		{"an application inference profile", "bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4"},
		{"a provisioned model", "bedrock", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/a1b2c3d4"},
		{"an ARN of another service", "bedrock", "arn:aws:sagemaker:us-east-1:123456789012:endpoint/anthropic.claude-sonnet-4-6"},
		{"half an ARN", "bedrock", "arn:aws:bedrock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if p, ok := LookupPrice(tt.provider, tt.model); ok || p != (Price{}) {
				t.Errorf("LookupPrice(%q, %q) = %+v, %t, want none", tt.provider, tt.model, p, ok)
			}
			if got := ContextWindow(tt.provider, tt.model); got != 0 {
				t.Errorf("ContextWindow(%q, %q) = %d, want 0", tt.provider, tt.model, got)
			}
		})
	}
}

func TestDearestPrice(t *testing.T) {
	for provider, id := range configured {
		dearest, ok := DearestPrice(provider)
		if !ok || !strings.Contains(dearest.Source, "model unknown, dearest of "+id) {
			t.Errorf("DearestPrice(%s) = %+v, %t, want one flagged in its source", provider, dearest, ok)
		}
		for _, e := range loadCatalogue(id).Models {
			p, _ := LookupPrice(provider, e.ID)
			if known, most := p.WorstCase(1_000_000, 1_000_000), dearest.WorstCase(1_000_000, 1_000_000); known > most {
				t.Errorf("%s/%s costs %s, more than the dearest %s", id, e.ID, known, most)
			}
		}
	}
	if p, ok := DearestPrice("ollama"); ok {
		t.Errorf("DearestPrice(ollama) = %+v, want none", p)
	}
}

func TestContextWindow(t *testing.T) {
	for _, tt := range []struct {
		provider, model string
		want            int64
	}{
		{"anthropic", "claude-haiku-4-5-20251001", 200_000},
		{"xai", "grok-4-latest", 256_000},
		{"bedrock", "us.amazon.nova-lite-v1:0", 300_000},
	} {
		if got := ContextWindow(tt.provider, tt.model); got != tt.want {
			t.Errorf("ContextWindow(%s, %s) = %d, want %d", tt.provider, tt.model, got, tt.want)
		}
	}
}

func TestRules(t *testing.T) {
	for _, tt := range []struct {
		name, rule string
		yes, no    string
	}{
		{"equals", `{"equals":"a-1"}`, "a-1", "a-12"},
		{"starts_with", `{"starts_with":"a-"}`, "a-1", "ba-"},
		{"ends_with", `{"ends_with":"-a"}`, "b-a", "-ab"},
		{"contains", `{"contains":"mid"}`, "a-mid-b", "a-m"},
		{"regex", `{"regex":"^a-\\d{2}$"}`, "a-12", "a-123"},
		{"or", `{"or":[{"equals":"a"},{"equals":"b"}]}`, "b", "c"},
		{"and", `{"and":[{"starts_with":"a"},{"ends_with":"z"}]}`, "a-z", "a-y"},
		{"not", `{"and":[{"starts_with":"a"},{"not":{"regex":"-t$"}}]}`, "a-1", "a-t"},
		{"nested", `{"and":[{"or":[{"contains":"x"},{"contains":"y"}]},{"starts_with":"a"}]}`, "a-y", "y-a"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r rule
			if err := json.Unmarshal([]byte(tt.rule), &r); err != nil {
				t.Fatal(err)
			}
			if !r.matches(tt.yes) || r.matches(tt.no) {
				t.Errorf("%s matches %q: %t, %q: %t, want true, false", tt.rule, tt.yes, r.matches(tt.yes), tt.no, r.matches(tt.no))
			}
		})
	}
	if empty := (&rule{}); empty.matches("anything") {
		t.Errorf("an empty rule matches, want it not to")
	}
}

func BenchmarkReadTable(b *testing.B) {
	for _, id := range []string{"aws", "openai", "openrouter"} {
		b.Run(id, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var table struct {
					Providers map[string]json.RawMessage `json:"providers"`
				}
				if err := json.Unmarshal(priceTable, &table); err != nil {
					b.Fatal(err)
				}
				if _, err := readCatalogue(table.Providers[id]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookupPrice(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := LookupPrice("bedrock", "us.anthropic.claude-sonnet-4-6"); !ok {
			b.Fatal("unknown")
		}
	}
}
