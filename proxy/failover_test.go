package proxy_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/openai/openai-go/v3"

	"github.com/inference-router/inference-router/proxy"
	"github.com/inference-router/inference-router/proxy/upstream"
	"github.com/inference-router/inference-router/routing"
	"github.com/inference-router/inference-router/translate"
)

// remote is an OpenAI-compatible upstream over a real connection.
func remote(t *testing.T, handler http.HandlerFunc) *upstream.OpenAI {
	t.Helper()
	server := httptest.NewServer(handler)
	u, err := upstream.NewOpenAI(upstream.OpenAIConfig{Name: "remote", Provider: "openai", BaseURL: server.URL + "/v1", APIKey: "sk-upstream"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close(); server.Close() })
	return u
}

// answers is a handler that gives one fixed answer.
func answers(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

const wholeAnswer = `{"id":"x","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5},"unknown":[1.0,9007199254740993]}`

// oneTier has the given upstreams in a tier called fast.
func oneTier(upstreams ...proxy.Upstream) []proxy.Tier {
	tier := proxy.Tier{Name: "fast"}
	for i, u := range upstreams {
		name := string(rune('a' + i))
		tier.Deployments = append(tier.Deployments, proxy.Deployment{Name: "test/" + name, Provider: "test", Model: name + "-model", Upstream: u, Price: price(1, 2)})
	}
	return []proxy.Tier{tier}
}

func TestWholeAnswerIsByteForByte(t *testing.T) {
	var sent string
	u := remote(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		sent = string(b)
		if got := r.Header.Get("Authorization"); got != "Bearer sk-upstream" {
			t.Errorf("upstream got %q", got)
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "X-Router-") {
				t.Errorf("%s reached the upstream", name)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, wholeAnswer)
	})
	s := newStage(t, oneTier(u), nil)
	body := `{ "messages":[{"role":"user","content":"hi"}] , "model" : "auto","top_k":7,"weird":{"a":1.50}}`
	_, got := s.post(t, "/v1/chat/completions", body, "X-Router-User", "ann", "X-Router-Session", "s1")
	if got != wholeAnswer {
		t.Errorf("got %s", got)
	}
	if want := strings.Replace(body, `"auto"`, `"a-model"`, 1); sent != want {
		t.Errorf("upstream got %s, want %s", sent, want)
	}
}

func TestFailover(t *testing.T) {
	ok := answers(200, wholeAnswer)
	for _, c := range []struct {
		name     string
		first    http.HandlerFunc
		attempts string
	}{
		{"after a 500", answers(500, `{"error":{"message":"boom"}}`), "2"},
		{"after a 429", answers(429, `{"error":{"message":"slow down"}}`, "Retry-After", "2"), "2"},
		{"after a 401 of our credential", answers(401, `{"error":{"message":"bad key sk-upstream"}}`), "2"},
		{"after a 404 of a model we chose", answers(404, `{"error":{"message":"no such model"}}`), "2"},
		{"after a 529", answers(529, `{}`), "2"},
		{"after HTML", answers(200, `<html>login</html>`, "Content-Type", "text/html"), "2"},
		{"after an error in a 200", answers(200, `{"error":{"message":"oops","type":"server_error"}}`), "2"},
		{"after a redirect", answers(302, ``, "Location", "http://169.254.169.254/"), "2"},
		{"after a reset", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, oneTier(remote(t, c.first), remote(t, ok)), nil)
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
			if resp.StatusCode != 200 || body != wholeAnswer {
				t.Fatalf("got %d %s", resp.StatusCode, body)
			}
			if got := resp.Header.Get("X-Router-Attempts"); got != c.attempts {
				t.Errorf("attempts: got %s, want %s", got, c.attempts)
			}
			if resp.Header.Get("X-Router-Fallback") != "false" {
				t.Error("another upstream of the same tier is no fallback")
			}
		})
	}
}

func TestStreamFailsOverBeforeTheFirstEvent(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		w.WriteHeader(200)
		io.WriteString(w, ": hello\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	failing := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: {\"error\":{\"message\":\"busy\",\"type\":\"server_error\",\"code\":\"overloaded\"}}\n\n")
	}
	for _, c := range []struct {
		name  string
		first http.HandlerFunc
	}{{"200, then silence", silent}, {"first event is an error", failing}} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, oneTier(remote(t, c.first), says("from b", translate.Usage{InputTokens: 1, OutputTokens: 1})),
				func(c *proxy.Config, _ *routing.Config) { c.Timeouts.FirstEvent = 50 * time.Millisecond })
			resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`))
			if resp.StatusCode != 200 || !strings.Contains(body, "from b") || strings.Contains(body, "hello") {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
		})
	}
}

func TestFallbackTierAnswersWhenTheChosenOneFails(t *testing.T) {
	s := newStage(t, tiers(map[string]proxy.Upstream{
		"fast":     says("fast", translate.Usage{InputTokens: 1, OutputTokens: 1}),
		"powerful": fails(&translate.UpstreamError{Kind: translate.KindServer, Status: 500, Message: "boom"}),
	}), nil)
	resp, _ := s.post(t, "/v1/chat/completions", chatBody("auto", "compare B-trees vs LSM trees"))
	if resp.StatusCode != 200 || resp.Header.Get("X-Router-Fallback") != "true" || resp.Header.Get("X-Router-Tier") != "fast" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
	_, body := s.post(t, "/query", `{"prompt":"hi","tier":"powerful"}`)
	var a proxy.Answer
	if err := json.Unmarshal([]byte(body), &a); err != nil || !a.WasFallback || a.TierUsed != "fast" || a.StrategyUsed != "manual" {
		t.Errorf("got %s, %v", body, err)
	}
}

func TestErrorsOfUpstreams(t *testing.T) {
	for _, c := range []struct {
		name       string
		upstream   http.HandlerFunc
		model      string
		status     int
		kind, code string
		retry      string // X-Should-Retry
		retryAfter string
	}{
		{"the client's own mistake is relayed", answers(400, `{"error":{"message":"bad tool","type":"invalid_request_error","code":"x"}}`), "auto", 400, "invalid_request_error", "x", "", ""},
		{"so is a 422", answers(422, `{"error":{"message":"bad","type":"invalid_request_error","code":"y"}}`), "auto", 422, "invalid_request_error", "y", "", ""},
		{"a 500 is a 502", answers(500, `{"error":{"message":"boom at 10.0.0.1"}}`), "auto", 502, "api_error", "upstream_error", "false", ""},
		{"our credential's failure is a 502", answers(401, `{"error":{"message":"bad key sk-upstream"}}`), "auto", 502, "api_error", "upstream_auth_error", "false", ""},
		{"limiting is a 429 with the upstream's wait", answers(429, `{"error":{"message":"slow"}}`, "Retry-After", "7"), "auto", 429, "rate_limit_error", "rate_limit_exceeded", "", "7"},
		{"our quota is a 429 that is not retried", answers(429, `{"error":{"message":"no money","type":"insufficient_quota","code":"insufficient_quota"}}`), "auto", 429, "rate_limit_error", "upstream_quota_exceeded", "false", ""},
		{"overloaded is a 503", answers(529, `{}`), "auto", 503, "api_error", "upstream_overloaded", "", "1"},
		{"a 404 of a model we chose is a 502", answers(404, `{"error":{"message":"no such model"}}`), "auto", 502, "api_error", "upstream_error", "false", ""},
		{"a 404 of a model the client named is relayed", answers(404, `{"error":{"message":"no such model","type":"invalid_request_error","code":"model_not_found"}}`), "test/a", 404, "invalid_request_error", "model_not_found", "", ""},
		{"HTML is a 502", answers(200, `<html>`, "Content-Type", "text/html"), "auto", 502, "api_error", "upstream_bad_response", "false", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, oneTier(remote(t, c.upstream)), nil)
			for _, stream := range []string{`"stream":false`, `"stream":true`} {
				resp, body := s.post(t, "/v1/chat/completions", chatBody(c.model, "hi", stream))
				wantError(t, resp, body, c.status, c.kind, c.code)
				if got := resp.Header.Get("X-Should-Retry"); got != c.retry {
					t.Errorf("x-should-retry: got %q, want %q", got, c.retry)
				}
				if got := resp.Header.Get("Retry-After"); c.retryAfter != "" && got != c.retryAfter {
					t.Errorf("retry-after: got %q, want %q", got, c.retryAfter)
				}
				if strings.Contains(body, "sk-upstream") || strings.Contains(body, "127.0.0.1") {
					t.Errorf("leaks: %s", body)
				}
			}
		})
	}
}

func TestOneUpstreamAloneIsRetried(t *testing.T) {
	var calls atomic.Int64
	s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 1 {
			answers(503, `{}`)(w, r)
			return
		}
		answers(200, wholeAnswer)(w, r)
	})), nil)
	resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi"))
	if resp.StatusCode != 200 || resp.Header.Get("X-Router-Attempts") != "2" {
		t.Errorf("got %d %s after %d calls", resp.StatusCode, body, calls.Load())
	}
}

func TestStreamCutByTheUpstreamIsAnError(t *testing.T) {
	cut := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"half\"},\"finish_reason\":null}]}\n\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	s := newStage(t, oneTier(remote(t, cut), says("never", translate.Usage{})), nil)
	client := s.client()
	stream := client.Chat.Completions.NewStreaming(t.Context(), openai.ChatCompletionNewParams{
		Model: "auto", Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hi")},
	})
	text := ""
	for stream.Next() {
		text += stream.Current().Choices[0].Delta.Content
	}
	if stream.Err() == nil || text != "half" {
		t.Errorf("got %q and error %v", text, stream.Err())
	}
	resp, body := s.post(t, "/v1/chat/completions", chatBody("auto", "hi", `"stream":true`))
	if strings.Contains(body, "[DONE]") || !strings.Contains(body, `"code":"stream_interrupted"`) || strings.Contains(body, "never") {
		t.Errorf("got %s", body)
	}
	if cost := resp.Trailer.Get("X-Router-Cost-USD"); cost == "" || cost == "0" {
		t.Errorf("a cut stream costs what was produced, got %q", cost)
	}
}

func TestClientHangUpCancelsTheUpstream(t *testing.T) {
	cancelled := make(chan time.Time, 1)
	started := make(chan struct{}, 1)
	s := newStage(t, oneTier(remote(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			if _, err := fmt.Fprintf(w, "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null}]}\n\n"); err != nil {
				break
			}
			w.(http.Flusher).Flush()
			if i == 0 {
				started <- struct{}{}
				<-r.Context().Done()
				break
			}
		}
		cancelled <- time.Now()
	})), func(c *proxy.Config, _ *routing.Config) { c.Budgets = []proxy.Budget{{Scope: "global", Amount: 1e9}} })
	ctx, cancel := context.WithCancel(t.Context())
	r, _ := http.NewRequestWithContext(ctx, "POST", s.url+"/v1/chat/completions", strings.NewReader(chatBody("auto", "hi", `"stream":true`)))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	<-started
	resp.Body.Read(make([]byte, 1))
	cancel()
	resp.Body.Close()
	select {
	case <-cancelled:
	case <-time.After(5 * time.Second):
		t.Fatal("the upstream was not cancelled")
	}
	eventually(t, "the request is charged for what was produced", func() bool {
		b := s.ledger.Known()
		return len(b) == 1 && b[0].Reserved == 0 && b[0].Spent > 0 && b[0].Spent < 1e6
	})
}
