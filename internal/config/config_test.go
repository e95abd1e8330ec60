package config

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/testkit"
)

// variables is an environment of its own.
var shippedVariables = testkit.Variables{"GROQ_API_KEY": "gsk-1", "OPENAI_API_KEY": "sk-1"}

func mustParse(t *testing.T, src string, env testkit.Variables) *Config {
	t.Helper()
	c, err := Parse("config.yaml", []byte(src), env.Lookup)
	if err != nil {
		t.Fatalf("Parse: %v\nof\n%s", err, src)
	}
	return c
}

func TestShippedConfiguration(t *testing.T) {
	c, err := Load("../../config.yaml", shippedVariables.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(c.TierNames(), " "), "fast balanced powerful"; got != want {
		t.Errorf("tiers = %s, want %s", got, want)
	}
	if got := c.Tiers[0].Upstreams[1]; got.Name != "groq/llama-3.3-70b-versatile" || got.BaseURL != "https://api.groq.com/openai/v1" || got.APIKey != "gsk-1" {
		t.Errorf("second upstream = %q at %q with key %q", got.Name, got.BaseURL, string(got.APIKey))
	}
	if got := *c.Tiers[2].Upstreams[0].Price.CachedInput; got != 125_000_000 {
		t.Errorf("cached_input = %d nano-dollars, want 125000000", got)
	}
	if got := c.Strategy[1].Latency; got.TierSLAs["fast"] != 800 || got.SLA != 3000 || got.PreferredTier != "balanced" {
		t.Errorf("latency = %+v", got)
	}
	if got := c.Strategy[2].Complexity.Rules["balanced"]; got != [2]float64{3, 6} {
		t.Errorf("rules.balanced = %v", got)
	}
	if got := c.Budgets[1]; got.Scope != "user" || *got.USD != 1e9 || got.OnExhausted != "reject" || got.Timezone != "UTC" {
		t.Errorf("second budget = %+v", got)
	}
	if c.Redis.URL != "" || time.Duration(c.Timeouts.Total) != 30*time.Minute || c.Models.Aliases["gpt-4o-mini"] != "fast" {
		t.Errorf("redis %q, total %v, aliases %v", string(c.Redis.URL), c.Timeouts.Total, c.Models.Aliases)
	}
}

func TestShippedConfigurationIsTheDefaults(t *testing.T) {
	shipped, err := Load("../../config.yaml", shippedVariables.Lookup)
	if err != nil {
		t.Fatal(err)
	}
	var defaults Config
	defaults.setDefaults()
	defaults.Identity.Anonymous = "allow" // as it is without a key in sidecar
	for name, pair := range map[string][2]any{
		"server":    {shipped.Server, defaults.Server},
		"identity":  {shipped.Identity, defaults.Identity},
		"redis":     {shipped.Redis, defaults.Redis},
		"timeouts":  {shipped.Timeouts, defaults.Timeouts},
		"retries":   {shipped.Retries, defaults.Retries},
		"log":       {shipped.Log, defaults.Log},
		"translate": {shipped.Translate, defaults.Translate},
	} {
		// Printed: an empty list and an absent one are the same here.
		if got, want := fmt.Sprintf("%v", pair[0]), fmt.Sprintf("%v", pair[1]); got != want {
			t.Errorf("%s in config.yaml = %s, but its defaults are %s", name, got, want)
		}
	}
}

func TestConfigurationProblems(t *testing.T) {
	tests := []struct {
		name string
		src  string // what is appended to testkit.Minimal; from the start when it begins with "="
		want string // all of the message
	}{
		{"an unknown key of an upstream names the one meant", "=tiers:\n  fast:\n    - provider: simulated\n      modle: small\n      model: x\n",
			`config.yaml:4:7: tiers.fast[0].modle: unknown key; did you mean "model"?`},
		{"an unknown section names the one meant", "budget: []\n", `config.yaml:6:1: budget: unknown key; did you mean "budgets"?`},
		{"an unknown key like no other lists what is known", "models: {zzzzzzzz: 1}\n", `config.yaml:6:10: models.zzzzzzzz: unknown key; known are aliases, unknown`},
		{"a duplicate key", "fallback: fast\nfallback: fast\n", `config.yaml:7:1: fallback: duplicate key; the first is in line 6`},
		{"a duplicate tier", "=tiers:\n  fast: [{provider: simulated, model: a}]\n  fast: [{provider: simulated, model: b}]\n", `config.yaml:3:3: tiers.fast: duplicate key; the first is in line 2`},
		{"a family that no model has", "=tiers: {fast: [{provider: anthropic, model: x, api_key: k, capabilities: {family: cluade}}]}\n",
			`config.yaml:1:83: tiers.fast[0].capabilities.family: "cluade" is neither a known model id nor one of claude, cohere, deepseek, gemma, glm, gpt-oss, jamba, kimi, llama, minimax, mistral, nemotron, nova, openai, palmyra, qwen, titan`},
		{"a chat that is of an embedding model's family", "=tiers: {fast: [{provider: bedrock, model: x, region: r, capabilities: {family: amazon.titan-embed-text-v2:0}}]}\n",
			`config.yaml:1:80: tiers.fast[0].capabilities.family: "amazon.titan-embed-text-v2:0" is neither a known model id nor one of claude, cohere, deepseek, gemma, glm, gpt-oss, jamba, kimi, llama, minimax, mistral, nemotron, nova, openai, palmyra, qwen, titan`},
		{"an embedding of a chat model's family", "embeddings: [{provider: bedrock, model: x, region: r, price: {input: 1}, capabilities: {family: claude}}]\n",
			`config.yaml:6:97: embeddings[0].capabilities.family: "claude" is not a known Bedrock embedding model; known are Titan text v1 and v2, Titan image, Cohere v3 and v4, Nova 2 multimodal`},
		{"another capability of an embedding", "embeddings: [{provider: bedrock, model: x, region: r, price: {input: 1}, capabilities: {tools: true}}]\n",
			`config.yaml:6:96: embeddings[0].capabilities.tools: has no effect on embeddings; they take family`},
		{"a family of embeddings that are not translated", "embeddings: [{provider: openai, model: text-embedding-3-small, api_key: k, capabilities: {family: cohere.embed-v4}}]\n",
			`config.yaml:6:99: embeddings[0].capabilities.family: has no effect on provider openai, whose embeddings are not translated`},
		{"a string where a number belongs", "server: {max_body_bytes: many}\n", `config.yaml:6:26: server.max_body_bytes: want a whole number, got a string`},
		{"a number where a string belongs", "fallback: 7\n", `config.yaml:6:11: fallback: want a string, got a number; put it in quotes`},
		{"a fraction where a whole number belongs", "server: {max_body_bytes: 1.5}\n", `config.yaml:6:26: server.max_body_bytes: want a whole number`},
		{"a list where a mapping belongs", "server: []\n", `config.yaml:6:9: server: want a mapping of names to values, got a list`},
		{"a mapping where a list belongs", "budgets: {usd: 1}\n", `config.yaml:6:10: budgets: want a list, got a mapping`},
		{"nothing where a value belongs", "fallback:\n", `config.yaml:6:11: fallback: want a string, got nothing`},
		{"a word that is none of the choices", "redis: {on_loss: bouned}\n", `config.yaml:6:18: redis.on_loss: "bouned" is none of closed, bounded, open; did you mean "bounded"?`},
		{"a duration without its unit", "timeouts: {connect: 2}\n", `config.yaml:6:21: timeouts.connect: want a duration such as 500ms, 30s, 5m or 1h30m`},
		{"a timeout of nothing", "timeouts: {idle: 0s}\n", `config.yaml:6:18: timeouts.idle: want more than 0: no call waits for ever`},
		{"an unknown tier", "fallback: fsat\n", `config.yaml:6:11: fallback: unknown tier "fsat"; did you mean "fast"?`},
		{"an unknown tier in a rule", "strategy:\n  - complexity:\n      rules: {fast: [0, 5], best: [5, 10]}\n", `config.yaml:8:35: strategy[0].complexity.rules.best: unknown tier "best"; did you mean "fast"?`},
		{"an unknown provider", "=tiers:\n  fast:\n    - {provider: bedrok, model: x}\n", `config.yaml:3:18: tiers.fast[0].provider: unknown provider "bedrok"; did you mean "bedrock"?; any OpenAI-compatible API is provider openai with a base_url`},
		{"an unknown strategy", "strategy: [complexty]\n", `config.yaml:6:12: strategy[0]: unknown strategy "complexty"; did you mean "complexity"?`},
		{"two strategies in one item", "strategy:\n  - cost:\n    latency:\n", `config.yaml:7:5: strategy[0]: want one strategy in each item of the list: cost, latency, complexity`},
		{"a strategy twice", "strategy: [complexity, complexity]\n", `config.yaml:6:24: strategy[1]: a second complexity strategy`},
		{"two upstreams of one name", "=tiers:\n  fast:\n    - {provider: simulated, model: a}\n  best:\n    - {provider: simulated, model: a}\n", `config.yaml:5:7: tiers.best[0]: a second upstream called "simulated/a"; give one of them another ` + "`name`"},
		{"a limit that Redis could not count exactly", "budgets: [{scope: global, usd: 9000000}]\n", `config.yaml:6:32: budgets[0].usd: want less than $9,000,000`},
		{"money that is not exact", "budgets: [{scope: global, usd: 0.0000000001}]\n", `config.yaml:6:32: budgets[0].usd: want an amount of US dollars such as 10 or 0.25, with at most nine decimal places`},
		{"negative money", "budgets: [{scope: global, usd: -1}]\n", `config.yaml:6:32: budgets[0].usd: want an amount of US dollars such as 10 or 0.25, with at most nine decimal places`},
		{"a budget without its limit", "budgets: [{scope: global}]\n", `config.yaml:6:11: budgets[0].usd: missing: the limit in US dollars`},
		{"the same budget twice", "budgets: [{scope: user, usd: 1}, {scope: user, usd: 2}]\n", `config.yaml:6:34: budgets[1]: a second user budget per day`},
		{"a window that is none", "budgets: [{scope: user, usd: 1, per: fortnight}]\n", `config.yaml:6:38: budgets[0].per: want hour, day, week, month, or a number of days such as 30d`},
		{"a zone that is none", "budgets: [{scope: user, usd: 1, timezone: Mars}]\n", `config.yaml:6:43: budgets[0].timezone: want a time zone's name, such as UTC or Europe/Berlin`},
		{"a cost budget that contradicts the same one", "strategy: [{cost: {budget_usd_per_day: 2}}]\nbudgets: [{scope: global, usd: 1}]\n", `config.yaml:6:40: strategy[0].cost.budget_usd_per_day: another amount than budgets[0].usd, which is the same budget`},
		{"sidecar on a public listener", "server: {listen: 0.0.0.0:8080}\n", `config.yaml:6:18: server.listen: identity.mode sidecar believes whoever reaches it, so it listens on loopback (127.0.0.1:8080) or a unix socket only; choose identity.mode keys, signed or trusted_proxy for others`},
		{"sidecar on every interface, unsaid", "server: {listen: \":8080\"}\n", `config.yaml:6:18: server.listen: identity.mode sidecar believes whoever reaches it, so it listens on loopback (127.0.0.1:8080) or a unix socket only; choose identity.mode keys, signed or trusted_proxy for others`},
		{"trusted_proxy that trusts nobody", "identity: {mode: trusted_proxy}\n", `config.yaml:6:18: identity.mode: trusted_proxy needs identity.trusted_cidrs: the networks whose identity headers are believed`},
		{"a caller's key that would leave the house", "=tiers: {fast: [{provider: openai, model: m, api_key: client}]}\nidentity: {mode: keys, keys: [{name: a, key: b}]}\n", `config.yaml:1:54: tiers.fast[0].api_key: in identity.mode keys the caller's token is a key of this router, which no upstream may see`},
		{"a key given twice over", "identity: {mode: keys, keys: [{name: a, key: b, sha256: c}]}\n", `config.yaml:6:31: identity.keys[0]: want either key or sha256`},
		{"a key and its own hash", "identity: {keys: [{name: a, key: x}, {name: b, sha256: 2D711642B726B04401627CA9FBAC32F5C8530FB1903CC4DB02258717921A4881}]}\n", `config.yaml:6:38: identity.keys[1]: the same key as an entry above`},
		{"a key that cannot be sent", "identity: {keys: [{name: a, key: \"x\\n\"}]}\n", `config.yaml:6:34: identity.keys[0].key: has a space at its end or a character that no HTTP header may have, such as a line break: nobody could send it`},
		{"a header in two spellings", "=tiers: {fast: [{provider: simulated, model: m, headers: {X-A: a, x-a: b}}]}\n", `config.yaml:1:71: tiers.fast[0].headers.x-a: stands twice: case makes no difference in a header's name`},
		{"a preset provider without its key", "=tiers: {fast: [{provider: groq, model: m}]}\n", `config.yaml:1:16: tiers.fast[0].api_key: no key: set GROQ_API_KEY, or api_key here`},
		{"azure without its address", "=tiers: {fast: [{provider: azure, model: m, api_key: k}]}\n", `config.yaml:1:16: tiers.fast[0].base_url: missing: provider azure has an address of your own, such as https://RESOURCE.openai.azure.com/openai/v1`},
		{"base_url where endpoint is meant", "=tiers: {fast: [{provider: anthropic, model: m, api_key: k, base_url: http://x}]}\n", `config.yaml:1:70: tiers.fast[0].base_url: not for provider anthropic; use endpoint`},
		{"an address with a key in it", "=tiers: {fast: [{provider: openai, model: m, base_url: 'http://u:p@x/v1'}]}\n", `config.yaml:1:55: tiers.fast[0].base_url: want an address without a credential in it; put keys into api_key or headers`},
		{"a price with half of it missing", "=tiers: {fast: [{provider: simulated, model: m, price: {input: 1}}]}\n", `config.yaml:1:55: tiers.fast[0].price: output is missing: US dollars per million answer tokens`},
		{"a parameter that the reservation depends on", "=tiers: {fast: [{provider: simulated, model: m, params: {set: {max_tokens: 1}}}]}\n", `config.yaml:1:75: tiers.fast[0].params.set.max_tokens: not a field that can be set here; use the upstream's max_output_tokens`},
		{"a header that is the router's own", "=tiers: {fast: [{provider: simulated, model: m, headers: {Host: x}}]}\n", `config.yaml:1:64: tiers.fast[0].headers.Host: set by the router itself`},
		{"a weight that does nothing", "=tiers: {fast: [{provider: simulated, model: m, weight: 2}]}\n", `config.yaml:1:56: tiers.fast[0].weight: only counts with balance: weighted on the tier`},
		{"a stream's timeout where there is no stream", "embeddings: [{provider: simulated, model: e, timeouts: {idle: 1s}}]\n", `config.yaml:6:63: embeddings[0].timeouts.idle: has no effect on embeddings, which are no streams`},
		{"an alias to nowhere", "models: {aliases: {gpt: fats}}\n", `config.yaml:6:25: models.aliases.gpt: "fats" is no tier, upstream or model of this file, nor auto; did you mean "fast"?`},
		{"ranges that overlap", "strategy: [{complexity: {rules: {fast: [0, 5], powerful: [4, 10]}}}]\n", `config.yaml:6:58: strategy[0].complexity.rules.powerful: overlaps with the range of fast`},
		{"a range of one number", "strategy: [{complexity: {rules: {fast: [0]}}}]\n", `config.yaml:6:40: strategy[0].complexity.rules.fast: want a list of 2 values`},
		{"a harness tag in brackets", "strategy: [{complexity: {harness: [memo, <memo>]}}]\n", `config.yaml:6:42: strategy[0].complexity.harness[1]: expected the name of a tag without brackets, such as system-reminder`},
		{"a harness tag given twice", "strategy: [{complexity: {harness: [memo, memo]}}]\n", `config.yaml:6:42: strategy[0].complexity.harness[1]: "memo" stands twice`},
		{"a cost order that names a tier twice", "strategy: [{cost: {tiers_by_cost: [fast, fast]}}]\n", `config.yaml:6:42: strategy[0].cost.tiers_by_cost[1]: "fast" stands twice`},
		{"a field that cannot be dropped", "=tiers: {fast: [{provider: ollama, model: m, params: {drop: [store, max_tokens]}}]}\n", `config.yaml:1:68: tiers.fast[0].params.drop[1]: max_tokens cannot be dropped: limit_field says which of the two the upstream reads`},
		{"a limit field where there is but one", "=tiers: {fast: [{provider: anthropic, model: m, api_key: k, limit_field: max_tokens}]}\n", `config.yaml:1:73: tiers.fast[0].limit_field: not for provider anthropic`},
		{"a CA file over plain HTTP", "=tiers: {fast: [{provider: ollama, model: m, ca_file: /x}]}\n", `config.yaml:1:54: tiers.fast[0].ca_file: is for an upstream that is reached over https`},
		{"a CA file that is not there", "=tiers: {fast: [{provider: openai, model: gpt-5, api_key: k, ca_file: /no/such}]}\n", `config.yaml:1:70: tiers.fast[0].ca_file: open /no/such: no such file or directory`},
		{"a certificate without its key", "=tiers: {fast: [{provider: openai, model: gpt-5, api_key: k, cert_file: /x}]}\n", `config.yaml:1:72: tiers.fast[0].cert_file: needs key_file beside it`},
		{"no price under a budget that rejects", "=tiers: {fast: [{provider: nvidia, model: m, api_key: k}]}\nbudgets: [{scope: user, usd: 1, on_exhausted: reject}]\n", `config.yaml:1:16: tiers.fast[0].price: no price is known for nvidia/m, and a budget that rejects needs one: price: {input: ..., output: ...} in US dollars per million tokens, 0 where it is free`},
		{"a password without a Redis", "redis: {password: x}\n", `config.yaml:6:19: redis.password: is for a redis.url`},
		{"certificates for a Redis without TLS", "redis: {url: 'redis://h', ca_file: ca.pem}\n", `config.yaml:6:36: redis.ca_file: is for a redis.url that begins with rediss://`},
		{"an authority that is not there", "redis: {url: 'rediss://h', ca_file: nowhere.pem}\n", `config.yaml:6:37: redis.ca_file: open nowhere.pem: no such file or directory`},
		{"a file without a certificate", "redis: {url: 'rediss://h', ca_file: validate.go}\n", `config.yaml:6:37: redis.ca_file: validate.go has no certificate in PEM`},
		{"a certificate without its key", "redis: {url: 'rediss://h', cert_file: a.pem}\n", `config.yaml:6:39: redis.cert_file: wants redis.key_file beside it`},
		{"a port that cannot be", "=tiers: {fast: [{provider: openai, model: m, base_url: 'http://x:70000/v1'}]}\n", `config.yaml:1:55: tiers.fast[0].base_url: want an address such as https://host/v1`},
		{"a key in the query of an address", "=tiers: {fast: [{provider: openai, model: m, base_url: 'http://x/v1?api_key=k'}]}\n", `config.yaml:1:55: tiers.fast[0].base_url: want an address without a credential in it; put keys into api_key or headers`},
		{"a floor below the downgrade", "strategy: [{cost: {floor_at: 0.5}}]\n", `config.yaml:6:30: strategy[0].cost.floor_at: want a fraction of the budget between downgrade_at (0.8) and 1`},
		{"a variable that is not set", "fallback: ${NOWHERE}\n", `config.yaml:6:11: fallback: environment variable NOWHERE is not set; set it, put it into .env, or write ${NOWHERE:-default}`},
		{"a variable without quotes between braces", "redis: {url: ${REDIS_URL}}\n", `config.yaml:6:15: YAML: ',' or '}' must be specified; inside {...} and [...] a variable needs quotes: "${NAME}"`},
		{"no tiers", "=server: {}\n", `config.yaml:1:1: tiers: missing: at least one tier with an upstream is needed`},
		{"an empty file", "=# nothing\n", `config.yaml: empty: at least one tier is needed`},
		{"two documents", "---\nfallback: fast\n", `config.yaml:7:1: a second document; one file holds one configuration`},
		{"a tag", "fallback: !!str fast\n", `config.yaml:6:11: fallback: YAML tags such as !!str are not used here`},
		{"an alias inside its own anchor", "budgets: &a [*a]\n", ""},
		{"an anchor that is not there", "budgets: *a\n", `config.yaml:6:10: budgets: the alias *a has no anchor &a`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			src, whole := strings.CutPrefix(tt.src, "=")
			if !whole {
				src = testkit.Minimal + src
			}
			_, err := Parse("config.yaml", []byte(src), testkit.Variables{}.Lookup)
			if err == nil {
				t.Fatalf("no error, want %s", tt.want)
			}
			if tt.want != "" && err.Error() != tt.want {
				t.Errorf("got  %v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestSeveralProblemsAreToldAtOnceInOrder(t *testing.T) {
	_, err := Parse("c.yaml", []byte("fallbak: x\nserver: {listn: 1}\nlog: {level: loud}\n"), testkit.Variables{}.Lookup)
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("error = %v, want Problems", err)
	}
	var keys []string
	for _, p := range problems {
		keys = append(keys, fmt.Sprintf("%d %s", p.Line, p.Key))
	}
	if got, want := strings.Join(keys, ", "), "1 fallbak, 2 server.listn, 3 log.level"; got != want {
		t.Errorf("problems = %s, want %s", got, want)
	}
}

func TestWhatTheIdentityModeDoesNotHeedIsTold(t *testing.T) {
	identity := `trusted_cidrs: [10.0.0.0/8], signing_keys: [{id: k, secret: s}], keys: [{name: a, key: x, tiers: [fast]}, {name: b, key: y, admin: true, user: bob, tiers: [fast], budget_usd_per_day: 1}]`
	for mode, want := range map[string]string{
		"sidecar":       "identity.trusted_cidrs identity.signing_keys identity.keys[0] identity.keys[1].user identity.keys[1].tiers identity.keys[1].budget_usd_per_day",
		"trusted_proxy": "identity.signing_keys identity.keys[0] identity.keys[1].user identity.keys[1].tiers identity.keys[1].budget_usd_per_day",
		"keys":          "identity.trusted_cidrs identity.signing_keys",
	} {
		c := mustParse(t, testkit.Minimal+"identity: {mode: "+mode+", "+identity+"}\n", nil)
		var keys []string
		for _, p := range c.Idle() {
			keys = append(keys, p.Key)
		}
		if got := strings.Join(keys, " "); got != want {
			t.Errorf("%s: told of %s, want %s", mode, got, want)
		}
	}
}

func TestMinimalConfigurationHasDefaults(t *testing.T) {
	c := mustParse(t, testkit.Minimal, nil)
	if c.Fallback != "fast" || c.Server.Listen != "127.0.0.1:8080" || c.Identity.Mode != "sidecar" {
		t.Errorf("fallback %q, listen %q, mode %q", c.Fallback, c.Server.Listen, c.Identity.Mode)
	}
	u := c.Tiers[1].Upstreams[0]
	if u.Name != "simulated/large" || u.Weight != 1 || u.OnAbort != "cancel" || c.Tiers[1].Balance != "ordered" {
		t.Errorf("upstream = %+v, balance %q", u, c.Tiers[1].Balance)
	}
}

func TestConfigurationMayBeginWithAByteOrderMark(t *testing.T) {
	if _, err := Parse("config.yaml", []byte("\xef\xbb\xbf"+testkit.Minimal), testkit.Variables{}.Lookup); err != nil {
		t.Error(err)
	}
}

func TestFormsOfATier(t *testing.T) {
	c := mustParse(t, `
tiers:
  fast:
    balance: weighted
    max_output_tokens: 100
    upstreams:
      - &base {provider: openai, model: a, base_url: "http://localhost:1/v1", weight: 3, params: {set: {stop: ["x", 1], seed: 12345678901234567890}}}
      - <<: *base
        model: b
  best: [{provider: simulated, model: c}]
`, nil)
	fast := c.Tiers[0]
	if fast.Balance != "weighted" || fast.MaxOutputTokens != 100 || len(fast.Upstreams) != 2 {
		t.Fatalf("fast = %+v", fast)
	}
	second := fast.Upstreams[1]
	if second.Name != "openai/b" || second.Weight != 3 || second.BaseURL != "http://localhost:1/v1" {
		t.Errorf("merged upstream = %+v", second)
	}
	if got, want := second.Params.Set["stop"], JSONValue(`["x",1]`); got != want {
		t.Errorf("params.set.stop = %s, want %s", got, want)
	}
	if got, want := second.Params.Set["seed"], JSONValue(`12345678901234567890`); got != want {
		t.Errorf("params.set.seed = %s, want %s: digits must not be lost", got, want)
	}
	if second.APIKey != "" {
		t.Errorf("a configured address got the key %q from the environment", string(second.APIKey))
	}
}

func TestBareStrategies(t *testing.T) {
	for _, src := range []string{"strategy: [complexity, latency]\n", "strategy:\n  - complexity:\n  - latency: {}\n", "strategy:\n  - complexity: {}\n  - latency:\n"} {
		c := mustParse(t, testkit.Minimal+src, nil)
		if len(c.Strategy) != 2 || c.Strategy[0].Complexity == nil || c.Strategy[1].Latency == nil || c.Strategy[1].Latency.WindowSize != 50 {
			t.Errorf("%q: strategies = %+v", src, c.Strategy)
		}
	}
}

func TestVariables(t *testing.T) {
	env := testkit.Variables{"A": "fast", "EMPTY": "", "N": "7", "INJECT": "x}\nserver: {listen: 0.0.0.0:1}", "NEST": "${A}"}
	tests := []struct{ name, in, want, problem string }{
		{"a variable", "${A}", "fast", ""},
		{"a variable inside text", "a-${A}-${N}", "a-fast-7", ""},
		{"an empty variable is set", "x${EMPTY}", "x", ""},
		{"a default", "${NO:-d}", "d", ""},
		{"an empty default", "${NO:-}", "", ""},
		{"a default where the variable is empty", "${EMPTY:-d}", "d", ""},
		{"a default that is not needed", "${A:-d}", "fast", ""},
		{"a variable's own text is not looked at again", "${NEST}", "${A}", ""},
		{"line breaks and braces stay one value", "${INJECT}", "x}\nserver: {listen: 0.0.0.0:1}", ""},
		{"a dollar for itself", "pa$$word$A", "pa$$word$A", ""},
		{"an escaped one", "$${A}", "${A}", ""},
		{"an unset one", "${NO}", "", "environment variable NO is not set; set it, put it into .env, or write ${NO:-default}"},
		{"one that is not closed", "${A", "", `"${" without its "}"; write "$${" for a literal one`},
		{"a name that is none", "${A-B}", "", "${A-B} is not a variable; write ${NAME}, ${NAME:-default} or ${file:/path}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := expand(tt.in, env.Lookup)
			problem := ""
			if err != nil {
				problem = err.Error()
			}
			if got != tt.want || problem != tt.problem {
				t.Errorf("expand(%q) = %q, %q, want %q, %q", tt.in, got, problem, tt.want, tt.problem)
			}
		})
	}
}

func TestVariablesTakeTheTypeOfTheirPlace(t *testing.T) {
	c := mustParse(t, testkit.Minimal+"server:\n  max_body_bytes: ${BYTES}\ntranslate:\n  remote_images: ${IMAGES:-true}\nbudgets:\n  - scope: user\n    usd: ${LIMIT}\n",
		testkit.Variables{"BYTES": "12", "LIMIT": "0.000000001"})
	if c.Server.MaxBodyBytes != 12 || !c.Translate.RemoteImages || *c.Budgets[0].USD != 1 {
		t.Errorf("bytes %d, images %v, limit %d", c.Server.MaxBodyBytes, c.Translate.RemoteImages, *c.Budgets[0].USD)
	}
}

func TestNoVariableReachesAMessage(t *testing.T) {
	const canary = "sk-canary-7f3a"
	places := []string{"server: {max_body_bytes: X}", "timeouts: {idle: X}", "budgets: [{scope: user, usd: X}]", "translate: {remote_images: X}",
		"redis: {on_loss: X}", "fallback: X", "models: {aliases: {a: X}}", "tiers: {a: [{provider: X, model: m}]}", "budgets: [{scope: user, usd: 1, per: X}]", "server: {listen: X}", "identity: {trusted_cidrs: [X]}",
		"identity: {keys: [{name: a, sha256: X}]}"}
	for _, src := range places {
		src = strings.Replace(src, "X", `"${KEY}"`, 1)
		if !strings.HasPrefix(src, "tiers") {
			src = testkit.Minimal + src
		}
		_, err := Parse("c.yaml", []byte(src), testkit.Variables{"KEY": canary}.Lookup)
		if err == nil {
			t.Errorf("%s: no error", src)
		} else if strings.Contains(err.Error(), canary) {
			t.Errorf("%s: the message shows the variable's value: %v", src, err)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	c := mustParse(t, "tiers: {fast: [{provider: openai, model: m, api_key: sk-canary, headers: {X-K: sk-canary}}]}\n", nil)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(verb, c.Tiers[0].Upstreams[0]); strings.Contains(got, "sk-canary") {
			t.Errorf("%s shows the key: %s", verb, got)
		}
	}
}

func TestMoneyIsExact(t *testing.T) {
	for text, want := range map[string]budget.Nanodollars{
		"0.1": 100_000_000, "10": 10e9, "10.00": 10e9, "0.000000001": 1, "8999999.999999999": 8_999_999_999_999_999,
	} {
		var got USD
		if err := got.decodeText(text); err != nil || budget.Nanodollars(got) != want {
			t.Errorf("%s = %d, %v, want %d", text, got, err, want)
		}
	}
}

func TestDotenv(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("ROUTER_TEST_THERE", "from outside")
	for _, name := range []string{"ROUTER_TEST_NEW"} {
		t.Cleanup(func() { os.Unsetenv(name) })
	}
	var e Dotenv
	if err := e.Load(".env"); err != nil {
		t.Errorf("without a file: %v", err)
	}
	write := func(s string) {
		if err := os.WriteFile(".env", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := e.Load(".env"); err != nil {
			t.Fatal(err)
		}
	}
	write("ROUTER_TEST_THERE=from file\nROUTER_TEST_NEW=one\n")
	if a, b := os.Getenv("ROUTER_TEST_THERE"), os.Getenv("ROUTER_TEST_NEW"); a != "from outside" || b != "one" {
		t.Errorf("got %q and %q, want the outer one to win and the new one to be set", a, b)
	}
	write("ROUTER_TEST_NEW=two\n")
	if got := os.Getenv("ROUTER_TEST_NEW"); got != "two" {
		t.Errorf("after reading again: %q, want two", got)
	}
}

func TestDotenvErrorHidesTheLine(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(".env", []byte("KEY='sk-canary\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var e Dotenv
	if err := e.Load(".env"); err == nil || strings.Contains(err.Error(), "sk-canary") {
		t.Errorf("error = %v, want one that does not show the value", err)
	}
}

func FuzzConfig(f *testing.F) {
	shipped, err := os.ReadFile("../../config.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(shipped))
	f.Add(testkit.Minimal)
	f.Add("a: &a [*a, *a]\nb: *a\n")
	f.Add("tiers: {fast: &x {<<: *x}}\n")
	f.Add("? [a]\n: b\n")
	f.Add("strategy: [{cost: }, ~, [[]]]\n")
	f.Fuzz(func(t *testing.T, src string) {
		c, err := Parse("c.yaml", []byte(src), shippedVariables.Lookup)
		if (c == nil) == (err == nil) {
			t.Fatalf("configuration %v and error %v", c, err)
		}
		if err == nil && (len(c.Tiers) == 0 || len(c.Tiers[0].Upstreams) == 0) {
			t.Fatalf("accepted without an upstream: %q", src)
		}
	})
}
