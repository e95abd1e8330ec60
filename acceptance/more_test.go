package acceptance

import (
	"github.com/inference-router/inference-router/internal/testkit"

	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidwall/gjson"
)

func TestContract5_ABudgetThatDowngradesWorksWithoutTheCostStrategy(t *testing.T) {
	f := newFake(t, answersWell)
	const hard = "compare B-trees vs LSM trees"
	s := serveConfig(t, threeTiersOf(f)+"budgets: [{scope: user, usd: 0.001, per: day, on_exhausted: downgrade}]\n")
	for range 3 {
		s.chat(t, asking("powerful", "x"))
	}
	if a := s.chat(t, asking("auto", hard)); a.status != 200 || a.header.Get("X-Router-Tier") != "fast" {
		t.Errorf("a budget that is used up: %d, tier %s, reason %s", a.status, a.header.Get("X-Router-Tier"), a.header.Get("X-Router-Reason"))
	}
	t.Run("a header's budget", func(t *testing.T) {
		s := serveConfig(t, threeTiersOf(f))
		for range 3 {
			s.chat(t, asking("powerful", "x"), "X-Router-User", "u", "X-Router-Budget-USD", "0.001")
		}
		if a := s.chat(t, asking("auto", hard), "X-Router-User", "u", "X-Router-Budget-USD", "0.001"); a.status != 200 || a.header.Get("X-Router-Tier") != "fast" {
			t.Errorf("%d, tier %s, reason %s", a.status, a.header.Get("X-Router-Tier"), a.header.Get("X-Router-Reason"))
		}
	})
}

func TestContract6_BudgetsOfKeys(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+`identity:
  mode: keys
  keys:
    - {name: own, key: own-key-000001, user: "*", budget_usd_per_day: 0.0005}
    - {name: common, key: common-key-0001, user: "*"}
    - {name: root, key: admin-key-0001, admin: true}
budgets: [{scope: key, usd: 0.001, per: week, on_exhausted: reject}]
`)
	admitted := func(key string) (n int) {
		for i := range 10 {
			if a := s.chat(t, asking("auto", "x", `"max_tokens":10`), "Authorization", "Bearer "+key, "X-Router-User", fmt.Sprint("user", i)); a.status == 200 {
				n++
			} else {
				a.wantError(t, 429, "insufficient_quota", "budget_exceeded")
			}
		}
		return n
	}
	if n := admitted("own-key-000001"); n < 1 || n > 2 { // each costs 0.0002 and may cost a little more
		t.Errorf("a budget of 0.0005 admitted %d", n)
	}
	if n := admitted("common-key-0001"); n < 4 || n > 5 {
		t.Errorf("a budget of 0.001 for each key admitted %d", n)
	}
	b := s.do(t, "GET", "/budgets", "", "Authorization", "Bearer admin-key-0001")
	if b.get(`budgets.#(key=="common").spent_usd`).Num < 0.0008 || b.get(`budgets.#(key=="own")#|#(per=="day").limit_usd`).Raw != "0.0005" {
		t.Errorf("%s", b.body)
	}
}

func TestContract3_SessionsKeepTheirTier(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, threeTiersOf(f))
	talk := func(n int, prompt string, headers ...string) string {
		body := `{"model":"auto","messages":[`
		for range n {
			body += `{"role":"user","content":"before"},{"role":"assistant","content":"answer"},`
		}
		return s.chat(t, body+`{"role":"user","content":"`+prompt+`"}]}`, headers...).header.Get("X-Router-Tier")
	}
	if got := talk(0, "compare B-trees vs LSM trees", "X-Router-Session", "s1", "X-Router-User", "ann"); got != "powerful" {
		t.Fatalf("first turn: %s", got)
	}
	if got := talk(1, "yes, go on", "X-Router-Session", "s1", "X-Router-User", "ann"); got != "powerful" {
		t.Errorf("a follow-up in the session: %s", got)
	}
	if got := talk(0, "what is the capital of France?", "X-Router-Session", "s1", "X-Router-User", "bob"); got != "fast" {
		t.Errorf("another user's session of the same name: %s", got)
	}
}

func TestContract2_Anthropic(t *testing.T) {
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Request-Id", "req_a")
		_, _ = io.WriteString(w, `{"id":"msg_1","type":"message","role":"assistant","model":"claude-x","content":[{"type":"text","text":"Paris"}],"stop_reason":"end_turn","usage":{"input_tokens":100,"output_tokens":10}}`)
	})
	config := loopback + "tiers: {fast: [{provider: anthropic, model: claude-haiku-4-5, endpoint: '" + f.URL + "', api_key: sk-canary-1234, price: {input: 1, output: 10}}]}\n"
	s := serveConfig(t, config)
	a := s.chat(t, asking("auto", "capital?", `"logit_bias":{"1":2}`, `"seed":5`, `"temperature":0.5`))
	if a.status != 200 || a.get("choices.0.message.content").String() != "Paris" || a.get("model").String() != "anthropic/claude-haiku-4-5" || a.get("usage.total_tokens").Int() != 110 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for name, want := range map[string]string{"X-Router-Model": "anthropic/claude-haiku-4-5", "X-Router-Cost-Usd": "0.0002", "X-Router-Upstream-Request-Id": "req_a"} {
		a.wantHeader(t, name, want)
	}
	dropped := strings.Split(a.header.Get("X-Router-Dropped-Params"), ", ")
	if !slices.Contains(dropped, "logit_bias") {
		t.Errorf("dropped %q", dropped)
	}
	r := f.last(t)
	if r.path != "/v1/messages" || r.header.Get("X-Api-Key") != "sk-canary-1234" || gjson.Get(r.body, "max_tokens").Int() < 1 || gjson.Get(r.body, "model").String() != "claude-haiku-4-5" {
		t.Errorf("%s %v %s", r.path, r.header, r.body)
	}
	if named := s.chat(t, asking("claude-haiku-4-5", "x")); named.get("model").String() != "claude-haiku-4-5" {
		t.Errorf("the client named the upstream: %s", named.body)
	}
	before := len(f.seen())
	rejects := serveConfig(t, config+"translate: {unsupported: reject}\n")
	if b := rejects.chat(t, asking("auto", "x", `"logit_bias":{"1":2}`)); b.status != 400 || b.get("error.param").String() != "logit_bias" || b.get("error.type").String() != "invalid_request_error" {
		t.Errorf("unsupported: reject: %d %s", b.status, b.body)
	}
	if n := len(f.seen()); n != before {
		t.Error("a refused request was sent")
	}
	orphan := s.chat(t, `{"messages":[{"role":"user","content":"x"},{"role":"tool","tool_call_id":"t1","content":"r"}]}`)
	if orphan.status != 400 || orphan.get("error.param").String() == "" {
		t.Errorf("an orphaned tool result: %d %s", orphan.status, orphan.body)
	}
	image := `{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://169.254.169.254/latest/meta-data"}}]}]}`
	if c := s.chat(t, image); c.status == 200 && strings.Contains(f.last(t).body, "169.254") == false {
		t.Logf("an image by URL: %s", f.last(t).body)
	}
	t.Run("errors", func(t *testing.T) {
		for _, tt := range []struct {
			status int
			body   string
			want   int
			kind   string
			code   string
		}{
			{400, `{"type":"error","error":{"type":"invalid_request_error","message":"max_tokens: too large"}}`, 400, "invalid_request_error", "*"},
			{401, `{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}`, 502, "api_error", "upstream_auth_error"},
			{529, `{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}`, 503, "api_error", "upstream_overloaded"},
			{429, `{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}`, 429, "rate_limit_error", "rate_limit_exceeded"},
			{500, `{"type":"error","error":{"type":"api_error","message":"x"}}`, 502, "api_error", "upstream_error"},
		} {
			f.now(answersWith(tt.status, tt.body))
			s := serveConfig(t, config+"retries: {max_attempts: 1}\n")
			a := s.chat(t, asking("auto", "x"))
			if code := a.get("error.code").String(); a.status != tt.want || a.get("error.type").String() != tt.kind || tt.code != "*" && code != tt.code {
				t.Errorf("%d: %d %s", tt.status, a.status, a.body)
			}
			stream := s.chat(t, asking("auto", "x", `"stream":true`))
			if stream.status != tt.want {
				t.Errorf("%d as a stream: %d %s", tt.status, stream.status, stream.body)
			}
		}
	})
	t.Run("a stream", func(t *testing.T) {
		f.now(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			for _, e := range []string{
				`{"type":"message_start","message":{"id":"msg_1","model":"claude-x","usage":{"input_tokens":100,"output_tokens":1}}}`,
				`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Par"}}`,
				`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"is"}}`,
				`{"type":"content_block_stop","index":0}`,
				`{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":10}}`,
				`{"type":"message_stop"}`,
			} {
				_, _ = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", gjson.Get(e, "type"), e)
			}
		})
		a := s.chat(t, asking("auto", "x", `"stream":true`))
		text := ""
		data := dataOf(a.body)
		for _, d := range data {
			text += gjson.Get(d, "choices.0.delta.content").String()
			if gjson.Get(d, "usage").IsObject() {
				t.Errorf("usage that was not asked for: %s", d)
			}
		}
		if text != "Paris" || data[len(data)-1] != "[DONE]" || a.trailer.Get("X-Router-Cost-Usd") != "0.0002" {
			t.Errorf("%s %v", a.body, a.trailer)
		}
		b := s.chat(t, asking("auto", "x", `"stream":true`, `"usage":{"include":true}`))
		data = dataOf(b.body)
		if u := gjson.Get(data[len(data)-2], "usage"); u.Get("cost").Raw != "0.0002" || u.Get("prompt_tokens").Int() != 100 {
			t.Errorf("usage.cost: %s", data[len(data)-2])
		}
	})
}

func TestContract2_LogFormatAndLevel(t *testing.T) {
	f := newFake(t, answersWell)
	s := &served{dir: t.TempDir(), log: new(testkit.Buffer), ended: make(chan struct{})}
	testkit.Write(t, s.dir+"/config.yaml", oneTierOf(upstreamLine(f, "m"))+"log: {format: text, level: info}\n")
	s.cmd = program(t, s.dir, nil)
	s.cmd.Stderr = s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(s.ended); _ = s.cmd.Wait() }()
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); <-s.ended })
	s.url = "http://" + s.waitLog(t, `msg=listening address=(\S+)`)
	s.chat(t, asking("auto", "x"))
	s.waitLog(t, `(msg=request)`)
}

func TestContract3_HTTP10AndNoKeepAlive(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	for _, stream := range []string{"false", "true"} {
		body := asking("auto", "x", `"stream":`+stream)
		c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = fmt.Fprintf(c, "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = c.Close()
		if err != nil || resp.StatusCode != 200 || len(text) == 0 || len(resp.TransferEncoding) > 0 {
			t.Errorf("stream %s: %d %q %v %v", stream, resp.StatusCode, text, err, resp.TransferEncoding)
		}
	}
}

func TestContract3_NoCORS(t *testing.T) {
	f := newFake(t, answersWell)
	s := serveConfig(t, oneTierOf(upstreamLine(f, "m")))
	a := s.do(t, "OPTIONS", "/v1/chat/completions", "", "Origin", "http://localhost:3000", "Access-Control-Request-Method", "POST")
	b := s.chat(t, asking("auto", "x"), "Origin", "http://localhost:3000")
	for _, r := range []answered{a, b} {
		if r.header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%v", r.header)
		}
	}
	if b.status != 200 {
		t.Errorf("a local origin: %d", b.status)
	}
	null := s.chat(t, asking("auto", "x"), "Origin", "null")
	if null.status != 403 {
		t.Errorf("an opaque origin: %d, want 403", null.status)
	}
}

// redisServer starts a redis-server of its own.
func redisServer(t *testing.T) (url string) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("redis-server is not installed")
	}
	address := refused(t)
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.CommandContext(t.Context(), path, "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	testkit.Eventually(t, "redis answers", func() bool {
		c, err := net.Dial("tcp", address)
		if err != nil {
			return false
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "PING\r\n")
		line, _ := bufio.NewReader(c).ReadString('\n')
		return strings.HasPrefix(line, "+PONG")
	})
	return "redis://" + address
}

func TestContract7_ReplicasShareABudget(t *testing.T) {
	redis := redisServer(t)
	f := newFake(t, answersWell)
	config := oneTierOf(upstreamLine(f, "m")) + "budgets: [{scope: user, usd: 0.002, per: day, on_exhausted: reject}]\nredis: {url: '${REDIS_URL}'}\n"
	one, two := serveConfig(t, config, "REDIS_URL="+redis), serveConfig(t, config, "REDIS_URL="+redis)
	other := serveConfig(t, strings.Replace(config, "redis: {", "redis: {prefix: other, ", 1), "REDIS_URL="+redis)
	ok := 0
	for i := range 20 {
		if a := []*served{one, two}[i%2].chat(t, asking("auto", "x", `"max_tokens":10`)); a.status == 200 {
			ok++
		} else {
			a.wantError(t, 429, "insufficient_quota", "budget_exceeded")
		}
	}
	if ok < 9 || ok > 10 {
		t.Errorf("%d of 20 admitted, each 0.0002 of 0.002", ok)
	}
	if a := other.chat(t, asking("auto", "x", `"max_tokens":10`)); a.status != 200 {
		t.Errorf("another prefix: %d", a.status)
	}
	if got := one.do(t, "GET", "/budgets?user=anonymous", "").get("budgets.0.spent_usd").Num; got < 0.0017 {
		t.Errorf("replica one sees %v", got)
	}
	if a := two.do(t, "DELETE", "/stats/reset", ""); a.status != 200 {
		t.Errorf("reset: %d %s", a.status, a.body)
	}
	testkit.Eventually(t, "the first replica admits again after a reset at the second", func() bool {
		return one.chat(t, asking("auto", "x", `"max_tokens":10`)).status == 200
	})
	if a := one.do(t, "GET", "/readyz", ""); a.status != 200 || a.get("store").String() != "up" {
		t.Errorf("%s", a.body)
	}
}

func TestFaultR01_RedisIsNotThere(t *testing.T) {
	f := newFake(t, answersWell)
	gone := "redis://" + refused(t)
	for _, tt := range []struct {
		policy string
		want   int
	}{{"closed", 503}, {"bounded", 503}, {"open", 200}} {
		t.Run(tt.policy, func(t *testing.T) {
			s := serveConfig(t, oneTierOf(upstreamLine(f, "m"))+"budgets: [{scope: user, usd: 1, per: day, on_exhausted: reject}]\nredis: {url: '"+gone+"', on_loss: "+tt.policy+"}\n")
			a := s.chat(t, asking("auto", "x"))
			if a.status != tt.want {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.want)
			}
			if tt.want == 503 {
				a.wantError(t, 503, "api_error", "budget_store_unavailable")
				if a.header.Get("Retry-After") == "" {
					t.Error("no Retry-After")
				}
			}
			if live, ready := s.do(t, "GET", "/livez", ""), s.do(t, "GET", "/readyz", ""); live.status != 200 || ready.status != 200 || ready.get("store").String() != "lost" {
				t.Errorf("livez %d, readyz %d %s", live.status, ready.status, ready.body)
			}
			unchecked := "router_ledger_unenforced_total 0"
			if tt.want == 200 {
				unchecked = "router_ledger_unenforced_total 1"
			}
			m := s.do(t, "GET", "/metrics", "").body
			for _, line := range []string{"router_store_up 0", unchecked, "router_ledger_unsent_settlements"} {
				if !strings.Contains(m, "\n"+line) {
					t.Errorf("metrics have no line %s", line)
				}
			}
		})
	}
}
