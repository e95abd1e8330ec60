package command

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/testkit"
	"github.com/inference-router/inference-router/proxy"
)

func mustBuild(t *testing.T, src string, env testkit.Variables) proxy.Config {
	t.Helper()
	c := mustParse(t, src, env)
	b, err := newBuilder(c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.close() })
	parts, err := b.build(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proxy.New(parts); err != nil {
		t.Fatalf("the proxy refuses what was built: %v", err)
	}
	return parts
}

func TestBuildDeployments(t *testing.T) {
	parts := mustBuild(t, `
tiers:
  fast:
    max_output_tokens: 500
    upstreams:
      - provider: groq
        model: llama-3.3-70b-versatile
        api_key: k
        max_output_tokens: 900
        capabilities: {max_output: 800}
        timeouts: {idle: 7s}
        on_abort: drain
        params: {set: {temperature: 0.5}, default: {user: "x"}}
  powerful:
    - {provider: openai, model: m, base_url: "http://localhost:1/v1", price: {input: 1.5, output: 2}}
    - {provider: openrouter, model: a/b, api_key: k, price: {input: 0, output: 0, cache_write: 3}}
strategy:
  - latency: {sla_ms: 1000, tier_slas: {fast: 200}}
`, nil)
	fast := parts.Tiers[0].Deployments[0]
	if parts.Tiers[0].MaxOutput != 500 || fast.MaxOutput != 800 || fast.LimitField != "max_tokens" || !fast.Drain || fast.Timeouts.Idle != 7*time.Second || fast.Timeouts.Total != 0 {
		t.Errorf("fast = %+v", fast)
	}
	if fast.Set["temperature"] != "0.5" || fast.Default["user"] != `"x"` || fast.Upstream == nil {
		t.Errorf("params %v and %v", fast.Set, fast.Default)
	}
	if listed, _ := budget.LookupPrice("groq", "llama-3.3-70b-versatile"); fast.Price != listed {
		t.Errorf("price = %+v, want the table's %+v", fast.Price, listed)
	}
	own, free := parts.Tiers[1].Deployments[0], parts.Tiers[1].Deployments[1]
	if want := (budget.Price{Input: 1.5e9, Output: 2e9, CachedInput: 1.5e9, CacheWrite: 1.5e9, Source: "config", Tiers: own.Price.Tiers}); own.Price != want || !own.Price.KnowsTier("flex") || own.LimitField != "max_tokens" || own.LimitEither {
		t.Errorf("price = %+v in %s, want %+v", own.Price, own.LimitField, want)
	}
	if want := (budget.Price{CacheWrite: 3e9, Source: "config"}); free.Price != want || !free.KeepUsage {
		t.Errorf("free price = %+v, want %+v; usage kept: %v", free.Price, want, free.KeepUsage)
	}
	if a, b := parts.Tiers[0].SLA, parts.Tiers[1].SLA; a != 200*time.Millisecond || b != time.Second {
		t.Errorf("SLAs = %v and %v, want 200ms and 1s", a, b)
	}
}

func TestBuildIdentityAndBudgets(t *testing.T) {
	sum := sha256.Sum256([]byte("second"))
	parts := mustBuild(t, testkit.Minimal+`
server: {listen: "0.0.0.0:8080"}
identity:
  mode: keys
  anonymous: reject
  trusted_cidrs: [10.0.0.0/8, "::1"]
  signing_keys: [{id: k1, secret: "${SECRET}"}]
  keys:
    - {name: a, key: first, user: "*", tiers: [fast], budget_usd_per_day: 0}
    - {name: b, sha256: `+hex.EncodeToString(sum[:])+`, admin: true}
strategy: [{cost: {budget_usd_per_day: 3}}]
budgets: [{scope: user, usd: 0.5, per: 30d, on_exhausted: reject, timezone: Europe/Berlin}]
retries: {retry_budget: 0, on_unknown: never}
log: {users: plain}
`, testkit.Variables{"SECRET": "s3"})
	id := parts.Identity
	if id.Mode != proxy.ModeKeys || !id.RejectAnonymous || len(id.TrustedCIDRs) != 2 || id.TrustedCIDRs[1].Bits() != 128 || string(id.SigningKeys[0].Secret) != "s3" {
		t.Errorf("identity = %+v", id)
	}
	if k := id.Keys[0]; k.SHA256 != sha256.Sum256([]byte("first")) || k.User != "*" || len(k.Tiers) != 1 || !k.HasBudget || k.Budget != 0 {
		t.Errorf("first key = %+v", k)
	}
	if k := id.Keys[1]; k.SHA256 != sum || !k.Admin || k.HasBudget || k.Tiers != nil {
		t.Errorf("second key = %+v", k)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	window, err := budget.ParseWindow("30d", berlin)
	if err != nil {
		t.Fatal(err)
	}
	want := []proxy.Budget{
		{Scope: budget.ScopeUser, Amount: 5e8, Window: window, Hard: true},
		{Scope: budget.ScopeGlobal, Amount: 3e9, Window: budget.Window{}},
	}
	if len(parts.Budgets) != 2 || parts.Budgets[0] != want[0] {
		t.Errorf("budgets = %+v, want %+v", parts.Budgets, want)
	}
	if b := parts.Budgets[1]; b.Scope != want[1].Scope || b.Amount != want[1].Amount || b.Hard || b.Window.String() != "day" {
		t.Errorf("the cost strategy's budget = %+v", b)
	}
	if parts.Loopback || parts.Retries.Budget >= 0 || !parts.Retries.NeverUnknown || !parts.PlainUsers {
		t.Errorf("loopback %v, retries %+v, plain users %v", parts.Loopback, parts.Retries, parts.PlainUsers)
	}
}

func TestLocalListeners(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true, "unix:/tmp/s": false, "0.0.0.0:1": false, ":1": false,
	} {
		if got := isLocal(address); got != want {
			t.Errorf("%s local: %v, want %v", address, got, want)
		}
	}
}

func TestGuessedPrices(t *testing.T) {
	c := mustParse(t, "tiers: {fast: [{provider: openai, model: no-such-model, api_key: k}, {provider: nvidia, model: m, api_key: k}]}\n", nil)
	for i := range c.Tiers[0].Upstreams {
		u := c.Tiers[0].Upstreams[i]
		if u.Guessed == "" || u.Billed.Input <= 0 || u.Billed.Output <= 0 || u.Billed.Source == "" {
			t.Errorf("%s: billed %+v, guessed %q", u.Name, u.Billed, u.Guessed)
		}
	}
	code, out, _ := runCommand(t, "check", "-config", inFile(t, "tiers: {fast: [{provider: nvidia, model: m, api_key: k}]}\n"))
	if code != 0 || !strings.Contains(out, "(a guess)") || !strings.Contains(out, "warning: ") || !strings.Contains(out, "price table: pydantic/genai-prices of "+budget.PriceDate+", ") || !strings.Contains(out, "tiers.fast[0].price: no price is known for nvidia") {
		t.Errorf("check printed, with exit code %d:\n%s", code, out)
	}
}

func TestLocalServersCostNothing(t *testing.T) {
	const upstreams = `
  - {provider: ollama, model: gpt-5}
  - {provider: llamacpp, model: b}
  - {provider: lmstudio, model: c}
  - {provider: vllm, model: e}
  - {provider: sglang, model: f}
  - {provider: simulated, model: g}
  - {provider: openrouter, model: "somebody/new:free", api_key: k}
  - {provider: vllm, model: d, price: {input: 1, output: 2}}
  - {provider: simulated, model: h, price: {input: 1, output: 2}}
  - {provider: openrouter, model: "somebody/else:free", api_key: k, price: {input: 1, output: 2}}
`
	c := mustParse(t, "budgets: [{scope: user, usd: 1, on_exhausted: reject}]\ntiers:\n fast:"+upstreams, nil)
	for _, u := range c.Tiers[0].Upstreams {
		want := budget.Nanodollars(0)
		if u.Price != nil {
			want = 3e9
		}
		got := u.Billed.Cost(budget.Usage{Input: 1e6, Output: 1e6, CachedInput: 1, Searches: 5, Tier: "priority"})
		if u.Guessed != "" || got != want || u.Billed.Source == "" {
			t.Errorf("%s: a million tokens each way cost %s, want %s; guessed %q, price from %q", u.Name, got, want, u.Guessed, u.Billed.Source)
		}
	}
}

// An application inference profile's id says nothing of the model behind it.
func TestBedrockProfilesOfANamedFamily(t *testing.T) {
	const arn = `"arn:aws:bedrock:us-east-1:111122223333:application-inference-profile/emb1"`
	parts := mustBuild(t, "tiers: {fast: [{provider: bedrock, model: "+arn+", price: {input: 1, output: 1}, capabilities: {family: claude-opus-5}}]}\n"+
		"embeddings: [{provider: bedrock, model: "+arn+", price: {input: 1}, capabilities: {family: 'amazon.titan-embed-text-v2:0'}}, "+
		"{provider: bedrock, name: asks, model: "+arn+", price: {input: 1}}]\n", nil)
	if got := parts.Tiers[0].Deployments[0].MaxOutput; got != 128000 {
		t.Errorf("greatest output %d, want that of the family", got)
	}
	if len(parts.Embeddings) != 2 || parts.Embeddings[0].Embedder == nil || parts.Embeddings[1].Embedder == nil {
		t.Errorf("embeddings = %+v", parts.Embeddings)
	}
}

func TestLimitFieldsOfProviders(t *testing.T) {
	for upstream, want := range map[string]string{
		"provider: openai, model: gpt-5, api_key: k":                                                                  "max_completion_tokens true",
		"provider: openai, model: m, base_url: 'http://h/v1', price: {input: 1, output: 1}":                           "max_tokens false",
		"provider: azure, model: m, base_url: 'https://h.openai.azure.com', price: {input: 1, output: 1}, api_key: k": "max_completion_tokens true",
		"provider: llamacpp, model: m":                                                                                "max_tokens false",
		"provider: groq, model: llama-3.3-70b-versatile, api_key: k":                                                  "max_tokens true",
		"provider: vllm, model: m, limit_field: max_completion_tokens":                                                "max_completion_tokens false",
		"provider: openai, model: gpt-5, api_key: k, limit_field: max_tokens":                                         "max_tokens false",
	} {
		d := mustBuild(t, "tiers: {fast: [{"+upstream+"}]}\n", nil).Tiers[0].Deployments[0]
		if got := fmt.Sprint(d.LimitField, " ", d.LimitEither); got != want {
			t.Errorf("%s: %s, want %s", upstream, got, want)
		}
	}
}

func TestNeedsRestart(t *testing.T) {
	before, after := mustParse(t, testkit.Minimal, nil), mustParse(t, testkit.Minimal+"server: {listen: 'localhost:1'}\nlog: {format: text}\n", nil)
	if got, want := needsRestart(before, after), "server.listen, log.format"; got != want {
		t.Errorf("needs a restart for %q, want %q", got, want)
	}
}

func TestBedrockRegion(t *testing.T) {
	for _, name := range []string{"AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_CONFIG_FILE", "/nowhere")
	const haiku = "anthropic.claude-haiku-4-5-20251001-v1:0"
	mustBuild(t, "tiers:\n  fast: [{provider: bedrock, model: "+haiku+"}]\n  best: [{provider: bedrock, model: us."+haiku+", region: eu-west-1}]\n", nil)

	code, _, errOut := runCommand(t, "check", "-config", inFile(t, "tiers: {fast: [{provider: bedrock, model: "+haiku+"}]}\n"))
	if code != 1 || !strings.Contains(errOut, ":1:16: tiers.fast[0]: ") || !strings.Contains(errOut, "region: none is set here, in AWS_REGION or in the profile") {
		t.Errorf("without any region: exit code %d, %q", code, errOut)
	}
}
