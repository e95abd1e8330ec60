package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

// documented are the scores that the documentation promises.
var documented = []struct {
	prompt, score, tier string
}{
	{"what is the capital of France?", "0.0", "fast"},
	{"explain how transformers work", "3.5", "balanced"},
	{"compare B-trees vs LSM trees, explain tradeoffs", "7.5", "powerful"},
	{"compare B-trees vs LSM trees", "7.5", "powerful"},
	{"explain recursion in one sentence", "", "fast"},
}

func TestContract5_DocumentedScoresAreTheSameEverywhere(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f))
	for _, d := range documented {
		t.Run(d.prompt, func(t *testing.T) {
			o := runProgram(t, map[string]string{"config.yaml": threeSimulated}, nil, "explain", "-json", d.prompt)
			want := gjson.Get(o.out, "score").Num
			if d.score != "" && fmt.Sprintf("%.1f", want) != d.score {
				t.Errorf("explain scores %v, want %s", want, d.score)
			}
			if tier := gjson.Get(o.out, "tier").String(); tier != d.tier {
				t.Errorf("explain wants %s, want %s", tier, d.tier)
			}
			debug := s.do(t, "POST", "/debug/complexity", `{"prompt":"`+d.prompt+`"}`)
			route := s.do(t, "POST", "/v1/route", asking("auto", d.prompt))
			chat := s.chat(t, asking("auto", d.prompt))
			query := s.do(t, "POST", "/query", `{"prompt":"`+d.prompt+`"}`)
			if debug.get("score").Num != want || debug.get("tier_selected").String() != d.tier {
				t.Errorf("/debug/complexity: %s", debug.body)
			}
			if route.get("score").Num != want || route.get("tier").String() != d.tier {
				t.Errorf("/v1/route: %s", route.body)
			}
			if chat.header.Get("X-Router-Tier") != d.tier || gjson.Parse(chat.header.Get("X-Router-Score")).Num != want {
				t.Errorf("chat: %s scored %s", chat.header.Get("X-Router-Tier"), chat.header.Get("X-Router-Score"))
			}
			if d.score != "" && chat.header.Get("X-Router-Score") != d.score {
				t.Errorf("X-Router-Score: %s, want %s", chat.header.Get("X-Router-Score"), d.score)
			}
			if query.get("tier_used").String() != d.tier || query.get("strategy_used").String() != "ComplexityStrategy" {
				t.Errorf("/query: %s", query.body)
			}
			if b := debug.get("breakdown"); d.score != "" {
				sum := 0.0
				for _, v := range b.Map() {
					sum += v.Num
				}
				if max(0, min(10, sum)) != want {
					t.Errorf("the breakdown %s sums to %v, not %v", b.Raw, sum, want)
				}
			}
		})
	}
	two := runProgram(t, map[string]string{"config.yaml": "tiers: {fast: [{provider: simulated, model: small}], balanced: [{provider: simulated, model: medium}]}\n"}, nil,
		"explain", "-json", "explain the tradeoffs between SQL and NoSQL in detail")
	if gjson.Get(two.out, "tier").String() != "balanced" {
		t.Errorf("of two tiers: %s", two.out)
	}
	t.Run("the system prompt and earlier turns are not scored", func(t *testing.T) {
		a := s.do(t, "POST", "/v1/route", `{"messages":[{"role":"system","content":"compare B-trees vs LSM trees"},{"role":"user","content":"prove it"},{"role":"assistant","content":"compare"},{"role":"user","content":"what is the capital of France?"}]}`)
		if a.get("score").Num != 0 {
			t.Errorf("%s", a.body)
		}
	})
}

func TestContract5_RangesAndMissingTiers(t *testing.T) {
	tier := func(t *testing.T, tiers, strategy, prompt string) string {
		t.Helper()
		config := "tiers:\n"
		for name := range strings.FieldsSeq(tiers) {
			config += "  " + name + ": [{provider: simulated, model: " + name + "}]\n"
		}
		o := runProgram(t, map[string]string{"config.yaml": config + strategy}, nil, "explain", "-json", prompt)
		if o.code != 0 {
			t.Fatalf("%s", o.err)
		}
		return gjson.Get(o.out, "tier").String()
	}
	for _, tt := range []struct{ name, tiers, strategy, prompt, want string }{
		{"the lower end is inclusive", "a b", "strategy: [{complexity: {rules: {a: [0, 3.5], b: [3.5, 10]}}}]\n", "explain how transformers work", "b"},
		{"the upper end is exclusive", "a b", "strategy: [{complexity: {rules: {a: [0, 7.5], b: [7.5, 10]}}}]\n", "compare B-trees vs LSM trees", "b"},
		{"the last upper end is inclusive", "a b", "strategy: [{complexity: {rules: {a: [0, 3], b: [3, 7.5]}}}]\n", "compare B-trees vs LSM trees", "b"},
		{"a wanted tier that is not configured goes below", "fast balanced", "", "compare B-trees vs LSM trees", "balanced"},
		{"else to the least capable", "balanced powerful", "", "what is the capital of France?", "balanced"},
		{"a bare strategy has the default rules", "fast balanced powerful", "strategy: [complexity]\n", "compare B-trees vs LSM trees", "powerful"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tier(t, tt.tiers, tt.strategy, tt.prompt); got != tt.want {
				t.Errorf("tier %s, want %s", got, tt.want)
			}
		})
	}
}

// costs makes an upstream's answers cost an exact sum with price 1 per million
// input tokens: tokens/1,000,000 dollars.
func costs(tokens *int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":0,"total_tokens":%d}}`, *tokens, *tokens)
	}
}

func TestContract5_CostThresholds(t *testing.T) {
	tokens := int64(0)
	f := newFake(t, nil)
	f.now(costs(&tokens))
	// One million input tokens are a dollar in each tier.
	tiers := loopback + "tiers:\n"
	for _, tier := range []string{"fast", "balanced", "powerful"} {
		tiers += fmt.Sprintf("  %s: [{provider: openai, model: m-%s, base_url: '%s/v1', api_key: k, price: {input: %d, output: 1}}]\n", tier, tier, f.URL, map[string]int{"fast": 1, "balanced": 2, "powerful": 4}[tier])
	}
	const hard = "compare B-trees vs LSM trees"
	tier := func(t *testing.T, s *served, headers ...string) string {
		t.Helper()
		a := s.do(t, "POST", "/v1/route", asking("auto", hard), headers...)
		return a.get("tier").String()
	}
	spend := func(t *testing.T, s *served, microdollars int64) {
		t.Helper()
		tokens = microdollars
		if a := s.chat(t, asking("fast", "x", `"max_tokens":1`)); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, tt := range []struct{ name, config string }{
		{"the cost strategy's own budget", "strategy: [{cost: {budget_usd_per_day: 0.01}}, complexity]\n"},
		{"a global budget that downgrades", "strategy: [cost, complexity]\nbudgets: [{scope: global, usd: 0.01, per: day, on_exhausted: downgrade}]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serveConfig(t, tiers+tt.config)
			if got := tier(t, s); got != "powerful" {
				t.Errorf("at 0%%: %s", got)
			}
			spend(t, s, 7900) // of 10,000
			if got := tier(t, s); got != "powerful" {
				t.Errorf("at 79%%: %s", got)
			}
			spend(t, s, 100)
			if got := tier(t, s); got != "balanced" {
				t.Errorf("at 80%%: %s", got)
			}
			a := s.do(t, "POST", "/v1/route", asking("auto", hard))
			if reason := a.get("reason").String(); !regexp.MustCompile(`complexity 7\.5 wants powerful; cost 80% of global budget`).MatchString(reason) {
				t.Errorf("reason %q", reason)
			}
			spend(t, s, 1400)
			if got := tier(t, s); got != "balanced" {
				t.Errorf("at 94%%: %s", got)
			}
			spend(t, s, 100)
			if got := tier(t, s); got != "fast" {
				t.Errorf("at 95%%: %s", got)
			}
			spend(t, s, 1000)
			if a := s.chat(t, asking("auto", hard, `"max_tokens":1`)); a.status != 200 || a.header.Get("X-Router-Tier") != "fast" {
				t.Errorf("used up, with downgrade: %d %v", a.status, a.header)
			}
			s.do(t, "DELETE", "/stats/reset", "")
			if got := tier(t, s); got != "powerful" {
				t.Errorf("after a reset: %s", got)
			}
		})
	}
	t.Run("thresholds and tiers_by_cost are the file's", func(t *testing.T) {
		s := serveConfig(t, tiers+"strategy: [{cost: {budget_usd_per_day: 0.01, downgrade_at: 0.2, floor_at: 0.4, tiers_by_cost: [fast, powerful, balanced]}}, complexity]\n")
		spend(t, s, 2000)
		if got := tier(t, s); got != "powerful" {
			t.Errorf("the middle of [fast, powerful, balanced]: %s", got)
		}
		if a := s.do(t, "POST", "/v1/route", asking("auto", "hi")); a.get("tier").String() == "fast" {
			t.Errorf("the dearest is still allowed: %s", a.body)
		}
		spend(t, s, 2000)
		if got := tier(t, s); got != "balanced" {
			t.Errorf("the cheapest of [fast, powerful, balanced]: %s", got)
		}
	})
	t.Run("the largest fraction counts, and users are apart", func(t *testing.T) {
		s := serveConfig(t, tiers+"strategy: [cost, complexity]\nbudgets: [{scope: global, usd: 1, per: day}, {scope: user, usd: 0.01, per: day}]\n")
		tokens = 8500
		s.chat(t, asking("fast", "x"), "X-Router-User", "ann")
		if ann, bob := tier(t, s, "X-Router-User", "ann"), tier(t, s, "X-Router-User", "bob"); ann != "balanced" || bob != "powerful" {
			t.Errorf("ann %s, bob %s", ann, bob)
		}
		if wide := tier(t, s, "X-Router-User", "ann", "X-Router-Budget-USD", "5"); wide != "powerful" {
			t.Errorf("ann with a larger budget: %s", wide)
		}
	})
	t.Run("a hard budget that is used up refuses forced tiers too", func(t *testing.T) {
		s := serveConfig(t, tiers+"strategy: [cost, complexity]\nbudgets: [{scope: user, usd: 0.01, per: day, on_exhausted: reject}]\n")
		tokens = 10000
		s.chat(t, asking("fast", "x", `"max_tokens":1`))
		for _, a := range []answered{s.chat(t, asking("auto", "x")), s.chat(t, asking("powerful", "x")), s.chat(t, asking("openai/m-fast", "x")), s.chat(t, asking("auto", "x"), "X-Router-Tier", "fast")} {
			a.wantError(t, 429, "insufficient_quota", "budget_exceeded")
		}
	})
}

func TestContract5_LatencySLABreachAndRecovery(t *testing.T) {
	var mu sync.Mutex
	slow := map[string]time.Duration{}
	f := newFake(t, nil)
	f.now(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		d := slow[body.Model]
		mu.Unlock()
		time.Sleep(d)
		answersWith(200, completion)(w, r)
	})
	set := func(model string, d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		slow[model] = d
	}
	s := serveConfig(t, threeTiersOf(f)+"strategy: [{latency: {sla_ms: 250, tier_slas: {fast: 20000}, preferred_tier: balanced, fallback_tier: powerful, window_size: 4, min_samples: 3}}]\n")
	tier := func() string { return s.do(t, "POST", "/v1/route", asking("auto", "hi")).get("tier").String() }
	if got := tier(); got != "balanced" {
		t.Errorf("the preferred tier is healthy, but %s is chosen", got)
	}
	set("m-balanced", 300*time.Millisecond)
	for i := range 3 {
		if got := tier(); got != "balanced" && i < 3 {
			t.Errorf("with %d of 3 samples: %s", i, got)
		}
		s.chat(t, asking("balanced", "x"))
	}
	a := s.do(t, "POST", "/v1/route", asking("auto", "hi"))
	if a.get("tier").String() != "powerful" && a.get("tier").String() != "balanced" || !strings.Contains(a.body, "over 250 ms") {
		t.Errorf("the preferred tier is over its SLA: %s", a.body)
	}
	tiers := s.do(t, "GET", "/tiers", "")
	if b := tiers.get("tiers.balanced"); b.Get("healthy").Bool() || b.Get("samples").Int() != 3 || b.Get("p90_ms").Num < 300 || b.Get("sla_ms").Num != 250 || tiers.get("tiers.fast.sla_ms").Num != 20000 {
		t.Errorf("/tiers: %s", tiers.body)
	}
	hits := map[string]int{}
	for range 40 {
		hits[s.chat(t, asking("auto", "hi")).header.Get("X-Router-Tier")]++
	}
	if hits["powerful"] < 30 || hits["balanced"] > 10 {
		t.Errorf("of 40 requests: %v, want nearly all at powerful and a few probes", hits)
	}
	set("m-balanced", 0)
	probed := false
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline) && !probed; {
		a := s.chat(t, asking("auto", "hi"))
		probed = a.header.Get("X-Router-Tier") == "balanced"
	}
	if !probed {
		t.Error("a removed tier was never probed")
	}
	for range 4 { // the window
		s.chat(t, asking("balanced", "x"))
	}
	if got := tier(); got != "balanced" {
		t.Errorf("recovered, but %s is chosen", got)
	}
}

func TestContract5_LatencyOfStreams(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if !streamed(r) {
			answersWell(w, r)
			return
		}
		sse(w, events[0])
		time.Sleep(300 * time.Millisecond)
		sse(w, append(events[1:], "[DONE]")...)
	})
	strategy := "strategy: [{latency: {sla_ms: 250, ttft_sla_ms: %d, preferred_tier: balanced, fallback_tier: fast, window_size: 3, min_samples: 3}}]\n"
	for _, tt := range []struct {
		name string
		ttft int
		want bool // healthy
	}{
		{"judged by time to first token", 5000, true},
		{"judged as a whole", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serveConfig(t, threeTiersOf(f)+fmt.Sprintf(strategy, tt.ttft))
			for range 3 {
				s.chat(t, asking("balanced", "x", `"stream":true`))
			}
			a := s.do(t, "POST", "/v1/route", asking("auto", "hi", `"stream":true`))
			if over := strings.Contains(a.body, "is over"); over == tt.want {
				t.Errorf("over its SLA: %v; %s", over, a.body)
			}
		})
	}
}

func TestContract5_ChainOrderAndFallback(t *testing.T) {
	var mu sync.Mutex
	down := map[string]bool{}
	f := newFake(t, nil)
	f.now(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		bad := down[body.Model]
		mu.Unlock()
		if bad {
			answersWith(500, `{"error":{"message":"x"}}`)(w, r)
			return
		}
		answersWith(200, completion)(w, r)
	})
	t.Run("a chain is named so", func(t *testing.T) {
		s := serveConfig(t, threeTiersOf(f)+"strategy: [cost, latency, complexity]\n")
		a := s.chat(t, asking("auto", "hi"))
		a.wantHeader(t, "X-Router-Strategy", "ChainStrategy")
		route := s.do(t, "POST", "/v1/route", asking("auto", "hi"))
		if got := route.get("strategies.#.name").Raw; got != `["cost","latency","complexity"]` {
			t.Errorf("strategies %s", got)
		}
	})
	t.Run("fallback after the chosen tier", func(t *testing.T) {
		s := serveConfig(t, threeTiersOf(f)+"fallback: balanced\n")
		mu.Lock()
		down["m-powerful"] = true
		mu.Unlock()
		a := s.chat(t, asking("powerful", "x"))
		if a.status != 200 || a.header.Get("X-Router-Tier") != "balanced" || a.header.Get("X-Router-Fallback") != "true" || a.header.Get("X-Router-Attempts") != "2" || a.header.Get("X-Router-Strategy") != "manual" {
			t.Errorf("%d %v", a.status, a.header)
		}
		if q := s.do(t, "POST", "/query", `{"prompt":"x","tier":"powerful"}`); !q.get("was_fallback").Bool() || q.get("tier_used").String() != "balanced" {
			t.Errorf("%s", q.body)
		}
		forced := s.chat(t, asking("openai/m-powerful", "x"))
		if forced.status != 502 {
			t.Errorf("a forced upstream failed over: %d %v", forced.status, forced.header)
		}
		mu.Lock()
		down["m-powerful"] = false
		mu.Unlock()
	})
	t.Run("the default fallback is the first tier", func(t *testing.T) {
		s := serveConfig(t, threeTiersOf(f))
		mu.Lock()
		down["m-powerful"] = true
		mu.Unlock()
		if a := s.chat(t, asking("powerful", "x")); a.header.Get("X-Router-Tier") != "fast" {
			t.Errorf("%d %v", a.status, a.header)
		}
		mu.Lock()
		down["m-powerful"] = false
		mu.Unlock()
	})
}

func TestContract2_Balance(t *testing.T) {
	var mu sync.Mutex
	var delay atomic.Int64 // of the slow one, ns
	hits := map[string]int{}
	f := newFake(t, nil)
	f.now(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Model string }
		_ = json.NewDecoder(r.Body).Decode(&body)
		mu.Lock()
		hits[body.Model]++
		mu.Unlock()
		if body.Model == "slow" {
			time.Sleep(time.Duration(delay.Load()))
		}
		answersWith(200, completion)(w, r)
	})
	config := func(balance, more string) string {
		return loopback + "tiers:\n  fast:\n    balance: " + balance + "\n    upstreams:\n      - " + upstreamLine(f, "slow", more) + "\n      - " + upstreamLine(f, "quick") + "\n"
	}
	count := func(t *testing.T, s *served) (slow, quick int) {
		t.Helper()
		mu.Lock()
		clear(hits)
		mu.Unlock()
		for range 40 {
			s.chat(t, asking("auto", "x"))
		}
		mu.Lock()
		defer mu.Unlock()
		return hits["slow"], hits["quick"]
	}
	if slow, quick := count(t, serveConfig(t, strings.Replace(config("ordered", "x"), ", x}", "}", 1))); slow != 40 || quick != 0 {
		t.Errorf("ordered: %d and %d", slow, quick)
	}
	if slow, quick := count(t, serveConfig(t, config("weighted", "weight: 9"))); slow <= quick || quick == 0 {
		t.Errorf("weighted 9 to 1: %d and %d", slow, quick)
	}
	delay.Store(int64(100 * time.Millisecond))
	if slow, quick := count(t, serveConfig(t, strings.Replace(config("fastest", "x"), ", x}", "}", 1))); quick <= slow {
		t.Errorf("fastest: %d slow and %d quick", slow, quick)
	}
}

func TestContract6_Sidecar(t *testing.T) {
	f := newFake(t, answersWell)
	budgets := "budgets: [{scope: user, usd: 1, per: day, on_exhausted: reject}]\n"
	s := serveConfig(t, threeTiersOf(f)+budgets)
	limit := func(t *testing.T, user string) string {
		t.Helper()
		return s.do(t, "GET", "/budgets?user="+user, "").get(`budgets.#(user=="` + user + `").limit_usd`).Raw
	}
	spent := func(t *testing.T, user string) string {
		t.Helper()
		return s.do(t, "GET", "/budgets?user="+user, "").get(`budgets.#(user=="` + user + `").spent_usd`).Raw
	}
	for _, tt := range []struct {
		user, body string
		headers    []string
		limit      string
	}{
		{"header", asking("fast", "x", `"user":"other"`, `"metadata":{"user_id":"third"}`), []string{"X-Router-User", "header"}, "1"},
		{"meta", asking("fast", "x", `"user":"other"`, `"metadata":{"user_id":"meta","budget_usd":3}`), nil, "3"},
		{"meta-text", asking("fast", "x", `"metadata":{"user_id":"meta-text","budget_usd":"0.5"}`), nil, "0.5"},
		{"body", asking("fast", "x", `"user":"body"`, `"safety_identifier":"s"`), nil, "1"},
		{"safety", asking("fast", "x", `"safety_identifier":"safety"`), nil, "1"},
		{"anonymous", asking("fast", "x"), nil, "1"},
		{"wide", asking("fast", "x", `"metadata":{"budget_usd":7}`), []string{"X-Router-User", "wide", "X-Router-Budget-USD", "5"}, "5"},
		{"lower-case", asking("fast", "x"), []string{"x-router-user", "lower-case"}, "1"},
	} {
		t.Run(tt.user, func(t *testing.T) {
			if a := s.chat(t, tt.body, tt.headers...); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if got := spent(t, tt.user); got != "0.0002" {
				t.Errorf("%s spent %s, want 0.0002", tt.user, got)
			}
			if got := limit(t, tt.user); got != tt.limit {
				t.Errorf("limit %s, want %s", got, tt.limit)
			}
		})
	}
	t.Run("anonymous: reject", func(t *testing.T) {
		s := serveConfig(t, threeTiersOf(f)+"identity: {anonymous: reject}\n")
		if a := s.chat(t, asking("fast", "x")); a.status != 401 || a.get("error.type").String() != "authentication_error" {
			t.Errorf("%d %s", a.status, a.body)
		}
		if a := s.chat(t, asking("fast", "x", `"user":"u"`)); a.status != 200 {
			t.Errorf("with a user: %d", a.status)
		}
	})
	t.Run("where no user budget is configured a header's makes one that downgrades", func(t *testing.T) {
		s := serveConfig(t, threeTiersOf(f))
		for range 3 {
			if a := s.chat(t, asking("auto", "x"), "X-Router-User", "u", "X-Router-Budget-USD", "0.0001"); a.status != 200 {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
	})
}

func TestContract6_TrustedProxy(t *testing.T) {
	f := newFake(t, answersWell)
	trusted := serveConfig(t, threeTiersOf(f)+"identity: {mode: trusted_proxy, trusted_cidrs: [127.0.0.0/8]}\n")
	if a := trusted.chat(t, asking("fast", "x"), "X-Router-User", "ann"); a.status != 200 {
		t.Errorf("a trusted peer: %d %s", a.status, a.body)
	}
	other := serveConfig(t, threeTiersOf(f)+"identity: {mode: trusted_proxy, trusted_cidrs: [10.0.0.0/8]}\n")
	for _, h := range [][]string{{"X-Router-User", "ann"}, {"X-Router-Budget-USD", "5"}, {"X-Router-Signature", "t=1"}, {"X-Router-User", "ann", "X-Forwarded-For", "10.0.0.1", "X-Real-Ip", "10.0.0.1", "Forwarded", "for=10.0.0.1"}} {
		if a := other.chat(t, asking("fast", "x"), h...); a.status != 403 || a.get("error.type").String() != "permission_error" {
			t.Errorf("%v: %d %s", h, a.status, a.body)
		}
	}
	for name, router := range map[string]*served{"elsewhere": other, "a trusted peer, identity.body being off": trusted} {
		if a := router.chat(t, asking("fast", "x", `"user":"ann"`, `"metadata":{"user_id":"ann"}`)); a.status != 401 {
			t.Errorf("a body's user from %s: %d", name, a.status)
		}
	}
	body := serveConfig(t, threeTiersOf(f)+"identity: {mode: trusted_proxy, trusted_cidrs: [127.0.0.0/8], body: true}\n")
	if a := body.chat(t, asking("fast", "x", `"user":"ann"`)); a.status != 200 {
		t.Errorf("a body's user with identity.body: %d %s", a.status, a.body)
	}
	if a := other.do(t, "GET", "/metrics", ""); a.status != 401 && a.status != 403 {
		t.Errorf("an admin route without a key: %d", a.status)
	}
}

func TestContract6_Keys(t *testing.T) {
	f := newFake(t, answersWell)
	sum := sha256.Sum256([]byte("hashed-key"))
	s := serveConfig(t, threeTiersOf(f)+`identity:
  mode: keys
  keys:
    - {name: free, key: free-key-0001, user: "*", budget_usd_per_day: 1}
    - {name: fixed, key: fixed-key-0001, user: carl, tiers: [fast]}
    - {name: hashed, sha256: `+hex.EncodeToString(sum[:])+`}
    - {name: root, key: admin-key-0001, admin: true}
budgets: [{scope: user, usd: 0.5, per: day, on_exhausted: reject}, {scope: key, usd: 0.75, per: week, on_exhausted: reject}]
`)
	key := func(k string) []string { return []string{"Authorization", "Bearer " + k} }
	t.Run("without a key", func(t *testing.T) {
		for _, h := range [][]string{nil, key("wrong"), key("free-key-000"), {"Authorization", "Basic x"}, key(hex.EncodeToString(sum[:]))} {
			s.chat(t, asking("fast", "x"), h...).wantError(t, 401, "authentication_error", "invalid_api_key")
		}
		for _, r := range [][2]string{{"GET", "/v1/models"}, {"GET", "/v1/models/auto"}, {"POST", "/v1/route"}, {"POST", "/query"}, {"POST", "/query/stream"}, {"GET", "/tiers"}, {"POST", "/debug/complexity"}, {"POST", "/v1/embeddings"},
			{"GET", "/dashboard"}, {"GET", "/metrics"}, {"GET", "/budgets"}, {"DELETE", "/stats/reset"}} {
			if a := s.do(t, r[0], r[1], "{}"); a.status != 401 {
				t.Errorf("%s %s: %d, want 401", r[0], r[1], a.status)
			}
		}
		for _, path := range []string{"/", "/livez", "/readyz", "/healthz", "/docs", "/openapi.json"} {
			if a := s.do(t, "GET", path, ""); a.status != 200 {
				t.Errorf("%s: %d, want 200", path, a.status)
			}
		}
	})
	t.Run("admin routes", func(t *testing.T) {
		for _, r := range [][2]string{{"GET", "/dashboard"}, {"GET", "/metrics"}, {"GET", "/budgets"}, {"DELETE", "/stats/reset"}} {
			if a := s.do(t, r[0], r[1], "", key("free-key-0001")...); a.status != 403 || a.get("error.type").String() != "permission_error" {
				t.Errorf("%s %s with a common key: %d", r[0], r[1], a.status)
			}
			if a := s.do(t, r[0], r[1], "", key("admin-key-0001")...); a.status != 200 {
				t.Errorf("%s %s with the admin's key: %d", r[0], r[1], a.status)
			}
		}
	})
	t.Run("a browser may send an admin's key as a password", func(t *testing.T) {
		basic := func(key string) string {
			return "Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+key))
		}
		if a := s.do(t, "GET", "/dashboard", "", "Accept", "text/html"); a.status != 401 || !strings.HasPrefix(a.header.Get("Www-Authenticate"), "Basic ") {
			t.Errorf("without a key: %d %v", a.status, a.header)
		}
		for key, want := range map[string]int{"admin-key-0001": 200, "free-key-0001": 403, "wrong": 401} {
			if a := s.do(t, "GET", "/dashboard", "", "Authorization", basic(key)); a.status != want {
				t.Errorf("%s: %d, want %d", key, a.status, want)
			}
		}
		if a := s.chat(t, asking("fast", "x"), "Authorization", basic("free-key-0001")); a.status != 401 || a.header.Get("Www-Authenticate") != "" {
			t.Errorf("a chat by password: %d %v", a.status, a.header)
		}
	})
	t.Run("a key that may choose its user", func(t *testing.T) {
		a := s.chat(t, asking("fast", "x"), append(key("free-key-0001"), "X-Router-User", "ann", "X-Router-Budget-USD", "100")...)
		if a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
		b := s.do(t, "GET", "/budgets?user=ann", "", key("admin-key-0001")...)
		if got := b.get(`budgets.#(user=="ann").limit_usd`).Raw; got != "0.5" {
			t.Errorf("a header widened the limit to %s: %s", got, b.body)
		}
		narrow := s.chat(t, asking("fast", "x"), append(key("free-key-0001"), "X-Router-User", "ann", "X-Router-Budget-USD", "0.0001")...)
		narrow.wantError(t, 429, "insufficient_quota", "budget_exceeded")
		if by := s.chat(t, asking("fast", "x", `"user":"eve"`), key("free-key-0001")...); by.status != 200 {
			t.Errorf("a body's user: %d", by.status)
		}
		if eve := s.do(t, "GET", "/budgets?user=eve", "", key("admin-key-0001")...); eve.get(`budgets.#(user=="eve").spent_usd`).Num != 0 {
			t.Errorf("the body named the user: %s", eve.body)
		}
	})
	t.Run("a key of one user", func(t *testing.T) {
		if a := s.chat(t, asking("fast", "x"), append(key("fixed-key-0001"), "X-Router-User", "ann")...); a.status != 403 || a.get("error.type").String() != "permission_error" {
			t.Errorf("another user: %d %s", a.status, a.body)
		}
		if a := s.chat(t, asking("fast", "x"), append(key("fixed-key-0001"), "X-Router-User", "carl")...); a.status != 200 {
			t.Errorf("its own user: %d", a.status)
		}
		for _, model := range []string{"powerful", "m-powerful", "openai/m-balanced"} {
			if a := s.chat(t, asking(model, "x"), key("fixed-key-0001")...); a.status != 403 || a.get("error.type").String() != "permission_error" {
				t.Errorf("%s: %d %s, want 403", model, a.status, a.body)
			}
		}
		if a := s.chat(t, asking("auto", "compare B-trees vs LSM trees"), key("fixed-key-0001")...); a.header.Get("X-Router-Tier") != "fast" {
			t.Errorf("auto: %d %s", a.status, a.header.Get("X-Router-Tier"))
		}
		if ids := s.do(t, "GET", "/v1/models", "", key("fixed-key-0001")...).get("data.#.id").Raw; strings.Contains(ids, "powerful") {
			t.Errorf("models of a key for fast: %s", ids)
		}
	})
	t.Run("a hashed key", func(t *testing.T) {
		if a := s.chat(t, asking("fast", "x"), key("hashed-key")...); a.status != 200 {
			t.Errorf("%d %s", a.status, a.body)
		}
	})
	t.Run("our keys reach no upstream and no log", func(t *testing.T) {
		for _, r := range f.seen() {
			if got := r.header.Get("Authorization"); got != "Bearer sk-canary-1234" {
				t.Fatalf("the upstream got %s", got)
			}
		}
		if log := s.log.String(); strings.Contains(log, "free-key") || strings.Contains(log, "hashed-key") || strings.Contains(log, `"ann"`) {
			t.Errorf("a key or a user in the log:\n%s", log)
		}
	})
}

func TestContract6_Signed(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"identity: {mode: signed, signing_keys: [{id: k1, secret: s3cret}], keys: [{name: root, key: admin-key-0001, admin: true}]}\nbudgets: [{scope: user, usd: 0.5, per: day}]\n")
	signed := func(secret, id, user, usd string, at time.Time) string {
		unix := fmt.Sprint(at.Unix())
		m := hmac.New(sha256.New, []byte(secret))
		_, _ = fmt.Fprintf(m, "v1\n%s\n%s\n%s\n%s", id, unix, user, usd)
		return "t=" + unix + ",k=" + id + ",v1=" + hex.EncodeToString(m.Sum(nil))
	}
	now := time.Now()
	good := signed("s3cret", "k1", "ann", "2", now)
	for _, tt := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"valid", []string{"X-Router-User", "ann", "X-Router-Budget-USD", "2", "X-Router-Signature", good}, 200},
		{"a user only", []string{"X-Router-User", "ann", "X-Router-Signature", signed("s3cret", "k1", "ann", "", now)}, 200},
		{"four minutes old", []string{"X-Router-User", "ann", "X-Router-Signature", signed("s3cret", "k1", "ann", "", now.Add(-4*time.Minute))}, 200},
		{"six minutes old", []string{"X-Router-User", "ann", "X-Router-Signature", signed("s3cret", "k1", "ann", "", now.Add(-6*time.Minute))}, 401},
		{"half a minute ahead", []string{"X-Router-User", "ann", "X-Router-Signature", signed("s3cret", "k1", "ann", "", now.Add(30*time.Second))}, 200},
		{"two minutes ahead", []string{"X-Router-User", "ann", "X-Router-Signature", signed("s3cret", "k1", "ann", "", now.Add(2*time.Minute))}, 401},
		{"no signature", []string{"X-Router-User", "ann"}, 401},
		{"a budget without a signature", []string{"X-Router-Budget-USD", "2"}, 401},
		{"another user", []string{"X-Router-User", "bob", "X-Router-Budget-USD", "2", "X-Router-Signature", good}, 401},
		{"another budget", []string{"X-Router-User", "ann", "X-Router-Budget-USD", "20", "X-Router-Signature", good}, 401},
		{"the budget dropped", []string{"X-Router-User", "ann", "X-Router-Signature", good}, 401},
		{"another secret", []string{"X-Router-User", "ann", "X-Router-Signature", signed("x", "k1", "ann", "", now)}, 401},
		{"an unknown key", []string{"X-Router-User", "ann", "X-Router-Signature", signed("s3cret", "k2", "ann", "", now)}, 401},
		{"nonsense", []string{"X-Router-User", "ann", "X-Router-Signature", "t=1,k=k1,v1=zz"}, 401},
		{"no identity at all, though the body names somebody", nil, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.chat(t, asking("fast", "x", `"user":"mallory"`, `"metadata":{"budget_usd":100}`), tt.headers...)
			if a.status != tt.status || tt.status == 401 && a.get("error.type").String() != "authentication_error" {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
		})
	}
	b := s.do(t, "GET", "/budgets?user=mallory", "", "Authorization", "Bearer admin-key-0001")
	if b.status != 200 || b.get(`budgets.#(user=="mallory").spent_usd`).Num != 0 {
		t.Errorf("mallory: %d %s", b.status, b.body)
	}
}

func TestContract6_AdminListener(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, strings.Replace(threeTiersOf(f), "0'}", "0', admin_listen: 'localhost:0'}", 1))
	for _, path := range []string{"/dashboard", "/metrics", "/budgets"} {
		if a := s.do(t, "GET", path, ""); a.status != 404 {
			t.Errorf("%s on the data listener: %d", path, a.status)
		}
		if a := s.do(t, "GET", s.admin+path, ""); a.status != 200 {
			t.Errorf("%s on the admin listener: %d", path, a.status)
		}
	}
	if a := s.do(t, "DELETE", "/stats/reset", ""); a.status != 404 {
		t.Errorf("reset on the data listener: %d", a.status)
	}
	if a := s.do(t, "POST", s.admin+"/v1/chat/completions", asking("auto", "x")); a.status != 404 {
		t.Errorf("chat on the admin listener: %d", a.status)
	}
	if a := s.do(t, "GET", s.admin+"/livez", ""); a.status != 200 {
		t.Errorf("livez on the admin listener: %d", a.status)
	}
}

func TestContract10_HostsOfALoopbackListener(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, strings.Replace(threeTiersOf(f), "0'}", "0', hosts: [router.internal]}", 1))
	for host, want := range map[string]int{"localhost": 200, "localhost:123": 200, "127.0.0.1": 200, "[::1]:80": 200, "router.internal": 200, "ROUTER.internal:9": 200, "evil.example": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:80": 403} {
		if a := s.chat(t, asking("auto", "x"), "Host", host); a.status != want {
			t.Errorf("Host %s: %d, want %d", host, a.status, want)
		}
	}
	socket := serveConfig(t, strings.Replace(threeTiersOf(f), "0'}", "0', admin_listen: 'unix:"+filepath.Join(t.TempDir(), "a")+"'}", 1))
	if a := socket.chat(t, asking("auto", "x"), "Host", "evil.example"); a.status != 403 {
		t.Errorf("a foreign Host on a loopback listener beside an admin socket: %d, want 403", a.status)
	}
	if a := s.chat(t, asking("auto", "x"), "Origin", "https://evil.example"); a.status != 403 || a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("a foreign origin: %d", a.status)
	}
}

func TestContract10_DecisionLog(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"log: {decisions: decisions.jsonl}\nbudgets: [{scope: user, usd: 1, per: day, on_exhausted: reject}]\n")
	s.chat(t, asking("auto", "explain how transformers work, canary-prompt"), "X-Router-User", "ann", "X-Router-Session", "session-canary")
	s.chat(t, asking("auto", "x", `"stream":true`), "X-Router-User", "ann")
	s.chat(t, asking("auto", "x"), "X-Router-User", "ann", "X-Router-Budget-USD", "0")
	s.chat(t, `{}`, "X-Router-User", "ann")
	var lines []string
	testkit.Eventually(t, "four lines in the decision log", func() bool {
		lines = strings.Split(strings.TrimSpace(readFile(t, filepath.Join(s.dir, "decisions.jsonl"))), "\n")
		return len(lines) == 4
	})
	whole := gjson.Parse(lines[0])
	for _, key := range []string{"decision", "time", "model", "tier", "upstream", "forced", "score", "breakdown.length", "breakdown.questions", "breakdown.reasoning", "breakdown.code", "breakdown.simple", "strategies.0.name",
		"strategies.0.allowed.0", "strategies.0.reason", "reason", "status", "attempts.0.upstream", "attempts.0.outcome", "attempts.0.status", "attempts.0.latency_ms", "tokens.input", "tokens.output", "tokens.cached_input", "tokens.cache_write",
		"tokens.reasoning", "cost_usd", "reserved_usd", "latency_ms", "ttft_ms", "user", "stream", "fallback"} {
		if !whole.Get(key).Exists() {
			t.Errorf("no %s in %s", key, lines[0])
		}
	}
	if whole.Get("tokens.input").Int() != 100 || whole.Get("cost_usd").Raw != "0.0006" || whole.Get("reserved_usd").Num <= 0.0006 || whole.Get("status").Int() != 200 || !strings.HasPrefix(whole.Get("user").String(), "h:") {
		t.Errorf("line %s", lines[0])
	}
	if stream := gjson.Parse(lines[1]); !stream.Get("stream").Bool() || stream.Get("cost_usd").Raw != "0.0002" || stream.Get("ttft_ms").Num <= 0 {
		t.Errorf("line %s", lines[1])
	}
	if refused := gjson.Parse(lines[2]); refused.Get("status").Int() != 429 || refused.Get("tier").Exists() && refused.Get("cost_usd").Num != 0 {
		t.Errorf("line %s", lines[2])
	}
	if bad := gjson.Parse(lines[3]); bad.Get("status").Int() != 400 {
		t.Errorf("line %s", lines[3])
	}
	for _, leak := range []string{"canary-prompt", "transformers", `"ann"`, "sk-canary"} {
		if strings.Contains(strings.Join(lines, "\n"), leak) || strings.Contains(s.log.String(), leak) {
			t.Errorf("%s is in a log", leak)
		}
	}
	plain := serveConfig(t, threeTiersOf(f)+"log: {decisions: decisions.jsonl, users: plain, format: json, level: info}\n")
	plain.chat(t, asking("auto", "x"), "X-Router-User", "ann")
	plain.waitLog(t, `"user":"(ann)"`)
}

func TestContract2_ReloadKeepsOnInvalidFiles(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f))
	file := filepath.Join(s.dir, "config.yaml")
	testkit.Write(t, file, threeTiersOf(f)+"models: {aliases: {fresh: powerful}}\n")
	s.waitLog(t, `configuration (reloaded)`)
	for i, bad := range []string{"", "tiers: nonsense\n", "tiers: {fast: [{provider: simu", strings.Repeat("#", 2<<20), threeTiersOf(f) + "fallback: nowhere\n"} {
		testkit.Write(t, file, bad)
		s.signal(t, syscall.SIGHUP)
		testkit.Eventually(t, "the bad file is logged", func() bool { return strings.Count(s.log.String(), "not reloaded") > i })
		if a := s.chat(t, asking("fresh", "x")); a.status != 200 || a.header.Get("X-Router-Tier") != "powerful" {
			t.Errorf("after a bad file: %d %s", a.status, a.body)
		}
	}
	testkit.Write(t, file, threeTiersOf(f)+"models: {aliases: {fresh: fast}}\n")
	s.signal(t, syscall.SIGHUP)
	testkit.Eventually(t, "the good file is in force", func() bool {
		return s.chat(t, asking("fresh", "x")).header.Get("X-Router-Tier") == "fast"
	})
}

func TestContract8_Metrics(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"budgets: [{scope: user, usd: 1, per: day}]\nembeddings: []\n")
	s.chat(t, asking("auto", "x"), "X-Router-User", "ann")
	s.chat(t, asking("junk-model-name", "x", `"stream":true`), "X-Router-User", "bob")
	f.now(answersWith(400, `{"error":{"message":"m","type":"t","code":"free-code-of-theirs"}}`))
	s.chat(t, asking("auto", "x"))
	f.now(answersWith(500, `{"error":{"message":"m","type":"t","code":"free-code-of-theirs"}}`))
	s.chat(t, asking("openai/m-fast", "x"))
	m := s.do(t, "GET", "/metrics", "").body
	for _, name := range []string{"gen_ai_client_operation_duration_seconds", "gen_ai_client_token_usage", "gen_ai_server_time_to_first_token_seconds", `router_requests_total{status="200",tier="fast",upstream="openai/m-fast"} 2`,
		"router_decisions_total{", "router_fallbacks_total", "router_cost_usd_total", "router_budget_used_ratio{scope=\"user\"}", "router_upstream_healthy{", "router_store_up 1", "router_overhead_seconds"} {
		if !strings.Contains(m, name) {
			t.Errorf("no %s in the metrics", name)
		}
	}
	for _, free := range []string{"ann", "bob", "junk-model-name", "free-code", "sk-canary"} {
		if strings.Contains(m, `"`+free) {
			t.Errorf("%s is a label", free)
		}
	}
}
