package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/internal/measure"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// invoice is an upstream that uses what it may and keeps its own bill, in
// nano-dollars at price(1, 2).
type invoice struct {
	total  atomic.Int64
	counts atomic.Int64
}

func (v *invoice) handler(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	limit := gjson.GetBytes(body, "max_tokens").Int()
	if limit == 0 {
		limit = 1 << 20 // an upstream without a limit runs on
	}
	input := int64(len(gjson.GetBytes(body, "messages.0.content").Str))
	output := limit - v.counts.Add(1)%3
	v.total.Add(input*1000 + output*2000)
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}`, input, output, input+output)
}

func TestConcurrentRequestsNeverOverspendAHardBudget(t *testing.T) {
	const limit = budget.Nanodollars(20_000_000) // $0.02
	var bill invoice
	u := remote(t, bill.handler)
	s := newStage(t, oneTier(u), func(c *proxy.Config, _ *routing.Config) {
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: limit, Hard: true}}
	})
	var charged, refused atomic.Int64
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hello there", `"max_tokens":100`), "X-Router-User", "ann")
			switch resp.StatusCode {
			case 200:
				n, err := budget.ParseUSD(resp.Header.Get("X-Router-Cost-USD"))
				if err != nil {
					t.Error(err)
				}
				charged.Add(int64(n))
			case 429:
				refused.Add(1)
				wantError(t, resp, body, 429, "insufficient_quota", "budget_exceeded")
				if resp.Header.Get("X-Should-Retry") != "false" || resp.Header.Get("Retry-After") == "" {
					t.Errorf("headers: %v", resp.Header)
				}
			default:
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
	wg.Wait()
	if bill.total.Load() > int64(limit) {
		t.Errorf("billed %d, over the limit %d", bill.total.Load(), limit)
	}
	if charged.Load() != bill.total.Load() {
		t.Errorf("charged %d, billed %d", charged.Load(), bill.total.Load())
	}
	if refused.Load() == 0 {
		t.Error("nothing was refused: the budget was never tested")
	}
	state, err := s.ledger.Status(t.Context(), []budget.Limit{{Scope: budget.ScopeUser, Subject: "ann", Amount: limit, Hard: true}})
	if err != nil || int64(state[0].Spent) != bill.total.Load() || state[0].Reserved != 0 {
		t.Errorf("ledger: %+v, billed %d, %v", state, bill.total.Load(), err)
	}
}

func TestNoRefusalWhileTheWorstCaseFits(t *testing.T) {
	var bill invoice
	s := newStage(t, oneTier(remote(t, bill.handler)), func(c *proxy.Config, _ *routing.Config) {
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	})
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hello", `"max_tokens":50`), "X-Router-User", "bob"); resp.StatusCode != 200 {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
	wg.Wait()
}

func TestAbsentOutputLimitIsInjectedUnderAHardBudgetOnly(t *testing.T) {
	for _, hard := range []bool{true, false} {
		var sent string
		s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			sent = string(b)
			answers(200, wholeAnswer)(w, r)
		})), func(c *proxy.Config, _ *routing.Config) {
			c.Budgets = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 1e9, Hard: hard}}
		})
		s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
		if got, want := gjson.Get(sent, "max_tokens").Int(), map[bool]int64{true: 4096, false: 0}[hard]; got != want {
			t.Errorf("hard %v: upstream got %s", hard, sent)
		}
	}
}

func TestFitToBudget(t *testing.T) {
	list := threeTiers()
	for i := range list {
		list[i].Deployments[0].Upstream = proxy.UpstreamFunc(says("ok", translate.Usage{InputTokens: 100, OutputTokens: 10}))
	}
	// A worst case of powerful with 100 tokens of output costs about 100*50 + input.
	for _, c := range []struct {
		name, budget, prompt string
		extra                []string
		status               int
		tier, reason         string
	}{
		{"what fits stays", "1", "compare B-trees vs LSM trees", []string{`"max_tokens":100`}, 200, "powerful", ""},
		{"a cheaper tier", "0.004", "compare B-trees vs LSM trees", []string{`"max_tokens":100`}, 200, "balanced", "budget"},
		{"then the cheapest", "0.0009", "compare B-trees vs LSM trees", []string{`"max_tokens":100`}, 200, "fast", "budget"},
		{"then a smaller output", "0.0005", "hi", []string{`"max_tokens":1000`}, 200, "fast", "output limited to"},
		{"then nothing", "0.0001", "hi", []string{`"max_tokens":1000`}, 429, "", ""},
		{"a forced tier is kept, its output shrinks", "0.002", "hi", []string{`"max_tokens":1000`, `"x":1`}, 200, "balanced", "output limited to"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			decisions := proxy.NewAsyncWriter(&log, 10)
			s := newStage(t, list, func(c *proxy.Config, _ *routing.Config) {
				c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1, Hard: true}}
				c.Decisions = decisions
			})
			model := "auto"
			if strings.HasPrefix(c.name, "a forced") {
				model = "balanced"
			}
			resp, body := s.post(t, "/v1/chat/completions", chatBody(model, c.prompt, c.extra...), "X-Router-Budget-Usd", c.budget)
			if resp.StatusCode != c.status || resp.Header.Get("X-Router-Tier") != c.tier || !strings.Contains(resp.Header.Get("X-Router-Reason"), c.reason) {
				t.Errorf("got %d tier %q reason %q: %s", resp.StatusCode, resp.Header.Get("X-Router-Tier"), resp.Header.Get("X-Router-Reason"), body)
			}
			decisions.Close()
			fitted := gjson.GetBytes(log.Bytes(), `strategies.#(name=="budget").allowed.0`).String()
			if want := map[bool]string{true: c.tier}[c.reason != ""]; fitted != want {
				t.Errorf("the decision's trace says that the budget allows %q, want %q: %s", fitted, want, log.Bytes())
			}
		})
	}
}

func TestMaxCostOfOneRequest(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"), "X-Router-Max-Cost-Usd", "0.0000001")
	wantError(t, resp, body, 402, "invalid_request_error", "max_cost_exceeded")
	resp, _ = s.post(t, "/v1/chat/completions", chatBody("auto", "compare B-trees vs LSM trees", `"max_tokens":100`), "X-Router-Max-Cost-Usd", "0.001")
	if resp.StatusCode != 200 || resp.Header.Get("X-Router-Tier") != "fast" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
}

func TestOpenAIClientDoesNotRetryABudgetRefusal(t *testing.T) {
	var requests atomic.Int64
	s := newStage(t, threeTiers(), nil)
	client := s.client(option.WithMaxRetries(2), option.WithHeader("X-Router-User", "eve"), option.WithHeader("X-Router-Budget-USD", "0"),
		option.WithMiddleware(func(r *http.Request, next option.MiddlewareNext) (*http.Response, error) {
			requests.Add(1)
			return next(r)
		}))
	// A header budget without a configured one only downgrades.
	ask := openai.ChatCompletionNewParams{Model: "auto", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")}}
	if _, err := client.Chat.Completions.New(t.Context(), ask); err != nil {
		t.Fatal(err)
	}
	hard := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	})
	requests.Store(0)
	_, err := client.Chat.Completions.New(t.Context(), ask, option.WithBaseURL(hard.url+"/v1"))
	var apiErr *openai.Error
	if !errors.As(err, &apiErr) || apiErr.StatusCode != 429 || apiErr.Code != "budget_exceeded" {
		t.Fatalf("got %v", err)
	}
	if requests.Load() != 1 {
		t.Errorf("%d requests arrived, want 1", requests.Load())
	}
}

func TestCostThresholdsDowngrade(t *testing.T) {
	for _, c := range []struct {
		used string
		tier string
	}{{"0.79", "powerful"}, {"0.8", "balanced"}, {"0.94", "balanced"}, {"0.95", "fast"}, {"1.5", "fast"}} {
		s := newStage(t, threeTiers(), func(c *proxy.Config, rc *routing.Config) {
			c.Budgets = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 1e9}}
			rc.Strategies = []routing.Strategy{routing.NewCost(routing.CostConfig{}), routing.NewComplexity(routing.ComplexityConfig{})}
		})
		spend(t, s, c.used)
		resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "compare B-trees vs LSM trees"))
		if got := resp.Header.Get("X-Router-Tier"); got != c.tier || resp.Header.Get("X-Router-Strategy") != "ChainStrategy" {
			t.Errorf("at %s: tier %q, want %q; %s", c.used, got, c.tier, resp.Header.Get("X-Router-Reason"))
		}
	}
}

// spend charges the global budget of $1.
func spend(t *testing.T, s *stage, usd string) {
	t.Helper()
	n, err := budget.ParseUSD(usd)
	if err != nil {
		t.Fatal(err)
	}
	r, err := s.ledger.Reserve(t.Context(), budget.Hold{ID: budget.NewID(), Amount: n, Limits: []budget.Limit{{Scope: budget.ScopeGlobal, Amount: 1e9}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(t.Context(), n); err != nil {
		t.Fatal(err)
	}
}

func TestBudgetsRoute(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeGlobal, Amount: 10e9}, {Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	})
	resp, _ := s.post(t, "/v1/chat/completions", chatBody("fast", "hi"), "X-Router-User", "ann")
	if got := resp.Header.Get("X-Router-Budget-Remaining-USD"); got != "0.99998" {
		t.Errorf("remaining: got %q", got)
	}
	_, body := s.do(t, "GET", "/budgets?user=ann", "")
	var got struct {
		Budgets []map[string]any
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Budgets) != 2 || got.Budgets[0]["scope"] != "global" || got.Budgets[1]["user"] != "ann" || got.Budgets[1]["spent_usd"] != 0.00002 {
		t.Errorf("got %s", body)
	}
	s.do(t, "DELETE", "/stats/reset", "")
	if _, body = s.do(t, "GET", "/budgets?user=ann", ""); gjson.Get(body, "budgets.1.spent_usd").String() != "0" {
		t.Errorf("after the reset: %s", body)
	}
}

func TestCostsSumToTheBillOverFailovers(t *testing.T) {
	var bill invoice
	var calls atomic.Int64
	flaky := func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1)%4 == 0 {
			answers(500, `{}`)(w, r)
			return
		}
		bill.handler(w, r)
	}
	s := newStage(t, oneTier(remote(t, flaky), remote(t, bill.handler)), func(c *proxy.Config, _ *routing.Config) {
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 5e9, Hard: true}}
	})
	var charged atomic.Int64
	var wg sync.WaitGroup
	for i := range 100 {
		wg.Go(func() {
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"max_tokens":`+strconv.Itoa(20+i)))
			if resp.StatusCode != 200 {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			n, _ := budget.ParseUSD(resp.Header.Get("X-Router-Cost-USD"))
			charged.Add(int64(n))
		})
	}
	wg.Wait()
	if charged.Load() != bill.total.Load() {
		t.Errorf("charged %d, billed %d", charged.Load(), bill.total.Load())
	}
}

// Writing a cache that lasts an hour costs more: what it may cost is held, and
// what it did cost is charged.
func TestCachesThatLastAnHour(t *testing.T) {
	const hourMark = `"messages":[{"role":"user","content":[{"type":"text","text":"hi","cache_control":{"type":"ephemeral","ttl":"1h"}}]}]`
	const plainMark = `"messages":[{"role":"user","content":"hi"}]`
	for _, c := range []struct {
		name, messages string
		params         map[string]string
		usage          translate.Usage
		cost           string
		perByte        int64 // of the prompt that is held, in nano-dollars
	}{
		// 100 plain x $1 + 900 x $1.25 = $0.0001 + $0.001125
		{"not asked for", plainMark, nil, translate.Usage{InputTokens: 1000, CacheWriteTokens: 900}, "0.001225", 1250},
		// 100 plain x $1 + 900 x $2
		{"asked for, and not reported apart", hourMark, nil, translate.Usage{InputTokens: 1000, CacheWriteTokens: 900}, "0.0019", 2000},
		{"asked for by the operator", plainMark, map[string]string{"prompt_cache_retention": `"24h"`}, translate.Usage{InputTokens: 1000, CacheWriteTokens: 900}, "0.0019", 2000},
		// 100 plain x $1 + 400 x $1.25 + 500 x $2
		{"reported apart", hourMark, nil, translate.Usage{InputTokens: 1000, CacheWriteTokens: 900, CacheWriteHourTokens: 500, CacheTTLKnown: true}, "0.0016", 2000},
	} {
		t.Run(c.name, func(t *testing.T) {
			list := tiers(map[string]proxy.Upstream{"fast": proxy.UpstreamFunc(says("ok", c.usage))})
			list[0].Deployments[0].Price = budget.Price{Input: 1e9, CachedInput: 1e9, CacheWrite: 1.25e9, CacheWriteHour: 2e9}
			list[0].Deployments[0].Default = c.params
			var log bytes.Buffer
			decisions := proxy.NewAsyncWriter(&log, 10)
			s := newStage(t, list, func(c *proxy.Config, _ *routing.Config) {
				c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e12, Hard: true}}
				c.Decisions = decisions
			})
			body := `{"model":"auto",` + c.messages + `}`
			resp, answer := s.post(t, "/v1/chat/completions", body)
			decisions.Close()
			if got := resp.Header.Get("X-Router-Cost-Usd"); got != c.cost {
				t.Errorf("cost %q, want %q: %s", got, c.cost, answer)
			}
			r, err := translate.ParseRequest([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			held, want := gjson.GetBytes(log.Bytes(), "reserved_usd").Raw, budget.Nanodollars(r.InputBytes*c.perByte).USD()
			if held != want {
				t.Errorf("held %s, want %s", held, want)
			}
		})
	}
}

// What nobody counted is charged by a bound: of images too, and at the price of
// the dearest kind of input.
func TestACutAnswerIsChargedByABound(t *testing.T) {
	cut := proxy.UpstreamFunc(func(context.Context, *translate.Request) translate.Chunks {
		return func(yield func(translate.Chunk, error) bool) {
			if yield(translate.Chunk{Data: []byte(`{"choices":[{"index":0,"delta":{"content":"hello"}}]}`), OutputBytes: 5}, nil) {
				yield(translate.Chunk{}, &translate.UpstreamError{Kind: translate.KindInterrupted, Billed: translate.BilledPartly, Message: "cut"})
			}
		}
	})
	list := tiers(map[string]proxy.Upstream{"fast": cut})
	list[0].Deployments[0].Price = budget.Price{Input: 1e9, Output: 4e9, CachedInput: 1e9, CacheWrite: 1.25e9}
	meter := measure.NewMeter("anthropic", "claude-sonnet-4-5", 0)
	list[0].Deployments[0].Meter = meter
	s := newStage(t, list, nil)
	body := `{"model":"auto","stream":true,"messages":[{"role":"user","content":[{"type":"text","text":"what is it?"},{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]}]}`
	resp, _ := s.post(t, "/v1/chat/completions", body)
	r, err := translate.ParseRequest([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	want := budget.Nanodollars((r.InputBytes+meter.Tokens(r.Media))*1250 + 5*4000).USD()
	if got := resp.Trailer.Get("X-Router-Cost-Usd"); got != want {
		t.Errorf("cost %q, want %q", got, want)
	}
}
