package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/openai/openai-go/v3"
	"github.com/tidwall/gjson"

	"github.com/inference-router/inference-router/budget"
	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

func TestBadRequests(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.MaxBodyBytes = 10_000
		c.Models.RejectUnknown = true
		c.Models.Aliases = map[string]string{"gpt-4o": "auto", "gpt-4o-mini": "fast"}
	})
	const ask = `"messages":[{"role":"user","content":"hi"}]`
	for _, c := range []struct {
		name, body string
		headers    []string
		status     int
		kind, code string
		param      string
	}{
		{"not JSON", `{`, nil, 400, "invalid_request_error", "", ""},
		{"no object", `[]`, nil, 400, "invalid_request_error", "", ""},
		{"a duplicate name", `{"model":"auto","model":"powerful",` + ask + `}`, nil, 400, "invalid_request_error", "", "model"},
		{"a name that is a duplicate once unescaped", `{"model":"auto","mode\u006c":"x",` + ask + `}`, nil, 400, "invalid_request_error", "", "model"},
		{"a case variant", `{"model":"auto","MAX_TOKENS":1,` + ask + `}`, nil, 400, "invalid_request_error", "", "MAX_TOKENS"},
		{"no messages", `{"model":"auto"}`, nil, 400, "invalid_request_error", "", "messages"},
		{"empty messages", `{"model":"auto","messages":[]}`, nil, 400, "invalid_request_error", "", "messages"},
		{"a temperature out of range", `{"model":"auto","temperature":3,` + ask + `}`, nil, 400, "invalid_request_error", "", "temperature"},
		{"n below 1", `{"model":"auto","n":0,` + ask + `}`, nil, 400, "invalid_request_error", "", "n"},
		{"max_tokens of 0", `{"model":"auto","max_tokens":0,` + ask + `}`, nil, 400, "invalid_request_error", "", "max_tokens"},
		{"max_tokens as text", `{"model":"auto","max_tokens":"100",` + ask + `}`, nil, 400, "invalid_request_error", "", "max_tokens"},
		{"stream as text", `{"model":"auto","stream":"yes",` + ask + `}`, nil, 400, "invalid_request_error", "", "stream"},
		{"an unknown model", `{"model":"gpt-9",` + ask + `}`, nil, 404, "invalid_request_error", "model_not_found", "model"},
		{"a large body", `{"model":"auto","x":"` + strings.Repeat("y", 10_000) + `",` + ask + `}`, nil, 413, "invalid_request_error", "request_too_large", ""},
		{"an encoded body", `{"model":"auto",` + ask + `}`, []string{"Content-Encoding", "gzip"}, 415, "invalid_request_error", "unsupported_encoding", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := s.post(t, "/v1/chat/completions", c.body, c.headers...)
			if got := gjson.Get(body, "error"); resp.StatusCode != c.status || got.Get("type").Str != c.kind || c.code != "" && got.Get("code").Str != c.code || c.param != "" && got.Get("param").Str != c.param {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if resp.Header.Get("X-Request-Id") == "" {
				t.Error("no request id")
			}
		})
	}
}

func TestMalformedChunksAreTheClientsMistake(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp, string(body), 400, "invalid_request_error", "")
}

// Without an answer of ours net/http would say 200.
func TestCutRequestIsNotAnsweredWithSuccess(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
	conn.(*net.TCPConn).CloseWrite()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	wantError(t, resp, string(body), 499, "invalid_request_error", "client_closed_request")
}

func TestModelNames(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Models.Aliases = map[string]string{"gpt-4o": "auto", "gpt-4o-mini": "fast", "best": "test/powerful"}
	})
	for model, want := range map[string][2]string{
		"auto": {"fast", "ComplexityStrategy"}, "gpt-4o": {"fast", "ComplexityStrategy"}, "gpt-4o-mini": {"fast", "manual"},
		"best": {"powerful", "manual"}, "balanced": {"balanced", "manual"}, "test/powerful": {"powerful", "manual"},
		"powerful-model": {"powerful", "manual"}, "whatever": {"fast", "ComplexityStrategy"},
	} {
		resp, body := s.post(t, "/v1/chat/completions", chatBody(model, "hi"))
		if got := [2]string{resp.Header.Get("X-Router-Tier"), resp.Header.Get("X-Router-Strategy")}; got != want {
			t.Errorf("%s: got %v, want %v: %s", model, got, want, body)
		}
	}
	resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"), "X-Router-Tier", "powerful")
	if resp.Header.Get("X-Router-Tier") != "powerful" || resp.Header.Get("X-Router-Strategy") != "manual" {
		t.Errorf("forced by header: got %v", resp.Header)
	}
}

func TestModelsList(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) { c.Models.Aliases = map[string]string{"gpt-4o": "auto"} })
	client := s.client()
	page, err := client.Models.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, m := range page.Data {
		ids = append(ids, m.ID)
	}
	for _, want := range []string{"auto", "fast", "balanced", "powerful", "gpt-4o", "test/fast"} {
		if !slices.Contains(ids, want) {
			t.Errorf("%s is missing in %v", want, ids)
		}
	}
	for _, id := range []string{"auto", "test/fast"} {
		if m, err := client.Models.Get(t.Context(), id); err != nil || m.ID != id {
			t.Errorf("%s: got %v, %v", id, m, err)
		}
	}
	if resp, body := s.do(t, "GET", "/v1/models/test/fast", ""); resp.StatusCode != 200 {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	resp, body := s.do(t, "GET", "/v1/models/nope", "")
	wantError(t, resp, body, 404, "invalid_request_error", "model_not_found")
}

func TestQuery(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1e9, Hard: true}}
	})
	_, body := s.post(t, "/query", `{"prompt":"what is the capital of France?","metadata":{"user_id":"ann","budget_usd":0.5}}`)
	var a proxy.Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err)
	}
	a.LatencyMS = 0
	if want := (proxy.Answer{Text: "fast says hi", ModelUsed: "test/fast-model", TierUsed: "fast", TokensTotal: 15, CostUSD: 20_000, StrategyUsed: "ComplexityStrategy"}); a != want {
		t.Errorf("got %+v, want %+v", a, want)
	}
	if s.spenders() != "ann" {
		t.Errorf("charged %q", s.spenders())
	}
	resp, body := s.post(t, "/query", `{"prompt":"hi","metadata":{"user_id":"ann","budget_usd":"0"}}`)
	wantError(t, resp, body, 429, "insufficient_quota", "budget_exceeded")
	resp, body = s.post(t, "/query", `{"max_tokens":5}`)
	wantError(t, resp, body, 400, "invalid_request_error", "")
	resp, body = s.post(t, "/query", `{"prompt":5}`)
	wantError(t, resp, body, 400, "invalid_request_error", "invalid_type")
	for budget, code := range map[string]string{`"abc"`: "", `-1`: "", `true`: "invalid_type", `[5]`: "invalid_type"} {
		resp, body = s.post(t, "/query", `{"prompt":"hi","metadata":{"budget_usd":`+budget+`}}`)
		wantError(t, resp, body, 400, "invalid_request_error", code)
		if gjson.Get(body, "error.param").Str != "metadata.budget_usd" {
			t.Errorf("%s: got %s", budget, body)
		}
	}
	if resp, body = s.post(t, "/query", `{"prompt":"hi","metadata":{"user_id":"bob","budget_usd":"007.50"}}`); resp.StatusCode != 200 {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	resp, body = s.post(t, "/query/stream", `{"prompt":"hi","tier":"balanced"}`)
	if body != "balanced says hi" || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") || resp.Trailer.Get("X-Router-Cost-Usd") != "0.000105" {
		t.Errorf("got %q, %v, %v", body, resp.Header, resp.Trailer)
	}
}

func TestQueryPutsThePromptAfterTheHistory(t *testing.T) {
	var got string
	s := newStage(t, tiers(map[string]proxy.Upstream{"fast": proxy.UpstreamFunc(func(ctx context.Context, r *translate.Request) translate.Chunks {
		got = string(r.Body)
		return says("ok", translate.Usage{})(ctx, r)
	})}), nil)
	s.post(t, "/query", `{"prompt":"and now?","system_prompt":"be brief","temperature":0.5,"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}`)
	var roles []string
	for _, m := range gjson.Get(got, "messages").Array() {
		roles = append(roles, m.Get("role").Str+":"+m.Get("content").Str)
	}
	if want := "system:be brief user:a assistant:b user:and now?"; strings.Join(roles, " ") != want || gjson.Get(got, "temperature").Num != 0.5 {
		t.Errorf("got %s", got)
	}
}

func TestLibraryCalls(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	a, err := s.Complete(t.Context(), proxy.Query{Prompt: "hi"})
	if err != nil || a.Text != "fast says hi" {
		t.Errorf("got %+v, %v", a, err)
	}
	text := ""
	for piece, err := range s.Stream(t.Context(), proxy.Query{Prompt: "hi", Tier: "powerful"}) {
		if err != nil {
			t.Fatal(err)
		}
		text += piece
	}
	if text != "powerful says hi" {
		t.Errorf("got %q", text)
	}
	_, err = s.Complete(t.Context(), proxy.Query{Prompt: "hi", Tier: "warp"})
	if status, kind, code := proxy.StatusOf(err); status != 400 || kind != "invalid_request_error" || code != "tier_not_found" {
		t.Errorf("got %v: %d %s %s", err, status, kind, code)
	}
}

func TestDecisionIsTheSameEverywhere(t *testing.T) {
	var log bytes.Buffer
	decisions := proxy.NewAsyncWriter(&log, 10)
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) { c.Decisions = decisions })
	const prompt = "compare B-trees vs LSM trees"
	_, body := s.post(t, "/v1/route", chatBody("auto", prompt))
	for path, want := range map[string]string{"tier": "powerful", "model": "auto", "upstream": "test/powerful", "score": "7.5", "forced": "false",
		"strategies.0.name": "complexity", "breakdown.reasoning": "7"} {
		if got := gjson.Get(body, path).String(); got != want {
			t.Errorf("%s: got %q, want %q in %s", path, got, want, body)
		}
	}
	resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", prompt), "X-Router-User", "ann@example.com")
	decisions.Close()
	line := log.String()
	for path, want := range map[string]string{"decision": resp.Header.Get("X-Router-Decision"), "tier": "powerful", "score": "7.5", "status": "200",
		"cost_usd": "0.00035", "tokens.input": "10", "tokens.output": "5", "attempts.0.outcome": "ok", "stream": "false", "fallback": "false"} {
		if got := gjson.Get(line, path).String(); got != want {
			t.Errorf("%s: got %q, want %q in %s", path, got, want, line)
		}
	}
	if strings.Contains(line, "B-trees") || strings.Contains(line, "ann@") {
		t.Errorf("the decision log says too much: %s", line)
	}
}

func TestRefusedRequestsAreRecorded(t *testing.T) {
	var log bytes.Buffer
	decisions := proxy.NewAsyncWriter(&log, 10)
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Decisions = decisions
		c.Budgets = []proxy.Budget{{Scope: budget.ScopeUser, Amount: 1, Hard: true}}
	})
	s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
	decisions.Close()
	if gjson.Get(log.String(), "status").Int() != 429 || gjson.Get(log.String(), "code").Str != "budget_exceeded" {
		t.Errorf("got %s", log.String())
	}
}

func TestLogLineHoldsNoPromptAndNoKey(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) {
		c.Log = slog.New(slog.NewJSONHandler(lockedWriter{&mu, &out}, nil))
	})
	s.post(t, "/v1/chat/completions", chatBody("auto", "canary-prompt"), "Authorization", "Bearer canary-key", "X-Router-User", "canary-user")
	mu.Lock()
	defer mu.Unlock()
	if got := out.String(); strings.Count(got, "\n") != 1 || strings.Contains(got, "canary") || gjson.Get(got, "tier").Str != "fast" {
		t.Errorf("got %s", got)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func TestSmallRoutes(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) { c.Fallback = "balanced" })
	_, body := s.do(t, "GET", "/", "")
	if want := `{"name":"inference-router","version":"test","status":"running","tiers":["fast","balanced","powerful"],"strategy":"ComplexityStrategy","fallback":"balanced"}`; strings.TrimSpace(body) != want {
		t.Errorf("got %s", body)
	}
	_, body = s.do(t, "GET", "/tiers", "")
	if gjson.Get(body, "tiers.fast.upstreams.0.price.input").String() != "1" || !gjson.Get(body, "tiers.fast.healthy").Bool() || gjson.Get(body, "fallback").Str != "balanced" {
		t.Errorf("got %s", body)
	}
	_, body = s.post(t, "/debug/complexity", `{"prompt":"explain how transformers work"}`)
	if gjson.Get(body, "score").Num != 3.5 || gjson.Get(body, "tier_selected").Str != "balanced" || gjson.Get(body, "prompt_preview").Str == "" {
		t.Errorf("got %s", body)
	}
	for _, path := range []string{"/docs", "/dashboard", "/openapi.json", "/livez", "/readyz", "/healthz"} {
		if resp, body := s.do(t, "GET", path, ""); resp.StatusCode != 200 || body == "" {
			t.Errorf("%s: got %d", path, resp.StatusCode)
		}
		if resp, body := s.do(t, "HEAD", path, ""); resp.StatusCode != 200 || body != "" {
			t.Errorf("HEAD %s: got %d %q", path, resp.StatusCode, body)
		}
	}
	s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
	_, body = s.do(t, "GET", "/metrics", "")
	for _, want := range []string{`router_requests_total{status="200",tier="fast",upstream="test/fast"} 1`, `router_decisions_total{strategy="ComplexityStrategy",tier="fast"} 1`,
		`gen_ai_client_token_usage_sum{gen_ai_operation_name="chat",gen_ai_provider_name="test",gen_ai_request_model="fast-model",gen_ai_token_type="input"} 10`,
		`router_cost_usd_total{tier="fast",upstream="test/fast"} 2e-05`, "router_fallbacks_total 0", "router_overhead_seconds_count 1",
		`router_upstream_healthy{tier="fast",upstream="test/fast"} 1`} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	resp, body := s.do(t, "GET", "/nowhere", "")
	wantError(t, resp, body, 404, "invalid_request_error", "unknown_url")
	resp, body = s.do(t, "GET", "/v1/chat/completions", "")
	wantError(t, resp, body, 405, "invalid_request_error", "method_not_allowed")
	s.Drain()
	resp, body = s.do(t, "GET", "/readyz", "")
	wantError(t, resp, body, 503, "api_error", "draining")
}

func TestAdminRoutesApart(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) { c.AdminApart = true })
	if resp, _ := s.do(t, "GET", "/metrics", ""); resp.StatusCode != 404 {
		t.Errorf("got %d", resp.StatusCode)
	}
	w := httptest.NewRecorder()
	s.AdminHandler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Errorf("got %d", w.Code)
	}
}

func TestLoopbackListenerAnswersToLocalNamesOnly(t *testing.T) {
	s := newStage(t, threeTiers(), func(c *proxy.Config, _ *routing.Config) { c.Loopback, c.Hosts = true, []string{"router.internal"} })
	for host, want := range map[string]int{"localhost:8080": 200, "127.0.0.1": 200, "[::1]:1": 200, "router.internal:80": 200, "evil.example": 403, "127.0.0.1.evil.example": 403} {
		r, _ := http.NewRequest("GET", s.url+"/", nil)
		r.Host = host
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", host, resp.StatusCode, want)
		}
	}
	resp, body := s.do(t, "GET", "/", "", "Origin", "https://evil.example")
	wantError(t, resp, body, 403, "permission_error", "permission_denied")
	if resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("CORS is off")
	}
}

func TestCORSIsOffUnlessTheOriginIsConfigured(t *testing.T) {
	const page = "https://app.example.com"
	for _, c := range []struct {
		origins []string
		origin  string
		site    string // Sec-Fetch-Site
		status  int    // of the request itself, on a loopback listener
		read    bool
	}{
		{nil, "http://localhost:3000", "same-site", 200, false}, // served, but the page cannot read it
		{nil, "http://localhost:3000", "cross-site", 403, false},
		{nil, page, "cross-site", 403, false},
		{[]string{page}, page, "cross-site", 200, true},
		{[]string{page}, "http://localhost:3000", "same-site", 200, false},
		{[]string{page}, "https://evil.example", "cross-site", 403, false},
		{[]string{page}, "null", "cross-site", 403, false},
		{[]string{"*"}, "https://evil.example", "cross-site", 200, true},
	} {
		s := newStage(t, threeTiers(), func(conf *proxy.Config, _ *routing.Config) { conf.Loopback, conf.Origins = true, c.origins })
		resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"), "Origin", c.origin, "Sec-Fetch-Site", c.site)
		asked, _ := s.do(t, "OPTIONS", "/v1/chat/completions", "", "Origin", c.origin, "Access-Control-Request-Method", "POST")
		for what, r := range map[string]*http.Response{"request": resp, "preflight": asked} {
			if got, want := r.Header.Get("Access-Control-Allow-Origin"), map[bool]string{true: c.origin}[c.read]; got != want {
				t.Errorf("%v, %s from %s: allowed origin %q, want %q", c.origins, what, c.origin, got, want)
			}
		}
		if resp.StatusCode != c.status {
			t.Errorf("%v from %s, %s: %d, want %d: %s", c.origins, c.origin, c.site, resp.StatusCode, c.status, body)
		}
	}
}

func TestTrickyPathsReachNothing(t *testing.T) {
	s := newStage(t, threeTiers(), nil)
	for _, path := range []string{"/v1/../metrics", "/v1/%2e%2e/metrics", "//metrics", "/v1/x%2f..%2fmetrics", "/v1%5cmetrics", "/met%00rics"} {
		resp, body := s.do(t, "GET", path, "")
		if resp.StatusCode != 400 && resp.StatusCode != 404 {
			t.Errorf("%s: got %d %.80s", path, resp.StatusCode, body)
		}
	}
}

func TestPanicIsOneRequestsOnly(t *testing.T) {
	s := newStage(t, tiers(map[string]proxy.Upstream{"fast": proxy.UpstreamFunc(func(context.Context, *translate.Request) translate.Chunks { panic("boom") })}),
		func(c *proxy.Config, _ *routing.Config) {
			c.Budgets = []proxy.Budget{{Scope: "global", Amount: 1e9, Hard: true}}
		})
	resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
	wantError(t, resp, body, 500, "api_error", "internal_error")
	if b := s.ledger.Known(); len(b) != 1 || b[0].Reserved != 0 {
		t.Errorf("left reserved: %+v", b)
	}
}

func TestReloadKeepsRunningRequestsAndLearnedState(t *testing.T) {
	gate := make(chan struct{})
	slow := proxy.UpstreamFunc(func(ctx context.Context, r *translate.Request) translate.Chunks {
		return func(yield func(translate.Chunk, error) bool) {
			<-gate
			for c, err := range says("old", translate.Usage{InputTokens: 1, OutputTokens: 1})(ctx, r) {
				if !yield(c, err) {
					return
				}
			}
		}
	})
	s := newStage(t, oneTier(slow), nil)
	done := make(chan string)
	go func() {
		_, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
		done <- body
	}()
	t.Cleanup(sync.OnceFunc(func() {
		select {
		case <-gate:
		default:
			close(gate)
		}
	}))
	eventually(t, "the request is under way", func() bool {
		_, body := s.do(t, "GET", "/metrics", "")
		return strings.Contains(body, "router_requests_in_flight 1")
	})
	list := oneTier(says("new", translate.Usage{InputTokens: 1, OutputTokens: 1}))
	router, err := routing.New(routing.Config{Tiers: []routing.Tier{{Name: "fast", Deployments: []routing.Deployment{{Name: "test/a"}}}}, State: s.state})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reload(proxy.Config{Tiers: list, Router: router, Ledger: s.ledger, Books: s.ledger}); err != nil {
		t.Fatal(err)
	}
	if _, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi")); !strings.Contains(body, "new") {
		t.Errorf("got %s", body)
	}
	close(gate)
	if body := <-done; !strings.Contains(body, "old") {
		t.Errorf("got %s", body)
	}
}

func TestShutdownEndsStreamsWithAnError(t *testing.T) {
	started := make(chan struct{})
	endless := proxy.UpstreamFunc(func(ctx context.Context, r *translate.Request) translate.Chunks {
		return func(yield func(translate.Chunk, error) bool) {
			if !yield(translate.Chunk{Head: &translate.Head{}, Data: []byte(`{"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}`), OutputBytes: 1}, nil) {
				return
			}
			close(started)
			<-ctx.Done()
			yield(translate.Chunk{}, context.Cause(ctx))
		}
	})
	s := newStage(t, oneTier(endless), nil)
	base, cancel := context.WithCancelCause(t.Context())
	w := httptest.NewRecorder()
	go func() { <-started; cancel(proxy.ErrShutdown) }()
	s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(base, "POST", "/v1/chat/completions", strings.NewReader(chatBody("auto", "hi", `"stream":true`))))
	if body := w.Body.String(); !strings.Contains(body, `"code":"server_shutdown"`) || strings.Contains(body, "[DONE]") {
		t.Errorf("got %s", body)
	}
}

func TestToolsSchemaAndReasoningSurvivePassThrough(t *testing.T) {
	var sent string
	s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sent = string(b)
		answers(200, `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[{"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"a\":9007199254740993}"}}]},"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`)(w, r)
	})), nil)
	client := s.client()
	got, err := client.Chat.Completions.New(t.Context(), openai.ChatCompletionNewParams{
		Model:    "auto",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")},
		Tools: []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(openai.FunctionDefinitionParam{
			Name: "f", Parameters: openai.FunctionParameters{"type": "object"},
		})},
		ReasoningEffort: openai.ReasoningEffortHigh,
	})
	if err != nil {
		t.Fatal(err)
	}
	if call := got.Choices[0].Message.ToolCalls[0].Function; call.Arguments != `{"a":9007199254740993}` {
		t.Errorf("got %+v", call)
	}
	if !strings.Contains(got.RawJSON(), `"reasoning_content":"hm"`) || gjson.Get(sent, "reasoning_effort").Str != "high" || gjson.Get(sent, "tools.0.function.name").Str != "f" {
		t.Errorf("sent %s, got %s", sent, got.RawJSON())
	}
}

func TestIdleStreamEndsWithAnError(t *testing.T) {
	s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})), func(c *proxy.Config, _ *routing.Config) { c.Timeouts.Idle = 30 * time.Millisecond })
	_, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`))
	if !strings.Contains(body, `"code":"stream_idle_timeout"`) || strings.Contains(body, "[DONE]") {
		t.Errorf("got %s", body)
	}
}

func TestABodyMustKeepComing(t *testing.T) {
	for _, c := range []struct {
		name     string
		piece    int // bytes a second
		answered int
		least    time.Duration // until the answer
	}{
		{"a byte a second", 1, 408, 10 * time.Second},
		{"as fast as it must", 2 << 10, 200, 30 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newUnserved(t, threeTiers(), nil)
				near, far := net.Pipe()
				server := &http.Server{Handler: s.Handler(), ReadTimeout: time.Minute}
				go func() { _ = server.Serve(&pipeListener{conn: far}) }()
				var writing sync.WaitGroup
				defer func() { near.Close(); server.Close(); writing.Wait() }()
				start := time.Now()
				answer := make(chan *http.Response, 1)
				go func() {
					resp, err := http.ReadResponse(bufio.NewReader(near), nil)
					if err != nil {
						t.Error(err)
					}
					answer <- resp
				}()
				body := chatBody("auto", strings.Repeat("some words, ", 60<<10/12))
				fmt.Fprintf(near, "POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(body))
				writing.Go(func() {
					for rest := body; rest != ""; time.Sleep(time.Second) {
						n := min(c.piece, len(rest))
						if _, err := io.WriteString(near, rest[:n]); err != nil {
							return
						}
						rest = rest[n:]
					}
				})
				resp := <-answer
				if took := time.Since(start); resp == nil || resp.StatusCode != c.answered || took < c.least || took > c.least+5*time.Second {
					t.Errorf("got %v after %v, want %d after %v", resp, took, c.answered, c.least)
				}
			})
		})
	}
}

// pipeListener accepts one connection.
type pipeListener struct {
	conn net.Conn
	done bool
}

func (l *pipeListener) Accept() (net.Conn, error) {
	if l.done {
		return nil, net.ErrClosed
	}
	l.done = true
	return l.conn, nil
}

func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return l.conn.LocalAddr() }
