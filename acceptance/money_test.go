package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"
)

func TestContract4_BudgetExceeded(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"budgets: [{scope: user, usd: 0.001, per: day, on_exhausted: reject}]\n")
	for i := range 5 { // each costs 0.0002
		if a := s.chat(t, asking("fast", "x", `"max_tokens":10`)); a.status != 200 {
			t.Fatalf("request %d: %d %s", i, a.status, a.body)
		}
	}
	calls := len(f.seen())
	a := s.chat(t, asking("fast", "x", `"max_tokens":10`))
	a.wantError(t, 429, "insufficient_quota", "budget_exceeded")
	a.wantHeader(t, "X-Should-Retry", "false")
	now := time.Now().UTC()
	end := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC)
	if after, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || after < int(end.Sub(now).Seconds())-5 || after > int(end.Sub(now).Seconds())+5 {
		t.Errorf("Retry-After %s, want the seconds to midnight UTC, %v", a.header.Get("Retry-After"), end.Sub(now))
	}
	if stream := s.chat(t, asking("fast", "x", `"stream":true`)); stream.status != 429 || !strings.Contains(stream.header.Get("Content-Type"), "json") {
		t.Errorf("a stream: %d %s", stream.status, stream.body)
	}
	if q := s.do(t, "POST", "/query", `{"prompt":"x"}`); q.status != 429 || q.get("error.code").String() != "budget_exceeded" {
		t.Errorf("/query: %d %s", q.status, q.body)
	}
	if n := len(f.seen()); n != calls {
		t.Errorf("refused requests reached the upstream %d times", n-calls)
	}
	if other := s.chat(t, asking("fast", "x", `"max_tokens":10`), "X-Router-User", "other"); other.status != 200 {
		t.Errorf("another user: %d", other.status)
	}
	t.Run("S16 a budget of 0", func(t *testing.T) {
		s.chat(t, asking("fast", "x"), "X-Router-User", "zero", "X-Router-Budget-USD", "0").wantError(t, 429, "insufficient_quota", "budget_exceeded")
	})
	t.Run("S36 the official client does not ask again", func(t *testing.T) {
		var n atomic.Int64
		client := openai.NewClient(option.WithBaseURL(s.url+"/v1"), option.WithAPIKey("none"), option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
			n.Add(1)
			return next(r)
		}))
		_, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{Model: "fast", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("x")}})
		var apiError *openai.Error
		if !errors.As(err, &apiError) || apiError.StatusCode != 429 || apiError.Code != "budget_exceeded" || n.Load() != 1 {
			t.Errorf("%v after %d requests", err, n.Load())
		}
	})
}

func TestContract7_AHardBudgetIsExactUnderConcurrency(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(5 * time.Millisecond)
		answersWell(w, r)
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 0.01, per: day, on_exhausted: reject}, {scope: global, usd: 100, per: month}]\n")
	var ok, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			for range 10 {
				switch a := s.chat(t, asking("auto", "x", `"max_tokens":10`, fmt.Sprintf(`"stream":%v`, i%2 == 0))); a.status {
				case 200:
					ok.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("%d %s", a.status, a.body)
				}
			}
		})
	}
	all.Wait()
	spent := s.nothingReservedOf(t, "anonymous")
	if nano(t, spent) != ok.Load()*200_000 || nano(t, spent) > 10_000_000 || nano(t, spent) < 9_000_000 || len(f.seen()) != int(ok.Load()) {
		t.Errorf("%d answered, %d refused, %d calls, spent %s of 0.01", ok.Load(), refused.Load(), len(f.seen()), spent)
	}
}

// nothingReservedOf waits until nothing of a user's budget is reserved.
func (s *served) nothingReservedOf(t *testing.T, user string) (spent string) {
	t.Helper()
	testkit.Eventually(t, "nothing is reserved", func() bool {
		b := s.do(t, "GET", "/budgets?user="+user, "").get(`budgets.#(scope=="user")`)
		spent = b.Get("spent_usd").Raw
		return b.Get("reserved_usd").Raw == "0"
	})
	return spent
}

func TestContract7_FitToTheBudget(t *testing.T) {
	f := newFake(t, answersWell)
	budget := func(usd string) *served {
		return serveConfig(t, threeTiersOf(f)+"budgets: [{scope: user, usd: "+usd+", per: day, on_exhausted: reject}]\n")
	}
	const hard = "compare B-trees vs LSM trees"
	// 1,000 tokens of output: powerful 0.05, balanced 0.03, fast 0.01, and the prompt.
	for _, tt := range []struct {
		name, usd, tier string
		limited         bool
	}{
		{"it fits", "0.06", "powerful", false},
		{"a cheaper tier", "0.04", "balanced", false},
		{"the cheapest", "0.02", "fast", false},
		{"a smaller output", "0.005", "fast", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := budget(tt.usd)
			a := s.chat(t, asking("auto", hard, `"max_tokens":1000`))
			sent := gjson.Get(f.last(t).body, "max_tokens").Int()
			if a.status != 200 || a.header.Get("X-Router-Tier") != tt.tier || (sent != 1000) != tt.limited || a.header.Get("X-Router-Fallback") != "false" {
				t.Errorf("%d, tier %s, max_tokens %d, fallback %s", a.status, a.header.Get("X-Router-Tier"), sent, a.header.Get("X-Router-Fallback"))
			}
			if told := strings.Contains(a.header.Get("X-Router-Reason"), "budget"); told != (tt.name != "it fits") {
				t.Errorf("reason %q", a.header.Get("X-Router-Reason"))
			}
		})
	}
	t.Run("not under 16 tokens", func(t *testing.T) {
		budget("0.0002").chat(t, asking("auto", hard, `"max_tokens":1000`)).wantError(t, 429, "insufficient_quota", "budget_exceeded")
	})
	t.Run("a forced tier stays, with less output", func(t *testing.T) {
		a := budget("0.02").chat(t, asking("powerful", hard, `"max_tokens":1000`))
		if sent := gjson.Get(f.last(t).body, "max_tokens").Int(); a.status != 200 || a.header.Get("X-Router-Tier") != "powerful" || sent >= 1000 || sent < 16 {
			t.Errorf("%d, tier %s, max_tokens %d", a.status, a.header.Get("X-Router-Tier"), sent)
		}
	})
}

func TestContract10_MaxCostOfARequest(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f))
	a := s.chat(t, asking("auto", "compare B-trees vs LSM trees", `"max_tokens":1000`), "X-Router-Max-Cost-USD", "0.02")
	if a.status != 200 || a.header.Get("X-Router-Tier") != "fast" {
		t.Errorf("a cheaper tier: %d %v", a.status, a.header)
	}
	b := s.chat(t, asking("auto", "x"), "X-Router-Max-Cost-USD", "0.01")
	if sent := gjson.Get(f.last(t).body, "max_tokens").Int(); b.status != 200 || sent < 900 || sent > 1000 {
		t.Errorf("a smaller output: %d, sent %s", b.status, f.last(t).body)
	}
	s.chat(t, asking("auto", "x"), "X-Router-Max-Cost-USD", "0.0001").wantError(t, 402, "invalid_request_error", "max_cost_exceeded")
	s.chat(t, asking("powerful", "x", `"max_tokens":16`), "X-Router-Max-Cost-USD", "0.0004").wantError(t, 402, "invalid_request_error", "max_cost_exceeded")
	s.chat(t, asking("auto", "x"), "X-Router-Max-Cost-USD", "0").wantError(t, 402, "invalid_request_error", "max_cost_exceeded")
}

func TestContract9_ReservedOutputLimit(t *testing.T) {
	f := newFake(t, answersWell)
	upstreams := func(more string) string {
		return oneTierOf(upstreamLine(f, "m"),
			"{provider: groq, model: g, base_url: '"+f.URL+"/v1', api_key: k, price: {input: 1, output: 1}}",
			upstreamLine(f, "capped", "max_output_tokens: 77")) + more
	}
	soft, hard := serveConfig(t, upstreams("")), serveConfig(t, upstreams("budgets: [{scope: global, usd: 5, per: day, on_exhausted: reject}]\n"))
	for _, tt := range []struct {
		name  string
		s     *served
		body  string
		want  string // members of the request
		value string
	}{
		{"none without a hard budget", soft, asking("openai/m", "x"), "{max_tokens,max_completion_tokens}", `{}`},
		{"a server at an address of one's own", hard, asking("openai/m", "x"), "{max_tokens,max_completion_tokens}", `{"max_tokens":4096}`},
		{"another provider", hard, asking("groq/g", "x"), "{max_tokens,max_completion_tokens}", `{"max_tokens":4096}`},
		{"a configured cap", hard, asking("openai/capped", "x"), "{max_tokens,max_completion_tokens}", `{"max_tokens":77}`},
		{"the client's own field", hard, asking("openai/capped", "x", `"max_tokens":100`), "{max_tokens,max_completion_tokens}", `{"max_tokens":77}`},
		{"the client's limit in the field that is not read", hard, asking("openai/m", "x", `"max_completion_tokens":100`), "{max_tokens,max_completion_tokens}", `{"max_tokens":100,"max_completion_tokens":100}`},
		{"the client's own limit", hard, asking("openai/m", "x", `"max_tokens":100`), "{max_tokens,max_completion_tokens}", `{"max_tokens":100}`},
		{"a cap without a hard budget", soft, asking("openai/capped", "x", `"max_tokens":100`), "{max_tokens,max_completion_tokens}", `{"max_tokens":77}`},
		{"a lower limit than the cap", soft, asking("openai/capped", "x", `"max_tokens":50`), "{max_tokens,max_completion_tokens}", `{"max_tokens":50}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if a := tt.s.chat(t, tt.body); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.body)
			}
			if got := gjson.Get(f.last(t).body, tt.want).Raw; got != tt.value {
				t.Errorf("the upstream got %s, want %s", got, tt.value)
			}
		})
	}
}

func TestContract2_ParamsAndLimits(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, loopback+"tiers:\n  fast:\n    max_output_tokens: 50\n    upstreams:\n      - "+upstreamLine(f, "m", "params: {set: {temperature: 0.2, seed: 7}, default: {top_p: 0.9, tags: [a, {b: 1.50}]}}")+"\n")
	s.chat(t, asking("auto", "x", `"temperature":1`))
	if got := gjson.Get(f.last(t).body, "{temperature,seed,top_p,tags}").Raw; got != `{"temperature":0.2,"seed":7,"top_p":0.9,"tags":["a",{"b":1.50}]}` {
		t.Errorf("the upstream got %s", got)
	}
	s.chat(t, asking("auto", "x", `"top_p":0.1`, `"max_tokens":500`))
	if got := gjson.Get(f.last(t).body, "{top_p,max_tokens}").Raw; got != `{"top_p":0.1,"max_tokens":50}` {
		t.Errorf("the upstream got %s", got)
	}
}

func TestContract7_CostsRoundUpOncePerAttempt(t *testing.T) {
	// A third of a nano-dollar a token.
	f := newFake(t, answersWith(200, `{"choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}`))
	s := serveConfig(t, loopback+"tiers: {fast: [{provider: openai, model: m, base_url: '"+f.URL+"/v1', api_key: k, price: {input: 0.000333333, output: 0.000333333}}]}\nbudgets: [{scope: global, usd: 1, per: day}]\n")
	for range 3 {
		s.chat(t, asking("auto", "x")).wantHeader(t, "X-Router-Cost-Usd", "0.000000001")
	}
	if spent := s.nothingReserved(t); spent != "0.000000003" {
		t.Errorf("spent %s", spent)
	}
	m := s.chat(t, asking("auto", "x", `"usage":{"include":true}`))
	if m.get("usage.cost").Raw != "0.000000001" {
		t.Errorf("usage.cost %s", m.body)
	}
}

func TestContract7_Windows(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+`budgets:
  - {scope: global, usd: 1, per: hour}
  - {scope: global, usd: 1, per: day}
  - {scope: global, usd: 1, per: week}
  - {scope: global, usd: 1, per: month}
  - {scope: global, usd: 1, per: 30d}
  - {scope: user, usd: 1, per: day, timezone: Asia/Tokyo}
`)
	s.chat(t, asking("auto", "x"))
	now := time.Now().UTC()
	all := s.do(t, "GET", "/budgets?user=anonymous", "")
	for per, want := range map[string]time.Time{
		"hour":  now.Truncate(time.Hour).Add(time.Hour),
		"day":   time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, time.UTC),
		"week":  time.Date(now.Year(), now.Month(), now.Day()+7-(int(now.Weekday())+6)%7, 0, 0, 0, 0, time.UTC),
		"month": time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC),
	} {
		g := s.do(t, "GET", "/budgets", "").get(`budgets.#(per=="` + per + `")`)
		if got := g.Get("resets_at").Time(); !got.Equal(want) || g.Get("spent_usd").Raw != "0.0002" || g.Get("limit_usd").Raw != "1" || g.Get("remaining_usd").Raw != "0.9998" {
			t.Errorf("per %s: %s, want an end at %v", per, g.Raw, want)
		}
	}
	days := s.do(t, "GET", "/budgets", "").get(`budgets.#(per=="30d").resets_at`).Time()
	if left := days.Sub(now); left <= 0 || left > 30*24*time.Hour {
		t.Errorf("30d ends at %v", days)
	}
	user := all.get(`budgets.#(scope=="user")`)
	tokyo := now.Add(9 * time.Hour)
	if want := time.Date(tokyo.Year(), tokyo.Month(), tokyo.Day()+1, 0, 0, 0, 0, time.UTC).Add(-9 * time.Hour); !user.Get("resets_at").Time().Equal(want) {
		t.Errorf("Tokyo's day ends at %v, want %v", user.Get("resets_at"), want)
	}
}

func TestContract2_Embeddings(t *testing.T) {
	answer := "{\"object\":\"list\",  \"data\":[{\"object\":\"embedding\",\"index\":0,\"embedding\":[0.1, -2e-3]}],\"model\":\"e-1\",\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8}}\n"
	f := newFake(t, answersWith(200, answer, "X-Request-Id", "req_e"))
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"embeddings:\n  - {provider: openai, model: e-1, base_url: '"+f.URL+"/v1', api_key: sk-canary-1234, price: {input: 1}, headers: {X-Team: search}}\n  - {provider: vllm, model: e-2, base_url: '"+f.URL+"/other', price: {input: 2}}\nmodels: {aliases: {text-embedding-3-small: e-2}}\n"+hardBudget)
	for _, tt := range []struct{ model, path, sent, label, cost string }{
		{"e-1", "/v1/embeddings", "e-1", "openai/e-1", "0.000008"},
		{"openai/e-1", "/v1/embeddings", "e-1", "openai/e-1", "0.000008"},
		{"text-embedding-3-small", "/other/embeddings", "e-2", "vllm/e-2", "0.000016"},
		{"anything", "/v1/embeddings", "e-1", "openai/e-1", "0.000008"},
		{"auto", "/v1/embeddings", "e-1", "openai/e-1", "0.000008"},
	} {
		t.Run(tt.model, func(t *testing.T) {
			body := `{"model":"` + tt.model + `", "input":["a","b"],"future":1}`
			a := s.do(t, "POST", "/v1/embeddings", body, "Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
			if a.status != 200 || a.body != answer {
				t.Fatalf("%d %q", a.status, a.body)
			}
			r := f.last(t)
			if r.path != tt.path || r.body != strings.Replace(body, tt.model, tt.sent, 1) {
				t.Errorf("the upstream got %s %s", r.path, r.body)
			}
			if !strings.HasPrefix(r.header.Get("Traceparent"), "00-0af7651916cd43dd8448eb211c80319c-") {
				t.Errorf("Traceparent %q", r.header.Get("Traceparent"))
			}
			a.wantHeader(t, "X-Router-Model", tt.label)
			a.wantHeader(t, "X-Router-Cost-Usd", tt.cost)
			a.wantHeader(t, "X-Router-Upstream-Request-Id", "req_e")
			if a.header.Get("X-Router-Decision") == "" || a.header.Get("X-Router-Budget-Remaining-Usd") == "" {
				t.Errorf("%v", a.header)
			}
		})
	}
	if got := s.do(t, "POST", "/v1/route", asking("e-1", "x")); got.get("upstream").String() != "openai/m" {
		t.Errorf("a chat with an embedding model's name goes to %s", got.body)
	}
	for _, bad := range []string{`{"model":"e-1"}`, `{"input":[]}`, `{"input":5}`, `{"input":"a","input":"b"}`, `{"input":"a","Input":"b"}`, `x`} {
		if a := s.do(t, "POST", "/v1/embeddings", bad); a.status != 400 || a.get("error.type").String() != "invalid_request_error" {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
	ids := s.do(t, "GET", "/v1/models", "").get("data.#.id").Raw
	if !strings.Contains(ids, "openai/e-1") {
		t.Errorf("models: %s", ids)
	}
	t.Run("errors", func(t *testing.T) {
		relayed := `{"error":{"message":"too long","type":"invalid_request_error","param":"input","code":null}}`
		f.now(answersWith(400, relayed))
		if a := s.do(t, "POST", "/v1/embeddings", `{"input":"a"}`); a.status != 400 || a.body != relayed {
			t.Errorf("%d %s", a.status, a.body)
		}
		f.now(answersWith(500, `{}`))
		s.do(t, "POST", "/v1/embeddings", `{"input":"a"}`).wantError(t, 502, "api_error", "upstream_error")
		f.now(answersWith(429, `{}`, "Retry-After", "9"))
		a := s.do(t, "POST", "/v1/embeddings", `{"input":"a"}`)
		a.wantError(t, 429, "rate_limit_error", "rate_limit_exceeded")
		a.wantHeader(t, "Retry-After", "9")
	})
	t.Run("none configured", func(t *testing.T) {
		none := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
		none.do(t, "POST", "/v1/embeddings", `{"input":"a"}`).wantError(t, 404, "invalid_request_error", "model_not_found")
	})
	t.Run("the caller's own key", func(t *testing.T) {
		f.now(answersWith(200, answer))
		own := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"embeddings: [{provider: openai, model: e, base_url: '"+f.URL+"/v1', api_key: client, price: {input: 1}}]\n")
		own.do(t, "POST", "/v1/embeddings", `{"input":"a"}`, "Authorization", "Bearer caller-key")
		if got := f.last(t).header.Get("Authorization"); got != "Bearer caller-key" {
			t.Errorf("Authorization %q", got)
		}
	})
	t.Run("a ceiling", func(t *testing.T) {
		s.do(t, "POST", "/v1/embeddings", `{"input":"`+strings.Repeat("a", 1000)+`"}`, "X-Router-Max-Cost-USD", "0.000001").wantError(t, 402, "invalid_request_error", "max_cost_exceeded")
	})
	t.Run("the metric names the operation", func(t *testing.T) {
		if m := s.do(t, "GET", "/metrics", "").body; !strings.Contains(m, `gen_ai_operation_name="embeddings"`) {
			t.Error("embeddings are counted as chat")
		}
	})
}

func TestContract2_ClientKey(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, loopback+"tiers: {fast: [{provider: openai, model: m, base_url: '"+f.URL+"/v1', api_key: client, price: {input: 1, output: 1}}]}\n")
	s.chat(t, asking("auto", "x"), "Authorization", "Bearer caller-key", "Openai-Organization", "org-1")
	if h := f.last(t).header; h.Get("Authorization") != "Bearer caller-key" || h.Get("Openai-Organization") != "org-1" {
		t.Errorf("%v", h)
	}
	s.chat(t, asking("auto", "x"))
	if h := f.last(t).header; h.Get("Authorization") != "" {
		t.Errorf("without a key: %v", h)
	}
	f.now(answersWith(401, `{"error":{"message":"Incorrect API key provided: caller-k**","type":"invalid_request_error","code":"invalid_api_key"}}`))
	if a := s.chat(t, asking("auto", "x"), "Authorization", "Bearer caller-key"); a.status != 401 || a.get("error.code").String() != "invalid_api_key" {
		t.Errorf("the caller's own wrong key: %d %s", a.status, a.body)
	}
	t.Run("preset providers take their variable", func(t *testing.T) {
		s := serveConfig(t, loopback+"tiers: {fast: [{provider: vllm, model: m, base_url: '"+f.URL+"/v1', price: {input: 1, output: 1}}]}\n", "VLLM_API_KEY=not-for-another-host")
		s.chat(t, asking("auto", "x"))
		if got := f.last(t).header.Get("Authorization"); got != "" {
			t.Errorf("the preset's key went to another address: %s", got)
		}
	})
	t.Run("azure", func(t *testing.T) {
		f.now(answersWell)
		s := serveConfig(t, loopback+"tiers: {fast: [{provider: azure, model: dep, base_url: '"+f.URL+"/openai/v1', api_key: azure-key, price: {input: 1, output: 1}}]}\n")
		s.chat(t, asking("auto", "x"))
		if r := f.last(t); r.header.Get("Api-Key") != "azure-key" || r.header.Get("Authorization") != "" || r.path != "/openai/v1/chat/completions" {
			t.Errorf("%s %v", r.path, r.header)
		}
	})
}

func TestContract2_Timeouts(t *testing.T) {
	stall := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	f := newFake(t, stall)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"), upstreamLine(f, "own", "timeouts: {total: 100ms, first_event: 100ms}"))+"timeouts: {first_event: 150ms, total: 1s}\nretries: {max_attempts: 1}\n")
	for _, tt := range []struct {
		body        string
		least, most time.Duration
	}{
		{asking("openai/m", "x"), time.Second, 5 * time.Second},
		{asking("openai/m", "x", `"stream":true`), 150 * time.Millisecond, 990 * time.Millisecond},
		{asking("openai/own", "x"), 100 * time.Millisecond, 990 * time.Millisecond},
	} {
		start := time.Now()
		s.chat(t, tt.body).wantError(t, 504, "api_error", "upstream_timeout")
		if took := time.Since(start); took < tt.least || took > tt.most {
			t.Errorf("%s took %v, want %v to %v", tt.body, took, tt.least, tt.most)
		}
	}
	f.now(func(w http.ResponseWriter, r *http.Request) { // never silent, never done
		sse(w, events[0])
		for r.Context().Err() == nil {
			sse(w, events[1])
			time.Sleep(10 * time.Millisecond)
		}
	})
	a := s.chat(t, asking("openai/m", "x", `"stream":true`))
	data := dataOf(a.body)
	if last := data[len(data)-1]; gjson.Get(last, "error.type").String() != "api_error" || strings.Contains(a.body, "[DONE]") {
		t.Errorf("the total of a stream: %s", last)
	}
}

func TestContract2_Capabilities(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, loopback+"tiers:\n  fast: ["+upstreamLine(f, "small", "capabilities: {images: false, context: 2000}")+"]\n  powerful: ["+upstreamLine(f, "large", "capabilities: {images: true, context: 100000}")+"]\n")
	image := `{"messages":[{"role":"user","content":[{"type":"text","text":"hi"},{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw0KGgo="}}]}]}`
	a := s.chat(t, image)
	a.wantHeader(t, "X-Router-Model", "openai/large")
	if !strings.Contains(a.header.Get("X-Router-Reason"), "image") {
		t.Errorf("reason %q", a.header.Get("X-Router-Reason"))
	}
	long := s.chat(t, `{"messages":[{"role":"user","content":"`+strings.Repeat("word ", 10000)+`"},{"role":"assistant","content":"ok"},{"role":"user","content":"hi"}]}`)
	long.wantHeader(t, "X-Router-Model", "openai/large")
}

func TestOpenAIGoClient(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f))
	client := openai.NewClient(option.WithBaseURL(s.url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	params := openai.ChatCompletionNewParams{Model: "auto", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("what is the capital of France?")}}
	whole, err := client.Chat.Completions.New(t.Context(), params)
	if err != nil || whole.Choices[0].Message.Content != "Paris" || whole.Usage.TotalTokens != 110 {
		t.Errorf("%v %v", whole, err)
	}
	stream := client.Chat.Completions.NewStreaming(t.Context(), params)
	text := ""
	for stream.Next() {
		if c := stream.Current(); len(c.Choices) > 0 {
			text += c.Choices[0].Delta.Content
		}
	}
	if stream.Err() != nil || text != "Paris" {
		t.Errorf("%q %v", text, stream.Err())
	}
	for name, script := range map[string]http.HandlerFunc{
		"cut": func(w http.ResponseWriter, r *http.Request) {
			sse(w, events[0], events[1])
			time.Sleep(10 * time.Millisecond)
			resets(w, r)
		},
		"ended": func(w http.ResponseWriter, r *http.Request) { sse(w, events[0], events[1]) },
		"error": func(w http.ResponseWriter, r *http.Request) { sse(w, events[0], `{"error":{"message":"x"}}`) },
	} {
		f.now(script)
		stream := client.Chat.Completions.NewStreaming(t.Context(), params)
		for stream.Next() {
			_ = stream.Current()
		}
		if stream.Err() == nil {
			t.Errorf("%s: the client takes the stream for complete", name)
		}
	}
	f.now(answersWell)
	models, err := client.Models.List(t.Context())
	if err != nil || len(models.Data) < 4 {
		t.Errorf("%v %v", models, err)
	}
	if _, err := client.Models.Get(t.Context(), "openai/m-fast"); err != nil {
		t.Errorf("a model with a slash: %v", err)
	}
}
