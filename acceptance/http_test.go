package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

func TestContract3_WholeAnswerIsByteForByte(t *testing.T) {
	odd := " {\"id\" : \"x\",\r\n \"choices\":[ {\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"\\u00e9\\/ü\"},\"finish_reason\":\"stop\",\"future\":[1e2,{\"b\":1,\"b\":2}]}],\n\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2},\"z\":null}\n\n"
	f := newFake(t, answersWith(200, odd))
	s := serveConfig(t, threeTiersOf(f))
	sent := `{ "model" : "auto" , "messages":[{"role":"user","content":"h\u0069"}],"future":{"a":[1.0,1e5]},"temperature":0.70,  "seed":7}`
	a := s.chat(t, sent)
	if a.body != odd {
		t.Errorf("answer %q\nwant   %q", a.body, odd)
	}
	if want := strings.Replace(sent, `"auto"`, `"m-fast"`, 1); f.last(t).body != want {
		t.Errorf("the upstream got %s\nwant             %s", f.last(t).body, want)
	}
}

func TestContract3_ResponseHeaders(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", "req_upstream")
		w.Header().Set("Set-Cookie", "a=b")
		w.Header().Set("Server", "leaky/1.0")
		w.Header().Set("Openai-Organization", "org-secret")
		answersWell(w, r)
	})
	s := serveConfig(t, threeTiersOf(f)+"budgets: [{scope: user, usd: 1, per: day, on_exhausted: reject}]\n")
	names := map[string]string{
		"X-Request-Id": `.+`, "X-Router-Tier": `balanced`, "X-Router-Model": `openai/m-balanced`, "X-Router-Strategy": `ComplexityStrategy`,
		"X-Router-Reason": `complexity 3\.5 wants balanced`, "X-Router-Score": `3\.5`, "X-Router-Fallback": `false`, "X-Router-Attempts": `1`,
		"X-Router-Decision": `.+`, "X-Router-Budget-Remaining-Usd": `0\.\d+`, "X-Router-Upstream-Request-Id": `req_upstream`,
		"X-Router-Dropped-Params": ``,
	}
	totals := map[string]string{"X-Router-Cost-Usd": `0\.0006`, "X-Router-Latency-Ms": `\d+(\.\d+)?`, "X-Router-Overhead-Ms": `\d+(\.\d+)?`}
	match := func(t *testing.T, h http.Header, want map[string]string) {
		t.Helper()
		for name, pattern := range want {
			if got := h.Get(name); !regexp.MustCompile(`^(` + pattern + `)$`).MatchString(got) {
				t.Errorf("%s: %q, want %s", name, got, pattern)
			}
		}
	}
	t.Run("whole", func(t *testing.T) {
		a := s.chat(t, asking("auto", "explain how transformers work"))
		match(t, a.header, names)
		match(t, a.header, totals)
		if got := a.header.Get("X-Router-Budget-Remaining-Usd"); got != "0.9994" {
			t.Errorf("remaining %s after the actual cost of 0.0006, want 0.9994", got)
		}
		for _, name := range []string{"Set-Cookie", "Server", "Openai-Organization"} {
			if a.header.Get(name) != "" {
				t.Errorf("%s of the upstream reached the client", name)
			}
		}
	})
	t.Run("stream", func(t *testing.T) {
		a := s.chat(t, asking("auto", "explain how transformers work", `"stream":true`))
		match(t, a.header, names)
		match(t, a.trailer, totals)
		for name := range totals {
			if a.header.Get(name) != "" {
				t.Errorf("%s is a header of a stream, want a trailer", name)
			}
		}
		a.wantHeader(t, "Cache-Control", "no-cache")
		a.wantHeader(t, "X-Accel-Buffering", "no")
		if got := a.header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
			t.Errorf("content type %q", got)
		}
	})
	t.Run("the client's own request id is kept", func(t *testing.T) {
		a := s.chat(t, asking("fast", "x"), "X-Request-Id", "mine-1")
		a.wantHeader(t, "X-Request-Id", "mine-1")
	})
	t.Run("a forced tier is manual", func(t *testing.T) {
		for _, a := range []answered{s.chat(t, asking("powerful", "x")), s.chat(t, asking("auto", "x"), "X-Router-Tier", "powerful"),
			s.chat(t, asking("m-powerful", "x")), s.chat(t, asking("openai/m-powerful", "x"))} {
			a.wantHeader(t, "X-Router-Strategy", "manual")
			a.wantHeader(t, "X-Router-Tier", "powerful")
			a.wantHeader(t, "X-Router-Model", "openai/m-powerful")
		}
	})
}

func TestContract3_HeadersThatReachAnUpstream(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m", "headers: {X-Team: search}")))
	a := s.chat(t, asking("auto", "x"), "X-Router-User", "ann", "X-Router-Session", "s1", "X-Router-Tags", "a,b", "X-Router-Max-Cost-USD", "1", "X-Router-Budget-USD", "5",
		"Authorization", "Bearer client-secret", "Cookie", "c=1", "X-Forwarded-For", "1.2.3.4", "Forwarded", "for=1.2.3.4", "Proxy-Authorization", "Basic x", "Api-Key", "k2", "X-Api-Key", "k3",
		"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "Idempotency-Key", "i-1", "Openai-Beta", "b", "Openai-Organization", "org", "Openai-Project", "p")
	if a.status != 200 {
		t.Fatal(a.status, a.body)
	}
	h := f.last(t).header
	for name := range h {
		if strings.HasPrefix(name, "X-Router") || slices.Contains([]string{"Cookie", "X-Forwarded-For", "Forwarded", "Proxy-Authorization", "Api-Key", "X-Api-Key", "Openai-Organization", "Openai-Project"}, name) {
			t.Errorf("%s: %s reached the upstream", name, h[name])
		}
	}
	for name, want := range map[string]string{"Authorization": "Bearer sk-canary-1234", "X-Team": "search", "Content-Type": "application/json",
		"Openai-Beta": "b"} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := h.Get("Idempotency-Key"); !regexp.MustCompile(`^[0-9a-f]{12}-i-1$`).MatchString(got) {
		t.Errorf("Idempotency-Key: %q, want i-1 behind the user's hash", got)
	}
	// A tracer in between gives the call a span of its own in the same trace.
	if got := h.Get("Traceparent"); !strings.HasPrefix(got, "00-0af7651916cd43dd8448eb211c80319c-") {
		t.Errorf("Traceparent: %q, want the client's trace", got)
	}
}

func TestContract3_StreamChunksAreByteForByte(t *testing.T) {
	odd := []string{
		`{"id":"c" , "choices":[{"index":0,"delta":{"role":"assistant","content":"\u00e9\/"},"finish_reason":null, "x":[1e2]}],"extra":{"b":1,"b":2}}`,
		`{"choices":[{"index":0,"delta":{"content":"ü"}}]}`,
		`{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}`,
	}
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		sse(w, append(slices.Clone(odd), usageEvent, "[DONE]")...)
	})
	s := serveConfig(t, threeTiersOf(f))
	a := s.chat(t, asking("auto", "x", `"stream":true`))
	if got, want := dataOf(a.body), append(slices.Clone(odd), "[DONE]"); !slices.Equal(got, want) {
		t.Errorf("events %q\nwant   %q", got, want)
	}
}

func TestContract9_UsageOfStreams(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
		sse(w, `{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":null,"z":1}`, usageEvent, "[DONE]")
	})
	s := serveConfig(t, threeTiersOf(f))
	for _, tt := range []struct {
		name, more string
		nulls      bool
		usage      string // of the last event before [DONE]; "" when there is none
		sent       string // stream_options as the upstream gets them
	}{
		{"not asked", `"stream":true`, false, "", `{"include_usage":true}`},
		{"asked", `"stream":true,"stream_options":{"include_usage":true}`, true, "100", `{"include_usage":true}`},
		{"declined counts as not asked", `"stream":true,"stream_options":{"include_usage":false}`, false, "", `{"include_usage":true}`},
		{"usage.include", `"stream":true,"usage":{"include":true}`, true, "100", `{"include_usage":true}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.chat(t, asking("auto", "x", tt.more))
			data := dataOf(a.body)
			if nulls := strings.Contains(data[0], `"usage":null`); nulls != tt.nulls && !tt.nulls {
				t.Errorf("first event %s, want usage null there: %v", data[0], tt.nulls)
			}
			if !tt.nulls && data[0] != `{"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"z":1}` {
				t.Errorf("first event %s", data[0])
			}
			got := gjson.Get(data[len(data)-2], "usage.prompt_tokens").String()
			if got != tt.usage || data[len(data)-1] != "[DONE]" {
				t.Errorf("events %q, want usage %q in the last", data, tt.usage)
			}
			body := f.last(t).body
			if got := gjson.Get(body, "stream_options").Raw; got != tt.sent {
				t.Errorf("the upstream got stream_options %s, want %s", got, tt.sent)
			}
			if gjson.Get(body, "usage").Exists() {
				t.Errorf("the upstream got the usage field: %s", body)
			}
			wantCost := strings.Contains(tt.more, "include\":true}") && strings.Contains(tt.more, `"usage"`)
			if cost := gjson.Get(data[len(data)-2], "usage.cost"); cost.Exists() != wantCost || wantCost && (cost.Raw != "0.0002" || a.trailer.Get("X-Router-Cost-USD") != "0.0002") {
				t.Errorf("usage.cost %s, trailer %s, want cost 0.0002: %v", cost.Raw, a.trailer.Get("X-Router-Cost-USD"), wantCost)
			}
		})
	}
	t.Run("whole", func(t *testing.T) {
		f.now(answersWell)
		a := s.chat(t, asking("auto", "x", `"usage":{"include":true}`))
		if a.get("usage.cost").Raw != "0.0002" || a.get("usage.prompt_tokens").Int() != 100 || a.header.Get("X-Router-Cost-USD") != "0.0002" {
			t.Errorf("answer %s, cost %s", a.body, a.header.Get("X-Router-Cost-USD"))
		}
		if got := s.chat(t, asking("auto", "x")); got.body != completion {
			t.Errorf("answer %s without usage.include", got.body)
		}
	})
	t.Run("openrouter gets the usage field", func(t *testing.T) {
		s := serveConfig(t, loopback+"tiers: {fast: [{provider: openrouter, base_url: '"+f.URL+"/v1', api_key: k, model: a/b, price: {input: 1, output: 1}}]}\n")
		s.chat(t, asking("auto", "x", `"usage":{"include":true}`))
		if got := gjson.Get(f.last(t).body, "usage").Raw; got != `{"include":true}` {
			t.Errorf("usage %s", got)
		}
	})
}

func TestContract3_Routes(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"models: {aliases: {gpt-4o: auto, gpt-4o-mini: fast}}\n")
	t.Run("index", func(t *testing.T) {
		a := s.do(t, "GET", "/", "")
		if a.get("name").String() != "inference-router" || a.get("version").String() == "" || a.get("status").String() != "running" ||
			a.get("tiers").Raw != `["fast","balanced","powerful"]` || a.get("strategy").String() != "ComplexityStrategy" || a.get("fallback").String() != "fast" {
			t.Error(a.body)
		}
	})
	t.Run("models", func(t *testing.T) {
		a := s.do(t, "GET", "/v1/models", "")
		ids := a.get("data.#.id").Raw
		for _, id := range []string{"auto", "fast", "balanced", "powerful", "gpt-4o", "gpt-4o-mini", "openai/m-fast"} {
			if !strings.Contains(ids, strconv.Quote(id)) {
				t.Errorf("no %s among %s", id, ids)
			}
			one := s.do(t, "GET", "/v1/models/"+id, "")
			if one.status != 200 || one.get("id").String() != id || one.get("object").String() != "model" {
				t.Errorf("%s: %d %s", id, one.status, one.body)
			}
		}
		escaped := s.do(t, "GET", "/v1/models/openai%2Fm-fast", "")
		if escaped.status != 200 || escaped.get("id").String() != "openai/m-fast" {
			t.Errorf("an escaped id: %d %s", escaped.status, escaped.body)
		}
		s.do(t, "GET", "/v1/models/nope", "").wantError(t, 404, "invalid_request_error", "model_not_found")
	})
	t.Run("route", func(t *testing.T) {
		before := len(f.seen())
		a := s.do(t, "POST", "/v1/route", asking("auto", "compare B-trees vs LSM trees"))
		for key, want := range map[string]string{"tier": `"powerful"`, "score": "7.5", "upstream": `"openai/m-powerful"`, "forced": "false", "model": `"auto"`} {
			if a.get(key).Raw != want {
				t.Errorf("%s: %s, want %s in %s", key, a.get(key).Raw, want, a.body)
			}
		}
		if len(f.seen()) != before {
			t.Error("a dry run called the upstream")
		}
	})
	t.Run("query", func(t *testing.T) {
		a := s.do(t, "POST", "/query", `{"prompt":"newest","messages":[{"role":"user","content":"first"},{"role":"assistant","content":"second"}],"max_tokens":9,"temperature":0.5,"system_prompt":"sys","tier":"powerful","metadata":{"user_id":"ann","budget_usd":2}}`)
		for key, want := range map[string]string{"text": `"Paris"`, "model_used": `"openai/m-powerful"`, "tier_used": `"powerful"`, "tokens_total": "110", "cost_usd": "0.001", "strategy_used": `"manual"`, "was_fallback": "false"} {
			if a.get(key).Raw != want {
				t.Errorf("%s: %s, want %s in %s", key, a.get(key).Raw, want, a.body)
			}
		}
		if a.get("latency_ms").Type != gjson.Number {
			t.Errorf("latency_ms: %s", a.body)
		}
		sent := f.last(t).body
		if gjson.Get(sent, "messages.#.content").Raw != `["sys","first","second","newest"]` || gjson.Get(sent, "temperature").Num != 0.5 {
			t.Errorf("the upstream got %s", sent)
		}
		if u := s.do(t, "GET", "/budgets?user=ann", ""); u.get(`budgets.#(user=="ann").limit_usd`).Raw != "2" {
			t.Errorf("the budget of ann: %s", u.body)
		}
		s.do(t, "POST", "/query", `{"prompt":"x","tier":"nope"}`).wantError(t, 400, "invalid_request_error", "tier_not_found")
		if bad := s.do(t, "POST", "/query", `{}`); bad.status != 400 || bad.get("error.param").String() != "prompt" {
			t.Errorf("no prompt: %s", bad.body)
		}
		if bad := s.do(t, "POST", "/query", `{"prompt":"x","max_tokens":"many"}`); bad.status != 400 || bad.get("error.param").String() != "max_tokens" {
			t.Errorf("bad max_tokens: %s", bad.body)
		}
		for body, want := range map[string]string{`{"prompt":5}`: "prompt must be a string", `{"prompt":"x","messages":"no"}`: "messages must be an array", `{"prompt":"x","max_tokens":1.5}`: "max_tokens must be a whole number",
			`{"prompt":"x","temperature":"hot"}`: "temperature must be a number", `{"prompt":"x","metadata":[]}`: "metadata must be an object", `[]`: "the body must be an object", `{"prompt":"x"} {}`: "not valid JSON", `{"prompt":"x","metadata":{"budget_usd":-1}}`: "metadata.budget_usd", `{"prompt":"x","metadata":{"budget_usd":1e3}}`: "metadata.budget_usd",
			`{"prompt":"x","metadata":{"user_id":"a\u0000"}}`: "metadata.user_id"} {
			if a := s.do(t, "POST", "/query", body); a.status != 400 || !strings.Contains(a.get("error.message").String(), want) {
				t.Errorf("%s: %d %s, want %s", body, a.status, a.body, want)
			}
		}
		for _, body := range []string{`{"prompt":"x","Tier":"powerful"}`, `{"prompt":"x","prompt":"y"}`, `{"prompt":"x","tier":"fast","TIER":"powerful"}`} {
			if bad := s.do(t, "POST", "/query", body); bad.status != 400 {
				t.Errorf("%s: %d, want 400 for a duplicate or case-variant name", body, bad.status)
			}
		}
	})
	t.Run("query stream", func(t *testing.T) {
		a := s.do(t, "POST", "/query/stream", `{"prompt":"capital?"}`)
		if a.body != "Paris" || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") || a.header.Get("X-Router-Tier") != "fast" || a.trailer.Get("X-Router-Cost-Usd") != "0.0002" {
			t.Errorf("%q, %v, %v", a.body, a.header, a.trailer)
		}
		f.now(func(w http.ResponseWriter, r *http.Request) { sse(w, events[0], events[1]); resets(w, r) })
		cut := s.do(t, "POST", "/query/stream", `{"prompt":"capital?"}`)
		if !regexp.MustCompile(`^Pa\n\[error: .+\]\n$`).MatchString(cut.body) {
			t.Errorf("a stream that was cut: %q", cut.body)
		}
		f.now(answersWell)
	})
	t.Run("tiers", func(t *testing.T) {
		a := s.do(t, "GET", "/tiers", "")
		fast := a.get("tiers.fast")
		if fast.Get("upstreams.0.name").String() != "openai/m-fast" || fast.Get("upstreams.0.provider").String() != "openai" || fast.Get("upstreams.0.model").String() != "m-fast" ||
			!fast.Get("upstreams.0.healthy").Bool() || fast.Get("upstreams.0.price.output").Raw != "10" || !fast.Get("healthy").Bool() || fast.Get("samples").Int() < 1 ||
			fast.Get("p90_ms").Num <= 0 || !fast.Get("sla_ms").Exists() || a.get("fallback").String() != "fast" {
			t.Error(a.body)
		}
	})
	t.Run("debug complexity", func(t *testing.T) {
		a := s.do(t, "POST", "/debug/complexity", `{"prompt":"explain how transformers work"}`)
		if a.get("score").Raw != "3.5" || a.get("tier_selected").String() != "balanced" || a.get("prompt_preview").String() != "explain how transformers work" || len(a.get("breakdown").Map()) != 5 {
			t.Error(a.body)
		}
	})
	t.Run("pages", func(t *testing.T) {
		for path, want := range map[string]string{"/docs": "<html", "/openapi.json": `"openapi"`, "/dashboard": "<html", "/livez": "alive", "/readyz": "ready", "/healthz": "ready", "/metrics": "router_requests_total"} {
			a := s.do(t, "GET", path, "")
			if a.status != 200 || !strings.Contains(a.body, want) {
				t.Errorf("%s: %d, want %q in\n%.200s", path, a.status, want, a.body)
			}
			if regexp.MustCompile(`(src|href)="(https?:)?//`).MatchString(a.body) {
				t.Errorf("%s loads from the network", path)
			}
		}
	})
	t.Run("reset", func(t *testing.T) {
		a := s.do(t, "DELETE", "/stats/reset", "")
		if strings.TrimSpace(a.body) != `{"status":"reset"}` {
			t.Errorf("%d %s", a.status, a.body)
		}
		if after := s.do(t, "GET", "/tiers", ""); after.get("tiers.fast.samples").Int() != 0 {
			t.Errorf("after a reset: %s", after.body)
		}
	})
	t.Run("others", func(t *testing.T) {
		s.do(t, "GET", "/nope", "").wantError(t, 404, "invalid_request_error", "unknown_url")
		if a := s.do(t, "GET", "/v1/chat/completions", ""); a.status != 405 {
			t.Errorf("a GET of chat: %d", a.status)
		}
	})
}

func TestContract4_BadRequests(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"budgets: [{scope: user, usd: 1, per: day, on_exhausted: reject}]\n")
	long := strings.Repeat("x", 5000)
	deep := strings.Repeat("[", 70) + strings.Repeat("]", 70)
	many := strings.Repeat(`{"role":"user","content":"x"},`, 4096) + `{"role":"user","content":"x"}`
	for _, tt := range []struct {
		name, body string
		param      string // "*" is any, also none
	}{
		{"not JSON", `{"model":`, "*"},
		{"not an object", `[]`, "*"},
		{"empty", ``, "*"},
		{"something after it", asking("auto", "x") + "{}", "*"},
		{"duplicate names", `{"model":"auto","model":"fast","messages":[{"role":"user","content":"x"}]}`, "model"},
		{"case variants", `{"model":"auto","Model":"fast","messages":[{"role":"user","content":"x"}]}`, "*"},
		{"a case variant alone", asking("auto", "x", `"MAX_TOKENS":1`), "*"},
		{"an escaped duplicate", `{"model":"auto","m\u006fdel":"fast","messages":[{"role":"user","content":"x"}]}`, "*"},
		{"no messages", `{"model":"auto"}`, "messages"},
		{"empty messages", `{"model":"auto","messages":[]}`, "messages"},
		{"messages of the wrong type", `{"model":"auto","messages":"x"}`, "messages"},
		{"model of the wrong type", `{"model":1,"messages":[{"role":"user","content":"x"}]}`, "model"},
		{"stream of the wrong type", asking("auto", "x", `"stream":"yes"`), "stream"},
		{"temperature out of range", asking("auto", "x", `"temperature":2.1`), "temperature"},
		{"temperature below", asking("auto", "x", `"temperature":-0.1`), "temperature"},
		{"top_p out of range", asking("auto", "x", `"top_p":1.5`), "top_p"},
		{"n of 0", asking("auto", "x", `"n":0`), "n"},
		{"n of 1000", asking("auto", "x", `"n":1000`), "n"},
		{"max_tokens of 0", asking("auto", "x", `"max_tokens":0`), "max_tokens"},
		{"max_tokens of -1", asking("auto", "x", `"max_tokens":-1`), "max_tokens"},
		{"max_tokens as text", asking("auto", "x", `"max_tokens":"100"`), "max_tokens"},
		{"max_tokens of 1.5", asking("auto", "x", `"max_tokens":1.5`), "max_tokens"},
		{"max_completion_tokens huge", asking("auto", "x", `"max_completion_tokens":99999999999999999999`), "max_completion_tokens"},
		{"depth 65 and more", asking("auto", "x", `"deep":`+deep), "*"},
		{"4,097 messages", `{"model":"auto","messages":[` + many + `]}`, "messages"},
		{"a bad budget in metadata", asking("auto", "x", `"metadata":{"budget_usd":"lots"}`), "metadata.budget_usd"},
		{"a user of control characters", asking("auto", "x", `"user":"a\u0000b"`), "user"},
		{"a user of 257 bytes", asking("auto", "x", `"user":"`+long[:257]+`"`), "user"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.chat(t, tt.body)
			if a.status != 400 || a.get("error.type").String() != "invalid_request_error" || a.header.Get("X-Request-Id") == "" {
				t.Fatalf("got %d %s", a.status, a.body)
			}
			if param := a.get("error.param").String(); tt.param != "*" && param != tt.param {
				t.Errorf("param %q, want %q: %s", param, tt.param, a.body)
			}
		})
	}
	for _, tt := range []struct {
		name    string
		headers []string
	}{
		{"two users", []string{"X-Router-User", "a", "X-Router-User", "b"}},
		{"two budgets", []string{"X-Router-Budget-USD", "1", "X-Router-Budget-Usd", "2"}},
		{"an empty user", []string{"X-Router-User", ""}},
		{"a user of 257 bytes", []string{"X-Router-User", long[:257]}},
		{"an underscore", []string{"X_Router_User", "a"}},
		{"an underscore in half of it", []string{"X-Router_User", "a"}},
		{"a budget of NaN", []string{"X-Router-Budget-USD", "NaN"}},
		{"a budget of -1", []string{"X-Router-Budget-USD", "-1"}},
		{"a budget of 1e9", []string{"X-Router-Budget-USD", "1e9"}},
		{"a budget of +5", []string{"X-Router-Budget-USD", "+5"}},
		{"a budget with ten places", []string{"X-Router-Budget-USD", "1.1234567890"}},
		{"a budget of arabic digits", []string{"X-Router-Budget-USD", "٥"}},
		{"a budget of 60 digits", []string{"X-Router-Budget-USD", strings.Repeat("9", 60)}},
		{"a budget of $9,000,000", []string{"X-Router-Budget-USD", "9000000"}},
		{"a budget of .5", []string{"X-Router-Budget-USD", ".5"}},
		{"a budget of 5.", []string{"X-Router-Budget-USD", "5."}},
		{"a max cost of nonsense", []string{"X-Router-Max-Cost-USD", "cheap"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.chat(t, asking("auto", "x"), tt.headers...)
			if a.status != 400 || a.get("error.type").String() != "invalid_request_error" || a.get("error.param").String() == "" {
				t.Errorf("got %d %s", a.status, a.body)
			}
		})
	}
	t.Run("a tier that is not there", func(t *testing.T) {
		s.chat(t, asking("auto", "x"), "X-Router-Tier", "nope").wantError(t, 400, "invalid_request_error", "tier_not_found")
	})
	if n := len(f.seen()); n != 0 {
		t.Errorf("%d bad requests reached the upstream: %s", n, f.last(t).body)
	}
	t.Run("numbers that are fine", func(t *testing.T) {
		for _, more := range []string{`"max_tokens":null`, `"max_tokens":5`, `"temperature":2`, `"temperature":0`, `"top_p":1`, `"n":1`, `"user":null`, `"stream":false`} {
			if a := s.chat(t, asking("auto", "x", more)); a.status != 200 {
				t.Errorf("%s: %d %s", more, a.status, a.body)
			}
		}
	})
}

func TestContract4_BodySizeAndEncoding(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, strings.Replace(oneTierOf(upstreamLine(f, "m")), "0'}", "0', max_body_bytes: 1000}", 1))
	big := asking("auto", strings.Repeat("x", 1000))
	s.chat(t, big).wantError(t, 413, "invalid_request_error", "request_too_large")
	t.Run("chunked", func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.url+"/v1/chat/completions", io.MultiReader(strings.NewReader(big)))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := plainClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != 413 {
			t.Errorf("%d, want 413", resp.StatusCode)
		}
	})
	for _, encoding := range []string{"gzip", "br", "zstd"} {
		if a := s.chat(t, asking("auto", "x"), "Content-Encoding", encoding); a.status != 415 || a.get("error.type").String() != "invalid_request_error" {
			t.Errorf("%s: %d %s, want 415", encoding, a.status, a.body)
		}
	}
	if a := s.chat(t, asking("auto", "x"), "Content-Encoding", "identity"); a.status != 200 {
		t.Errorf("identity: %d", a.status)
	}
	for _, path := range []string{"/v1/embeddings", "/query", "/query/stream", "/v1/route", "/debug/complexity"} {
		if a := s.do(t, "POST", path, big); a.status != 413 {
			t.Errorf("%s: %d of a large body, want 413", path, a.status)
		}
		if a := s.do(t, "POST", path, "{}", "Content-Encoding", "gzip"); a.status != 415 {
			t.Errorf("%s: %d of an encoded body, want 415", path, a.status)
		}
	}
}

func TestContract4_UpstreamErrors(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f)+"retries: {max_attempts: 2}\n")
	secret := `{"error":{"message":"key sk-canary-1234 at http://10.1.2.3/x of org-secret","type":"x","param":null,"code":null}}`
	for _, tt := range []struct {
		name       string
		script     http.HandlerFunc
		status     int
		kind, code string
		headers    map[string]string
	}{
		{"429 from all", answersWith(429, secret, "Retry-After", "7"), 429, "rate_limit_error", "rate_limit_exceeded", map[string]string{"Retry-After": "7"}},
		{"429 without Retry-After", answersWith(429, secret), 429, "rate_limit_error", "rate_limit_exceeded", map[string]string{"Retry-After": "1"}},
		{"429 with a day", answersWith(429, secret, "Retry-After", "86400"), 429, "rate_limit_error", "rate_limit_exceeded", map[string]string{"Retry-After": "60"}},
		{"429 with nonsense", answersWith(429, secret, "Retry-After", "soon"), 429, "rate_limit_error", "rate_limit_exceeded", map[string]string{"Retry-After": "1"}},
		{"our quota", answersWith(429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`), 429, "rate_limit_error", "upstream_quota_exceeded", map[string]string{"X-Should-Retry": "false"}},
		{"500", answersWith(500, secret), 502, "api_error", "upstream_error", map[string]string{"X-Should-Retry": "false"}},
		{"502", answersWith(502, "<html>sk-canary-1234</html>"), 502, "api_error", "upstream_error", map[string]string{"X-Should-Retry": "false"}},
		{"503", answersWith(503, secret), 503, "api_error", "upstream_overloaded", map[string]string{"Retry-After": "1"}},
		{"529", answersWith(529, secret), 503, "api_error", "upstream_overloaded", map[string]string{"Retry-After": "1"}},
		{"504", answersWith(504, secret), 504, "api_error", "upstream_timeout", nil},
		{"401", answersWith(401, secret), 502, "api_error", "upstream_auth_error", map[string]string{"X-Should-Retry": "false"}},
		{"403", answersWith(403, secret), 502, "api_error", "upstream_auth_error", map[string]string{"X-Should-Retry": "false"}},
		{"404", answersWith(404, secret), 502, "api_error", "upstream_error", map[string]string{"X-Should-Retry": "false"}},
		{"a redirect", answersWith(302, "", "Location", "http://169.254.169.254/latest"), 502, "api_error", "upstream_redirect", nil},
		{"HTML", answersWith(200, "<html>portal</html>", "Content-Type", "text/html"), 502, "api_error", "upstream_bad_response", nil},
		{"an empty body", answersWith(200, ""), 502, "api_error", "upstream_bad_response", nil},
		{"half a JSON", answersWith(200, completion[:50]), 502, "api_error", "upstream_bad_response", nil},
		{"a reset", resets, 502, "api_error", "upstream_reset", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, more := range []string{`"stream":false`, `"stream":true`} {
				s := serveConfig(t, threeTiersOf(f)+"retries: {max_attempts: 2}\n")
				f.now(tt.script)
				a := s.chat(t, asking("auto", "x", more))
				a.wantError(t, tt.status, tt.kind, tt.code)
				if n := a.header.Get("X-Router-Attempts"); n != "1" && n != "2" {
					t.Errorf("X-Router-Attempts %q of an error", n)
				}
				for name, want := range tt.headers {
					a.wantHeader(t, name, want)
				}
				for _, leak := range []string{"sk-canary", "10.1.2.3", "org-secret", "127.0.0.1", "169.254", "portal"} {
					if strings.Contains(a.body, leak) || strings.Contains(s.log.String(), leak+"/") {
						t.Errorf("%s is told to the client: %s", leak, a.body)
					}
				}
				if strings.Contains(s.log.String(), "sk-canary") {
					t.Errorf("the key is in the log: %s", s.log.String())
				}
			}
		})
	}
	_ = s
}

func TestContract4_ClientErrorsAreRelayed(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"), upstreamLine(f, "m2"))+"  second: ["+upstreamLine(f, "m3")+"]\n")
	for _, status := range []int{400, 413, 422} {
		body := fmt.Sprintf("{ \"error\" : {\"message\":\"bad %d\",\"type\":\"invalid_request_error\",\"param\":\"messages\",\"code\":\"invalid_value\"}}\n", status)
		f.now(answersWith(status, body))
		before := len(f.seen())
		a := s.chat(t, asking("auto", "x"))
		if a.status != status || a.body != body || len(f.seen()) != before+1 {
			t.Errorf("%d: got %d %q in %d calls", status, a.status, a.body, len(f.seen())-before)
		}
		if a.header.Get("X-Router-Decision") == "" {
			t.Errorf("%d has no X-Router-Decision", status)
		}
	}
	t.Run("404 of an upstream that the client named", func(t *testing.T) {
		body := `{"error":{"message":"The model does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}`
		f.now(answersWith(404, body))
		if a := s.chat(t, asking("openai/m2", "x")); a.status != 404 || a.body != body {
			t.Errorf("got %d %s", a.status, a.body)
		}
	})
	t.Run("404 of one that the router chose", func(t *testing.T) {
		f.now(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if gjson.GetBytes(body, "model").String() == "m" {
				answersWith(404, `{"error":{"message":"no"}}`)(w, r)
				return
			}
			answersWell(w, r)
		})
		s := serveConfig(t, oneTierOf(upstreamLine(f, "m"), upstreamLine(f, "m2")))
		a := s.chat(t, asking("auto", "x"))
		if a.status != 200 || a.header.Get("X-Router-Attempts") != "2" || a.header.Get("X-Router-Fallback") != "false" {
			t.Errorf("got %d %v", a.status, a.header)
		}
		if tiers := s.do(t, "GET", "/tiers", ""); tiers.get("tiers.fast.upstreams.0.healthy").Bool() {
			t.Errorf("the misconfigured upstream counts as healthy: %s", tiers.body)
		}
		if again := s.chat(t, asking("auto", "x")); again.header.Get("X-Router-Attempts") != "1" {
			t.Errorf("the misconfigured upstream was tried again: %s attempts", again.header.Get("X-Router-Attempts"))
		}
	})
}

func TestContract4_UnknownModels(t *testing.T) {
	f := newFake(t, answersWell)
	routes := serveConfig(t, threeTiersOf(f)+"models: {aliases: {mini: fast}}\n")
	if a := routes.chat(t, asking("gpt-99", "compare B-trees vs LSM trees")); a.status != 200 || a.header.Get("X-Router-Tier") != "powerful" {
		t.Errorf("unknown: route: %d %v", a.status, a.header)
	}
	rejects := serveConfig(t, threeTiersOf(f)+"models: {aliases: {mini: fast, best: openai/m-powerful}, unknown: reject}\n")
	rejects.chat(t, asking("gpt-99", "x")).wantError(t, 404, "invalid_request_error", "model_not_found")
	for model, tier := range map[string]string{"auto": "fast", "mini": "fast", "best": "powerful", "balanced": "balanced", "m-powerful": "powerful", "openai/m-balanced": "balanced"} {
		if a := rejects.chat(t, asking(model, "hi")); a.status != 200 || a.header.Get("X-Router-Tier") != tier {
			t.Errorf("%s: %d, tier %s, want %s", model, a.status, a.header.Get("X-Router-Tier"), tier)
		}
	}
	if a := rejects.chat(t, `{"messages":[{"role":"user","content":"hi"}]}`); a.status != 200 {
		t.Errorf("no model at all: %d %s", a.status, a.body)
	}
}

func TestContract9_NothingIsSentBeforeTheFirstEvent(t *testing.T) {
	release := make(chan struct{})
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, ": comment\n\n")
		_ = http.NewResponseController(w).Flush()
		<-release
		sse(w, events...)
		sse(w, "[DONE]")
	})
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	body := asking("auto", "x", `"stream":true`)
	_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	testkit.Eventually(t, "the upstream is called", func() bool { return len(f.seen()) == 1 })
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("something was sent before the first event")
	}
	close(release)
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
}
